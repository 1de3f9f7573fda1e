"""Tasks of a second person: what waits, samples of changes, who can decide, and past decisions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import httpx
import pytest
from oracle_process import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from admin_service import Service

HEADER: Final = "kind,identifier,sub_id,currency,country,action\n"
BATCHES: Final = "/fsps/greenbank/batches"
ALIASES: Final = "/fsps/greenbank/aliases"


@pytest.fixture(autouse=True)
def two_persons(operator: httpx.Client) -> Iterator[None]:
    operator.patch("/fsps/greenbank", json={"twoPersons": True}).raise_for_status()
    yield
    operator.patch("/fsps/greenbank", json={"twoPersons": False}).raise_for_status()


def register(operator: httpx.Client, *aliases: tuple[str, str | None]) -> None:
    """Register aliases at once, without a second person."""
    operator.patch("/fsps/greenbank", json={"twoPersons": False}).raise_for_status()
    for identifier, currency in aliases:
        body = {"kind": "ALIAS", "identifier": identifier, "currency": currency}
        operator.post(ALIASES, json=body).raise_for_status()
    operator.patch("/fsps/greenbank", json={"twoPersons": True}).raise_for_status()


def upload(client: httpx.Client, *rows: str) -> str:
    """Upload a file, and return its path when it waits."""
    content = HEADER + "".join(f"{row}\n" for row in rows)
    batch = client.post(BATCHES, params={"fileName": "tasks.csv"}, content=content).raise_for_status().json()
    path = f"{BATCHES}/{batch['batchId']}"
    until(lambda: client.get(path).json()["state"] == "waiting")
    return path


def number_of(path: str) -> int:
    return int(path.rpartition("/")[2])


def list_tasks(client: httpx.Client, **query: Any) -> dict[int, Any]:
    found = client.get("/batches/waiting", params={"limit": 1000, **query}).raise_for_status().json()["items"]
    numbers = [item["batch"]["batchId"] for item in found]
    assert numbers == sorted(numbers)
    return dict(zip(numbers, found, strict=True))


def list_currencies(client: httpx.Client, identifier: str) -> list[str | None]:
    found = client.get(f"{ALIASES}/ALIAS/{identifier}")
    return [entry["currency"] for entry in found.json()["entries"]] if found.status_code == 200 else []


def test_the_sample_says_what_an_approval_then_does(
    operator: httpx.Client, maker: httpx.Client, checker: httpx.Client
) -> None:
    before: dict[str, list[str | None]] = {
        "s-none": [], "s-all": [None], "s-one": ["MXN"], "s-two": ["MXN", "USD"], "s-mix": [None, "USD"],
    }  # fmt: skip
    for action in ("add", "replace", "remove"):
        for currency in ("", "USD"):
            register(
                operator, *((f"{name}-{action}{currency}", each) for name, all_ in before.items() for each in all_)
            )
    path = upload(maker, *(
        f"ALIAS,{name}-{action}{currency},,{currency},,{action}"
        for name in before for action in ("add", "replace", "remove") for currency in ("", "USD")
    ))  # fmt: skip
    sample = checker.get(f"{path}/sample", params={"limit": 100}).json()
    assert (sample["valid"], len(sample["items"])) == (30, 30)
    for item in sample["items"]:
        assert item["before"] == before[item["identifier"].rpartition("-")[0]]
    checker.post(f"{path}/approve", json={}).raise_for_status()
    until(lambda: maker.get(path).json()["state"] == "done")
    for item in sample["items"]:
        assert sorted(map(str, item["after"])) == sorted(map(str, list_currencies(maker, item["identifier"]))), item
    assert checker.get(f"{path}/sample").json()["items"] == []


def test_a_sample_has_other_rows_each_time_and_never_bad_ones(maker: httpx.Client, checker: httpx.Client) -> None:
    path = upload(maker, *(f"ALIAS,other{number},,,," for number in range(200)), "FAX,1,,,,")
    samples = [checker.get(f"{path}/sample", params={"limit": 5}).json() for _ in range(5)]
    chosen = [tuple(item["line"] for item in sample["items"]) for sample in samples]
    assert len(set(chosen)) > 1
    assert all(len(lines) == 5 and list(lines) == sorted(lines) and 202 not in lines for lines in chosen)
    assert samples[0]["valid"] == 200


def test_a_change_of_one_alias_is_a_task_with_its_sample(
    operator: httpx.Client, maker: httpx.Client, checker: httpx.Client
) -> None:
    register(operator, ("t-one", "MXN"))
    asked = maker.patch(f"{ALIASES}/ALIAS/t-one", json={"currency": "USD", "reason": "asked"})
    assert asked.status_code == 202, asked.text
    number = asked.json()["batchId"]
    task = list_tasks(checker)[number]
    assert task["batch"]["change"]["present"] == ["MXN"]
    (item,) = checker.get(f"{BATCHES}/{number}/sample").json()["items"]
    assert (item["action"], item["before"], item["after"]) == ("replace", ["MXN"], ["USD"])
    maker.post(f"{BATCHES}/{number}/cancel", json={})
    assert number not in list_tasks(checker)


def test_a_caller_sees_before_that_they_cannot_decide(
    operator: httpx.Client, maker: httpx.Client, checker: httpx.Client
) -> None:
    own, other = upload(operator, "ALIAS,v-own,,,,"), upload(maker, "ALIAS,v-other,,,,")
    tasks = list_tasks(operator, fspId="greenbank")
    verdicts = [operator.get(f"{path}/decision").json() for path in (own, other)]
    assert [tasks[number_of(path)]["verdict"] for path in (own, other)] == verdicts
    assert [(one["allowed"], one["code"]) for one in verdicts] == [(False, "same_person"), (True, None)]
    assert operator.post(f"{own}/approve", json={}).json()["detail"] == verdicts[0]["detail"]
    assert checker.get(f"{own}/decision").json()["allowed"] is True
    assert list_tasks(maker)[number_of(own)]["verdict"] is None
    assert maker.get(f"{own}/decision").status_code == 403
    checker.post(f"{own}/reject", json={"reason": "no"}).raise_for_status()
    late = checker.get(f"{own}/decision").json()
    assert (late["allowed"], late["code"]) == (False, "not_waiting")


def test_tasks_and_decisions_are_those_of_the_callers_fsps(
    service: Service, maker: httpx.Client, checker: httpx.Client, stranger: httpx.Client
) -> None:
    path = upload(maker, "ALIAS,w-one,,,,")
    number = number_of(path)
    assert number not in list_tasks(stranger)
    assert list_tasks(stranger, fspId="greenbank") == {}
    assert stranger.get(f"{path}/sample").status_code == 403
    assert stranger.get(f"/fsps/redbank/batches/{number}/sample").status_code == 404
    checker.post(f"{path}/reject", json={"reason": "not ours"}).raise_for_status()
    auditor = service.client("auditor")
    decided = auditor.get("/batches/decided", params={"fspId": "greenbank", "limit": 1}).json()
    assert [item["batchId"] for item in decided["items"]] == [number]
    assert list_tasks(auditor) == list_tasks(auditor, fspId="greenbank")
    assert [item["batchId"] for item in stranger.get("/batches/decided").json()["items"]] == []


def test_decisions_are_listed_by_their_time_in_pages(maker: httpx.Client, checker: httpx.Client) -> None:
    paths = [upload(maker, f"ALIAS,d-{number},,,,") for number in range(3)]
    for path in (paths[1], paths[2], paths[0]):
        checker.post(f"{path}/reject", json={"reason": "no"}).raise_for_status()
    found: list[int] = []
    query: dict[str, Any] = {"limit": 2}
    while len(found) < 4:
        page = checker.get("/batches/decided", params=query).json()
        found += [item["batchId"] for item in page["items"]]
        if page["next"] is None:
            break
        query["cursor"] = page["next"]
    assert found[:3] == [number_of(path) for path in (paths[0], paths[2], paths[1])]
    assert checker.get("/batches/decided", params={"by": "checker of greenbank"}).json()["items"] != []
    assert checker.get("/batches/decided", params={"by": "nobody of this name"}).status_code == 400
    longest = f"oidc:{'a' * 32}:{'1' * 255}"  # an actor of an identity provider
    assert checker.get("/batches/decided", params={"by": longest}).json()["items"] == []
    waiting = [upload(maker, f"ALIAS,e-{number},,,,") for number in range(2)]
    first = checker.get("/batches/waiting", params={"limit": 1}).json()
    rest = checker.get("/batches/waiting", params={"limit": 1000, "cursor": first["next"]}).json()["items"]
    assert number_of(waiting[1]) in [item["batch"]["batchId"] for item in rest]
    assert first["items"][0]["batch"]["batchId"] not in [item["batch"]["batchId"] for item in rest]
