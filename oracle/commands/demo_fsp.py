"""A tiny FSP: answers questions about its parties, registers them, and asks for those of others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import msgspec

from oracle.api.dfsp.asked import Party
from oracle.api.dfsp.templates import encode_segment
from oracle.api.http import Request
from oracle.calls import Answer, Call, Caller, CallFailed
from oracle.commands.failures import Refused, Unreachable

SHOWN_MAX: Final = 300  # characters of a body
# The service reads every second which FSPs were created; a busy machine takes longer.
KNOWN_WITHIN_S: Final = 5.0
RETRY_S: Final = 0.2
_UNKNOWN_FSP: Final = b'"errorCode":"3200"'
_ACCEPT: Final = "application/vnd.interoperability.{0}+json;version=1"
_CONTENT_TYPE: Final = "application/vnd.interoperability.{0}+json;version=1.1"
_NOT_FOUND: Final = {"errorInformation": {"errorCode": "3204", "errorDescription": "Party not found"}}


class DemoFsp:
    """`print_line` gets a line for each message."""

    def __init__(
        self,
        name: str,
        url: str,
        parties: Sequence[Party],
        caller: Caller,
        print_line: Callable[[str], None],
        *,
        timeout_s: float,
    ) -> None:
        self._name, self._url, self._parties = name, url, set(parties)
        self._caller, self._print, self._timeout_s = caller, print_line, timeout_s
        self._waiting: dict[tuple[str, Party], asyncio.Future[bool]] = {}  # whether the answer is no error
        self._tasks: set[asyncio.Task[None]] = set()

    # Messages that arrive.

    def serve(self, request: Request) -> None:
        path = request.target.partition(b"?")[0].decode("latin-1")
        source = (request.header(b"fspiop-source") or b"").decode("latin-1")
        self._print(f"{self._name} receives {request.method} {path} from {source}{_show(request.body)}")
        about = _read_path(path.removesuffix("/error"))
        if about is None:
            request.respond(HTTPStatus.NOT_FOUND)
        elif request.method == "PUT":
            request.respond(HTTPStatus.OK)
            waiting = self._waiting.pop(about, None)
            if waiting is not None and not waiting.done():
                waiting.set_result(not path.endswith("/error"))
        elif (request.method, about[0]) == ("GET", "parties"):
            request.respond(HTTPStatus.ACCEPTED)
            self._start(self._answer(about[1], source))
        else:
            request.respond(HTTPStatus.METHOD_NOT_ALLOWED)

    async def _answer(self, party: Party, payer: str) -> None:
        """Answer a question about a party."""
        if party in self._parties:
            named = {"partyIdType": party.party_id_type, "partyIdentifier": party.identifier, "fspId": self._name}
            named |= {"partySubIdOrType": party.sub_id} if party.sub_id else {}
            body: Any = {"party": {"partyIdInfo": named, "name": f"A customer of {self._name}"}}
            await self._send("PUT", "parties", party, body, payer)
        else:
            await self._send("PUT", "parties", party, _NOT_FOUND, payer, is_error=True)

    # Messages that it sends.

    async def register(self, party: Party) -> bool:
        """Register a party; return whether the directory has it."""
        return await self._ask_for("POST", "participants", party, {"fspId": self._name})

    async def ask(self, party: Party) -> bool:
        """Ask for a party; return whether it was found."""
        return await self._ask_for("GET", "parties", party, None)

    async def _ask_for(self, method: str, resource: str, party: Party, body: Any) -> bool:
        """Send a request and wait for its answer.  Raises Refused, Unreachable."""
        waiting: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting[resource, party] = waiting
        await self._send(method, resource, party, body)
        try:
            async with asyncio.timeout(self._timeout_s):
                return await waiting
        except TimeoutError:
            raise Unreachable(
                f"no answer came within {self._timeout_s:g} seconds",
                f"Check the endpoints of the FSP: oracle fsp endpoints {self._name}",
            ) from None

    async def _send(
        self, method: str, resource: str, party: Party, body: Any, destination: str = "", *, is_error: bool = False
    ) -> None:
        path = _make_path(resource, party) + ("/error" if is_error else "")
        headers = [
            ("content-type", _CONTENT_TYPE.format(resource)),
            ("date", formatdate(usegmt=True)),
            ("fspiop-source", self._name),
        ]
        headers += [("accept", _ACCEPT.format(resource))] if method != "PUT" else []
        headers += [("fspiop-destination", destination)] if destination else []
        encoded = b"" if body is None else msgspec.json.encode(body)
        lines = [(name.encode(), value.encode("latin-1")) for name, value in headers]
        sent = f"{self._name} sends {method} {path}{f' to {destination}' if destination else ''}"
        answer = await self._call(Call(method, self._url + path, lines, encoded))
        if _UNKNOWN_FSP in answer.body:
            answer = await self._call_again(Call(method, self._url + path, lines, encoded))
        self._print(f"{sent}{_show(encoded)}: {answer.status}{_show(answer.body)}")
        if answer.status >= HTTPStatus.BAD_REQUEST:
            raise Refused(
                "the account lookup service refused the message",
                f"Check that the FSP exists: oracle fsp show {self._name}",
            )

    async def _call(self, call: Call) -> Answer:
        try:
            return await self._caller.call(call)
        except CallFailed:
            raise Unreachable(
                f"the account lookup service does not answer at {self._url}",
                "Start it with ORACLE_ACCOUNT_LOOKUP=on, or correct --url",
            ) from None

    async def _call_again(self, call: Call) -> Answer:
        """Send it until the service knows the FSP, which can have been created just now."""
        ends_at = time.monotonic() + KNOWN_WITHIN_S
        while True:
            await asyncio.sleep(RETRY_S)
            answer = await self._call(call)
            if _UNKNOWN_FSP not in answer.body or time.monotonic() > ends_at:
                return answer

    # Its life.

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        """Answer beside other messages; a failure is one line."""
        task = asyncio.create_task(self._report(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _report(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except (Refused, Unreachable) as exc:
            self._print(f"{self._name}: {exc}")

    async def close(self) -> None:
        await asyncio.gather(*self._tasks)


def _make_path(resource: str, party: Party) -> str:
    return "/".join(["", resource, *(encode_segment(part) for part in party if part is not None)])


def _read_path(path: str) -> tuple[str, Party] | None:
    """Read `/RESOURCE/TYPE/ID[/SUBID]`."""
    resource, *parts = path.split("/")[1:]
    if len(parts) not in (2, 3):
        return None
    try:
        return resource, Party(*(unquote_to_bytes(part).decode() for part in parts))
    except UnicodeDecodeError:
        return None


def _show(body: bytes) -> str:
    text = body[:SHOWN_MAX].decode("utf-8", "replace")
    return f" {text}{'…' if len(body) > SHOWN_MAX else ''}" if text else ""
