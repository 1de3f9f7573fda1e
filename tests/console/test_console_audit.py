"""The pages of the history: what they show to whom, and that it is what the API has."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from oracle_process import until

from oracle.verifier.proof import read_proof, verify_proof

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from admin_service import Service
    from console_people import Person

    MakePerson = Callable[..., Person]

WITHOUT_HUB = True
HOSTILE = "<script>alert('x')</script>\"&\u202e"


@pytest.fixture(scope="module")
def auditor_page(person: MakePerson) -> Person:
    return person("auditor")


@pytest.fixture(scope="module")
def maker_page(person: MakePerson) -> Person:
    return person("dfsp-maker", "greenbank")


@pytest.fixture(scope="module")
def event_id(maker: httpx.Client) -> int:
    """An event of greenbank."""
    return _register(maker, "greenbank", "+5215512345678")


def _register(client: httpx.Client, fsp_id: str, number: str) -> int:
    body = {"kind": "MSISDN", "identifier": number, "reason": HOSTILE}
    client.post(f"/fsps/{fsp_id}/aliases", json=body).raise_for_status()
    found = client.post(f"{_audit(client)}/fsps/{fsp_id}/events/search", json={"kind": "MSISDN", "identifier": number})
    return int(found.json()["items"][0]["eventId"])


def _audit(client: httpx.Client) -> str:
    return str(client.base_url).replace("/admin/v1", "/audit/v1").rstrip("/")


def show(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    assert HOSTILE not in answer.text
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", answer.text)))


# Events -----------------------------------------------------------------------------------------------------------


def test_an_auditor_sees_all_events_and_filters_them(auditor_page: Person, event_id: int) -> None:
    assert "+52 1 55 1234 5678" in show(auditor_page.get("/console/audit")) or event_id
    text = show(auditor_page.get("/console/audit?fspId=greenbank&entity=alias&action=registered&channel=admin"))
    assert "55 1234 5678" in text
    assert "matches these filters" in show(auditor_page.get("/console/audit?fspId=greenbank&entity=route"))
    assert "matches these filters" in show(auditor_page.get("/console/audit?from=2100-01-01T00:00"))
