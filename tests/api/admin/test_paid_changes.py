"""What people of an FSP pay for the aliases of others that they meet: one by one, and in files.

One service with `enforce` and small buckets.  It has no hub workers, so the admin process has the whole bucket.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

import pytest
import servers
from admin_service import Service
from oracle_process import PATIENT, SERVE, start_oracle, until

from oracle.budgets.charges import Charges
from oracle.budgets.classes import Classes, Costs, Size
from oracle.budgets.correction import read_tokens
from oracle.store.cache.session import dial
from oracle.telemetry.metrics import Metrics

if TYPE_CHECKING:
    import httpx

    from oracle.run.embedded import PostgresServer, ValkeyServer

SIZE, CONFLICT = 300, 10
HELD: Final = 10_000_000  # the first number of redbank's
FREE: Final = 20_000_000


@pytest.fixture(scope="module")
def service(
    postgres_template: PostgresServer, valkey_server: ValkeyServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    assert servers.valkey_command(valkey_server, "FLUSHALL") == b"+OK\r\n"
    name = asyncio.run(servers.make_database(postgres_template))
    url = postgres_template.url(name)
    env = {
        **PATIENT, "ORACLE_DATABASE_URL": url, "ORACLE_REDIS_URL": valkey_server.url(),
        "ORACLE_BUDGET_MODE": "enforce", "ORACLE_BUDGET_SIZES": f"C={SIZE}/3",
        "ORACLE_BUDGET_ALS_CACHE_OFF": "yes", "ORACLE_BUDGET_SOURCES_BOUND": "yes",
    }  # fmt: skip
    try:
        with ExitStack() as stack:
            home = tmp_path_factory.mktemp("paid")
            service = Service(
                stack.enter_context(start_oracle(home, env, command=(*SERVE, "--only", "admin"))), url, stack
            )
            service.fetch(
                "INSERT INTO aliases (party_id_type, identifier, fsp_id)"
                " SELECT 'MSISDN', '5255' || n, 'redbank' FROM generate_series($1::int, $1 + 999) n",
                HELD,
            )
            for fsp_id, two_persons in (("bluebank", False), ("goldbank", False), ("whitebank", True)):
                made = service.operator.post("/fsps", json={"fspId": fsp_id, "twoPersons": two_persons})
                made.raise_for_status()
            yield service
    finally:
        asyncio.run(servers.drop_database(postgres_template, name))


def register(client: httpx.Client, fsp_id: str, number: int, **headers: str) -> httpx.Response:
    body = {"kind": "MSISDN", "identifier": f"+5255{number}"}
    return client.post(f"/fsps/{fsp_id}/aliases", json=body, headers=headers)


def upload(client: httpx.Client, fsp_id: str, numbers: range) -> httpx.Response:
    file = "kind,identifier\n" + "".join(f"MSISDN,+5255{number}\n" for number in numbers)
    return client.post(f"/fsps/{fsp_id}/batches", content=file, headers={"Content-Type": "text/csv"})


def read_budget(client: httpx.Client) -> int:
    (item,) = client.get("/budgets").raise_for_status().json()["items"]
    return int(item["tokens"])


def read_code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json().get("code", "")


@pytest.mark.parametrize(
    ("fsp_id", "free"), [("greenbank", FREE), ("whitebank", FREE + 100)], ids=["at once", "with a second person"]
)
def test_registrations_try_no_more_than_the_budget_pays(service: Service, fsp_id: str, free: int) -> None:
    maker = service.client("dfsp-maker", fsp_id)
    first = register(maker, fsp_id, free, **{"Idempotency-Key": "first"})
    assert first.is_success, first.text  # and costs nothing
    answers = Counter[tuple[int, str]]()

    def try_one() -> int:
        """Try the next alias of redbank; return how many were found to be held."""
        answers[read_code(register(maker, fsp_id, HELD + answers.total()))] += 1
        return answers[409, "held_elsewhere"]

    until(lambda: try_one() >= SIZE // CONFLICT)  # a share is corrected once a second
    for _ in range(5):
        try_one()
    assert set(answers) == {(409, "held_elsewhere"), (429, "over_budget")}
    # The last one can begin with a part of its tokens.
    assert answers[409, "held_elsewhere"] - SIZE // CONFLICT in (0, 1)
    refused = register(maker, fsp_id, free + 1)  # a success would tell that nobody has it
    assert read_code(refused) == (429, "over_budget")
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.headers["RateLimit-Policy"] == f'"{fsp_id}";q=300;qu="tokens";w=6000'
    assert refused.headers["RateLimit"].startswith(f'"{fsp_id}";r=0;t=')
    assert 1 <= int(refused.headers["Retry-After"]) <= 420
    again = register(maker, fsp_id, free, **{"Idempotency-Key": "first"})  # a client that did not get the answer
    assert (again.status_code, again.content) == (first.status_code, first.content)
    # The hub's own people can look up everything, so they pay nothing.  Other FSPs go on.
    assert read_code(register(service.operator, fsp_id, HELD)) == (409, "held_elsewhere")
    assert register(service.client("dfsp-maker", "redbank"), "redbank", free + 7).status_code in (200, 201)


def test_an_answer_that_was_kept_costs_nothing_again(service: Service) -> None:
    maker = service.client("dfsp-maker", "goldbank")
    for _ in range(3):
        answer = register(maker, "goldbank", HELD, **{"Idempotency-Key": "one"})
        assert read_code(answer) == (409, "held_elsewhere")
    until(lambda: SIZE - CONFLICT <= read_budget(maker) < SIZE)


def test_a_file_goes_on_and_the_next_one_waits_for_half_of_the_budget(service: Service) -> None:
    maker = service.client("dfsp-maker", "bluebank")
    first = upload(maker, "bluebank", range(HELD, HELD + 40))
    assert first.status_code == 201, first.text
    batch = f"/fsps/bluebank/batches/{first.json()['batchId']}"

    def read_state() -> Any:
        return maker.get(batch).raise_for_status().json()

    until(lambda: read_state()["state"] == "done")
    assert read_state()["rows"]["failed"] == 40, read_state()
    until(lambda: read_budget(maker) < CONFLICT)
    assert read_budget(maker) >= 0  # no debts: lookups need the next tokens
    refused = upload(maker, "bluebank", range(FREE, FREE + 1))
    assert read_code(refused) == (429, "over_budget")
    assert 2_000 < int(refused.headers["Retry-After"]) <= 3_000
    by_operator = upload(service.operator, "bluebank", range(HELD, HELD + 40))
    assert by_operator.status_code == 201


def test_a_file_of_the_operator_costs_nothing(service: Service) -> None:
    service.operator.post("/fsps", json={"fspId": "blackbank"}).raise_for_status()
    sent = upload(service.operator, "blackbank", range(HELD, HELD + 20)).raise_for_status().json()
    until(lambda: service.operator.get(f"/fsps/blackbank/batches/{sent['batchId']}").json()["state"] == "done")
    page = service.oracle.admin_url
    assert page
    assert read_budget(service.client("dfsp-maker", "blackbank")) == SIZE


async def test_charges_wait_for_redis_and_take_no_more_than_there_is(redis_url: str) -> None:
    classes = Classes({"C": Size(SIZE, 3), "unknown": Size(SIZE, 3)}, {}, "C")
    session = await dial(redis_url, timeout_ms=30_000, token_ms=1_000)
    found: list[Any] = [None]
    charges = Charges(classes, Costs(), lambda: found[0], Metrics.open(None, "jobs", 0), "t")
    charges.add("bank", 2)
    await charges.settle()
    found[0] = session
    assert (await read_tokens(session, "t", classes)).tokens == {}
    await charges.settle()
    for conflicts, left in ((0, 280), (3, 250), (1_000, 0)):
        charges.add("bank", conflicts)
        await charges.settle()
        state = await read_tokens(session, "t", classes)
        assert state.tokens["bank"] == pytest.approx(left, abs=1)
        assert state.processes == 0  # it has no share
    session.close()
