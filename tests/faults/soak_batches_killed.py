"""Kills the jobs process, or all processes, in the middle of an import: it ends as if nothing had happened."""

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
from oracle_process import SERVE, OracleProcess, start_oracle, until

from oracle.run.bootstrap import bootstrap
from oracle.run.embedded import PostgresServer, ValkeyServer

ROWS = 15_000  # three portions
KILLS = ("jobs", "all", "jobs")
# Not by event_id: a statement that removes several currencies of a key does so in any order.
EVENTS = """SELECT action, party_identifier, before::text, after::text FROM events
WHERE request_id = $1 AND entity = 'alias' ORDER BY 2, 1, 3, 4"""
PROGRESS = "SELECT rows_applied + rows_failed, state FROM batches ORDER BY batch_id DESC LIMIT 1"
HEADER = "kind,identifier,sub_id,currency,country,action\n"


class End(NamedTuple):
    results: bytes
    rows: dict[str, int]
    aliases: list[Any]
    events: list[Any]


def make_file(seed: int) -> bytes:
    """Make a file in random order: new rows, known rows, rows of another FSP, repeated rows, and invalid rows."""
    source = random.Random(seed)
    lines = []
    for _ in range(ROWS):
        number = source.randrange(ROWS)
        action = source.choices(["add", "replace", "remove", "drop"], [80, 10, 9, 1])[0]
        currency = source.choice(["", "", "MXN", "USD"])
        lines.append(f"MSISDN,5255{number:08},,{currency},,{action}\n")
    return (HEADER + "".join(lines)).encode()


def make_file_of_another_fsp() -> bytes:
    return (HEADER + "".join(f"MSISDN,5255{number:08},,,,\n" for number in range(0, ROWS, 1000))).encode()


class Run:
    """One service on one database that a test kills and starts again."""

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
        command = (*SERVE, "--only", "admin")
        return self._stack.enter_context(start_oracle(self._tmp_path, self._env, command=command, cold=True))

    def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        url = f"{self.oracle.admin_url}/admin/v1{path}"
        answer = httpx.request(method, url, headers=self._headers, timeout=30, **options)
        answer.raise_for_status()
        return answer

    def get(self, path: str) -> httpx.Response:
        """Get a path; try again, as the commands do, while the answer is 503 because PostgreSQL is unavailable."""
        answers: list[httpx.Response] = []

        def is_available() -> bool:
            url = f"{self.oracle.admin_url}/admin/v1{path}"
            answers.append(httpx.get(url, headers=self._headers, timeout=30))
            return answers[-1].status_code != 503

        until(is_available)
        return answers[-1].raise_for_status()

    def upload(self, fsp_id: str, data: bytes) -> str:
        return f"/fsps/{fsp_id}/batches/" + str(
            self.call("POST", f"/fsps/{fsp_id}/batches", params={"fileName": "f.csv"}, content=data).json()["batchId"]
        )

    def fetch(self, sql: str) -> list[Any]:
        async def fetch_all() -> list[Any]:
            connection = await asyncpg.connect(self._database_url)
            try:
                return [tuple(row) for row in await connection.fetch(sql)]
            finally:
                await connection.close()

        return asyncio.run(fetch_all())

    def find_victims(self, what: str) -> list[psutil.Process]:
        """Find the processes to kill.  Call it early: on a busy machine it is slower than the import."""
        if what == "all":
            return [psutil.Process(self.oracle.pid), *self.oracle.descendants()]
        until(lambda: self.oracle.workers("jobs"))
        return self.oracle.workers("jobs")

    def wait_applied(self, rows: int) -> None:
        """Wait until this many rows are committed.  Use one connection, because each new one takes time, too."""

        async def poll() -> None:
            connection = await asyncpg.connect(self._database_url)
            try:
                async with asyncio.timeout(200):
                    while (await connection.fetchrow(PROGRESS))[0] < rows:  # noqa: ASYNC110 - PostgreSQL sends no notice
                        await asyncio.sleep(0.005)
            finally:
                await connection.close()

        asyncio.run(poll())

    def start_again(self) -> None:
        self.oracle.close()
        self.oracle = self._start()

    def wait_end(self, batch: str) -> End:
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
            one.wait_end(one.upload("redbank", make_file_of_another_fsp()))
            batch = one.upload("greenbank", data)
            disturb(one)
            return one.wait_end(batch)
    finally:
        asyncio.run(servers.drop_database(postgres, database))


def test_an_import_killed_at_random_moments_ends_as_if_undisturbed(
    postgres_template: PostgresServer, valkey_server: ValkeyServer, tmp_path: Path
) -> None:
    seed = time.time_ns()
    print("seed", seed)
    source = random.Random(seed)
    moments = [0, *sorted(source.randrange(ROWS * 3 // 4) for _ in KILLS[1:])]
    found: list[tuple[Any, ...]] = []

    def disturb(one: Run) -> None:
        for moment, what in zip(moments, KILLS, strict=True):
            victims = one.find_victims(what)
            one.wait_applied(moment)
            time.sleep(source.random() * 0.1)  # into the next transaction
            for process in victims:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            found.append((*one.fetch(PROGRESS)[0], what))
            if what == "all":
                one.start_again()

    data = make_file(seed)
    undisturbed = run(postgres_template, valkey_server, tmp_path, data, lambda _: None)
    disturbed = run(postgres_template, valkey_server, tmp_path, data, disturb)
    print("killed at", found)
    assert sum(state != "done" for _, state, _ in found) >= len(KILLS) - 1, found
    assert len(undisturbed.results.splitlines()) == ROWS + 1
    assert disturbed == undisturbed
