"""DFSPs that are Mojaloop's own client code (dfsp.cjs), for tests with the listener of account_lookup/harness.py."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from packages import COMPONENTS, HERE, environment, find_package

from oracle.scheme.base import PATHS

WAIT_S = 120.0


@dataclass(frozen=True)
class Received:
    """A message that a DFSP got.  `jws`: what is wrong with its signature; None if nothing is, or nothing can be."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: str
    jws: str | None

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class NodeDfsp:
    def __init__(self, process: asyncio.subprocess.Process, name: str) -> None:
        self._process = process
        self.name = name
        self.port = 0
        self._received: asyncio.Queue[Received] = asyncio.Queue()
        self._answers: dict[int, asyncio.Future[str | None]] = {}
        self._reading = asyncio.create_task(self._read())

    def list_endpoints(self) -> dict[str, str]:
        return {kind: f"http://127.0.0.1:{self.port}{path}" for kind, path in PATHS.items()}

    async def call(self, name: str, *arguments: Any) -> str | None:
        """Call a method of MojaloopRequests; return the text of its error, None if it had none."""
        number = len(self._answers)
        self._answers[number] = asyncio.get_running_loop().create_future()
        self.send({"id": number, "do": name, "arguments": arguments})
        async with asyncio.timeout(WAIT_S):
            return await self._answers[number]

    async def receive(self) -> Received:
        async with asyncio.timeout(WAIT_S):
            return await self._received.get()

    def send(self, line: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(line).encode() + b"\n")

    async def read_line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        assert line, "the program has ended"
        found = json.loads(line)
        assert isinstance(found, dict)
        return found

    async def _read(self) -> None:
        while True:
            line = await self.read_line()
            if "received" in line:
                self._received.put_nowait(Received(**line["received"], jws=line["jws"]))
            elif "id" in line:
                self._answers[line["id"]].set_result(line["error"])
            elif "port" in line:
                self.port = line["port"]
            else:
                raise AssertionError(line)

    async def end(self) -> None:
        self._reading.cancel()
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.kill()
        await self._process.wait()


@asynccontextmanager
async def start_dfsp(name: str, port: int, **settings: Any) -> AsyncIterator[NodeDfsp]:
    """Start a DFSP that calls the listener at this port.  `settings`: see dfsp.cjs."""
    process = await asyncio.create_subprocess_exec(
        "node",
        str(HERE / "dfsp.cjs"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=environment(find_package(COMPONENTS)),
        limit=2**24,
    )
    dfsp = NodeDfsp(process, name)
    try:
        dfsp.send({"fspId": name, "peer": f"127.0.0.1:{port}", "apiType": "fspiop"} | settings)
        async with asyncio.timeout(WAIT_S):
            while not dfsp.port:  # noqa: ASYNC110 - the task that reads sets it
                await asyncio.sleep(0.05)
        yield dfsp
    finally:
        await dfsp.end()
