"""kill -9 in the middle of an import, of the process that does it and of everything: it ends as if nothing had been."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import httpx
import psutil
import servers
from oracle_process import OracleProcess, start_oracle, until

from oracle.run.bootstrap import bootstrap
from oracle.run.embedded import PostgresServer, ValkeyServer

ROWS = 30_000
KILLS = ("jobs", "jobs", "all", "jobs", "all")
# Not by event_id: further currencies of a key that go together go in no order, each time in another one.
EVENTS = """SELECT action, party_identifier, before::text, after::text FROM events
WHERE request_id = $1 AND entity = 'alias' ORDER BY 2, 1, 3, 4"""
PROGRESS = "SELECT rows_applied + rows_failed, state FROM batches ORDER BY batch_id DESC LIMIT 1"
HEADER = "kind,identifier,sub_id,currency,country,action\n"


class End(NamedTuple):
    results: bytes
    rows: dict[str, int]
    aliases: list[Any]
    events: list[Any]


def file_of(seed: int) -> bytes:
    """New ones, known ones, some that another FSP holds, some twice, some wrong, in no order."""
    source = random.Random(seed)
    lines = []
    for _ in range(ROWS):
        number = source.randrange(ROWS)
        action = source.choices(["add", "replace", "remove", "drop"], [80, 10, 9, 1])[0]
        currency = source.choice(["", "", "MXN", "USD"])
        lines.append(f"MSISDN,5255{number:08},,{currency},,{action}\n")
    return (HEADER + "".join(lines)).encode()


def held_by_another() -> bytes:
    return (HEADER + "".join(f"MSISDN,5255{number:08},,,,\n" for number in range(0, ROWS, 1000))).encode()


class Run:
    """One service on one database, killed and started again."""

    def __init__(self, tmp_path: Path, database_url: str, redis_url: str, stack: ExitStack) -> None:
        self._tmp_path = tmp_path
        self._database_url = database_url
        self._env = {"ORACLE_DATABASE_URL": database_url, "ORACLE_REDIS_URL": redis_url, "ORACLE_CACHE_PREFIX": "k"}
        self._stack = stack
        self.oracle = self._start()
        key = asyncio.run(bootstrap(database_url))
        self._headers = {"Authorization": f"Bearer {key}"}
        for fsp_id in ("greenbank", "redbank"):
            self.call("POST", "/fsps", json={"fspId": fsp_id})

    def _start(self) -> OracleProcess:
        return self._stack.enter_context(start_oracle(self._tmp_path, self._env))

    def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        url = f"{self.oracle.admin_url}/admin/v1{path}"
        answer = httpx.request(method, url, headers=self._headers, timeout=30, **options)
        answer.raise_for_status()
        return answer

    def get(self, path: str) -> httpx.Response:
        """Asked again, as the commands do, while a PostgreSQL that stands still is no answer."""
        answers: list[httpx.Response] = []

        def is_over() -> bool:
            url = f"{self.oracle.admin_url}/admin/v1{path}"
            answers.append(httpx.get(url, headers=self._headers, timeout=30))
            return answers[-1].status_code != 503

        until(is_over)
        return answers[-1].raise_for_status()

    def upload(self, fsp_id: str, data: bytes) -> str:
        return f"/fsps/{fsp_id}/batches/" + str(
            self.call("POST", f"/fsps/{fsp_id}/batches", params={"fileName": "f.csv"}, content=data).json()["batchId"]
        )

    def fetch(self, sql: str) -> list[Any]:
        async def fetched() -> list[Any]:
            connection = await asyncpg.connect(self._database_url)
            try:
                return [tuple(row) for row in await connection.fetch(sql)]
            finally:
                await connection.close()

        return asyncio.run(fetched())

    def victims(self, what: str) -> list[psutil.Process]:
        """Looked for before the moment has come: on a busy machine that takes longer than the rest of the file."""
        if what == "all":
            return [psutil.Process(self.oracle.pid), *self.oracle.descendants()]
        until(lambda: self.oracle.workers("jobs"))
        return self.oracle.workers("jobs")

    def wait_applied(self, rows: int) -> None:
        """Until so many are committed; asked on one connection, for the same reason."""

        async def waited() -> None:
            connection = await asyncpg.connect(self._database_url)
            try:
                async with asyncio.timeout(200):
                    while (await connection.fetchrow(PROGRESS))[0] < rows:  # noqa: ASYNC110 - PostgreSQL tells nobody
                        await asyncio.sleep(0.005)
            finally:
                await connection.close()

        asyncio.run(waited())

    def start_again(self) -> None:
        self.oracle.close()
        self.oracle = self._start()

    def end(self, batch: str) -> End:
        until(lambda: self.get(batch).json()["state"] == "done", 120)
        number = batch.rpartition("/")[2]
        return End(
            self.get(f"{batch}/results").content,
            self.get(batch).json()["rows"],
            self.fetch("SELECT identifier, currency, fsp_id FROM aliases ORDER BY 1")
            + self.fetch("SELECT identifier, currency, fsp_id FROM alias_currencies ORDER BY 1, 2"),
            self.fetch(EVENTS.replace("$1", f"'batch:{number}'")),
        )


def run(
    postgres: PostgresServer, valkey: ValkeyServer, tmp_path: Path, data: bytes, disturb: Callable[[Run], None]
) -> End:
    database = asyncio.run(servers.make_database(postgres))
    try:
        with ExitStack() as stack:
            one = Run(tmp_path, postgres.url(database), valkey.url(), stack)
            one.end(one.upload("redbank", held_by_another()))
            batch = one.upload("greenbank", data)
            disturb(one)
            return one.end(batch)
    finally:
        asyncio.run(servers.drop_database(postgres, database))


def test_killed_at_random_moments_it_ends_as_if_undisturbed(
    postgres_template: PostgresServer, valkey_server: ValkeyServer, tmp_path: Path
) -> None:
    seed = time.time_ns()
    print("seed", seed)
    source = random.Random(seed)
    moments = [0, *sorted(source.randrange(ROWS // 2) for _ in KILLS[1:])]
    found: list[tuple[Any, ...]] = []

    def disturb(one: Run) -> None:
        for moment, what in zip(moments, KILLS, strict=True):
            victims = one.victims(what)
            one.wait_applied(moment)
            time.sleep(source.random() * 0.1)  # into the next transaction
            for process in victims:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            found.append((*one.fetch(PROGRESS)[0], what))
            if what == "all":
                one.start_again()

    data = file_of(seed)
    undisturbed = run(postgres_template, valkey_server, tmp_path, data, lambda _: None)
    disturbed = run(postgres_template, valkey_server, tmp_path, data, disturb)
    print("killed at", found)
    assert sum(state != "done" for _, state, _ in found) >= len(KILLS) - 1, found
    assert len(undisturbed.results.splitlines()) == ROWS + 1
    assert disturbed == undisturbed
