"""Calls that we make: HTTP/1.1 to DFSPs, proxies, a central ledger and other oracles.

For.      A message of a payment must not be sent twice, and a DFSP that is slow or dead must not delay those of others.
          A ready-made client repeats a PUT on a connection that was closed under it, and costs several times as much.
Promises. A call is made a second time only where no byte of it was sent.  URLs and header values are sent as they are.
          Nothing is followed (3xx is an answer), decoded, or remembered from one call to another.
Bounds.   `limits.CallLimits`, each with its reason, for a host and for all of them.
Not here. HTTP/2, proxies of the environment, cookies, streaming (a request and its answer are in memory as a whole).

    call        Call, Answer, CallFailed, and the interface Caller, which the callers of this package know
    calls       Calls: finds the host of a call, keeps its deadline, forgets hosts; open_calls
    host        Host: the connections of one host, the calls that wait for one, what a failure ends
    connection  Connection: writes one request at a time and reads its answer
    exchange    Exchange: a call under way
    breaker     Breaker: whether a host is tried at all
    addresses   Addresses: the name service
    origin      the two parts of a URL;  request  the head that is sent;  totals  what all hosts use together
"""

from __future__ import annotations

from oracle.calls.call import Answer, Call, Caller, CallFailed
from oracle.calls.calls import Calls, open_calls
from oracle.calls.limits import CallLimits
from oracle.calls.tls import CallFiles

__all__ = ["Answer", "Call", "CallFailed", "CallFiles", "CallLimits", "Caller", "Calls", "open_calls"]
