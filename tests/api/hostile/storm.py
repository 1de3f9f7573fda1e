"""Sends hostile requests to a running oracle and reports every answer that breaks a rule.

    export PYTHONPATH=tests
    python tests/api/hostile/storm.py --count 100000 --seed 7                       starts an oracle of its own
    python tests/api/hostile/storm.py --port 3000 --database-url postgresql://…     asks an oracle that runs already

The rules:
* every request gets an answer, none of them 5xx, and every answer from 400 on is errorInformation and nothing else;
* no answer repeats the identifier that it refuses;
* a connection ends only after an answer with `connection: close`, or after a request that was not valid HTTP;
* the directory has only changes that an accepted request named, for the FSP that it named.  The FSP that sent no
  request has no changes.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import re
import socket
import struct
import sys
import tempfile
import time
from collections import Counter, deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote_to_bytes

import asyncpg
import shots
from hub.messages import PARTICIPANTS, get, post
from hub.wire import Answer, ask
from shots import VICTIM, VICTIMS, Shot

from oracle.identifiers import BadIdentifier, Reading

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

StoredRow = tuple[str, ...]

CONNECTIONS: Final = 8
PIPELINE_MAX: Final = 40  # requests on one connection, sent without waiting
WAIT_S: Final = 120  # for the answers to all of them, on a busy machine
BUFFER_BYTES: Final = 1 << 20
PROBLEMS_MAX: Final = 50

# A refusal may name the kind of an identifier.
SCHEMES: Final = frozenset({*shots.TYPES, b"CLABE"})
STATUSES: Final = frozenset({200, 201, 204, 400, 403, 404, 405, 408, 409, 413, 414, 431})
four_digits = re.compile(r"[1-5][0-9]{3}").fullmatch
written = re.compile(rb"(POST|PUT|DELETE) (\S+)").findall


@dataclass
class Report:
    asked: int = 0
    answered: int = 0
    connections: int = 0
    closed_by_announcement: int = 0
    closed_behind_a_lone_shot: int = 0
    seconds: float = 0
    outcomes: Counter[tuple[str, int]] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    accepted: set[tuple[str, str, str]] = field(default_factory=set)  # type, identifier, FSP
    actors: set[str] = field(default_factory=set)
    changed_rows: int = 0

    def blame(self, shot: Shot, why: str) -> None:
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(f"{why}\n    {shot.family}: {shot.raw[:600]!r}")

    def __str__(self) -> str:
        families = sorted({family for family, _ in self.outcomes})
        statuses = sorted({status for _, status in self.outcomes})
        sent = f"{self.asked} requests, {self.answered} answers, {self.seconds:.1f} s"
        connections = (
            f"{self.connections} connections: {self.closed_by_announcement} closed by announcement, "
            f"{self.closed_behind_a_lone_shot} behind a lone shot, the others by us"
        )
        actors = ", ".join(sorted(self.actors)) or "nobody"
        head = f"{'':12}" + "".join(f"{status:>8}" for status in statuses)
        rows = [
            f"{family:12}" + "".join(f"{self.outcomes[family, status] or '':>8}" for status in statuses)
            for family in families
        ]
        return "\n".join(
            (
                sent,
                connections,
                head,
                *rows,
                "codes: " + ", ".join(f"{code} {count}" for code, count in sorted(self.codes.items())),
                f"directory: {self.changed_rows} rows came or went; accepted writes were those of {actors}",
                f"{len(self.problems)} problems",
                *self.problems,
            )
        )


# Sending ------------------------------------------------------------------------------------------------------


async def fire(port: int, hostile: Iterable[Shot], report: Report) -> None:
    waiting: deque[Shot] = deque()
    source = iter(hostile)

    def take_group() -> list[Shot]:
        """Framed shots, with at most one lone shot, which ends it."""
        taken: list[Shot] = []
        while len(taken) < PIPELINE_MAX and not (taken and taken[-1].lone):
            shot = waiting.popleft() if waiting else next(source, None)
            if shot is None:
                break
            taken.append(shot)
        return taken

    async def worker() -> None:
        while taken := take_group():
            done = await volley(port, taken, report)
            waiting.extendleft(reversed(taken[done:]))

    started = time.monotonic()
    await asyncio.gather(*(worker() for _ in range(CONNECTIONS)))
    report.seconds = time.monotonic() - started


async def volley(port: int, group: list[Shot], report: Report) -> int:
    """Send all, read all.  Returns how many were answered; the caller must send the rest again."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=BUFFER_BYTES)
    report.connections += 1
    # No TIME_WAIT: a long run would use up the ports of this machine.
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sending = asyncio.create_task(_send(writer, group))
    done = 0
    try:
        async with asyncio.timeout(WAIT_S):
            for shot in group:
                if shot.lone:
                    await _finish(reader, shot, report)
                    return done + 1
                answer = await _receive(reader, head=shot.raw.startswith(b"HEAD "))
                if answer is None:
                    report.blame(shot, f"closed without an announcement before answer {done}")
                    return done + 1
                settle(shot, answer, report)
                done += 1
                if answer.closes:
                    report.closed_by_announcement += 1
                    return done
    except (OSError, asyncio.IncompleteReadError, TimeoutError, ValueError) as error:
        report.blame(group[done], f"{type(error).__name__}: {error} instead of answer {done}")
        return done + 1
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        writer.transport.abort()
    return done


async def _send(writer: asyncio.StreamWriter, group: list[Shot]) -> None:
    for shot in group:
        writer.write(shot.raw)
        await writer.drain()
    if group[-1].lone:
        writer.write_eof()


async def _finish(reader: asyncio.StreamReader, shot: Shot, report: Report) -> None:
    """Read all answers to a lone shot: to the oracle it can be several requests, or none."""
    count = 0
    while (answer := await _receive(reader, head=shot.raw.startswith(b"HEAD "))) is not None:
        settle(shot, answer, report, first=count == 0)
        count += 1
    report.closed_behind_a_lone_shot += 1
    if not count:
        report.asked += 1
        report.outcomes[shot.family, 0] += 1
        if shot.raw.strip(b"\r\n"):
            report.blame(shot, "closed without an answer")


async def _receive(reader: asyncio.StreamReader, *, head: bool) -> Answer | None:
    while True:
        try:
            block = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            if error.partial:
                raise
            return None
        lines = block[:-4].decode("ascii").split("\r\n")
        version, status, _ = lines[0].split(" ", 2)
        if version != "HTTP/1.1":
            raise ValueError(f"a status line of {lines[0]!r}")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        length = 0 if head else int(headers.get("content-length", "0"))
        if int(status) >= 200:
            return Answer(int(status), headers, await reader.readexactly(length) if length else b"")


# Judging ------------------------------------------------------------------------------------------------------


def settle(shot: Shot, answer: Answer, report: Report, *, first: bool = True) -> None:
    report.asked += first
    report.answered += 1
    report.outcomes[shot.family, answer.status] += 1
    if answer.status not in STATUSES:
        report.blame(shot, f"status {answer.status}: {answer.body[:300]!r}")
    elif answer.status >= 400:
        if answer.body or not shot.raw.startswith(b"HEAD "):
            _check_refusal(shot, answer, report)
    elif answer.status == 200 and answer.body.startswith(b'{"partyList"') and answer.body.count(b"fspId") > 1:
        report.blame(shot, "more than one FSP to a lookup")
    if answer.status < 300:
        _remember(shot, answer, report)


def _check_refusal(shot: Shot, answer: Answer, report: Report) -> None:
    try:
        body = answer.json()
        information = body["errorInformation"]
        code, description = information["errorCode"], information["errorDescription"]
        sound = (
            set(body) == {"errorInformation"}
            and set(information) == {"errorCode", "errorDescription"}
            and four_digits(code)
            and 1 <= len(description) <= 128
            and description.isprintable()
            and answer.headers["content-type"].startswith("application/json")
        )
    except (ValueError, KeyError, TypeError):
        sound = False
    if not sound:
        report.blame(shot, f"{answer.status} without errorInformation: {answer.body[:300]!r}")
        return
    report.codes[code] += 1
    segments = shot.raw.split(b"\r\n", 1)[0].split(b" ")[1:2]
    sent = itertools.chain.from_iterable(target.split(b"/")[3:] for target in segments)
    forms = {form for segment in sent for form in (segment, unquote_to_bytes(segment))} - SCHEMES
    if any(len(form) > 4 and form in description.encode() for form in forms):
        report.blame(shot, f"the refusal repeats what it refuses: {description}")


def _remember(shot: Shot, answer: Answer, report: Report) -> None:
    """Note the changes that this answer allows.  A lone shot can hold several requests: note all that it names."""
    source = re.search(rb"(?i)\r\nfspiop-source:[ \t]*([^\r\n]*?)[ \t]*\r\n", shot.raw)
    if source is None:
        return
    fsp_id = source[1].decode("latin-1")
    named: list[tuple[Any, Any, Any]] = []
    for _, raw in written(shot.raw):
        path = re.sub(rb"^[A-Za-z]+://[^/?#]*", b"", raw).partition(b"?")[0]
        parts = [unquote_to_bytes(part).decode(errors="replace") for part in path.lstrip(b"/").split(b"/")[1:]]
        if len(parts) >= 2:
            # The SubId matters for CLABE and NRC only, which are tried both ways.
            named += [(parts[0], parts[1], sub_id) for sub_id in (None, "CLABE", "NRC")]
        elif answer.status == 201:
            for entry in answer.json().get("partyList", ()):
                party = entry["partyId"]
                if "errorInformation" not in entry:
                    identifier = (party.get("partyIdType"), party.get("partyIdentifier"))
                    named += [(*identifier, sub_id) for sub_id in (None, "CLABE", "NRC")]
    for party_id_type, identifier, sub_id in named:
        try:
            key = Reading().read_hub_key(party_id_type, identifier, sub_id)
        except BadIdentifier:
            continue
        report.accepted.add((key[0], key[1], fsp_id))
        report.actors.add(fsp_id)


# The directory ------------------------------------------------------------------------------------------------


async def fetch_rows(database_url: str) -> set[StoredRow]:
    connection = await asyncpg.connect(database_url)
    try:
        found = set()
        for table in ("aliases", "alias_currencies"):
            for row in await connection.fetch(
                f"SELECT party_id_type::text, identifier, fsp_id, sub_id, currency, changed_at::text FROM {table}"  # noqa: S608
            ):
                found.add((table, *row))
        for row in await connection.fetch("SELECT fsp_id, status::text FROM fsps"):
            found.add(("fsps", *row))
        return found
    finally:
        await connection.close()


def explain(before: set[StoredRow], after: set[StoredRow], report: Report) -> None:
    nobody = Shot("directory", b"")
    for row in before ^ after:
        report.changed_rows += 1
        if row[0] == "fsps":
            if row[1] not in report.actors:
                report.blame(nobody, f"an FSP that no accepted request named: {row}")
        elif row[3] == VICTIM or row[1:4] not in report.accepted:
            report.blame(nobody, f"no accepted request explains {'+' if row in after else '-'}{row}")


def register_victims(port: int) -> None:
    headers = PARTICIPANTS.replace(b"fspiop-source: payerfsp", b"fspiop-source: " + VICTIM.encode())
    items = [victim.item(VICTIM) for victim in VICTIMS]
    answer = ask(port, post(b"/participants", json.dumps({"partyList": items}).encode(), headers))
    assert answer.status == 201, answer
    assert not [entry for entry in answer.json()["partyList"] if "errorInformation" in entry], answer


def check_victims(port: int, report: Report) -> None:
    """Look every victim up in every spelling: each must still have its FSP."""
    for victim in VICTIMS:
        for spelling in victim.spellings:
            target = b"/participants/%s/%s" % (victim.party_id_type.encode(), spelling)
            if victim.sub_id:
                target += b"?partySubIdOrType=" + victim.sub_id.encode()
            answer = ask(port, get(target))
            if answer.status != 200 or [e["fspId"] for e in answer.json()["partyList"]] != [VICTIM]:
                report.blame(Shot("victim", target), f"{answer.status} {answer.body!r}")


def run(port: int, database_url: str, count: int, seed: int) -> Report:
    report = Report()
    register_victims(port)
    before = asyncio.run(fetch_rows(database_url))
    asyncio.run(fire(port, shots.stream(Random(seed), count), report))
    explain(before, asyncio.run(fetch_rows(database_url)), report)
    check_victims(port, report)
    return report


# As a program -------------------------------------------------------------------------------------------------


@contextmanager
def start_own_oracle() -> Iterator[tuple[int, str]]:
    import servers
    from hub.process import run_oracle

    with servers.temporary_home() as home, servers.temporary_home() as other, tempfile.TemporaryDirectory() as folder:
        postgres = asyncio.run(servers.start_postgres(home))
        valkey = asyncio.run(servers.start_valkey(other))
        try:
            asyncio.run(servers.make_template(postgres))
            with run_oracle(postgres, valkey, Path(folder)) as hub:
                yield hub.port, hub.database_url
        finally:
            asyncio.run(valkey.stop())
            asyncio.run(postgres.stop())


def main() -> int:
    parser = argparse.ArgumentParser(description="Hostile requests for an oracle's hub listener.")
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--port", type=int, help="of an oracle that runs already; only with --database-url")
    parser.add_argument("--database-url")
    arguments = parser.parse_args()
    if arguments.port and arguments.database_url:
        report = run(arguments.port, arguments.database_url, arguments.count, arguments.seed)
    else:
        with start_own_oracle() as (port, database_url):
            report = run(port, database_url, arguments.count, arguments.seed)
    print(report)
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
