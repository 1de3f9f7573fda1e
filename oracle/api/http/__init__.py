"""The hub listener's HTTP/1.1: httptools (llhttp) is the parser, everything else is in view here.

For.      ALS turns an answer without `errorInformation` into an error that carries our address, so this package
          must write every byte that the port can send.  A ready-made server answers a broken request line, a long
          URI or a bad chunk by itself with an empty body, decodes the path (%2F is then lost), and costs two to
          three times as much CPU per request.
Accepts.  HTTP/1.0 and 1.1, keep-alive, pipelining, chunked bodies (trailers are dropped), HEAD, absolute-form
          targets, Expect: 100-continue, half-closed clients.  What ALS forwards from DFSPs: `Upgrade: h2c`
          (served as if the header were absent), Transfer-Encoding beside Content-Length (the chunks count).
Refuses.  All else, with errorInformation and a close.  llhttp is strict except for that one leniency: no bare LF,
          no folded header, no second Content-Length, no byte above 127 in a target.
Order.    A connection's requests are answered in the order in which they arrive, one at a time.  While the
          application works on one, the bytes behind it wait unparsed, and reading is paused.
Limits.   `limits.Limits`, each with its reason.  While a client reads slowly, nothing more is read from it.
Overload. Between `hold` and `release`, lookups wait unparsed, in their order, and all else has its turn at once.
          To read and refuse them would cost nearly what an answer costs, and their clients would ask again.
Not here. TLS and HTTP/2 (a mesh or a proxy in front), virtual hosts (the Host header is not used), streaming (a
          request is complete before the application gets it, and an answer is written in one piece).

    server    HttpServer    one listening socket: accepts, sweeps, drains
    turns     Turns         one connection: whose turn it is, answers, flow control, the close
    plain     PlainReader   the short way: a GET without a body that arrives complete, without a copy of its headers
    message   Message       every other request that arrives: parser callbacks, framing, limits
    request   Request       one complete request, which the application answers
    refusals                the answers that the server gives by itself

The hot path is Turns.data_received, PlainReader.read, the application, Request.respond, one write: no task, no timer
and no clock for a request.  Waiting is counted in sweeps of the server instead (`Turns.ticks`).
"""

from __future__ import annotations

from oracle.api.http.limits import LIMITS, SLICE_BYTES_MAX, Limits
from oracle.api.http.request import JSON, App, Request, make_fields
from oracle.api.http.server import HttpServer

__all__ = ["JSON", "LIMITS", "SLICE_BYTES_MAX", "App", "HttpServer", "Limits", "Request", "make_fields"]
