"""Load tests of the account lookup service, with mock FSPs: see `loadtests.dfsps.__main__`.

wire      HTTP/1.1 for mocks and for the payer: as few steps as possible, because they share the cores
scene     the mock FSPs and the central ledger, how each of them behaves, and what became of each lookup
service   starts the service with its servers
cost      CPU of a lookup, latency, one dead FSP among ten
faults    what payer and payee see of each failure
"""
