"""Asks the service for every key once, so that the cache has a copy of each.

Only the service knows how its copies are made.

The service answers the requests of a connection one after the other, so many connections keep it busy.  Each connection
pipelines requests, which saves waiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final
from urllib.parse import urlsplit

CONNECTIONS: Final = 128
PIPELINED: Final = 32
TIMEOUT_S: Final = 30.0
# Every answer to a lookup ends like this, and contains it nowhere else; an error ends differently.
END_OF_ANSWER: Final = b"]}"


class WarmError(Exception):
    pass


async def warm(url: str, targets: Iterable[str], connections: int = CONNECTIONS) -> int:
    """Ask for all targets, and return their number.  Raises WarmError if an answer is not a party list."""
    place = urlsplit(url)
    source = iter(targets)
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(_ask_all(str(place.hostname), int(place.port or 80), source)) for _ in range(connections)
        ]
    return sum(task.result() for task in tasks)


async def _ask_all(host: str, port: int, targets: Iterator[str]) -> int:
    reader, writer = await asyncio.open_connection(host, port)
    asked = 0
    try:
        while batch := list(islice(targets, PIPELINED)):
            lines = (f"GET {target} HTTP/1.1\r\nhost: warm\r\nfspiop-source: payerfsp\r\n\r\n" for target in batch)
            writer.write("".join(lines).encode())
            await _read_answers(reader, len(batch))
            asked += len(batch)
    finally:
        writer.close()
    return asked


async def _read_answers(reader: asyncio.StreamReader, count: int) -> None:
    seen, last = 0, b""
    while seen < count:
        try:
            part = await asyncio.wait_for(reader.read(65_536), TIMEOUT_S)
        except TimeoutError:
            raise WarmError(f"{count - seen} of {count} lookups were not answered in {TIMEOUT_S:.0f} s") from None
        if not part:
            raise WarmError("the service closed a connection")
        if b"errorInformation" in last + part:
            raise WarmError("a lookup was refused")
        # The network can cut an end in two, so the last byte of the part before is included.
        seen += (last[-1:] + part).count(END_OF_ANSWER)
        last = part
