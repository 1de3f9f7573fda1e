"""Proves the alert rules: a real Prometheus watches a real service, and real faults make each alert fire and clear.

    make alerts                                  every fault, and three minutes of normal load before them
    make alerts ALERTS="--calm 60"               an hour of normal load, in which no alert can fire
    make alerts ALERTS="--calm 0 --only Redis"   the faults whose titles have this word

The service is `oracle serve` with two hub workers; PostgreSQL and Valkey are this program's own, and the network to
PostgreSQL can be slow.  Its clients look up and register all the time.  Stand-ins play the admin API of the hub's ALS,
a central ledger and DFSPs.  The rules are those of deploy/monitoring with each `for` and each range divided by the same
factor, and nothing else changed: no limit is lower.  Prometheus asks and judges each second.  Nothing writes samples
but the service.

It prints a table: when each fault began, how long until its alert fired, when it was repaired, and how long until the
alert cleared.  It ends with 1 if an alert did not fire, did not clear, or fired without a fault.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import secrets
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import alert_forms
import asyncpg
import dashboard_picture
import dashboards
import httpx
import servers
from als_stand_in import Als, open_als, write
from certificates import Authority
from hub_client import Broken, Connection
from issuer import Issuer, issuing
from oracle_process import OracleProcess, start_oracle
from proxy import Network
from test_monitoring_files import METRIC

from loadtests.dfsps.scene import PARTIES, Scene, name_party, name_payee
from oracle.run.bootstrap import bootstrap
from oracle.run.embedded import PostgresServer, ValkeyServer
from oracle.store.migrate import migrate

FACTOR: Final = 20
LOOK_S: Final = 0.5
FIRE_MAX_S: Final = 240.0
CLEAR_MAX_S: Final = 180.0
SERVICE_S: Final = 30.0
REPLACED_S: Final = 120.0
TYPE: Final = "MSISDN"
COLD_FROM: Final = PARTIES
COLD_COUNT: Final = 40_000  # more than are asked for while a copy lasts
HOT: Final = 2_000
FSP: Final = name_payee(0)

FILL_ALIASES: Final = """
INSERT INTO aliases (party_id_type, identifier, fsp_id)
SELECT 'MSISDN', '52550' || lpad(n::text, 7, '0'), $1 FROM generate_series(0::int, $2::int - 1) AS n
"""


# Load ------------------------------------------------------------------------------------------------------------


class Load:
    """A hub that looks up and registers, and DFSPs that ask the account lookup listener.

    `cold`    the share of lookups for aliases that nobody has looked up before: PostgreSQL answers them
    `unknown` the share of lookups for numbers that nobody has registered, each one once
    """

    LOOKUPS_PER_S: Final = 120
    CHANGES_PER_S: Final = 2
    DFSP_PER_S: Final = 5
    CONNECTIONS: Final = 12

    def __init__(self, oracle: OracleProcess, scene: Scene) -> None:
        self.cold, self.unknown = 0.05, 0.0
        self.answers: dict[int, int] = {}
        self._oracle, self._scene = oracle, scene
        self._random = random.Random(1)
        self._next_cold = COLD_FROM
        self._next_unknown = 0
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        port = self._oracle.hub_port
        works = [self._look_up(Connection(lambda: port)) for _ in range(self.CONNECTIONS)]
        works += [self._change(Connection(lambda: port)), self._ask_as_dfsp()]
        self._tasks = [asyncio.create_task(work) for work in works]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _choose(self) -> str:
        chance = self._random.random()
        if chance < self.unknown:
            self._next_unknown += 1
            return f"52559{self._next_unknown:07}"
        if chance < self.unknown + self.cold:
            self._next_cold = COLD_FROM + (self._next_cold + 1 - COLD_FROM) % COLD_COUNT
            return name_party(self._next_cold)
        return name_party(self._random.randrange(HOT))

    async def _look_up(self, connection: Connection) -> None:
        every_s = self.CONNECTIONS / self.LOOKUPS_PER_S
        due = time.monotonic() + self._random.random() * every_s
        while True:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due = max(due + every_s, time.monotonic() - every_s)
            await self._ask(connection, "GET", self._choose())

    async def _change(self, connection: Connection) -> None:
        """Register a number, and remove it again."""
        number = 0
        while True:
            number += 1
            party = f"52558{number % 1000:07}"
            await self._ask(connection, "POST", party, json.dumps({"fspId": FSP}).encode())
            await asyncio.sleep(1 / self.CHANGES_PER_S)
            await self._ask(connection, "DELETE", party)
            await asyncio.sleep(1 / self.CHANGES_PER_S)

    async def _ask(self, connection: Connection, method: str, party: str, body: bytes = b"") -> None:
        try:
            status, _ = await connection.ask(method, f"/participants/{TYPE}/{party}", source=FSP, body=body)
        except Broken:
            status = 0
            await asyncio.sleep(0.05)
        self.answers[status] = self.answers.get(status, 0) + 1

    async def _ask_as_dfsp(self) -> None:
        while True:
            for resource in ("participants", "parties"):
                with suppress(OSError):  # the service is stopped
                    await self._scene.ask(self.DFSP_PER_S, self.DFSP_PER_S, settle_s=0.2, among=HOT, resource=resource)


# Prometheus ------------------------------------------------------------------------------------------------------


class Prometheus:
    """A real one, which asks the service each second."""

    def __init__(self, home: Path, target: int, rules: str) -> None:
        self.port = servers.free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._home = home
        self._process: asyncio.subprocess.Process | None = None
        self._client = httpx.AsyncClient(base_url=self.url, timeout=30)
        home.mkdir()
        (home / "rules.yaml").write_text(rules)
        (home / "prometheus.yaml").write_text(
            json.dumps(
                {
                    "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                    "rule_files": ["rules.yaml"],
                    "scrape_configs": [
                        {"job_name": "alias-oracle", "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}
                    ],
                }
            )
        )

    async def start(self) -> None:
        program = shutil.which("prometheus")
        if program is None:
            raise SystemExit("Prometheus is not installed: install Debian's package prometheus")
        self._process = await asyncio.create_subprocess_exec(
            program, f"--config.file={self._home}/prometheus.yaml", f"--storage.tsdb.path={self._home}/data",
            f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=warn", "--query.lookback-delta=5s",
        )  # fmt: skip
        async with asyncio.timeout(SERVICE_S):
            while not await self._is_ready():  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.1)

    async def _is_ready(self) -> bool:
        with suppress(httpx.HTTPError):
            return (await self._client.get("/-/ready")).status_code == httpx.codes.OK
        return False

    async def fetch_alerts(self) -> dict[str, set[str]]:
        """Fetch the alerts by their state: pending, firing."""
        answer = (await self._client.get("/api/v1/alerts")).raise_for_status().json()
        states: dict[str, set[str]] = {"pending": set(), "firing": set()}
        for alert in answer["data"]["alerts"]:
            states[alert["state"]].add(alert["labels"]["alertname"])
        return states

    async def fetch_names(self) -> set[str]:
        answer = (await self._client.get("/api/v1/label/__name__/values")).raise_for_status().json()
        return set(answer["data"])

    async def stop(self) -> None:
        await self._client.aclose()
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            await self._process.wait()


# The service, and what can break it ------------------------------------------------------------------------------


@dataclass
class World:
    home: Path
    postgres: PostgresServer
    valkey: ValkeyServer
    network: Network
    oracle: OracleProcess
    als: Als
    load: Load
    prometheus: Prometheus
    key: str
    env: dict[str, str]
    issuer: Issuer
    authority: Authority
    session: asyncpg.Connection | None = None
    files: int = 0

    @property
    def signing_keys(self) -> Path:
        return self.home / "keys"

    async def stop_redis(self) -> None:
        self.valkey.kill()

    async def start_redis(self) -> None:
        await self.valkey.start()

    async def stop_postgres(self) -> None:
        self.postgres.kill()

    async def start_postgres(self) -> None:
        await self.postgres.start()

    def close_service(self) -> None:
        self.oracle.close()  # the last one

    async def stop_service(self) -> None:
        await asyncio.to_thread(self.oracle.stop)

    async def start_service(self) -> None:
        """On the same ports, as a service manager does."""
        self.oracle = await asyncio.to_thread(start_oracle, self.home / "service", self.env)

    async def let_certificate_expire(self) -> None:
        """The program that renews certificates has failed for weeks: 3 days are left."""
        self.authority.make("oracles", "127.0.0.1", days=(-27, 3))
        await self._read_again()

    async def renew_certificate(self) -> None:
        self.authority.make("oracles", "127.0.0.1", days=(-1, 90))
        await self._read_again()

    async def _read_again(self) -> None:
        event = "All workers are replaced"
        before = len(self.oracle.find_log_lines(event))
        self.oracle.signal(signal.SIGHUP)
        async with asyncio.timeout(REPLACED_S):
            while len(self.oracle.find_log_lines(event)) == before:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.1)

    async def break_issuer(self) -> None:
        """The identity provider answers 500.  A new admin process asks at once; the old one has keys for 5 minutes."""
        self.issuer.status = 500
        for worker in self.oracle.workers("admin"):
            worker.kill()

    async def mend_issuer(self) -> None:
        self.issuer.status = 200

    async def slow_postgres(self) -> None:
        await self.network.set(["postgres"], delay_ms=[70, 90])

    async def hasten(self) -> None:
        await self.network.heal(["postgres"])

    async def stop_worker(self) -> None:
        """Stop the supervisor first, which would replace a worker that hangs after 10 seconds."""
        self.oracle.signal(signal.SIGSTOP)
        self.oracle.workers("hub")[0].send_signal(signal.SIGSTOP)

    async def continue_worker(self) -> None:
        for worker in self.oracle.workers("hub"):
            worker.send_signal(signal.SIGCONT)
        self.oracle.signal(signal.SIGCONT)

    async def lose_key(self) -> None:
        """The file of the signing key is gone, and the process that seals starts anew."""
        self.signing_keys.rename(self.home / "keys-away")
        for worker in self.oracle.workers("jobs"):
            worker.kill()

    async def restore_key(self) -> None:
        shutil.rmtree(self.signing_keys, ignore_errors=True)
        (self.home / "keys-away").rename(self.signing_keys)

    async def leave_transaction_open(self) -> None:
        self.session = await asyncpg.connect(self.postgres.url())
        await self.session.execute("BEGIN; SELECT pg_current_xact_id()")  # as a change does, without holding a row

    async def lock_chunks(self) -> None:
        """A forgotten session holds a lock that an import needs; then somebody uploads a file."""
        self.session = await asyncpg.connect(self.postgres.url())
        await self.session.execute("BEGIN; LOCK TABLE batch_chunks IN EXCLUSIVE MODE")
        self.files += 1
        lines = "".join(f"MSISDN,52557{self.files:02}{number:05}\n" for number in range(1000))
        async with httpx.AsyncClient(base_url=f"{self.oracle.admin_url}/admin/v1", timeout=30) as client:
            client.headers["authorization"] = f"Bearer {self.key}"
            body = f"kind,identifier\n{lines}".encode()
            answer = await client.post(f"/fsps/{FSP}/batches", params={"fileName": "numbers.csv"}, content=body)
            answer.raise_for_status()

    async def end_session(self) -> None:
        assert self.session is not None
        await self.session.close()

    async def scan(self) -> None:
        self.load.unknown = 0.5

    async def end_scan(self) -> None:
        self.load.unknown = 0.0

    async def wipe_registration(self) -> None:
        """An upgrade of the hub deletes the rows of ALS, and ALS refuses to create them."""
        self.als.fault = _refuse_rows
        self.als.rows.clear()

    async def let_register(self) -> None:
        self.als.fault = None


async def _refuse_rows(method: str, _target: str) -> bytes | None:
    return write(500, b"{}") if method == "POST" else None


Step = Callable[[World], Awaitable[None]]


@dataclass(frozen=True)
class Fault:
    title: str
    alerts: Sequence[str]
    begin: Step
    repair: Step


FAULTS: Final[Sequence[Fault]] = (
    Fault("Redis is killed", ("OracleCacheDegraded",), World.stop_redis, World.start_redis),
    Fault(
        "PostgreSQL is killed", ("OracleDatabaseAway", "OracleLeaseOld", "OracleErrors"),
        World.stop_postgres, World.start_postgres,
    ),
    Fault("A worker and its supervisor hang", ("OracleLeaseOld",), World.stop_worker, World.continue_worker),
    Fault("PostgreSQL answers 140 ms late", ("OracleSlow",), World.slow_postgres, World.hasten),
    Fault("The key of the sealer is gone", ("OracleSealingWaits",), World.lose_key, World.restore_key),
    Fault("A transaction stays open", ("OracleSealingWaits",), World.leave_transaction_open, World.end_session),
    Fault("ALS loses its rows for good", ("OracleRegistrationLost",), World.wipe_registration, World.let_register),
    Fault("A session locks what an import needs", ("OracleImportStuck",), World.lock_chunks, World.end_session),
    Fault("A scan of unregistered numbers", ("OracleHitRatioLow",), World.scan, World.end_scan),
    Fault("An issuer of tokens fails", ("OracleIssuerAway",), World.break_issuer, World.mend_issuer),
    Fault(
        "A certificate is not renewed", ("OracleCertificateExpires",),
        World.let_certificate_expire, World.renew_certificate,
    ),
    Fault("The service is stopped", ("OracleGone",), World.stop_service, World.start_service),
)  # fmt: skip


@asynccontextmanager
async def open_world(home: Path, factor: float) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        for name in ("postgres", "valkey", "gates", "service"):
            (home / name).mkdir(mode=0o700)
        postgres = await servers.start_postgres(home / "postgres", {"max_connections": "200"})
        stack.push_async_callback(postgres.stop)
        valkey = await servers.start_valkey(home / "valkey")
        stack.push_async_callback(valkey.stop)
        await migrate(postgres.url())
        await _fill(postgres.url())
        network = await stack.enter_async_context(Network())
        gates = home / "gates"
        await network.open("postgres", gates / ".s.PGSQL.5432", servers.postgres_socket(postgres))
        als = await stack.enter_async_context(open_als())
        scene = Scene(1)
        await scene.open()
        stack.push_async_callback(scene.close)
        key = await bootstrap(postgres.url())
        assert key is not None  # the first one of a new directory
        port = servers.free_port()
        issuer = await stack.enter_async_context(issuing())
        authority = Authority(home, "authority")
        own = authority.make("oracles", "127.0.0.1")
        env = {
            "ORACLE_DATABASE_URL": f"postgresql://oracle@/oracle?host={gates}&port=5432",
            "ORACLE_REDIS_URL": valkey.url(),
            "ORACLE_CACHE_KEY": secrets.token_hex(32),
            "ORACLE_WORKERS": "2",
            "ORACLE_AUDIT_KEY_FILE": str(home / "keys" / "signing.keys"),
            "ORACLE_ACCOUNT_LOOKUP": "on",
            "ORACLE_ACCOUNT_LOOKUP_PORT": str(port),
            "ORACLE_ACCOUNT_LOOKUP_WORKERS": "1",
            "ORACLE_LEDGER_URL": scene.ledger_url,
            "ORACLE_ALS_ADMIN_URL": als.url,
            "ORACLE_ALS_ENDPOINT": "http://als-msisdn-oracle",
            "ORACLE_ALS_CHECK_INTERVAL_S": str(max(1, round(60 / factor))),
            "ORACLE_ACCOUNT_LOOKUP_ADMIN_PORT": str(servers.free_port()),
            "ORACLE_ACCOUNT_LOOKUP_ADMIN_TLS_CERTIFICATE": str(own.certificate),
            "ORACLE_ACCOUNT_LOOKUP_ADMIN_TLS_KEY": str(own.key),
            "ORACLE_ADMIN_AUTH": "keys,oidc",
            "ORACLE_OIDC_ISSUER": issuer.url,
            "ORACLE_OIDC_AUDIENCE": issuer.audience,
        }
        oracle = await asyncio.to_thread(start_oracle, home / "service", env)
        stack.callback(oracle.close)
        env |= {"ORACLE_HUB_PORT": str(oracle.hub_port), "ORACLE_ADMIN_PORT": str(oracle.admin_port)}
        scene.connect(port, 20)
        load = Load(oracle, scene)
        prometheus = Prometheus(home / "prometheus", oracle.admin_port, alert_forms.make_shortened(factor))
        stack.push_async_callback(prometheus.stop)
        await prometheus.start()
        load.start()
        stack.push_async_callback(load.stop)
        world = World(home, postgres, valkey, network, oracle, als, load, prometheus, key, env, issuer, authority)
        stack.callback(world.close_service)
        yield world


async def _fill(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("INSERT INTO fsps (fsp_id, status) VALUES ($1, 'active')", FSP)
        await connection.execute(FILL_ALIASES, FSP, COLD_FROM + COLD_COUNT)
        await connection.execute("ANALYZE")
    finally:
        await connection.close()


# The run ---------------------------------------------------------------------------------------------------------


@dataclass
class Row:
    fault: str
    alert: str
    began: datetime
    fired_s: float | None = None
    repaired: datetime | None = None
    cleared_s: float | None = None


@dataclass
class Report:
    rows: list[Row] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)  # one line each

    def complain(self, line: str) -> None:
        self.faults.append(line)
        print(f"  WRONG: {line}", flush=True)


async def settle(world: World, report: Report, what: str) -> None:
    """Wait until no alert is pending or firing."""
    ends_at = time.monotonic() + CLEAR_MAX_S
    states: dict[str, set[str]] = {}
    while time.monotonic() < ends_at:
        states = await world.prometheus.fetch_alerts()
        if not states["pending"] | states["firing"]:
            return
        await asyncio.sleep(LOOK_S)
    report.complain(f"{what}: still {states} after {CLEAR_MAX_S:.0f} s")


async def stay_calm(world: World, report: Report, minutes: float) -> None:
    began, ends_at = time.monotonic(), time.monotonic() + 60 * minutes
    print(f"Normal load for {minutes:g} minutes", flush=True)
    pending: set[str] = set()
    fired: set[str] = set()
    while time.monotonic() < ends_at:
        states = await world.prometheus.fetch_alerts()
        for name in states["firing"] - fired:
            report.complain(f"{name} fired without a fault, after {time.monotonic() - began:.0f} s")
        fired |= states["firing"]
        pending |= states["pending"]
        await asyncio.sleep(LOOK_S)
    answers = dict(sorted(world.load.answers.items()))
    print(
        f"  fired: {', '.join(sorted(fired)) or 'none'}; pending for a moment: {', '.join(sorted(pending)) or 'none'};"
        f" answers by status: {answers}",
        flush=True,
    )


async def cause(world: World, report: Report, fault: Fault) -> None:
    print(f"{fault.title}", flush=True)
    rows = {alert: Row(fault.title, alert, datetime.now(UTC)) for alert in fault.alerts}
    report.rows += rows.values()
    others: set[str] = set()
    began = time.monotonic()
    await fault.begin(world)
    try:
        while time.monotonic() < began + FIRE_MAX_S and any(row.fired_s is None for row in rows.values()):
            firing = (await world.prometheus.fetch_alerts())["firing"]
            for alert in firing:
                row = rows.get(alert)
                if row is None:
                    others.add(alert)
                elif row.fired_s is None:
                    row.fired_s = time.monotonic() - began
                    print(f"  {alert} fires after {row.fired_s:.0f} s", flush=True)
            await asyncio.sleep(LOOK_S)
    finally:
        repaired = time.monotonic()
        for row in rows.values():
            row.repaired = datetime.now(UTC)
        await fault.repair(world)
    while time.monotonic() < repaired + CLEAR_MAX_S and any(row.cleared_s is None for row in rows.values()):
        firing = (await world.prometheus.fetch_alerts())["firing"]
        others |= firing - rows.keys()
        for alert, row in rows.items():
            if alert not in firing and row.cleared_s is None:
                row.cleared_s = time.monotonic() - repaired
                print(f"  {alert} clears {row.cleared_s:.0f} s after the repair", flush=True)
        await asyncio.sleep(LOOK_S)
    for row in rows.values():
        if row.fired_s is None:
            report.complain(f"{row.alert} did not fire")
        if row.cleared_s is None:
            report.complain(f"{row.alert} did not clear")
    if others:
        print(f"  fired as well: {', '.join(sorted(others))}", flush=True)
    await settle(world, report, fault.title)


def write_table(rows: Sequence[Row]) -> str:
    lines = [
        "| fault | alert | began (UTC) | fired after | repaired (UTC) | cleared after |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        fired = "–" if row.fired_s is None else f"{row.fired_s:.0f} s"
        cleared = "–" if row.cleared_s is None else f"{row.cleared_s:.0f} s"
        repaired = f"{row.repaired:%H:%M:%S}" if row.repaired else "–"
        lines.append(f"| {row.fault} | {row.alert} | {row.began:%H:%M:%S} | {fired} | {repaired} | {cleared} |")
    return "\n".join(lines)


async def compare_names(world: World) -> None:
    """Each name in a query of the rules and of the dashboard must have arrived at Prometheus."""
    names = await world.prometheus.fetch_names()
    queries = [rule["expr"] for rule in alert_forms.list_alerts()]
    queries += [query for panel in dashboards.list_panels() for _, query in panel.queries]
    asked = {name for query in queries for name, _ in METRIC.findall(query)}
    missing = sorted(asked - names - {"ALERTS"})
    print(f"Metrics that queries name: {len(asked)}, of which Prometheus has {len(asked) - len(missing)}", flush=True)
    if missing:
        print(f"  without samples in this run: {', '.join(missing)}", flush=True)


async def run(arguments: argparse.Namespace) -> int:
    report = Report()
    chosen = [fault for fault in FAULTS if arguments.only.lower() in fault.title.lower()]
    with servers.temporary_home() as home:
        async with open_world(home, arguments.factor) as world:
            await settle(world, report, "the start")
            await stay_calm(world, report, arguments.calm)
            if arguments.picture:
                await dashboard_picture.draw(world.prometheus.url, arguments.picture, 60 * arguments.calm)
            for fault in chosen if not arguments.no_faults else ():
                await cause(world, report, fault)
            await compare_names(world)
    print(
        f"\nEach `for` and each range of the rules was divided by {arguments.factor:g}.\n\n{write_table(report.rows)}"
    )
    for line in report.faults:
        print(f"WRONG: {line}")
    return 1 if report.faults else 0


async def run_until_told(work: Coroutine[None, None, int]) -> int:
    """Run it; Ctrl-C and SIGTERM end it in order, with all that it started."""
    task = asyncio.ensure_future(work)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        return 130


def main() -> None:
    parser = argparse.ArgumentParser(description="make each alert fire and clear by a real fault")
    parser.add_argument("--calm", type=float, default=3, metavar="MINUTES", help="normal load before the faults")
    parser.add_argument("--factor", type=float, default=FACTOR, help="divides each time of the rules (1: as in use)")
    parser.add_argument("--only", default="", metavar="WORD", help="only faults whose titles have this word")
    parser.add_argument("--no-faults", action="store_true", help="only normal load")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="a PNG of the dashboard under load")
    sys.exit(asyncio.run(run_until_told(run(parser.parse_args()))))


if __name__ == "__main__":
    main()
