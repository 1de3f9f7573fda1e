"""The process of /oracles, and what its settings say."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import httpx
import pytest

from oracle.run.handover import OraclesFile
from oracle.run.listeners import list_places
from oracle.run.order import Order, choose_roles
from oracle.run.wiring import run_oracles
from oracle.run.worker import Link
from oracle.settings import Settings, SettingsError, list_warnings, load
from oracle.store.oracles import RegisteredOracle


async def test_the_process_serves_until_it_is_stopped(database_url: str, tmp_path: Path) -> None:
    settings = Settings(database_url=database_url)
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    stop = asyncio.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    link = Link(theirs, Order(settings, tmp_path))
    running = asyncio.create_task(run_oracles(settings, listener, 0, tmp_path, link, stop))
    try:
        report = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(ours, 1000), 30)
        assert b'"ready":true' in report
        async with httpx.AsyncClient(base_url=url, headers={"accept": "*/*"}) as client:
            body = {"oracleIdType": "MSISDN", "endpoint": {"value": "http://a", "endpointType": "URL"}}
            assert (await client.post("/oracles", json=body)).status_code == 201
            assert len((await client.get("/oracles")).json()) == 1
            assert 'moja_oracle_processes{role="oracles"} 1.0' in (await client.get("/metrics")).text
    finally:
        stop.set()
        await asyncio.wait_for(running, 30)
        ours.close()
        theirs.close()


def test_the_listener_is_off_until_its_port_is_set_and_on_loopback_until_told_otherwise() -> None:
    assert "oracles" not in choose_roles(Settings())
    settings = load({"ORACLE_ACCOUNT_LOOKUP_ADMIN_PORT": "4001"}).settings
    assert choose_roles(settings, "oracles") == ("oracles",)
    (place,) = list_places(settings, choose_roles(settings, "oracles"))
    assert (place.host, place.port) == ("127.0.0.1", 4001)
    assert place.host_setting == "ORACLE_ACCOUNT_LOOKUP_ADMIN_HOST"


@pytest.mark.parametrize(
    ("host", "warns"),
    [
        *(("127.0.0.1", False), ("127.1", False), ("::1", False), ("localhost", False)),
        *(("0.0.0.0", True), ("10.0.0.5", True), ("::", True), ("als-admin", True)),  # noqa: S104 - no listener opens
    ],
)
def test_a_listener_that_other_machines_reach_is_a_warning(host: str, warns: bool) -> None:
    variables = {"ORACLE_ACCOUNT_LOOKUP_ADMIN_HOST": host}
    assert list_warnings(load(variables).settings) == []
    warnings = list_warnings(load({**variables, "ORACLE_ACCOUNT_LOOKUP_ADMIN_PORT": "4001"}).settings)
    assert len(warnings) == warns
    for words in ("no authentication", "ORACLE_ACCOUNT_LOOKUP_ADMIN_HOST", "port 4001", "firewall") if warns else ():
        assert words in warnings[0]


def test_urls_of_our_own_are_a_list_of_base_urls() -> None:
    name = "ORACLE_ACCOUNT_LOOKUP_OWN_URLS"
    read = load({name: "http://oracle-hub:3000, https://[::1]/base/ ,"}).settings
    assert read.account_lookup_own_urls == ("http://oracle-hub:3000", "https://[::1]/base/")
    for text in ("oracle-hub:3000", "ftp://a", "http://u:p@a", "http://a:x", "http://a:0", "http://a?b", "http://a#b"):
        with pytest.raises(SettingsError, match=name):
            load({name: text})


def test_a_later_process_finds_what_an_earlier_one_has_read(tmp_path: Path) -> None:
    rows = [
        RegisteredOracle(1, "MSISDN", "MXN", "http://a", is_default=True),
        RegisteredOracle(2, "EMAIL", "", "http://b"),
    ]
    file = OraclesFile(tmp_path)
    assert file.read() is None
    file.keep(rows)
    assert OraclesFile(tmp_path).read() == rows
    (path,) = tmp_path.iterdir()
    assert path.stat().st_mode & 0o077 == 0
    path.write_bytes(b"\xc1")
    assert file.read() is None
    OraclesFile(None).keep(rows)
    assert OraclesFile(None).read() is None
