"""The program of the chart's setup Job: it makes each Secret once, and never loses the key that it made.

It calls a server that does with Secrets and Deployments what Kubernetes does, over TLS, and a real database.
"""

from __future__ import annotations

import base64
import json
import os
import runpy
import ssl
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from ipaddress import IPv4Address
from pathlib import Path
from threading import Thread
from typing import Any, Final, NamedTuple
from unittest.mock import patch

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from deploy_tools import TOP

from oracle.audit.signer import Signer

SETUP: Final = TOP / "deploy" / "helm" / "alias-oracle" / "files" / "setup.py"
SECRETS: Final = "/api/v1/namespaces/hub/secrets"
TOKEN: Final = "the-token"


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


class Cluster:
    """The objects, and what the next calls are answered instead: `failures`, a status each."""

    def __init__(self, place: Path) -> None:
        self.secrets: dict[str, dict[str, Any]] = {}
        self.deployments: list[dict[str, Any]] = []  # the answers to the next questions; the last one stays
        self.failures: list[tuple[str, int]] = []
        self.calls: list[str] = []
        self.place = place

    def read(self, name: str) -> dict[str, str]:
        return {key: base64.b64decode(value).decode() for key, value in self.secrets[name]["data"].items()}

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        self.calls.append(f"{method} {path.rpartition('/')[2]}")
        if self.failures and self.failures[0][0] == method:
            return self.failures.pop(0)[1], {}
        if "/deployments/" in path:
            return (200, self.deployments.pop(0) if len(self.deployments) > 1 else self.deployments[0])
        name = body["metadata"]["name"] if method == "POST" else path.removeprefix(f"{SECRETS}/")
        if (method == "POST") == (name in self.secrets):
            return (409 if method == "POST" else 404), {}
        if method == "POST":
            self.secrets[name] = body
        elif method == "PATCH":
            self.secrets[name].setdefault("data", {}).update(body["data"])
        elif method == "DELETE":
            return 200, self.secrets.pop(name)
        return 200, self.secrets[name]

    def run(self, *words: str, **env: str) -> Done:
        """Run the program in this process: a Python that starts each time costs more than the tests."""
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        environ = {"PATH": path, "SERVICE_ACCOUNT_DIR": str(self.place), "ORACLE_DATA_DIR": str(self.place / "data")}
        environ |= {"PAUSE_S": "0.05", **self.address, **env}
        out, err, code = StringIO(), "", 0
        with (
            patch.dict(os.environ, environ, clear=True), patch.object(sys, "argv", [str(SETUP), *words]),
            redirect_stdout(out),
        ):  # fmt: skip
            try:
                runpy.run_path(str(SETUP), run_name="__main__")
            except SystemExit as exc:
                code, err = 1, f"{exc}\n"
        return Done(code, out.getvalue(), err)

    address: dict[str, str]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path)

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            assert self.headers["authorization"] == f"Bearer {TOKEN}"
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            status, answer = cluster.answer(self.command, self.path, json.loads(body) if body else None)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        do_GET = do_POST = do_PATCH = do_DELETE = _serve  # noqa: N815 - the names that the server looks for

        def log_message(self, *_: object) -> None: ...

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kubernetes")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    (tmp_path / "ca.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "server.key").write_bytes(private)
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "namespace").write_text("hub")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "ca.crt", tmp_path / "server.key")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
        cluster.address = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(server.server_port)}
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield cluster
        server.shutdown()


def test_a_random_secret_is_made_once(cluster: Cluster) -> None:
    words = ("random", "db", "--type", "kubernetes.io/basic-auth", "username=oracle_service", "password=random:32")
    cluster.failures.append(("POST", 503))  # Kubernetes is restarted just now
    done = cluster.run(*words)
    assert (done.returncode, done.stdout) == (0, "The Secret db is made\n"), done.stderr
    made = cluster.read("db")
    assert made["username"] == "oracle_service"
    assert len(made["password"]) == 64
    assert cluster.secrets["db"]["type"] == "kubernetes.io/basic-auth"
    assert cluster.run(*words).stdout == "The Secret db exists: nothing to do\n"
    assert cluster.read("db") == made


def test_keys_are_made_once_and_are_those_of_the_directory(cluster: Cluster, database_url: str) -> None:
    words = ("keys", "--first-operator", "first", "--shared", "keys")
    done = cluster.run(*words, ORACLE_DATABASE_URL=database_url)
    assert done.returncode == 0, done.stderr
    # Pods wait for the shared keys, so nobody else makes the first operator's key before.
    assert cluster.calls == ["GET first", "POST secrets", "PATCH first", "GET keys", "POST secrets"]
    operator, keys = cluster.read("first")["key"].strip(), cluster.read("keys")
    assert operator.startswith("aok_")
    assert Signer.of(keys["signing.keys"]).verifier.name.startswith("alias-oracle/")
    assert len(keys["cache.key"]) == 64
    for secret in (operator, keys["signing.keys"].strip(), keys["cache.key"]):
        assert secret not in done.stdout + done.stderr
    again = cluster.run(*words, ORACLE_DATABASE_URL=database_url)
    assert again.stdout.count("exists: nothing to do") == 2
    assert cluster.read("keys") == keys
    # The operator's key was read, and its Secret deleted, as the notes of the chart say.
    del cluster.secrets["first"]
    later = cluster.run("keys", "--first-operator", "first", ORACLE_DATABASE_URL=database_url)
    assert later.returncode == 0
    assert "An operator exists already" in later.stdout
    assert "first" not in cluster.secrets


def test_no_key_is_made_that_cannot_be_kept(cluster: Cluster, database_url: str) -> None:
    cluster.failures.append(("POST", 403))
    done = cluster.run("keys", "--first-operator", "first", ORACLE_DATABASE_URL=database_url)
    assert done.returncode == 1
    assert done.stderr == f"setup: Kubernetes answers 403 to POST {SECRETS}: check the Role of this ServiceAccount\n"
    cluster.failures.clear()
    again = cluster.run("keys", "--first-operator", "first", ORACLE_DATABASE_URL=database_url)
    assert again.returncode == 0
    assert cluster.read("first")["key"].startswith("aok_")


def test_without_a_database_the_secret_is_not_left_empty(cluster: Cluster) -> None:
    done = cluster.run(
        "keys", "--first-operator", "first", ORACLE_DATABASE_URL="postgresql://me@127.0.0.1:9/oracle",
    )  # fmt: skip
    assert done.returncode == 1
    assert "the first operator's key cannot be made" in done.stderr
    assert "nothing listens at the address of PostgreSQL" in done.stderr
    assert cluster.secrets == {}


def test_the_post_stage_waits_for_the_last_old_pod(cluster: Cluster) -> None:
    def deployment(observed: int, *counts: int) -> dict[str, Any]:
        names = ("replicas", "updatedReplicas", "availableReplicas")
        status = {"observedGeneration": observed, **dict(zip(names, counts, strict=True))}
        return {"metadata": {"generation": 2}, "spec": {"replicas": 2}, "status": status}

    cluster.deployments = [deployment(1, 2, 2, 2), deployment(2, 3, 2, 3), deployment(2, 2, 2, 2)]
    done = cluster.run("rollout", "oracle", "60")
    assert (done.returncode, done.stdout) == (0, "All pods of oracle are new\n")
    assert len(cluster.calls) == 3
    cluster.deployments = [deployment(2, 3, 2, 3)]
    late = cluster.run("rollout", "oracle", "0")
    assert late.returncode == 1
    assert "not all pods of oracle are new and ready after 0 s" in late.stderr
