"""What one client can take of this process: bytes, seconds and connections, each with its reason."""

from __future__ import annotations

from typing import Final

import msgspec

# Bytes parsed at a time.  They bound what is parsed ahead of the request at work: the shortest request is 18
# bytes, so at most 910 requests, however much the client has sent.
SLICE_BYTES_MAX: Final = 16 * 1024


class Limits(msgspec.Struct, frozen=True):
    body_bytes_max: int = 4 * 1024 * 1024  # ALS's largest bulk was measured at 0.9 MiB
    bodies_bytes_max: int = 64 * 1024 * 1024  # of all connections together
    header_bytes_max: int = 64 * 1024  # ALS forwards all headers of the DFSP; Node takes 16 KiB
    header_count_max: int = 256
    target_bytes_max: int = 16 * 1024  # an identifier is 128 characters, 12 bytes each when percent-encoded
    idle_timeout_s: float = 3600  # ALS keeps idle sockets forever and never retries: closing one loses a lookup
    request_timeout_s: float = 30  # from the first byte of a request to its last
    write_timeout_s: float = 60  # for a client to take an answer larger than the buffers
    linger_s: float = 2  # after our last answer, for the client to close first (Turns._linger)
    drain_idle_s: float = 1  # after the last accept, for the client of an idle connection to send one more request
    linger_bytes_max: int = 8 * 1024 * 1024  # read and dropped during that time
    held_max_s: float = 2  # a request that the server holds back would wait for its turn for at most so long
    connections_max: int = 10_000
    connections_refused_max: int = 10_000  # more clients, which get a 503; those over both are cut off at once


LIMITS: Final = Limits()
