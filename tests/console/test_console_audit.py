"""The pages of the history: what they show to whom, and that it is what the API has."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING
from urllib.parse import quote

import httpx
import pytest
from oracle_process import until

from oracle.verifier.proof import read_proof, verify_proof

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from console_people import Person

    MakePerson = Callable[..., Person]

WITHOUT_HUB = True
NUMBER = "+5215512345678"
SHOWN = "+52 55 1234 5678"
HOSTILE = "<script>alert('x')</script>\"&\u202e"


@pytest.fixture(scope="module")
def auditing(person: MakePerson) -> Person:
    return person("auditor")


@pytest.fixture(scope="module")
def making(person: MakePerson) -> Person:
    return person("dfsp-maker", "greenbank")


@pytest.fixture(scope="module")
def event_id(maker: httpx.Client) -> int:
    """An event of greenbank."""
    return register(maker, "greenbank", NUMBER)


@pytest.fixture(scope="module")
def foreign_id(stranger: httpx.Client) -> int:
    """An event of redbank."""
    return register(stranger, "redbank", "+5215587654321")


def register(client: httpx.Client, fsp_id: str, number: str) -> int:
    body = {"kind": "MSISDN", "identifier": number, "reason": HOSTILE}
    client.post(f"/fsps/{fsp_id}/aliases", json=body).raise_for_status()
    found = client.post(audit(client, f"/fsps/{fsp_id}/events/search"), json={"kind": "MSISDN", "identifier": number})
    return int(found.json()["items"][0]["eventId"])


def audit(client: httpx.Client, path: str) -> str:
    return str(client.base_url).replace("/admin/v1", "/audit/v1").rstrip("/") + path


def read(answer: httpx.Response, status: int = 200) -> str:
    """Read the page as a person does."""
    assert answer.status_code == status, answer.text
    assert HOSTILE not in answer.text
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", answer.text)))


# One event, by the API --------------------------------------------------------------------------------------------


def test_the_api_shows_one_event_with_its_origin(auditor: httpx.Client, maker: httpx.Client, event_id: int) -> None:
    event = auditor.get(audit(auditor, f"/events/{event_id}")).json()
    assert (event["eventId"], event["display"], event["reason"]) == (event_id, SHOWN, HOSTILE)
    assert event == maker.get(audit(maker, f"/fsps/greenbank/events/{event_id}")).json()
    asked = auditor.get(audit(auditor, "/reads")).json()["items"][1:3]
    assert {one["role"] for one in asked} == {"auditor", "dfsp-maker"}
    for one in asked:
        assert (one["asked"], one["details"], one["display"]) == ("event", {"eventId": event_id}, SHOWN)


def test_what_another_fsp_did_looks_like_nothing(maker: httpx.Client, foreign_id: int) -> None:
    answer = maker.get(audit(maker, f"/fsps/greenbank/events/{foreign_id}"))
    never = maker.get(audit(maker, "/fsps/greenbank/events/999999"))
    assert answer.status_code == never.status_code == 404
    assert answer.json()["detail"] == never.json()["detail"]
    assert maker.get(audit(maker, f"/fsps/redbank/events/{foreign_id}")).status_code == 403


# Events -----------------------------------------------------------------------------------------------------------


def test_an_auditor_filters_the_events(auditing: Person, event_id: int) -> None:
    shown = auditing.get("/console/audit?fspId=greenbank&entity=alias&action=registered&channel=admin")
    assert SHOWN in read(shown)
    assert f"/console/audit/events/{event_id}" in shown.text
    for query in ("fspId=greenbank&entity=route", "from=2100-01-01T00:00", "to=2000-01-01T00:00"):
        text = read(auditing.get(f"/console/audit?{query}"))
        assert "No event matches these filters" in text
        assert SHOWN not in text


def test_a_maker_sees_the_events_of_their_fsp_alone(making: Person, event_id: int, foreign_id: int) -> None:
    for query in ("", "?fspId=redbank", "?entity=fsp"):
        text = read(making.get(f"/console/audit{query}"))
        assert SHOWN in text
        assert "8765 4321" not in text
    assert read(making.get(f"/console/audit/events/{event_id}"))
    assert making.get("/console/audit?fsp=redbank").status_code == 403
    assert making.get(f"/console/audit/events/{foreign_id}").status_code == 404
    assert making.get(f"/console/audit/events/{foreign_id}?fsp=redbank").status_code == 403
    assert making.get("/console/audit/reads").status_code == 403
    assert "/console/audit/reads" not in making.get("/console/audit").text


def test_a_mistake_in_a_filter_is_shown_at_its_field(auditing: Person) -> None:
    for query, field in (
        ("from=yesterday", "from"), ("by=Nobody+of+this+name", "by"), ("entity=ghost", "entity"),
        ("fspId=nope", ""), ("requestId=" + "x" * 300, "requestId"), ("from=0001-01-01T00:00", "from"),
    ):  # fmt: skip
        answer = auditing.get(f"/console/audit?{query}")
        assert 400 <= answer.status_code < 500, query
        assert "There is a problem" in answer.text
        assert f'href="#field-{field}"' in answer.text or not field, query


@pytest.mark.parametrize("text", [HOSTILE, "x" * 10_000, "\0", "\ud7ff\u202e", "'; DROP TABLE events; --"])
def test_hostile_filters_are_never_a_defect(auditing: Person, text: str) -> None:
    for path in ("/console/audit", "/console/audit/differences", "/console/audit/reads", "/console/audit/export"):
        for name in ("fspId", "by", "from", "to", "entity", "cursor", "requestId", "zone", "whole", "format"):
            answer = auditing.get(f"{path}?{name}={quote(text)}")
            assert answer.status_code < 500, (path, name)
            assert "<script>alert" not in answer.text
    for path in ("/console/audit/events/{}", "/console/audit/log/checkpoints/{}", "/console/audit/export/files/{}"):
        assert 400 <= auditing.get(path.format(quote(text[:200], safe=""))).status_code < 500


def test_times_are_those_of_the_zone_in_the_link(auditing: Person) -> None:
    page = auditing.get("/console/audit?from=2026-03-03T10:00&zone=America/Mexico_City")
    assert 'value="2026-03-03T16:00"' in page.text  # the person reads in UTC
    page = auditing.get("/console/audit?from=2026-03-03T10:00&zone=Nowhere/Atall")
    assert 'value="2026-03-03T10:00"' in page.text


def test_pages_of_events_follow_each_other(auditing: Person, operator: httpx.Client) -> None:
    for number in range(55):
        operator.patch("/fsps/redbank", json={"name": f"Red {number}"}).raise_for_status()
    first = auditing.get("/console/audit?fspId=redbank&entity=fsp")
    following = re.search(r'rel="next" href="([^"]+)"', first.text)
    assert following is not None
    second = auditing.get(html.unescape(following[1]))
    assert "First page" in read(second)
    numbers = [re.findall(r"/audit/events/(\d+)", page.text) for page in (first, second)]
    assert len(numbers[0]) == 50
    assert numbers[0] + numbers[1] == sorted(numbers[0] + numbers[1], key=int, reverse=True)


def test_an_event_shows_before_and_after_and_its_proof_verifies(
    auditing: Person, making: Person, event_id: int, tmp_path: Path
) -> None:
    text = read(auditing.get(f"/console/audit/events/{event_id}"))
    for part in (SHOWN, "greenbank", "Default entry", HOSTILE, "Registered"):
        assert part in text
    address = re.search(r'"([^"]*)#log-keys"', auditing.get(f"/console/audit/events/{event_id}").text)
    assert address is not None
    assert 'id="log-keys"' in auditing.get(address[1]).text
    keys = auditing.get("/console/audit/log/keys").text.split()
    for one in (auditing, making):
        until(lambda one=one: one.get(f"/console/audit/events/{event_id}/proof").status_code == 200)  # type: ignore[misc]
        answer = one.get(f"/console/audit/events/{event_id}/proof")
        assert answer.headers["content-disposition"] == f"attachment; filename=proof-of-event-{event_id}.json"
        (tmp_path / "proof.json").write_bytes(answer.content)
        proof = read_proof(tmp_path / "proof.json")
        assert proof.event_id == event_id
        assert verify_proof(proof, keys).findings == []


# Differences ------------------------------------------------------------------------------------------------------


def test_the_differences_between_two_days(auditing: Person, making: Person, event_id: int) -> None:
    span = "from=2020-01-01T00:00&to=2100-01-01T00:00"
    for one, query in ((auditing, f"fspId=greenbank&{span}"), (making, span)):
        page = one.get(f"/console/audit/differences?{query}")
        text = read(page)
        assert SHOWN in text
        assert "Added" in text
        assert f"/console/audit/events/{event_id}" in page.text
        file = one.get(f"/console/audit/differences/file?{query}")
        assert file.headers["content-type"].startswith("text/csv")
        assert f"added,MSISDN,'{SHOWN},,,any,{event_id}" in file.text.splitlines()
    same = auditing.get("/console/audit/differences?fspId=greenbank&from=2020-01-01T00:00&to=2020-01-02T00:00")
    assert "the same at both times" in read(same)


def test_the_form_of_differences_proposes_yesterday_and_says_what_is_wrong(auditing: Person) -> None:
    page = auditing.get("/console/audit/differences")
    assert len(re.findall(r'type="datetime-local" value="[\d-]+T00:00"', page.text)) == 2
    swapped = "/console/audit/differences?fspId=greenbank&from=2026-01-02T00:00&to=2026-01-01T00:00"
    assert "Swap" in read(auditing.get(swapped), 400)
    assert "There is a problem" in read(auditing.get("/console/audit/differences?fspId=&from=&to="), 400)
    assert auditing.get(swapped.replace("differences?", "differences/file?")).status_code == 400


# Who asked, the log, exports --------------------------------------------------------------------------------------


def test_an_auditor_sees_who_asked(auditing: Person, making: Person) -> None:
    making.get("/console/audit")
    text = read(auditing.get("/console/audit/reads"))
    assert "Search of events" in text
    assert "dfsp-maker of greenbank" in text
    assert "Nobody asked" in read(auditing.get("/console/audit/reads?to=2000-01-01T00:00"))


def test_a_checkpoint_of_the_list_is_a_file(auditing: Person, making: Person, event_id: int) -> None:
    assert event_id
    for one in (auditing, making):
        until(lambda one=one: "/log/checkpoints/" in one.get("/console/audit/log").text)  # type: ignore[misc]
        size = re.findall(r"/log/checkpoints/(\d+)", one.get("/console/audit/log").text)[0]
        note = one.get(f"/console/audit/log/checkpoints/{size}")
        assert note.text.splitlines()[1] == size
        assert note.headers["content-disposition"] == f"attachment; filename=checkpoint-{size}"
    assert auditing.get("/console/audit/log/checkpoints/999999").status_code == 400


def test_exports(auditing: Person, event_id: int) -> None:
    assert event_id
    page = auditing.get("/console/audit/export?whole=yes&from=&to=")
    links = [html.unescape(link) for link in re.findall(r'href="(/console/audit/export/files/[^"]+)"', page.text)]
    assert len(links) == 4
    for link in links:
        answer = auditing.get(link)
        assert answer.status_code == 200
        assert "attachment" in answer.headers["content-disposition"]
    table = auditing.get("/console/audit/export/filtered?fspId=greenbank&entity=alias&format=csv&from=&to=")
    assert table.headers["content-type"].startswith("text/csv")
    assert "attachment; filename*=UTF-8''events.csv" in table.headers["content-disposition"]
    assert "Nothing was sealed" in read(auditing.get("/console/audit/export?whole=yes&to=2000-01-01T00:00"))
