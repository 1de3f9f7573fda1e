"""The audit of requests, if the settings ask for it: a line in the log for each request of an FSP.

Line.      Who asked (`source`, `proxy`), for what (`operation`, `destination`, `party` or the number of `items`), how
           it ended (`result`), how long it took, its `trace`.  The time is that of the line.
Party.     A digest of the canonical key, under the secret key of the setting audit_digest_key.  `oracle audit digest`
           computes the same.  Without that key, nobody can find out the identifier, also not by trying all numbers.
           What is no valid identifier is digested as it was sent.
Result.    `done`, or the code of the error that the FSP got, at once or later.
Bounds.    At most LINES_SECOND_MAX lines a second in each worker.  Requests beyond that are counted in a line of
           their own.  Changes are in the history of the directory as well; nothing is missing there.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from hashlib import blake2b
from typing import Final

from oracle.api.dfsp.asked import Asked
from oracle.api.dfsp.faults import Fault
from oracle.api.dfsp.targets import Operation
from oracle.identifiers import BadIdentifier, Reading
from oracle.telemetry import logs
from oracle.telemetry.tracing import trace_id_of

LINES_SECOND_MAX: Final = 2_000
DIGEST_BYTES: Final = 16

log = logs.Log(__name__)

_FSP_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,32}")


def make_digest(key: str, party_id_type: str, identifier: str, sub_id: str) -> str:
    """Make the digest of a party.  `key`: hexadecimal digits."""
    text = f"{party_id_type}\0{identifier}\0{sub_id}".encode("utf-8", "surrogatepass")
    return blake2b(text, key=bytes.fromhex(key), digest_size=DIGEST_BYTES).hexdigest()


class RequestLog:
    """One for each process."""

    def __init__(
        self,
        key: str,
        reading: Reading,
        *,
        lines_second_max: int = LINES_SECOND_MAX,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._key = key
        self._reading = reading
        self._lines_max = lines_second_max
        self._clock = clock
        self._codes: dict[bytes, str | None] = {}  # of requests at work, by their names
        self._second = -1
        self._lines = 0
        self._missing = 0

    def begin(self, asked: Asked) -> None:
        self._codes[asked.name] = None

    def note_error(self, asked: Asked, fault: Fault) -> None:
        """Note the error that the FSP got for a request at work."""
        if asked.name in self._codes:
            self._codes[asked.name] = fault.code

    def end(self, operation: Operation, asked: Asked, started: float) -> None:
        """Write the line of a request whose work has ended."""
        code = self._codes.pop(asked.name, None)
        if not self._take():
            return
        items = None if asked.party is not None or asked.content is None else len(asked.content.get("partyList", ()))
        log.info(
            "An FSP made a request",
            source=asked.source,
            proxy=asked.proxy,
            operation=operation,
            destination=asked.destination,
            party=self._digest(asked),
            items=items,
            result=code or "done",
            ms=round((self._clock() - started) * 1000, 1),
            trace=trace_id_of(asked.traceparent.encode()) if asked.traceparent else None,
        )

    def refuse(self, source: bytes | None, method: str, fault: Fault) -> None:
        """Write the line of a request that was refused at once.  Nobody has checked its source."""
        if self._take():
            claimed = source.decode() if source is not None and _FSP_ID.fullmatch(source) else None
            log.info("A request was refused", claimed_source=claimed, method=method, result=fault.code)

    def _digest(self, asked: Asked) -> str | None:
        if asked.party is None:
            return None
        party_id_type, identifier, sub_id = asked.party
        try:
            key = self._reading.read_asked_key(party_id_type, identifier, sub_id)
        except BadIdentifier:
            key = party_id_type, identifier, sub_id or ""
        return make_digest(self._key, *key)

    def _take(self) -> bool:
        """Whether there can be one more line in this second."""
        second = int(self._clock())
        if second != self._second:
            self._second, self._lines = second, 0
            if self._missing:
                log.warning("Requests of FSPs have no line: there were too many in a second", requests=self._missing)
                self._missing = 0
        if self._lines == self._lines_max:
            self._missing += 1
            return False
        self._lines += 1
        return True
