"""Tags on what this service writes to Redis: a copy or a marker without the right tag is not believed.

Copy.      See `values`.  The tag covers the whole Redis key, which names the generation and the identifier; the time
           until which the copy counts; and the answer.  So somebody who can write to Redis cannot make a copy, move one
           to another key, bring back one of an old generation, or keep one for longer than the TTL that we set.
Marker.    The tag covers the name of the marker and its numbers.
Time.      The directory's clock, in whole seconds.  All processes follow it, so their own clocks do not matter.
Keys.      The first one signs, and all are accepted: so a key can be replaced without a cold cache.  Services that
           share a Redis have the same keys (ORACLE_CACHE_KEY).  Without a key the tags protect against damage only.
Limits.    A copy that was replaced can be put back until it expires.  A fence or a token has no tag: a forged
           one makes a lookup slower, not wrong, for 3 s.  A marker can be put back as well; it decides only while
           PostgreSQL does not answer, for `cache_degraded_max_s`.

A tag is the BLAKE2b of key and message, 16 bytes (RFC 7693).  The key is made 32 bytes long and is the beginning of the
message, because that is as safe for BLAKE2 as its keyed mode, and that mode costs one block more: 0.23 us a lookup.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from hashlib import blake2b
from hmac import compare_digest
from typing import Final, Literal

from oracle.store.cache.values import ANSWER, FENCE, TOKEN_LENGTH, Marker
from oracle.telemetry import logs

log = logs.Log(__name__)

KEY_LENGTH: Final = 32
TAG_LENGTH: Final = 16
TIME_LENGTH: Final = 4
TIME_MAX: Final = 2**32 - 1
HEAD_LENGTH: Final = len(ANSWER) + TIME_LENGTH
# Added to the TTL: a fill arrives up to TOKEN_MS after it was made, seconds are whole, no two clocks agree exactly.
GRACE_S: Final = 3
# No secret.
PUBLIC_KEY: Final = b"alias oracle: ORACLE_CACHE_KEY is not set"
LOG_PAUSE_S: Final = 60.0

Reason = Literal["tag", "expired", "marker", "fence"]
_CAUSES: Final[dict[Reason, str]] = {
    "tag": "Redis has copies that no service with this ORACLE_CACHE_KEY made; PostgreSQL answers instead."
    " Give the same ORACLE_CACHE_KEY to all services on this Redis. If they have it, find out who else can write there",
    "marker": "Redis has a generation marker that no service with this ORACLE_CACHE_KEY made; it is replaced."
    " Give the same ORACLE_CACHE_KEY to all services on this Redis. If they have it, find out who else can write there",
    "expired": "Redis has copies that have expired; PostgreSQL answers instead."
    " If the clock of PostgreSQL or Redis was not changed, find out who else can write to this Redis",
    "fence": "Redis has fences, tokens or other values that no service sets for so long; they are ended, and PostgreSQL"
    " answers instead. Find out who else can write to this Redis",
}


class Tags:
    """Makes and checks the tags with the keys of this service.  Counts what is refused, and logs it now and then."""

    def __init__(self, keys: Sequence[bytes] = (), clock: Callable[[], float] = time.monotonic) -> None:
        """Each of the keys has at least 32 random bytes.  `clock` paces the log."""
        self._bases = [
            blake2b(blake2b(key, digest_size=KEY_LENGTH).digest(), digest_size=TAG_LENGTH, person=b"oracle cache")
            for key in keys or (PUBLIC_KEY,)
        ]
        # To copy a state is cheaper than to make one.  Each lookup does that, so it calls this without a detour.
        self.begin = self._bases[0].copy
        self._clock = clock
        self._silent_until: dict[Reason, float] = dict.fromkeys(_CAUSES, float("-inf"))
        self.refused: dict[Reason, int] = dict.fromkeys(_CAUSES, 0)

    # -- copies ---------------------------------------------------------------------------------------------------

    def seal(self, key: bytes, answer: bytes, until_s: float) -> bytes:
        """Make a copy of an answer that counts until then, by the directory's clock."""
        body = make_floor(until_s + GRACE_S) + answer
        state = self.begin()
        state.update(key + body)
        return body + state.digest()

    def open(self, key: bytes, value: bytes, floor: bytes) -> bytes | Reason | None:
        """Return the answer of a copy, or why it is refused; None for a fence or a token.

        The way for everything that `Lookups` does not accept at once.  `floor`: see `make_floor`.
        """
        if value == FENCE or (value[:1] == b"T" and len(value) == TOKEN_LENGTH):
            return None
        body, tag = value[:-TAG_LENGTH], value[-TAG_LENGTH:]
        if value[:1] != ANSWER or len(body) < HEAD_LENGTH or not self._is_ours(key + body, tag):
            return "tag"
        return body[HEAD_LENGTH:] if body > floor else "expired"

    def _is_ours(self, message: bytes, tag: bytes) -> bool:
        for base in self._bases:
            state = base.copy()
            state.update(message)
            if compare_digest(state.digest(), tag):
                return True
        return False

    # -- markers --------------------------------------------------------------------------------------------------

    def sign_marker(self, key: bytes, marker: Marker) -> tuple[bytes, ...]:
        """Return the forms of a marker that are accepted, one for each key.  The first one is written."""
        text = marker.pack()
        forms = []
        for base in self._bases:
            state = base.copy()
            state.update(key + b":" + text)
            forms.append(b"%b:%b" % (text, state.hexdigest().encode()))
        return tuple(forms)

    def read_marker(self, key: bytes, value: bytes) -> Marker | None:
        """Return the marker, or None if none of our keys has made it."""
        text, _, tag = value.rpartition(b":")
        if len(tag) != 2 * TAG_LENGTH:
            return None
        for base in self._bases:
            state = base.copy()
            state.update(key + b":" + text)
            if compare_digest(state.hexdigest().encode(), tag):
                return Marker.unpack(text)
        return None

    # -- what was refused -----------------------------------------------------------------------------------------

    def take_refused(self) -> dict[Reason, int]:
        """Return how often something was refused, by reason, since the last call."""
        taken, self.refused = self.refused, dict.fromkeys(_CAUSES, 0)
        return taken

    def refuse(self, reason: Reason) -> None:
        """Count it; log it if the last line is old enough.  Without key and value: a key has an identifier in it."""
        self.refused[reason] += 1
        now = self._clock()
        if now >= self._silent_until[reason]:
            self._silent_until[reason] = now + LOG_PAUSE_S
            log.error(_CAUSES[reason])


def make_floor(now_s: float) -> bytes:
    """Return how a copy begins that counts until now: one that counts for longer is greater, as bytes compare."""
    return ANSWER + min(max(int(now_s), 0), TIME_MAX).to_bytes(TIME_LENGTH, "big")
