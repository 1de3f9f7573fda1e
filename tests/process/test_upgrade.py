"""A rolling upgrade: two versions on one directory under load, from the first pre migration to the last post one."""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest
from oracle_process import PATIENT, SERVE, OracleProcess, environment, run_oracle, start_oracle, until

ROOT = Path(__file__).parents[2]
HUB_ALONE = (*SERVE, "--only", "hub")
STAND_IN = (sys.executable, str(Path(__file__).with_name("stand_in.py")))  # the supervisor alone makes the schema
PRE, POST = "9001_pre_notes", "9001_post_no_notes"
OWNER = "(with ORACLE_DATABASE_OWNER_URL, the URL of the owner of the tables)"


@pytest.fixture(scope="module")
def next_version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this program with one more migration of each stage: the folder to run it from."""
    home = tmp_path_factory.mktemp("next")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "oracle", home / "oracle", ignore=ignored)
    shutil.copytree(ROOT / "schemas", home / "oracle" / "schemas", ignore=ignored)
    migrations = home / "oracle" / "store" / "migrations"
    (migrations / f"{PRE}.sql").write_text("CREATE TABLE notes (fsp_id text PRIMARY KEY REFERENCES fsps, note text)")
    (migrations / f"{POST}.sql").write_text("ALTER TABLE fsps RENAME CONSTRAINT fsps_pkey TO fsps_key")
    return home


def run_next(home: Path, tmp_path: Path, *arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "oracle", *arguments],
        env=environment(tmp_path, {**env, "PYTHONPATH": str(home)}),
        cwd=home, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


async def list_applied(url: str) -> set[str]:
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch("SELECT number, stage, name FROM migrations WHERE number > 9000")
        return {f"{number:04}_{stage}_{name}" for number, stage, name in rows}
    finally:
        await connection.close()


class Balancer:
    """Clients that look up all the time, over the services that are in use.  `failures`: answers that were not 200."""

    def __init__(self) -> None:
        self.ports: list[int] = []
        self.answered: dict[int, int] = {}
        self.failures: list[str] = []
        self._ended = threading.Event()

    @contextmanager
    def run(self, clients: int = 4) -> Iterator[None]:
        threads = [threading.Thread(target=self._look_up, args=(number,)) for number in range(clients)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.end()
            for thread in threads:
                thread.join()

    def end(self) -> None:
        self._ended.set()

    def use(self, oracle: OracleProcess) -> None:
        """Send clients to this service as well, and wait until it has answered some."""
        before = self.answered.get(oracle.hub_port, 0)
        self.ports.append(oracle.hub_port)
        until(lambda: self.answered.get(oracle.hub_port, 0) > before + 20 or self.failures)

    def spare(self, oracle: OracleProcess) -> None:
        self.ports.remove(oracle.hub_port)

    def _look_up(self, number: int) -> None:
        turn = number
        while not self._ended.is_set():
            turn += 1
            port = self.ports[turn % len(self.ports)]
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            try:
                for count in range(50):
                    if self._ended.is_set() or port not in self.ports:
                        break
                    party = f"/participants/ALIAS/party-{(turn * 50 + count) % 200}"
                    connection.request("GET", party, headers={"fspiop-source": "hub"})
                    answer = connection.getresponse()
                    body = answer.read()
                    if answer.status != http.client.OK or b"bluebank" not in body:
                        self.failures.append(f"{port}: {answer.status} {body!r}")
                    self.answered[port] = self.answered.get(port, 0) + 1
                    if answer.will_close:
                        break
                    time.sleep(0.005)  # clients ask in turn: four of them at full speed would take a core
            except OSError as exc:
                self.failures.append(f"{port}: {exc!r}")
            finally:
                connection.close()


async def fill(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("""
            INSERT INTO fsps (fsp_id, status) VALUES ('bluebank', 'active');
            INSERT INTO aliases (party_id_type, identifier, sub_id, currency, fsp_id)
            SELECT 'ALIAS', 'party-' || n, '', '', 'bluebank' FROM generate_series(0, 199) AS n
        """)
    finally:
        await connection.close()


async def test_no_lookup_fails_during_a_rolling_upgrade(
    tmp_path: Path, database_url: str, redis_url: str, next_version: Path
) -> None:
    await fill(database_url)
    service_url = database_url.replace("oracle@", "oracle_service@")
    env = {**PATIENT, "ORACLE_DATABASE_URL": service_url, "ORACLE_REDIS_URL": redis_url}
    new_env = {**env, "PYTHONPATH": str(next_version)}
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    balancer = Balancer()
    with start_oracle(tmp_path / "old", env, command=HUB_ALONE) as old:
        balancer.ports.append(old.hub_port)
        with balancer.run():
            until(lambda: balancer.answered)
            refused = run_next(next_version, tmp_path / "new", "serve", env=env)
            assert refused.returncode == 1
            assert refused.stderr.splitlines()[-1] == (
                f"oracle: the database lacks the migration {PRE}; run: oracle migrate --stage pre {OWNER}"
            )
            assert await list_applied(database_url) == set()

            owner = {"ORACLE_DATABASE_OWNER_URL": database_url}
            with start_oracle(tmp_path / "new", {**new_env, **owner}) as new:
                assert await list_applied(database_url) == {PRE}
                balancer.use(new)
                # A process of the old version ends, for whatever reason, and starts again.
                balancer.spare(old)
                assert old.stop() == 0
                with start_oracle(tmp_path / "old", env, command=HUB_ALONE) as again:
                    (warned,) = again.find_log_lines(
                        "A newer version has begun to upgrade the database; this version still works with it"
                    )
                    assert warned["migration"] == PRE
                    balancer.use(again)
                    balancer.spare(again)
                    assert again.stop() == 0
                done = run_next(next_version, tmp_path / "new", "migrate", "--stage", "post", env={**env, **owner})
                assert (done.returncode, done.stdout) == (0, "migrations applied: 1\n"), done.stderr
                answered = balancer.answered[new.hub_port]
                until(lambda: balancer.answered[new.hub_port] > answered + 100)
                late = run_oracle(tmp_path / "old", "serve", env=env)
                assert late.returncode == 1
                assert late.stderr.splitlines()[-1] == (
                    f"oracle: the database is of a newer version (migration {POST}): start that version of the oracle"
                )
                balancer.end()
    assert balancer.failures == []


@pytest.mark.parametrize("role", ["oracle", "oracle_service"])
def test_an_empty_database_is_refused_with_the_command_to_run(
    tmp_path: Path, empty_database_url: str, redis_url: str, role: str
) -> None:
    env = {"ORACLE_DATABASE_URL": empty_database_url.replace("oracle@", f"{role}@"), "ORACLE_REDIS_URL": redis_url}
    done = run_oracle(tmp_path, "serve", env=env)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"oracle: the database has no schema yet; run: oracle migrate {OWNER}"


def test_serve_makes_the_schema_itself_with_the_url_of_the_owner(
    tmp_path: Path, empty_database_url: str, redis_url: str
) -> None:
    env = {
        "ORACLE_DATABASE_URL": empty_database_url.replace("oracle@", "oracle_service@"),
        "ORACLE_DATABASE_OWNER_URL": empty_database_url,
        "ORACLE_REDIS_URL": redis_url,
    }
    with start_oracle(tmp_path, env, command=STAND_IN) as oracle:
        assert oracle.find_log_lines("The database has the schema of this version")


async def test_a_pre_migration_behind_a_missing_post_names_both(
    tmp_path: Path, database_url: str, redis_url: str, next_version: Path
) -> None:
    """The new version is two versions ahead, and nobody has ended the upgrade to the one between."""
    skipped = tmp_path / "after-next"
    shutil.copytree(next_version, skipped)
    (skipped / "oracle/store/migrations/9002_pre_more.sql").write_text("CREATE TABLE more ()")
    env = {
        "ORACLE_DATABASE_URL": database_url, "ORACLE_DATABASE_OWNER_URL": database_url, "ORACLE_REDIS_URL": redis_url
    }  # fmt: skip
    done = run_next(skipped, tmp_path, "serve", env=env)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"oracle: the database lacks the migrations {POST} and 9002_pre_more: stop the older versions of the oracle, "
        f"then run: oracle migrate --stage post {OWNER}"
    )
    assert await list_applied(database_url) == {PRE}


async def test_serve_ends_the_upgrade_of_its_own_postgresql(tmp_path: Path, next_version: Path) -> None:
    """Nobody else uses that one, and a person who only starts the program must not need another command."""
    with start_oracle(tmp_path, {"PYTHONPATH": str(next_version)}, command=STAND_IN):
        running = json.loads((tmp_path / "data" / "running.json").read_bytes())
        assert await list_applied(running["owner_url"]) == {PRE, POST}
