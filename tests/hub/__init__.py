"""The hub's side of the wire, for the tests of the hub listener.

messages      requests as ALS writes them, byte for byte
captured      every form of request that an ALS sends, and the answer it needs: read from data/*.json
wire          a socket that changes nothing
process       the oracle under test, in a process of its own
als           what ALS makes of an answer
inter_scheme  an ALS with proxies to other schemes: discovery, and what it stores and takes back
shapes        what every answer of the oracle looks like
error_texts   every text that can become an errorDescription
"""
