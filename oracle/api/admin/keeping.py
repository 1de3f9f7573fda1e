"""What is kept of answers to calls with an Idempotency-Key: form, limits, and how long.

Form.     A tag, the status, and the rest of the answer: compressed, then encrypted under the secret of the caller.  An
          answer longer than ANSWER_BYTES_MAX is not kept; the tag and the status are, so that the call is not done
          again.  The same holds for an answer with a key, if the caller came in without one (see `callers`).
Quota.    Each credential can keep ANSWERS_MAX answers of BYTES_MAX bytes together.  The database reports what is kept.
          Between two reports each process counts for itself, so several machines can exceed the quota by what they
          keep within REPORTED_S.
Clear.    Earlier versions kept answers without secrets in clear.  They are readable until `housekeeping` has replaced
          them by the bytes of FORGOTTEN.
"""

from __future__ import annotations

import time
import zlib
from typing import TYPE_CHECKING, Final

import msgspec
from litestar import Response

from oracle.api.admin.encryption import CallerCipher, NotReadable
from oracle.api.admin.problems import MEDIA_TYPE, Refusal
from oracle.api.admin.rate_limits import describe_limit

if TYPE_CHECKING:
    from oracle.api.admin.callers import Caller
    from oracle.store.postgres import Postgres

RETENTION_S: Final = 86_400.0
ANSWERS_MAX: Final = 100_000  # more than one call a second, all day
BYTES_MAX: Final = 64 * 1024**2
ANSWER_BYTES_MAX: Final = 16 * 1024  # as stored; an ordinary answer needs a few hundred bytes
ROW_BYTES: Final = 256  # of each row beside its answer: both keys, the digest, the index entries
REPORTED_S: Final = 60.0

_CLEAR: Final = b"\0"  # of earlier versions
_SECRET: Final = b"\1"  # of earlier versions
_KEPT: Final = b"\2"
_LEFT_OUT: Final = b"\3"  # with status 0, which is unknown, where it was in clear
_KEY_LEFT_OUT: Final = b"\4"


class Answer(msgspec.Struct, frozen=True):
    """What is sent, and what is stored for a repetition."""

    status: int
    body: bytes
    headers: dict[str, str] = {}
    holds_key: bool = False

    def response(self) -> Response[bytes]:
        empty = self.status in (204, 304)
        media_type = None if empty else "application/json" if self.status < 400 else MEDIA_TYPE  # noqa: PLR2004
        return Response(
            b"" if empty else self.body, status_code=self.status, headers=self.headers, media_type=media_type
        )


def pack(caller: Caller, key: str, given: Answer) -> bytes:
    status = given.status.to_bytes(2)
    if given.holds_key and (caller.way != "key" or caller.session):
        return _KEY_LEFT_OUT + status
    packed = _cipher(caller, key).encrypt(zlib.compress(msgspec.msgpack.encode(given), 1), status)
    return _KEPT + status + packed if len(packed) <= ANSWER_BYTES_MAX else _LEFT_OUT + status


def unpack(caller: Caller, key: str, kept: bytes) -> Answer:
    """Raises Refusal where the answer was too long to keep, or the caller has rotated its secret since."""
    tag, rest = kept[:1], kept[1:]
    if tag == _CLEAR:
        return _decode(rest)
    if tag == _SECRET:
        # This form was used for answers to successful calls only.
        return _decode(_decrypt(caller, key, rest, None, 201))
    status, packed = int.from_bytes(rest[:2]), rest[2:]
    if tag == _KEY_LEFT_OUT:
        raise _lost(status, "its answer held a key, which is kept for nobody who came in without a key")
    if tag == _LEFT_OUT:
        raise _lost(status, "its answer was too long to keep" if status else "its answer is not kept any more")
    return _decode(zlib.decompress(_decrypt(caller, key, packed, rest[:2], status)))


def _decode(packed: bytes) -> Answer:
    return msgspec.msgpack.decode(packed, type=Answer)


def _decrypt(caller: Caller, key: str, packed: bytes, context: bytes | None, status: int) -> bytes:
    try:
        return _cipher(caller, key).decrypt(packed, context)
    except NotReadable:
        raise _lost(status, "its answer can no longer be decrypted") from None


def _cipher(caller: Caller, key: str) -> CallerCipher:
    return CallerCipher(caller.secret, f"idempotency:{key}")


def _lost(status: int, why: str) -> Refusal:
    if not status:
        return Refusal(409, "answer_lost", f"This call was answered earlier; {why}",
                       "Read the resource to see whether the change is made")  # fmt: skip
    if status < 400:  # noqa: PLR2004 - a success
        return Refusal(409, "answer_lost", f"This call succeeded earlier; {why}",
                       "The change is made: read the resource")  # fmt: skip
    return Refusal(409, "answer_lost", f"This call was refused earlier, with status {status}; {why}",
                   "Nothing was changed: send the call again with a new Idempotency-Key")  # fmt: skip


class _Use:
    """What one credential keeps, as this process knows."""

    def __init__(self) -> None:
        self.reported_at = float("-inf")
        self.answers = 0
        self.bytes = 0


class Keeping:
    """Counts what each credential keeps.  One for each process."""

    def __init__(
        self, *, retention_s: float = RETENTION_S, answers_max: int = ANSWERS_MAX, bytes_max: int = BYTES_MAX
    ) -> None:
        self.retention_s = retention_s
        self.answers_max = answers_max
        self.bytes_max = bytes_max
        self._uses: dict[str, _Use] = {}

    async def look(self, postgres: Postgres, credential_id: str) -> None:
        """Ask the database what the credential keeps, unless it has reported lately.  Raises DirectoryUnavailable."""
        use = self._uses.get(credential_id)
        if use is None or time.monotonic() - use.reported_at > REPORTED_S:
            use = self._uses[credential_id] = use or _Use()
            use.reported_at = time.monotonic()  # callers at the same time need not ask, too
            row = await postgres.row("idempotency_use", credential_id, self.retention_s)
            use.answers, use.bytes = row["answers"], row["bytes"] + ROW_BYTES * row["answers"]

    def require_room(self, credential_id: str) -> None:
        """Raises Refusal 429 if the credential keeps as much as it can."""
        use = self._uses.get(credential_id)
        if use is not None and (use.answers >= self.answers_max or use.bytes >= self.bytes_max):
            hours = f"{self.retention_s / 3600:g}"
            raise Refusal(
                429, "too_many_kept", "Your credential has used up its quota of kept answers",
                f"Send the call without Idempotency-Key, or try again later. At most {self.answers_max:,} answers and"
                f" {self.bytes_max:,} bytes are kept, for {hours} hours",
                describe_limit("kept answers", self.answers_max, window_s=self.retention_s),
                field="Idempotency-Key",
            )  # fmt: skip

    def count(self, credential_id: str, packed: bytes) -> None:
        use = self._uses.setdefault(credential_id, _Use())
        use.answers += 1
        use.bytes += len(packed) + ROW_BYTES
