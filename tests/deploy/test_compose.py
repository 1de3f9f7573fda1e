"""The Compose files: valid, and what they give to the service is what it reads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from deploy_tools import TOP

COMPOSE = TOP / "deploy" / "compose"
FILES = sorted(file.name for file in COMPOSE.glob("docker-*.yml"))


@pytest.mark.parametrize("name", FILES)
def test_a_compose_file_is_valid(composed: dict[str, Any], name: str) -> None:
    assert composed[name]["faults"] == []


@pytest.mark.parametrize("name", FILES)
def test_every_file_that_is_mounted_exists(composed: dict[str, Any], name: str) -> None:
    for service in composed[name]["document"]["services"].values():
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert not source.startswith(".") or (COMPOSE / source).is_file(), source


@pytest.mark.parametrize("name", FILES)
def test_the_service_accepts_its_settings(composed: dict[str, Any], name: str) -> None:
    from oracle.settings import load

    for service in composed[name]["document"]["services"].values():
        if service["image"].startswith("alias-oracle"):
            environ = {key: str(value or "") for key, value in service["environment"].items()}
            assert load(environ).settings.database_url is not None


def test_the_overlay_keeps_the_names_of_the_harness(composed: dict[str, Any]) -> None:
    document = composed["docker-compose.alias-oracle.yml"]["document"]
    service = document["services"]["als-msisdn-oracle-svc"]
    assert service["container_name"] == "als-msisdn-oracle-svc"
    assert service["networks"] == ["mojaloop-net"]
    assert service["profiles"] == ["als-msisdn-oracle-svc", "discovery", "all-services"]
    assert document["networks"] == {"mojaloop-net": {"name": "mojaloop-net"}}
    # The harness starts the services of a profile alone: what ours depends on must be in the same ones.
    assert {tuple(each["profiles"]) for each in document["services"].values()} == {tuple(service["profiles"])}


def test_the_evaluation_is_closed_to_the_network(composed: dict[str, Any]) -> None:
    """Its passwords are known to everybody."""
    for service in composed["docker-compose.yml"]["document"]["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_the_image_has_a_pinned_base_and_a_check_for_every_part() -> None:
    text = (TOP / "Dockerfile").read_text()
    assert re.search(r"^ARG PYTHON_IMAGE=python:3\.\d+-slim@sha256:[0-9a-f]{64}$", text, re.MULTILINE)
    assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) == {"${PYTHON_IMAGE}"}
    assert 'CMD ["oracle", "health"]' in text
    for copied in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE):
        for source in copied.split():
            assert (Path(TOP) / source).exists(), source
