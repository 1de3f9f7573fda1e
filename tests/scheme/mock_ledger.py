"""A central ledger on a loopback port that answers as it is told, and a caller for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Test = TypeVar("Test", bound=Callable[..., Any])
Reply = tuple[int, bytes] | None  # None: the connection ends without an answer
NOT_FOUND: Reply = (
    404,
    json.dumps(
        {"errorInformation": {"errorCode": "3200", "errorDescription": "Generic ID not found - no such FSP"}}
    ).encode(),
)


def participant(name: str, **members: object) -> dict[str, object]:
    """Describe an FSP as the ledger does."""
    return {
        "name": name,
        "id": f"http://central-ledger/participants/{name}",
        "created": '"2026-11-28T04:54:43.542Z"',
        "isActive": 1,
        "links": {"self": f"http://central-ledger/participants/{name}"},
        "accounts": [{"id": 1, "ledgerAccountType": "POSITION", "currency": "MXN", "isActive": 1}],
        "isProxy": 0,
        **members,
    }


def answer(value: object, status: int = 200) -> Reply:
    return status, json.dumps(value).encode()


def row(*_: str) -> Callable[[Test], Test]:
    """Name the rows of docs/account-lookup.md that a test proves (tests/account_lookup/test_contract_rows.py)."""
    return lambda test: test


class MockLedger:
    """Answers each path by `replies`, else with a 404; notes every request."""

    def __init__(self) -> None:
        self.replies: dict[str, Reply] = {}
        self.reply: Callable[[str], Awaitable[Reply]] = self._look_up
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.url = ""

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.requests]

    def have(self, name: str, endpoints: dict[str, str] | None = None, **members: object) -> None:
        self.replies[f"/participants/{name}"] = answer(participant(name, **members))
        listed = [{"type": kind, "value": url} for kind, url in (endpoints or {}).items()]
        self.replies[f"/participants/{name}/endpoints"] = answer(listed)

    async def _look_up(self, path: str) -> Reply:
        return self.replies.get(path, NOT_FOUND)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                path = line.split()[1].decode()
                headers = {}
                while (header := (await reader.readline()).decode().rstrip()) != "":
                    name, _, value = header.partition(":")
                    headers[name.lower()] = value.strip()
                self.requests.append((path, headers))
                reply = await self.reply(path)
                if reply is None:
                    return
                status, body = reply
                writer.write(b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n" % (status, len(body)) + body)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def open_ledger() -> AsyncIterator[MockLedger]:
    ledger = MockLedger()
    tasks: set[asyncio.Task[Any]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(ledger.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    ledger.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield ledger
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
