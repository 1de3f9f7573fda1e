"""Who sees which budget, and the RateLimit fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from oracle_process import until

from oracle.api.admin.keeping import Keeping
from oracle.api.admin.problems import Refusal
from oracle.api.admin.rate_limits import describe_limit
from oracle.api.history.reads_quota import ReadsQuota

if TYPE_CHECKING:
    import httpx
    from admin_service import Service
    from shell import Shell

FULL = {"fspClass": "C", "size": 8_000, "refillPerMinute": 2_000, "tokens": 8_000}
UNKNOWN = {"fspId": None, "fspClass": "unknown", "size": 3_000, "refillPerMinute": 50, "tokens": 3_000}


def read(client: httpx.Client, **query: Any) -> Any:
    return client.get("/budgets", params=query).raise_for_status().json()


def test_staff_see_all_budgets_and_an_fsp_sees_its_own(service: Service, operator: httpx.Client) -> None:
    # A process that starts on a busy machine can be without its servers for a moment.
    until(lambda: (answer := operator.get("/budgets")).is_success and answer.json()["items"][0]["tokens"] is not None)
    page = read(operator)
    assert page["mode"] == "observe"
    assert page["items"] == [{"fspId": "greenbank", **FULL}, {"fspId": "redbank", **FULL}, UNKNOWN]
    first = read(operator, limit=1)
    assert [item["fspId"] for item in first["items"]] == ["greenbank"]
    second = read(operator, limit=5, cursor=first["next"])
    assert [item["fspId"] for item in second["items"]] == ["redbank", None]
    assert read(operator, fspId="redbank")["items"] == [{"fspId": "redbank", **FULL}]
    assert read(service.client("reader", "greenbank"), fspId="redbank")["items"] == []
    for role in ("dfsp-maker", "dfsp-checker"):
        mine = service.client(role, "redbank").get("/budgets")
        assert mine.json() == {"mode": "observe", "items": [{"fspId": "redbank", **FULL}], "next": None}
        assert mine.headers["RateLimit-Policy"] == '"redbank";q=8000;qu="tokens";w=240'
        assert mine.headers["RateLimit"] == '"redbank";r=8000;t=0'


def test_what_an_fsp_asks_is_seen_within_seconds(service: Service, operator: httpx.Client, shell: Shell) -> None:
    def find_tokens() -> int:
        (tokens,) = (item["tokens"] for item in read(operator)["items"] if item["fspId"] == "greenbank")
        return int(tokens)

    # The workers learn of a new FSP within ten seconds; until then it is one of the unknown ones.
    number = 10_000_000
    while find_tokens() == FULL["size"]:
        for _ in range(30):
            number += 1
            assert service.hub.get(f"/MSISDN/5255{number}").json() == {"partyList": []}
    told = shell("budgets")
    assert [(line[0], line[1], *line[3:]) for line in told.lines] == [
        ("greenbank", "C", "8000", "2000"), ("redbank", "C", "8000", "2000"), ("", "unknown", "3000", "50"),
    ]  # fmt: skip
    assert "budget_mode is observe" in told.err


@pytest.mark.parametrize(
    ("limit", "policy", "now"),
    [
        (describe_limit("a", 5), '"a";q=5', '"a";r=0'),
        (describe_limit("a", 5, window_s=1.2, wait_s=0.1), '"a";q=5;w=2', '"a";r=0;t=1'),
        (describe_limit('a"\\b', 5, left=2.9, unit="tokens"), '"a\\"\\\\b";q=5;qu="tokens"', '"a\\"\\\\b";r=2'),
        (describe_limit("a", 10**20, left=-3), '"a";q=999999999999999', '"a";r=0'),
    ],
)
def test_fields_are_structured(limit: dict[str, str], policy: str, now: str) -> None:
    assert limit == {"RateLimit-Policy": policy, "RateLimit": now}


def test_refusals_with_429_have_the_fields() -> None:
    quota = ReadsQuota(day_bytes_max=1)
    with pytest.raises(Refusal) as refused:
        quota.take("key", 10)
    assert refused.value.headers["RateLimit-Policy"] == '"recorded questions";q=1;qu="stored-bytes";w=86400'
    assert refused.value.headers["RateLimit"] == f'"recorded questions";r=0;t={refused.value.headers["Retry-After"]}'
    keeping = Keeping(answers_max=1)
    keeping.count("key", b"")
    with pytest.raises(Refusal) as refused:
        keeping.require_room("key")
    assert refused.value.headers["RateLimit-Policy"] == '"kept answers";q=1;w=86400'


def test_too_many_failed_calls_have_the_fields(service: Service) -> None:
    stranger = service.as_key("aok_nonsense")
    while (answer := stranger.get("/me")).status_code == 401:
        pass
    assert answer.status_code == 429
    assert answer.headers["RateLimit-Policy"] == '"failures";q=20;w=40'
    assert answer.headers["RateLimit"] == f'"failures";r=0;t={answer.headers["Retry-After"]}'
