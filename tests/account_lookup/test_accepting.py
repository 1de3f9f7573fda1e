"""A request is accepted only after its promise was written: a worker that is killed then leaves nobody without word."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from harness import open_bench, until

from oracle.store.cache.session import RedisSession

if TYPE_CHECKING:
    from oracle.api.http.request import Request

PARTICIPANT = "/participants/MSISDN/525512345678"


class Recorded(asyncio.Transport):
    """Notes what is written to Redis."""

    def __init__(self, transport: asyncio.Transport, order: list[str]) -> None:
        super().__init__()
        self._recorded, self._order = transport, order

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if b"payerfsp" in bytes(data) and b"ZADD" in bytes(data):
            self._order.append("promise")
        self._recorded.write(data)

    def is_closing(self) -> bool:
        return self._recorded.is_closing()

    def abort(self) -> None:
        self._recorded.abort()

    def close(self) -> None:
        self._recorded.close()


class Asking:
    """A request that notes when it is answered."""

    def __init__(self, request: Request, order: list[str]) -> None:
        self._request, self._order = request, order

    def __getattr__(self, name: str) -> Any:
        return getattr(self._request, name)

    def respond(self, status: int, body: bytes = b"", fields: bytes = b"") -> None:
        self._order.append(str(status))
        self._request.respond(status, body, fields)


async def test_the_answer_comes_after_the_promise(database_url: str, redis_url: str) -> None:
    order: list[str] = []
    async with open_bench(database_url, redis_url) as bench:
        await until(lambda: bench.store.coherence.session is not None)
        session = bench.store.coherence.session
        assert isinstance(session, RedisSession)
        assert session._transport is not None
        session._transport = Recorded(session._transport, order)
        serve = bench.server.app
        bench.server.app = lambda request: serve(cast("Request", Asking(request, order)))
        for method, target, body, status in (
            ("GET", PARTICIPANT, b"", 202),
            ("POST", PARTICIPANT, {"fspId": "payerfsp"}, 202),
            ("PUT", PARTICIPANT, {"fspId": "payerfsp"}, 200),
            ("GET", PARTICIPANT.replace("participants", "parties"), b"", 202),
            ("DELETE", PARTICIPANT, b"", 202),
        ):
            order.clear()
            reply = await bench.ask(method, target, body)
            await bench.settle()
            # After both, the promise is removed, by a command that names it as well.
            assert (reply.status, order[:2]) == (status, ["promise", str(status)]), method
        order.clear()
        refused = await bench.ask("GET", f"{PARTICIPANT}?a=b")
        assert (refused.status, order) == (400, ["400"]), "what is refused has no promise"
