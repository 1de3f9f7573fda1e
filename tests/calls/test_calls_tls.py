"""TLS: whom we believe, what we show, and that nothing is sent to anybody else."""

from __future__ import annotations

import ssl
import time
from math import isnan
from pathlib import Path

import pytest
from certificates import Authority, Identity
from peer import OK, Client, calling, fail, get, on_each_loop, put, serve_ok, serving

from oracle.calls import CallFiles, CallLimits, Calls, open_calls
from oracle.settings import SettingsError, load
from oracle.telemetry.metrics import Metrics


def make_server_context(identity: Identity, clients: Authority | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*identity)
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients.file)
    return context


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "authority")


@on_each_loop
async def test_a_host_with_a_certificate_of_our_authority_is_called_and_its_connection_used_again(
    authority: Authority,
) -> None:
    tls = make_server_context(authority.make("host", "127.0.0.1", "localhost"))
    async with serving(tls=tls) as peer, calling(files=CallFiles(ca=authority.file)) as calls:
        for _ in range(3):
            assert (await calls.call(put(peer.url, b"a" * 300_000))).body == b"ok"
        assert peer.connections == 1
        assert (await calls.call(get(peer.url.replace("127.0.0.1", "localhost")))).status == 200
        assert peer.connections == 2


@on_each_loop
async def test_a_host_that_cannot_prove_its_name_gets_nothing(authority: Authority, tmp_path: Path) -> None:
    stranger = Authority(tmp_path, "stranger")
    wrong = [
        authority.make("elsewhere", "10.0.0.1"),
        authority.make("nameless"),
        authority.make("old", "127.0.0.1", expired=True),
        stranger.make("forged", "127.0.0.1"),
    ]
    for identity in wrong:
        async with (
            serving(tls=make_server_context(identity)) as peer,
            calling(files=CallFiles(ca=authority.file)) as calls,
        ):
            assert await fail(calls, put(peer.url)) == ("unreachable", False)
            assert peer.requests == []
    async with serving(tls=make_server_context(stranger.make("any", "127.0.0.1"))) as peer, calling() as calls:
        assert await fail(calls, put(peer.url)) == ("unreachable", False)  # the authorities of the system


@on_each_loop
async def test_a_host_without_tls_gets_nothing_of_an_https_call(authority: Authority) -> None:
    async with serving() as peer, calling(CallLimits(connect_timeout_s=0.3), CallFiles(ca=authority.file)) as calls:
        assert await fail(calls, put(peer.url.replace("http:", "https:"))) == ("unreachable", False)
        assert peer.requests == []


@on_each_loop
async def test_our_certificate_is_shown_to_a_host_that_asks_for_it(authority: Authority, tmp_path: Path) -> None:
    subjects: list[object] = []

    async def serve(client: Client) -> None:
        subjects.append(client.writer.get_extra_info("peercert")["subject"])
        await serve_ok(client)

    ours = Authority(tmp_path, "ours")
    tls = make_server_context(authority.make("host", "127.0.0.1"), clients=ours)
    identity = ours.make("oracle")
    async with serving(serve, tls=tls) as peer:
        async with calling(files=CallFiles(authority.file, *identity)) as calls:
            assert (await calls.call(get(peer.url))).status == 200
        assert subjects == [((("commonName", "oracle"),),)]
        # With TLS 1.3 a client hears of the refusal only after it has sent its request, which nobody has read.
        async with calling(files=CallFiles(authority.file)) as calls:
            assert (await fail(calls, put(peer.url)))[0] in ("unreachable", "broken")
        stranger = Authority(tmp_path, "stranger").make("other")
        async with calling(files=CallFiles(authority.file, *stranger)) as calls:
            assert (await fail(calls, put(peer.url)))[0] in ("unreachable", "broken")
        assert len(peer.requests) == 1


@on_each_loop
async def test_a_tls_connection_that_the_peer_closed_is_replaced(authority: Authority) -> None:
    async def serve(client: Client) -> None:
        await client.read()
        await client.write(OK)
        client.close()

    tls = make_server_context(authority.make("host", "127.0.0.1"))
    async with serving(serve, tls=tls) as peer, calling(files=CallFiles(ca=authority.file)) as calls:
        for _ in range(2):
            assert (await calls.call(put(peer.url))).status == 200
            await peer.wait_open(0)
        assert peer.connections == 2


def test_wrong_files_are_problems_of_the_settings_found_before_the_first_call(
    authority: Authority, tmp_path: Path
) -> None:
    identity, other = authority.make("oracle"), authority.make("other")
    right = {
        "ORACLE_CALL_CA_FILE": str(authority.file),
        "ORACLE_CALL_CERT_FILE": str(identity.certificate),
        "ORACLE_CALL_KEY_FILE": str(identity.key),
    }
    both = tmp_path / "both.pem"
    both.write_bytes(identity.certificate.read_bytes() + identity.key.read_bytes())

    def open_with(environ: dict[str, str]) -> Calls:
        return open_calls(load(environ).settings, Metrics.open(None, "test", 0))

    open_with(right)
    open_with({"ORACLE_CALL_CERT_FILE": str(both)})
    for wrong, problem in (
        ({"ORACLE_CALL_CA_FILE": str(tmp_path / "none.pem")}, "CA_FILE: {}: No such file or directory"),
        ({"ORACLE_CALL_CA_FILE": str(identity.key)}, "CA_FILE: {}: the file has no certificate in PEM"),
        ({"ORACLE_CALL_KEY_FILE": str(other.key)}, "the file has no certificate in PEM that fits its key"),
        ({"ORACLE_CALL_KEY_FILE": ""}, "the file has no certificate in PEM that fits its key"),
        ({"ORACLE_CALL_CERT_FILE": ""}, "ORACLE_CALL_KEY_FILE is set, but ORACLE_CALL_CERT_FILE is not"),
    ):
        with pytest.raises(SettingsError) as caught:
            open_with(right | wrong)
        assert len(caught.value.problems) == 1
        assert problem.format(*wrong.values()) in caught.value.problems[0]
    with pytest.raises(SettingsError) as caught:
        open_with({f"ORACLE_CALL_{name}_FILE": str(tmp_path / "none.pem") for name in ("CA", "CERT", "KEY")})
    assert len(caught.value.problems) == 2


async def test_the_metrics_tell_when_our_certificate_expires(authority: Authority) -> None:
    name = "calls_certificate_expires_timestamp_seconds"
    identity = authority.make("ours", days=(-1, 3))
    environ = {"ORACLE_CALL_CERT_FILE": str(identity.certificate), "ORACLE_CALL_KEY_FILE": str(identity.key)}
    for settings, left_days in ((load(environ).settings, 3), (load({}).settings, None)):
        metrics = Metrics.open(None, "hub", 0)
        await open_calls(settings, metrics).close()
        expires_at = metrics.read_gauge(name)
        assert isnan(expires_at) if left_days is None else abs(expires_at - time.time() - left_days * 86_400) < 60
