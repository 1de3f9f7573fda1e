"""The admin API of an Account Lookup Service on a loopback port, as docs/als-contract.md (section 6) describes it.

With its traps: PUT changes no URL, DELETE is always 204, any text is a URL, a second row of a type and currency is 500.
`choose` and `choose_for_bulk` say which row its lookups go to.  `fault` answers in place of it.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl

TYPES: Final = (
    *("MSISDN", "EMAIL", "PERSONAL_ID", "BUSINESS", "DEVICE", "ACCOUNT_ID", "IBAN", "ALIAS"),
    *("CONSENT", "THIRD_PARTY_LINK"),
)
CURRENCIES: Final = ("MXN", "USD", "EUR", "MMK", "XTS")
EXISTS: Final = "Active oracle with matching partyIdTypeId, endpointTypeId, currencyId already exists"
GENERIC: Final = {
    "2001": "Internal server error", "3002": "Unknown URI", "3003": "Add Party information error",
    "3100": "Generic validation error", "3101": "Malformed syntax", "3102": "Missing mandatory element",
    "3103": "Too many elements",
}  # fmt: skip

Reply = tuple[int, bytes]
# Gets method and target; returns the bytes of the whole answer (b"": the connection ends), or None: answer as always.
Fault = Callable[[str, str], Awaitable[bytes | None]]


class Refused(Exception):
    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail


class AlsRow(NamedTuple):
    oracle_id: int
    party_id_type: str
    currency: str | None
    url: str
    is_default: bool


class Als:
    def __init__(self) -> None:
        self.rows: list[AlsRow] = []  # the active ones
        self.calls: list[str] = []  # method and target
        self.fault: Fault | None = None
        self.url = ""
        self._next = 145

    # What a test does and asks.

    def have(self, party_id_type: str, url: str, currency: str | None = None, *, is_default: bool = False) -> int:
        """Add a row as the database would have it, also one that POST would refuse."""
        self._next += 1
        self.rows.append(AlsRow(self._next, party_id_type, currency, url, is_default))
        return self._next

    def have_only(self, party_id_type: str, url: str) -> int:
        """Put this row in the place of all others, at once: a service that heals can look at any moment."""
        self._next += 1
        self.rows = [AlsRow(self._next, party_id_type, None, url, False)]
        return self._next

    @property
    def changes(self) -> list[str]:
        return [call for call in self.calls if not call.startswith("GET")]

    @property
    def shown(self) -> list[tuple[str, str | None, str, bool]]:
        return [row[1:] for row in self.rows]

    def choose(self, party_id_type: str) -> str:
        """The URL that a lookup goes to, or the code of the error."""
        rows = [row for row in self.rows if row.party_id_type == party_id_type]
        if not rows:
            return "3003"
        if len(rows) == 1:
            return rows[0].url
        defaults = [row for row in rows if row.is_default]
        return defaults[-1].url if defaults else "2001"

    def choose_for_bulk(self, party_id_type: str, currency: str) -> str:
        rows = [row for row in self.rows if (row.party_id_type, row.currency) == (party_id_type, currency)]
        return rows[0].url if rows else "3003"

    # HTTP.

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                method, target, _ = line.decode().split()
                headers = {}
                while (header := (await reader.readline()).decode().rstrip()) != "":
                    name, _, value = header.partition(":")
                    headers[name.lower()] = value.strip()
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                self.calls.append(f"{method} {target}")
                whole = None if self.fault is None else await self.fault(method, target)
                if whole is None:
                    whole = write(*self.answer(method, target, headers, body))
                if not whole:
                    return
                writer.write(whole)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    def answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Reply:
        try:
            return self._answer(method, target, headers, body)
        except Refused as refused:
            text = f"{GENERIC[refused.code]} - {refused.detail}"[:128]
            information = {"errorInformation": {"errorCode": refused.code, "errorDescription": text}}
            return refused.status, json.dumps(information).encode()

    def _answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Reply:
        path, _, query = target.partition("?")
        if not headers.get("accept"):
            raise Refused(400, "3102", "/header must have required property 'accept'")
        if path == "/oracles" and method == "GET":
            return 200, json.dumps(self._list(dict(parse_qsl(query)))).encode()
        if path == "/oracles" and method == "POST":
            self._add(json.loads(body))
            return 201, b""
        head, _, number = path.rpartition("/")
        if head == "/oracles" and method == "PUT":
            self._change(number, json.loads(body))
            return 204, b""
        if head == "/oracles" and method == "DELETE":
            self.rows = [row for row in self.rows if str(row.oracle_id) != number]
            return 204, b""
        raise Refused(404, "3002", "Not Found")

    def _list(self, query: dict[str, str]) -> list[dict[str, Any]]:
        if query.keys() - {"type", "currency"}:
            raise Refused(400, "3103", "/query must NOT have additional properties")
        return [
            {
                "oracleId": row.oracle_id,
                "oracleIdType": row.party_id_type,
                "endpoint": {"value": row.url, "endpointType": "URL"},
                **({} if row.currency is None else {"currency": row.currency}),
                "isDefault": int(row.is_default),
            }
            for row in self.rows
            if query.get("type", row.party_id_type) == row.party_id_type
            and query.get("currency", row.currency) == row.currency
        ]

    def _read(self, body: dict[str, Any]) -> tuple[str, str, str | None]:
        for name in ("oracleIdType", "endpoint"):
            if name not in body:
                raise Refused(400, "3102", f"/requestBody must have required property '{name}'")
        party_id_type, currency = body["oracleIdType"], body.get("currency")
        if party_id_type not in TYPES or ("currency" in body and currency not in CURRENCIES):
            raise Refused(400, "3100", "/requestBody/… must be equal to one of the allowed values")
        return party_id_type, body["endpoint"]["value"], currency

    def _add(self, body: dict[str, Any]) -> None:
        party_id_type, url, currency = self._read(body)
        if any((row.party_id_type, row.currency) == (party_id_type, currency) for row in self.rows):
            raise Refused(500, "2001", EXISTS)
        self.have(party_id_type, url, currency, is_default=body.get("isDefault") in (True, "true", 1))

    def _change(self, number: str, body: dict[str, Any]) -> None:
        party_id_type, url, currency = self._read(body)
        row = next((row for row in self.rows if str(row.oracle_id) == number), None)
        if row is None or row.currency is None:
            raise Refused(400, "3003", "Oracle not found")
        key = party_id_type, row.currency if currency is None else currency
        if any((each.party_id_type, each.currency) == key for each in self.rows):
            raise Refused(500, "2001", EXISTS)
        self.rows[self.rows.index(row)] = AlsRow(row.oracle_id, *key, url, bool(body.get("isDefault", row.is_default)))


def write(status: int, body: bytes, *lines: str) -> bytes:
    head = "".join(f"{line}\r\n" for line in lines)
    kind = "content-type: application/json; charset=utf-8\r\n" if body else ""
    return f"HTTP/1.1 {status} X\r\n{kind}{head}content-length: {len(body)}\r\n\r\n".encode() + body


@asynccontextmanager
async def open_als(als: Als | None = None) -> AsyncIterator[Als]:
    als = als or Als()
    tasks: set[asyncio.Task[Any]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(als.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    als.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield als
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def run_als() -> Iterator[Als]:
    """The same in a thread, for a test without a loop."""
    als = Als()
    started, loops = threading.Event(), []
    stop = asyncio.Event()

    async def run() -> None:
        async with open_als(als):
            loops.append(asyncio.get_running_loop())
            started.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    try:
        assert started.wait(30)
        yield als
    finally:
        loops[0].call_soon_threadsafe(stop.set)
        thread.join()
