"""A network that can be made bad: proxies between a service and its PostgreSQL or Redis.

One process of its own (`python proxy.py`), so that a busy test does not count as a slow network.  A *gate* is one
listening socket in front of one server; each connection through it is a *link* with its own latency, drawn once: some
are as fast as the machine, some take some ten milliseconds each way, which is a network and no failure.

    Control, JSON lines on stdin, each answered by one on stdout:
    {"open": "s0.redis", "listen": where, "upstream": where, "seed": 1, "latency_ms": 20}
                                                           where: a path, or a port of the loopback
    {"set": ["s0.redis"], "refuse": true}                  new connections are closed at once
    {"set": [...], "delay_ms": [30, 200]}                  on top of the latency, anew for each piece
    {"set": [...], "hold": "up" | "down" | "both" | ""}    half-open: pieces of that direction wait
    {"set": [...], "commit": "before" | "after" | "late" | ""}   what becomes of links that carry a COMMIT:
                        cut before it arrives; cut once it has arrived, before its answer; held back for a second or two
    {"cut": [...], "share": 0.5}                           so many of the present links are reset

When a hold ends, the link delivers the pieces late, unless it was cut meanwhile: both happen.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Self

import uvloop

PIECE_BYTES: Final = 65_536
LINKS_MAX: Final = 1_000
COMMIT: Final = b"COMMIT\0"
COMMIT_LATE_S: Final = (0.5, 2.5)


class Gate:
    """One listening socket, what is done to its links, and the links."""

    def __init__(self, name: str, upstream: str, seed: int, latency_ms: float) -> None:
        self.random = random.Random(f"{seed} {name}")
        self.upstream = upstream
        self.latency_ms = latency_ms
        self.refuse = False
        self.delay_ms: tuple[float, float] = (0.0, 0.0)
        self.hold = ""
        self.commit = ""
        self.released = asyncio.Event()
        self.links: set[Link] = set()
        self.server: asyncio.Server | None = None

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refuse or len(self.links) >= LINKS_MAX:
            writer.transport.abort()
            return
        try:
            if self.upstream.isdigit():
                up_reader, up_writer = await asyncio.open_connection("127.0.0.1", int(self.upstream))
            else:
                up_reader, up_writer = await asyncio.open_unix_connection(self.upstream)
        except OSError:
            writer.transport.abort()
            return
        link = Link(self, writer, up_writer)
        self.links.add(link)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(link.pump("up", reader, up_writer))
                group.create_task(link.pump("down", up_reader, writer))
        except* OSError:
            pass
        finally:
            link.cut()
            self.links.discard(link)

    def set(self, order: dict[str, Any]) -> None:
        for name in ("refuse", "hold", "commit"):
            if name in order:
                setattr(self, name, order[name])
        if "delay_ms" in order:
            low, high = order["delay_ms"]
            self.delay_ms = (low, high)
        self.released.set()
        self.released = asyncio.Event()

    def cut(self, share: float) -> int:
        links = [link for link in self.links if self.random.random() < share]
        for link in links:
            link.cut()
        return len(links)


class Link:
    """One connection and its counterpart upstream."""

    def __init__(self, gate: Gate, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self._gate = gate
        self._ends = (client, server)
        self._doomed = False
        # Half of the links are fast; the others are anything up to the gate's latency, each way.
        self.latency_s = 0.0 if gate.random.random() < 0.5 else gate.random.uniform(0, gate.latency_ms) / 1000

    async def pump(self, direction: str, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        gate = self._gate
        while piece := await source.read(PIECE_BYTES):
            wait_s = self.latency_s
            if gate.delay_ms[1]:
                wait_s += gate.random.uniform(*gate.delay_ms) / 1000
            if direction == "up" and gate.commit and COMMIT in piece:
                if gate.commit == "before":
                    break
                if gate.commit == "late":
                    wait_s += gate.random.uniform(*COMMIT_LATE_S)
                self._doomed = gate.commit == "after"
            elif self._doomed:  # the answer to a COMMIT
                break
            if wait_s:
                await asyncio.sleep(wait_s)
            while gate.hold in ("both", direction):
                await gate.released.wait()
            if sink.is_closing():
                break
            sink.write(piece)
            await sink.drain()
        self.cut()

    def cut(self) -> None:
        for end in self._ends:
            end.transport.abort()


async def serve() -> None:
    loop = asyncio.get_running_loop()
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    gates: dict[str, Gate] = {}
    while line := await orders.readline():  # until the process that started this one is gone
        order = json.loads(line)
        done = 0
        if name := order.get("open"):
            gate = gates[name] = Gate(name, order["upstream"], order["seed"], order["latency_ms"])
            if order["listen"].isdigit():
                gate.server = await asyncio.start_server(gate.accept, "127.0.0.1", int(order["listen"]))
            else:
                gate.server = await asyncio.start_unix_server(gate.accept, order["listen"])
        for name in order.get("set", ()):
            gates[name].set(order)
        for name in order.get("cut", ()):
            done += gates[name].cut(order["share"])
        print(json.dumps({"done": done}), flush=True)
    for gate in gates.values():
        if gate.server is not None:
            gate.server.close()
        gate.set({"hold": ""})
        gate.cut(1.0)
    for _ in range(400):
        if not any(gate.links for gate in gates.values()):
            break
        await asyncio.sleep(0.01)


class Network:
    """The proxies, as their user sees them.  Ends with the block it is used in."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(Path(__file__)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(5):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def open(
        self, name: str, listen: Path | int, upstream: Path | int, *, seed: int = 0, latency_ms: float = 0
    ) -> None:
        where = {"listen": str(listen), "upstream": str(upstream)}
        await self._order({"open": name, **where, "seed": seed, "latency_ms": latency_ms})

    async def set(self, names: Sequence[str], **rules: Any) -> None:
        await self._order({"set": list(names), **rules})

    async def cut(self, names: Sequence[str], share: float = 1.0) -> int:
        """How many links were cut."""
        return await self._order({"cut": list(names), "share": share})

    async def heal(self, names: Sequence[str]) -> None:
        await self.set(names, refuse=False, hold="", commit="", delay_ms=[0, 0])

    async def _order(self, order: dict[str, Any]) -> int:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        async with self._turn:
            process.stdin.write(json.dumps(order).encode() + b"\n")
            answer = await process.stdout.readline()
        return int(json.loads(answer)["done"])


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        uvloop.run(serve())
