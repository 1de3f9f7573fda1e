"""What one host, and all hosts together, can take of this process: each with its reason."""

from __future__ import annotations

from typing import Final

import msgspec


class CallLimits(msgspec.Struct, frozen=True):
    timeout_s: float = 20  # a call, from its beginning to the last byte of its answer; ALS waits for as long
    connect_timeout_s: float = 3  # name, TCP and TLS: within it, a SYN that was lost is sent twice again

    # A host.  So many calls at once are 1,000 calls a second to an FSP that takes 100 ms for each.
    connections_max: int = 100
    waiting_max: int = 1_000  # calls that wait for a connection: what those connections do in a second
    # Without an answer to any call for so long, a host whose connections are all taken gets no further call: it would
    # fill the queue before the first call times out and the breaker can open.
    stall_s: float = 5
    host_body_bytes_max: int = 16 * 1024 * 1024  # of requests that wait or are under way: a quarter of all

    # All hosts.  A host can have no more connections than are left for the others, so some are always left.
    connections_all_max: int = 2_000
    body_bytes_max: int = 64 * 1024 * 1024  # of requests that wait or are under way
    answer_bytes_max: int = 64 * 1024 * 1024  # of answers that arrive
    hosts_max: int = 4_096  # the URLs come from data
    origins_max: int = 8  # spellings of a host that are kept, with different users or capitals
    forget_s: float = 60  # after the last call to it, an idle host is forgotten

    # An answer.
    head_bytes_max: int = 64 * 1024  # with all interim answers; Node takes 16 KiB
    header_count_max: int = 256
    answer_body_bytes_max: int = 4 * 1024 * 1024  # another oracle's answer to a bulk of 10,000 items has 2 MB

    # Node closes an idle connection after 5 s, and a request that meets its close is lost.  A host that announces its
    # time by `Keep-Alive: timeout=N` is believed, less one second.
    idle_s: float = 4
    idle_max_s: float = 60  # firewalls forget connections, some after some minutes

    # The breaker: so many failures in a row, then these pauses, each ended by one call that tries the host.  A longer
    # pause saves no more: one call in five seconds costs nothing, and an FSP that is well again waits for the pause.
    failures_max: int = 10
    pauses_s: tuple[float, ...] = (1, 2, 4, 5)

    name_fresh_s: float = 10  # the addresses of a name are used again for so long without asking
    name_stale_s: float = 60  # and for so long when the name service fails or is slow
    name_slow_s: float = 1  # then the last known addresses are used, if there are any
    addresses_max: int = 4  # of a name, tried one after the other
    sweep_s: float = 1


LIMITS: Final = CallLimits()
SLICE_BYTES: Final = 64 * 1024  # of a large body that are given to the transport at a time
