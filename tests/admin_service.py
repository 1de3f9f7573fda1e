"""A real service for the tests of the admin listener: one `serve` and one database per module.

service             the running service: .database_url, .oracle (hub_url, admin_url), .issue(role, fsp_id) -> a key,
                    .hub, a client of /participants in the name of greenbank.  A module that sets
                    WITHOUT_HUB = True has no hub listener, whose start costs a second of CPU; one that sets
                    WITH_ACCOUNT_LOOKUP = True has the listener for DFSPs as well; one that sets WITH_ISSUER = True
                    has .issuer, an identity provider: its claims `maker` and `checker` list FSPs.
operator, …         `httpx.Client`s with a key of that role; `as_key(key)` makes one for any key
greenbank, redbank  two active FSPs; maker, checker, reader belong to greenbank, stranger is redbank's maker
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from functools import cached_property
from typing import TYPE_CHECKING, Any

import asyncpg
import httpx
import pytest
import servers
from issuer import issuing_beside
from oracle_process import PATIENT, SERVE, OracleProcess, start_oracle, until

from oracle.run.bootstrap import bootstrap

if TYPE_CHECKING:
    from collections.abc import Iterator

    from issuer import Issuer

    from oracle.run.embedded import PostgresServer, ValkeyServer

TIMEOUT_S = 30.0
TRUST = """
[[oidc.issuer]]
alias = "hub"
issuer = "{url}"
audience = "{audience}"
console_client = "console"
[[oidc.map]]
claim = "maker"
pattern = ".+"
role = "dfsp-maker"
fsp_from = "maker"
[[oidc.map]]
claim = "checker"
pattern = ".+"
role = "dfsp-checker"
fsp_from = "checker"
"""


class Service:
    def __init__(
        self, oracle: OracleProcess, database_url: str, stack: ExitStack, issuer: Issuer | None = None
    ) -> None:
        self.oracle = oracle
        self.issuer = issuer
        self.database_url = database_url
        self._stack = stack
        key = asyncio.run(bootstrap(database_url))
        assert key is not None
        self.operator = self.as_key(key)
        for fsp_id in ("greenbank", "redbank"):
            # A process that starts on a busy machine can be without a lease for a moment: then it refuses changes.
            until(lambda fsp_id=fsp_id: self._add_fsp(fsp_id) != 503)  # type: ignore[misc]

    def _add_fsp(self, fsp_id: str) -> int:
        answer = self.operator.post("/fsps", json={"fspId": fsp_id})
        if answer.status_code not in (409, 503):  # 409: it was added, and the first answer was a 503
            answer.raise_for_status()
        return answer.status_code

    @cached_property
    def hub(self) -> httpx.Client:
        base_url, headers = f"{self.oracle.hub_url}/participants", {"fspiop-source": "greenbank"}
        return self._stack.enter_context(httpx.Client(base_url=base_url, headers=headers, timeout=TIMEOUT_S))

    def as_key(self, key: str | None) -> httpx.Client:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        base_url = f"{self.oracle.admin_url}/admin/v1"
        return self._stack.enter_context(httpx.Client(base_url=base_url, headers=headers, timeout=TIMEOUT_S))

    def issue(self, role: str, fsp_id: str | None = None, **members: Any) -> str:
        body = {"role": role, "fspId": fsp_id, "label": f"{role} of {fsp_id}", **members}
        answers: list[httpx.Response] = []

        def is_answered() -> bool:
            answers.append(self.operator.post("/credentials", json=body))
            return answers[-1].status_code != 503  # a process on a busy machine can be without a lease for a moment

        until(is_answered)
        key: str = answers[-1].raise_for_status().json()["key"]
        return key

    def client(self, role: str, fsp_id: str | None = None) -> httpx.Client:
        return self.as_key(self.issue(role, fsp_id))

    def fetch(self, sql: str, *arguments: Any) -> list[Any]:
        """Straight from the database."""

        async def fetch_rows() -> list[Any]:
            connection = await asyncpg.connect(self.database_url)
            try:
                rows: list[Any] = await connection.fetch(sql, *arguments)
                return rows
            finally:
                await connection.close()

        return asyncio.run(fetch_rows())


@pytest.fixture(scope="module")
def service(
    postgres_template: PostgresServer,
    valkey_server: ValkeyServer,
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> Iterator[Service]:
    name = asyncio.run(servers.make_database(postgres_template))
    url = postgres_template.url(name)
    assert servers.valkey_command(valkey_server, "FLUSHALL") == b"+OK\r\n"  # of budgets that another module has used
    env = {**PATIENT, "ORACLE_DATABASE_URL": url, "ORACLE_REDIS_URL": valkey_server.url()}
    whole = getattr(request.module, "WITH_ACCOUNT_LOOKUP", False)
    if whole:
        env |= {"ORACLE_ACCOUNT_LOOKUP": "on", "ORACLE_ACCOUNT_LOOKUP_PORT": "0"}
    try:
        with ExitStack() as stack:
            command = (*SERVE, *(("--only", "admin") if getattr(request.module, "WITHOUT_HUB", False) else ()))
            # `whole`: nothing else begins this role with an interpreter of its own.
            home = tmp_path_factory.mktemp("admin")
            issuer = None
            if getattr(request.module, "WITH_ISSUER", False):
                issuer, trust = stack.enter_context(issuing_beside()), home / "oidc.toml"
                trust.write_text(TRUST.format(url=issuer.url, audience=issuer.audience))
                env |= {"ORACLE_ADMIN_AUTH": "keys,oidc", "ORACLE_OIDC_FILE": str(trust)}
            oracle = stack.enter_context(start_oracle(home, env, command=command, cold=whole))
            yield Service(oracle, url, stack, issuer)
    finally:
        asyncio.run(servers.drop_database(postgres_template, name))


@pytest.fixture(scope="module")
def operator(service: Service) -> httpx.Client:
    return service.operator


@pytest.fixture(scope="module")
def maker(service: Service) -> httpx.Client:
    return service.client("dfsp-maker", "greenbank")


@pytest.fixture(scope="module")
def checker(service: Service) -> httpx.Client:
    return service.client("dfsp-checker", "greenbank")


@pytest.fixture(scope="module")
def reader(service: Service) -> httpx.Client:
    return service.client("reader", "greenbank")


@pytest.fixture(scope="module")
def auditor(service: Service) -> httpx.Client:
    return service.client("auditor")


@pytest.fixture(scope="module")
def stranger(service: Service) -> httpx.Client:
    """redbank's maker."""
    return service.client("dfsp-maker", "redbank")
