"""A service with TLS: certificates that change under load, the commands, the health check, the metrics.

One `serve` for all of it: each start costs seconds of CPU.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPSConnection
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from certificates import Authority, Identity
from issuer import Issuer, issuing_beside
from oracle_process import PATIENT, SERVE, OracleProcess, environment, run_oracle, start_oracle, until
from shell import Shell

from oracle.commands.client import Client, ClientError
from oracle.commands.health import ask_listeners
from oracle.run.bootstrap import bootstrap
from oracle.settings import load

HOST = "127.0.0.1"
PACE_S = 0.02  # the new workers need the processor, too
REPLACED = "All workers are replaced"
REFUSED = "The settings cannot be used; the old ones stay in use. Correct them, then send SIGHUP again"


GATEWAY = "gateway.hub.example"


class Secured(NamedTuple):
    oracle: OracleProcess
    issuer: Issuer
    authority: Authority
    client: Identity
    hub: Identity
    key: str
    env: dict[str, str]

    def make_context(self, *, shows: bool) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.authority.file)
        if shows:
            context.load_cert_chain(*self.client)
        return context

    def read_serial(self) -> str:
        """The serial number of the certificate that the hub listener shows."""
        context = self.make_context(shows=True)
        with closing(HTTPSConnection(HOST, self.oracle.hub_port, context=context, timeout=30)) as connection:
            connection.request("GET", "/live")
            assert connection.getresponse().status == 200
            certificate = connection.sock.getpeercert()
            assert certificate
            return str(certificate["serialNumber"])


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory, postgres_template, valkey_server) -> Iterator[Secured]:  # type: ignore[no-untyped-def] # noqa: ANN001
    import servers

    folder = tmp_path_factory.mktemp("tls")
    authority = Authority(folder, "authority")
    hub, admin = authority.make("hub", HOST), authority.make("admin", HOST)
    name = asyncio.run(servers.make_database(postgres_template))
    url = postgres_template.url(name)
    env = {
        **PATIENT,
        "ORACLE_DATABASE_URL": url,
        "ORACLE_REDIS_URL": valkey_server.url(),
        "ORACLE_HUB_TLS_CERTIFICATE": str(hub.certificate),
        "ORACLE_HUB_TLS_KEY": str(hub.key),
        "ORACLE_HUB_TLS_CLIENT_CA": str(authority.file),
        "ORACLE_HUB_TLS_REQUIRE_CLIENT": "on",
        "ORACLE_ADMIN_TLS_CERTIFICATE": str(admin.certificate),
        "ORACLE_ADMIN_TLS_KEY": str(admin.key),
        "ORACLE_ADMIN_TLS_CLIENT_CA": str(authority.file),
        "ORACLE_ADMIN_AUTH": "keys,oidc,gateway",
        "ORACLE_ADMIN_PROXIES": HOST,
        "ORACLE_GATEWAY_CERTIFICATE_NAMES": GATEWAY,
    }
    try:
        with ExitStack() as stack:
            issuer = stack.enter_context(issuing_beside())
            env |= {"ORACLE_OIDC_ISSUER": issuer.url, "ORACLE_OIDC_AUDIENCE": issuer.audience}
            oracle = stack.enter_context(start_oracle(folder, env))
            key = asyncio.run(bootstrap(url))
            assert key is not None
            env |= {"ORACLE_HUB_PORT": str(oracle.hub_port), "ORACLE_ADMIN_PORT": str(oracle.admin_port)}
            yield Secured(oracle, issuer, authority, authority.make("als"), hub, key, env)
    finally:
        asyncio.run(servers.drop_database(postgres_template, name))


@contextmanager
def put_in_place(identity: Identity, of: Identity) -> Iterator[None]:
    """Put other files in the place of a certificate and its key, as a program that renews them does."""
    kept = [file.read_bytes() for file in of]
    for source, target in zip(identity, of, strict=True):
        fresh = target.with_suffix(".new")
        shutil.copy(source, fresh)
        fresh.replace(target)
    try:
        yield
    finally:
        for data, target in zip(kept, of, strict=True):
            target.write_bytes(data)


def hang_up(oracle: OracleProcess, event: str) -> dict[str, object]:
    before = len(oracle.find_log_lines(event))
    oracle.signal(signal.SIGHUP)
    until(lambda: len(oracle.find_log_lines(event)) > before)
    return oracle.find_log_lines(event)[-1]


async def _load(secured: Secured, work: Callable[[], None]) -> tuple[int, list[object]]:
    """Ask the hub listener all the time, on connections that are kept and on new ones, while `work` runs."""
    failed: list[object] = []
    asked = 0
    url = f"{secured.oracle.hub_url}/participants/MSISDN/525512345678"
    working = asyncio.create_task(asyncio.to_thread(work))

    async def ask(*, keeps: bool) -> None:
        nonlocal asked
        limits = httpx.Limits(max_keepalive_connections=1 if keeps else 0)
        async with httpx.AsyncClient(
            verify=context, limits=limits, headers={"fspiop-source": "als"}, timeout=60
        ) as client:
            while not working.done():
                try:
                    answer = await client.get(url)
                except httpx.HTTPError as exc:
                    failed.append(exc)
                else:
                    if answer.status_code != 200:
                        failed.append(answer.text)
                asked += 1
                await asyncio.sleep(PACE_S)

    context = secured.make_context(shows=True)
    await asyncio.gather(*(ask(keeps=True) for _ in range(3)), ask(keeps=False))
    await working
    return asked, failed


def test_a_certificate_is_replaced_under_load_without_a_failed_call(secured: Secured) -> None:
    before = secured.read_serial()
    asked_before: list[int] = []

    def renew() -> None:
        with put_in_place(secured.authority.make("renewed", HOST), secured.hub):
            hang_up(secured.oracle, REPLACED)
            asked_before.append(1)
            assert secured.read_serial() != before

    asked, failed = asyncio.run(_load(secured, renew))
    assert asked_before
    assert failed == []
    assert asked > 50
    (line,) = secured.oracle.find_log_lines("A certificate or its authorities were read again")
    assert line["listener"] == "hub"


def test_a_certificate_that_cannot_be_used_leaves_the_old_one_in_use(secured: Secured, tmp_path: Path) -> None:
    oracle, before = secured.oracle, secured.read_serial()
    stranger = secured.authority.make("stranger", HOST)
    exposed = Identity(stranger.certificate, tmp_path / "exposed.key")
    shutil.copy(stranger.key, exposed.key)
    exposed.key.chmod(0o644)
    nothing = tmp_path / "nothing.pem"
    nothing.touch(mode=0o600)
    hub = secured.hub
    for wrong, problem in (
        (Identity(hub.certificate, stranger.key), "the key does not fit the first certificate in "),
        (exposed, "run chmod 600 "),
        (Identity(nothing, hub.key), "the file has no certificate in PEM"),
        (secured.authority.make("old", HOST, expired=True), "the certificate expired on "),
    ):
        with put_in_place(wrong, hub):
            shutil.copymode(wrong.key, hub.key)
            problems = hang_up(oracle, REFUSED)["problems"]
            hub.key.chmod(0o600)
        assert problem in str(problems)
        assert str(hub.certificate.parent) in str(problems)
        assert secured.read_serial() == before
    # A worker that starts again gets what the supervisor has read, whatever is in the files by now.
    with put_in_place(Identity(nothing, nothing), hub):
        (worker,) = oracle.workers("hub")
        os.kill(worker.pid, signal.SIGKILL)
        until(lambda: oracle.find_log_lines("A worker ended; starting another one"))
        assert secured.read_serial() == before


def test_the_commands_trust_the_listener_of_their_settings_or_an_authority(
    secured: Secured, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    shell = Shell(secured.key, monkeypatch, capsys)
    for name, value in environment(tmp_path, {**secured.env, "ORACLE_HUB_PORT": "0"}).items():
        monkeypatch.setenv(name, value)
    assert shell("fsp", "list").code == 0  # the certificate of the settings, without its authority
    monkeypatch.setenv("ORACLE_ADMIN_TLS_CERTIFICATE", str(secured.hub.certificate))  # another one
    monkeypatch.setenv("ORACLE_ADMIN_TLS_KEY", "")
    assert "its certificate is not accepted" in shell("fsp", "list").err
    for name in secured.env:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ORACLE_ADMIN_URL", secured.oracle.admin_url)
    assert "Set ORACLE_COMMAND_CA_FILE to the file with the certificate" in shell("fsp", "list").err
    assert shell("fsp", "list", "--ca-file", str(secured.authority.file)).code == 0
    monkeypatch.setenv("ORACLE_COMMAND_CA_FILE", str(secured.authority.file))
    assert shell("fsp", "list").code == 0
    monkeypatch.setenv("ORACLE_ADMIN_URL", secured.oracle.admin_url.replace(HOST, "localhost"))
    assert "Write a name that is in the certificate into ORACLE_ADMIN_URL" in shell("fsp", "list").err
    monkeypatch.setenv("ORACLE_ADMIN_URL", secured.oracle.admin_url.replace("https", "http"))
    assert "This port needs TLS (bad_request). Write https in place of http" in shell("fsp", "list").err
    monkeypatch.setenv("ORACLE_ADMIN_URL", secured.oracle.admin_url)
    monkeypatch.setenv("ORACLE_COMMAND_CA_FILE", str(secured.client.key))
    assert "ORACLE_COMMAND_CA_FILE: " in shell("fsp", "list").err
    monkeypatch.setenv("ORACLE_COMMAND_CA_FILE", str(secured.authority.file))
    monkeypatch.setenv("ORACLE_COMMAND_CERT_FILE", str(secured.client.certificate))
    monkeypatch.setenv("ORACLE_COMMAND_CERT_KEY_FILE", str(secured.client.key))
    assert shell("fsp", "list").code == 0
    monkeypatch.setenv("ORACLE_COMMAND_CERT_KEY_FILE", str(secured.hub.key))
    assert "ORACLE_COMMAND_CERT_FILE: " in shell("fsp", "list").err
    # What a listener that demands a certificate answers.
    for shows, text in (
        (None, "it asks for a client certificate"),
        (stranger(tmp_path), "does not accept your client"),
    ):
        context = secured.make_context(shows=False)
        if shows is not None:
            context.load_cert_chain(*shows)
        with (
            Client(secured.oracle.hub_url, secured.key, tls=context, retry_pauses_s=()) as client,
            pytest.raises(ClientError, match=text),
        ):
            client.call("GET", "/me")


def stranger(folder: Path) -> Identity:
    return Authority(folder, "stranger").make("forged")


def test_the_health_check_asks_with_tls(secured: Secured) -> None:
    settings = load(secured.env).settings
    assert [str(answer) for answer in ask_listeners(settings, ready=False, timeout_s=30)] == ["hub: ok", "admin: ok"]
    hub, admin = ask_listeners(settings, ready=True, timeout_s=30)
    assert (hub.good, admin.good) == (False, True)
    assert "set ORACLE_COMMAND_CERT_FILE" in hub.text
    more = {
        "ORACLE_COMMAND_CERT_FILE": str(secured.client.certificate),
        "ORACLE_COMMAND_CERT_KEY_FILE": str(secured.client.key),
    }
    settings = load(secured.env | more).settings
    assert all(answer.good for answer in ask_listeners(settings, ready=True, timeout_s=30))


# A gateway that proves itself by its certificate.

AS_ANA = {"x-user": "ana", "x-roles": '["HUB-Admin"]'}


def ask_who(url: str, context: ssl.SSLContext | bool, **headers: str) -> httpx.Response:
    return httpx.get(f"{url}/admin/v1/me", headers={**AS_ANA, **headers}, verify=context, timeout=60)


def show(secured: Secured, identity: Identity | None) -> ssl.SSLContext:
    context = secured.make_context(shows=False)
    if identity is not None:
        context.load_cert_chain(*identity)
    return context


@pytest.mark.parametrize(
    "members",
    [{"hosts": (GATEWAY,)}, {"common_names": (GATEWAY,)}, {"common_names": ("other", GATEWAY)}],
    ids=["DNS name", "common name", "one of two common names"],
)
def test_a_gateway_with_the_right_name_in_its_certificate_is_believed(
    secured: Secured, members: dict[str, tuple[str, ...]]
) -> None:
    hosts, names = members.get("hosts", ()), members.get("common_names")
    identity = secured.authority.make("proxy", *hosts, common_names=names)
    answer = ask_who(secured.oracle.admin_url, show(secured, identity))
    assert answer.status_code == 200, answer.text
    assert (answer.json()["actor"], answer.json()["role"], answer.json()["way"]) == (
        "gateway:ana",
        "operator",
        "gateway",
    )


def test_headers_without_the_certificate_of_the_gateway_open_nothing(secured: Secured, tmp_path: Path) -> None:
    url, make = secured.oracle.admin_url, secured.authority.make
    for identity in (
        None,
        make("another", "other.hub.example"),
        make("above", f"evil.{GATEWAY}"),
        make("below", GATEWAY.partition(".")[2]),
        make("star", f"*.{GATEWAY.partition('.')[2]}"),
        make("longer", f"{GATEWAY}.evil.example"),
    ):
        answer = ask_who(url, show(secured, identity))
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized"), identity
    # Nobody else can make such a certificate, and one that has expired is none.
    for identity in (Authority(tmp_path, "stranger").make("forged", GATEWAY), make("old", GATEWAY, expired=True)):
        with pytest.raises(httpx.TransportError):
            ask_who(url, show(secured, identity))
    # Nor does plain HTTP to the same port.
    answer = ask_who(url.replace("https", "http"), context=True)
    assert answer.status_code == 400
    assert "needs TLS" in answer.text


def test_on_a_plain_listener_only_the_secret_proves_the_gateway(secured: Secured, tmp_path: Path) -> None:
    secret = "the gateway shows this and nobody else knows it"
    names = ("ORACLE_DATABASE_URL", "ORACLE_REDIS_URL", "ORACLE_ADMIN_PROXIES")
    env = {**PATIENT, **{name: secured.env[name] for name in names}}
    env |= {"ORACLE_ADMIN_AUTH": "keys,gateway", "ORACLE_GATEWAY_SECRET": secret}
    with start_oracle(tmp_path, env, command=(*SERVE, "--only", "admin")) as oracle:
        for headers in ({}, {"x-gateway-secret": "wrong"}, {"x-ssl-client-cn": GATEWAY}, {"x-forwarded-for": HOST}):
            assert ask_who(oracle.admin_url, context=True, **headers).status_code == 401, headers
        believed = ask_who(oracle.admin_url, context=True, **{"x-gateway-secret": secret})
        assert believed.json()["actor"] == "gateway:ana"
        assert secret not in oracle.output


def test_commands_send_a_token_of_an_identity_provider(
    secured: Secured, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    shell = Shell("", monkeypatch, capsys)
    for name, value in environment(tmp_path, {**secured.env, "ORACLE_HUB_PORT": "0"}).items():
        monkeypatch.setenv(name, value)
    token = secured.issuer.issue(sub="ana")
    found = shell.as_key(token, "key", "me", "--json")
    assert (found.json["actor"], found.json["role"], found.json["keyFrom"]) == (
        "oidc:main:ana", "operator", "ORACLE_KEY",
    )  # fmt: skip
    file = tmp_path / "token"
    file.touch(mode=0o600)
    file.write_text(f"{token}\n")
    assert shell.as_key(None, "fsp", "list", "--key-file", str(file)).code == 0
    monkeypatch.setenv("ORACLE_KEY_FILE", str(file))
    assert shell.as_key(None, "fsp", "list").code == 0
    file.chmod(0o644)
    exposed = shell.as_key(None, "fsp", "list")
    assert "other users of this machine can read this key" in exposed.err
    late = secured.issuer.issue(exp=1)
    refused = shell.as_key(late, "fsp", "list")
    assert refused.code != 0
    assert "does not accept the token in ORACLE_KEY. Get a new token from your identity provider" in refused.err
    kept = shell.as_key(None, "key", "save", stdin=token)
    assert "only keys are kept" in kept.err
    shown = shell.as_key(token, "check-config")
    for result in (found, exposed, refused, kept, shown):
        for secret in (token, late):
            assert secret.rpartition(".")[2] not in result.out + result.err


def test_metrics_count_handshakes_and_tell_when_a_certificate_expires(secured: Secured) -> None:
    context = secured.make_context(shows=False)
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{secured.oracle.hub_url}/live", verify=context)

    def read() -> dict[str, float]:
        page = httpx.get(f"{secured.oracle.admin_url}/metrics", verify=context).text
        lines = [line.rpartition(" ") for line in page.splitlines() if line.startswith("moja_oracle_tls_")]
        return {name: float(value) for name, _, value in lines}

    until(lambda: read()['moja_oracle_tls_handshakes_total{result="no_certificate"}'] >= 1)
    found = read()
    assert found['moja_oracle_tls_handshakes_total{result="done"}'] > 10
    expires = [value for name, value in found.items() if name.startswith("moja_oracle_tls_certificate_expires")]
    assert len(expires) == 2
    until(lambda: secured.oracle.find_log_lines("TLS handshakes failed"))


def test_check_config_says_what_clients_will_not_like(secured: Secured, tmp_path: Path) -> None:
    soon = secured.authority.make("soon", days=(-1, 3), clients_only=True)
    env = {
        "ORACLE_HUB_PORT": "0",
        "ORACLE_ADMIN_TLS_CERTIFICATE": str(soon.certificate),
        "ORACLE_ADMIN_TLS_KEY": str(soon.key),
    }
    checked = run_oracle(tmp_path, "check-config", env={**secured.env, **env})
    assert checked.returncode == 0
    for words in (
        "ALS 17.16.1 cannot show a client certificate: put a sidecar or a proxy that shows one between ALS and the hub",
        f"The certificate of the admin listener ({soon.certificate}) expires on ",
        "names no host (it has no subjectAltName): most clients refuse it",
        "is not made for servers (its extendedKeyUsage has no serverAuth): clients refuse it",
    ):
        assert words in checked.stderr
