"""Sends lookups at a low fixed rate: nothing to coalesce, and a worker that sleeps between two of them.

wrk cannot do that: it asks again as soon as it has its answer.  The lookups take turns on a few connections, and none
waits for the one before.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from typing import Final
from urllib.parse import urlsplit

from loadtests.profiles import make_hub_headers
from loadtests.wrk import Result, Targets

CONNECTIONS: Final = 8
ANSWER_S: Final = 20.0  # as long as a hub waits


def run(url: str, targets: Targets, *, rate: float, seconds: float) -> Result:
    """Send `rate` lookups a second.  Raises OSError or TimeoutError if one is not answered."""
    return asyncio.run(_run(url, targets, rate, seconds))


async def _run(url: str, targets: Targets, rate: float, seconds: float) -> Result:
    place = urlsplit(url)
    lines = "".join(f"{name}: {value}\r\n" for name, value in make_hub_headers("payerfsp").items())
    opened = [await asyncio.open_connection(place.hostname, place.port) for _ in range(CONNECTIONS)]
    free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    for each in opened:
        free.put_nowait(each)
    answers: list[tuple[float, bool]] = []

    async def ask() -> None:
        reader, writer = await free.get()
        began = time.perf_counter()
        target = targets.make_target(random.randrange(targets.size))
        writer.write(f"GET {target} HTTP/1.1\r\nhost: {place.netloc}\r\n{lines}\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(_read_length(head))
        answers.append((time.perf_counter() - began, head.startswith(b"HTTP/1.1 200 ")))
        free.put_nowait((reader, writer))

    began = time.perf_counter()
    async with asyncio.timeout(seconds + ANSWER_S), asyncio.TaskGroup() as group:
        for number in range(round(rate * seconds)):
            await asyncio.sleep(began + number / rate - time.perf_counter())
            group.create_task(ask())
    took = time.perf_counter() - began
    for _, writer in opened:
        writer.close()
    times = [1000 * waited for waited, _ in answers]
    parts = statistics.quantiles(times, n=1000, method="inclusive")
    refused = sum(not right for _, right in answers)
    return Result(len(answers), took, parts[499], parts[899], parts[989], parts[998], max(times), refused, 0)


def _read_length(head: bytes) -> int:
    lines = head.lower().split(b"\r\n")
    return next(int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:"))
