"""The participants of a scheme as a central ledger names them.

Calls.     GET /participants/{fsp}, /participants/{fsp}/endpoints and /participants?isProxy=true, with the headers and
           the times of the account lookup service of Mojaloop.
Not found. A 404 with the errorCode 3200.  Everything else that is not such an answer is a failure: LedgerUnavailable,
           never "no such FSP".  So is an answer about another FSP.
Activity.  isActive of a participant is not looked at: the ledger itself refuses the transfers of an inactive one.  Only
           active proxies are asked for parties of other schemes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from email.utils import formatdate
from typing import Final, TypeVar
from urllib.parse import quote

import msgspec

from oracle.calls import Call, Caller, CallFailed
from oracle.scheme.base import PATHS, LedgerUnavailable, Participant
from oracle.scheme.cache import BURST, EACH_S, Bucket, Cache, CacheTimes
from oracle.scheme.throttle import Throttle
from oracle.scheme.urls import URL_MAX
from oracle.telemetry import logs

# A ledger that fails stops the transfers of the scheme, too.  So an old answer harms nobody, for an hour.
STALE_S: Final = 3600.0
PARTICIPANT_TIMES: Final = CacheTimes(fresh_s=3.0, nothing_s=3.0, stale_s=STALE_S)
ENDPOINT_TIMES: Final = CacheTimes(fresh_s=180.0, nothing_s=3.0, stale_s=STALE_S)

# DELETE /endpointcache needs no credentials, and each makes a call for every FSP that is in use.
FORGET_EVERY_S: Final = 1.0
CALL_TIMEOUT_S: Final = 10.0
ANSWER_MAX: Final = 1024 * 1024
NAME_MAX: Final = 32
NOT_FOUND: Final = "3200"

_CONTENT: Final = b"application/vnd.interoperability.participants+json;version=1"

log = logs.Log(__name__)


class _Named(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """A participant; the ledger writes 1 or true."""

    name: str
    is_active: bool | int = False
    is_proxy: bool | int = False


class _Endpoint(msgspec.Struct, frozen=True, gc=False):
    type: str
    value: str


class _Information(msgspec.Struct, frozen=True, rename="camel", gc=False):
    error_code: str | int


class _Error(msgspec.Struct, frozen=True, rename="camel", gc=False):
    error_information: _Information


_participant: Final = msgspec.json.Decoder(_Named)
_participants: Final = msgspec.json.Decoder(list[_Named])
_endpoints: Final = msgspec.json.Decoder(list[_Endpoint])
_error: Final = msgspec.json.Decoder(_Error)

_Shape = TypeVar("_Shape")


class LedgerScheme:
    """Implements base.Scheme."""

    def __init__(
        self,
        url: str,
        caller: Caller,
        *,
        hub_name: str,
        participant_times: CacheTimes = PARTICIPANT_TIMES,
        endpoint_times: CacheTimes = ENDPOINT_TIMES,
        burst: int = BURST,
        timeout_s: float = CALL_TIMEOUT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`burst`: how many names that nobody has asked for before can be asked for at once."""
        self._url = url.rstrip("/")
        self._caller = caller
        self._timeout_s = timeout_s
        name = hub_name.encode()
        self._headers = [
            (b"accept", _CONTENT),
            (b"content-type", _CONTENT + b".0"),
            (b"fspiop-source", name),
            (b"fspiop-destination", name),
        ]
        self._state = logs.Condition(log, "The central ledger", good="answers", repeat_s=600.0)
        bucket = Bucket(burst, EACH_S, clock)  # of both: a new name costs two questions
        self._participants = Cache(self._ask_participant, participant_times, bucket=bucket, clock=clock)
        self._endpoints = Cache(self._ask_endpoints, endpoint_times, bucket=bucket, clock=clock)
        self._forgetting = Throttle(self._endpoints.forget, FORGET_EVERY_S)
        self._proxies = Cache(self._ask_proxies, participant_times, clock=clock)

    def recall_participant(self, fsp_id: str) -> Participant | None:
        return self._participants.recall(fsp_id)

    def recall_endpoint(self, fsp_id: str, endpoint_type: str) -> str | None:
        endpoints = self._endpoints.recall(fsp_id)
        return None if endpoints is None else endpoints.get(endpoint_type)

    async def find_participant(self, fsp_id: str) -> Participant | None:
        return await self._participants.get(fsp_id) if _is_name(fsp_id) else None

    async def find_endpoint(self, fsp_id: str, endpoint_type: str) -> str | None:
        endpoints = await self._endpoints.get(fsp_id) if _is_name(fsp_id) else None
        return endpoints.get(endpoint_type) if endpoints else None

    async def list_proxies(self) -> Sequence[str]:
        return await self._proxies.get("") or ()

    def forget_endpoints(self) -> None:
        """Read all endpoints again when they are needed next.  Many calls in a second count as two."""
        self._forgetting.ask()

    async def close(self) -> None:
        self._forgetting.close()
        for cache in (self._participants, self._endpoints, self._proxies):
            await cache.close()

    async def _ask_participant(self, fsp_id: str) -> Participant | None:
        body = await self._call(f"/participants/{quote(fsp_id, safe='')}")
        if body is None:
            return None
        named = self._decode(_participant, body)
        if named.name == fsp_id:
            return Participant(fsp_id, bool(named.is_proxy))
        if named.name.casefold() == fsp_id.casefold():
            return None  # its database compares names without case; FSPs and their aliases are named exactly
        raise self._fail("answers about another FSP")

    async def _ask_endpoints(self, fsp_id: str) -> Mapping[str, str] | None:
        """Return the URLs by type; None also if there is none yet, so that the first one is soon seen."""
        body = await self._call(f"/participants/{quote(fsp_id, safe='')}/endpoints")
        if body is None:
            return None
        listed = self._decode(_endpoints, body)
        # What a value is worth is for those who fill its placeholders to say; a long one only fills memory.
        return {each.type: each.value for each in listed if each.type in PATHS and len(each.value) <= URL_MAX} or None

    async def _ask_proxies(self, _: str) -> Sequence[str] | None:
        body = await self._call("/participants?isProxy=true")
        if body is None:
            raise self._fail("does not know the list of its proxies")
        # A ledger from before proxies lists all participants, without isProxy.  None of them may be asked.
        return [one.name for one in self._decode(_participants, body) if one.is_proxy and one.is_active]

    async def _call(self, path: str) -> bytes | None:
        """Return the body of a 200; None if there is no such participant.  Raises LedgerUnavailable."""
        headers = [*self._headers, (b"date", formatdate(usegmt=True).encode())]
        try:
            answer = await self._caller.call(Call("GET", self._url + path, headers), timeout_s=self._timeout_s)
        except CallFailed as exc:
            raise self._fail(f"gives no answer: {exc.reason}") from exc
        if answer.status == 404 and _read_code(answer.body) == NOT_FOUND:  # noqa: PLR2004
            self._state.now("answers")
            return None
        if answer.status != 200:  # noqa: PLR2004
            raise self._fail(f"answers with status {answer.status}")
        return answer.body

    def _decode(self, decoder: msgspec.json.Decoder[_Shape], body: bytes) -> _Shape:
        if len(body) > ANSWER_MAX:
            raise self._fail("sends an answer that is too large")
        try:
            decoded = decoder.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            # The cause is left out: its text can quote the answer.
            raise self._fail("sends an answer that cannot be read") from None
        self._state.now("answers")
        return decoded

    def _fail(self, state: str) -> LedgerUnavailable:
        self._state.now(state)
        return LedgerUnavailable()


def _is_name(fsp_id: str) -> bool:
    """Whether a ledger can have an FSP of that name.  `.` and `..` would lead to another path of the ledger."""
    return 0 < len(fsp_id) <= NAME_MAX and fsp_id.isprintable() and fsp_id not in (".", "..")


def _read_code(body: bytes) -> str:
    """Read the errorCode of an answer; '' if it has none."""
    try:
        return str(_error.decode(body[:ANSWER_MAX]).error_information.error_code)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
