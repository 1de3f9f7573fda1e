"""Makes the Secrets that a release needs, each once, and waits until a new version is in use.

    setup.py random SECRET NAME=TEXT NAME=random:BYTES ...   a Secret with random values
    setup.py keys [--first-operator SECRET] [--shared SECRET]
                   the first operator's key; and the keys that all replicas share: of history, and of the cache
    setup.py rollout DEPLOYMENT SECONDS                      wait until all pods of a Deployment are new

A Secret that exists is never changed.  No value of a Secret is printed.  It runs in the image of the oracle: Python's
library and the command `oracle` are all that it needs.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import secrets
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

ACCOUNT: Final = Path(os.environ.get("SERVICE_ACCOUNT_DIR", "/var/run/secrets/kubernetes.io/serviceaccount"))
RETRY_S: Final = 60.0  # how long Kubernetes can be away
PAUSE_S: Final = float(os.environ.get("PAUSE_S", "2"))
REFUSED: Final = 5  # the exit code of `oracle key bootstrap` if an operator exists
MERGE: Final = "application/merge-patch+json"


class Failure(Exception):
    """An expected failure; its text is one line."""


class Kubernetes:
    """The Secrets and Deployments of one namespace."""

    def __init__(self) -> None:
        host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
        self._top = f"https://{f'[{host}]' if ':' in host else host}:{port}"
        self._namespace = (ACCOUNT / "namespace").read_text().strip()
        self._tls = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))

    def find_secret(self, name: str) -> Any:
        return self._call("GET", f"/api/v1/namespaces/{self._namespace}/secrets/{name}")

    def create_secret(
        self, name: str, values: Mapping[str, str], kind: str = "Opaque", labels: Mapping[str, str] | None = None
    ) -> bool:
        """Return False if there is one already."""
        metadata = {"name": name, "labels": {"app.kubernetes.io/part-of": "mojaloop", **(labels or {})}}
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": kind, "data": encode(values)}
        return self._call("POST", f"/api/v1/namespaces/{self._namespace}/secrets", body) is not None

    def fill_secret(self, name: str, values: Mapping[str, str]) -> None:
        path = f"/api/v1/namespaces/{self._namespace}/secrets/{name}"
        if self._call("PATCH", path, {"data": encode(values)}, MERGE) is None:
            raise Failure(f"the Secret {name} was removed")

    def delete_secret(self, name: str) -> None:
        self._call("DELETE", f"/api/v1/namespaces/{self._namespace}/secrets/{name}")

    def find_deployment(self, name: str) -> Any:
        return self._call("GET", f"/apis/apps/v1/namespaces/{self._namespace}/deployments/{name}")

    def _call(self, method: str, path: str, body: object = None, kind: str = "application/json") -> Any:
        """Return the answer; None if there is no such object (404), or one already (409)."""
        ends_at = time.monotonic() + RETRY_S
        data = None if body is None else json.dumps(body).encode()
        while True:
            headers = {"authorization": f"Bearer {(ACCOUNT / 'token').read_text().strip()}", "content-type": kind}
            request = urllib.request.Request(self._top + path, data, headers, method=method)
            try:
                with urllib.request.urlopen(request, timeout=10, context=self._tls) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as exc:
                if exc.code in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
                    return None
                reason = f"Kubernetes answers {exc.code} to {method} {path}"
                if exc.code < HTTPStatus.INTERNAL_SERVER_ERROR and exc.code != HTTPStatus.TOO_MANY_REQUESTS:
                    raise Failure(f"{reason}: check the Role of this ServiceAccount") from exc
            except OSError as exc:
                reason = f"Kubernetes does not answer ({exc})"
            if time.monotonic() > ends_at:
                raise Failure(reason)
            time.sleep(PAUSE_S)


def encode(values: Mapping[str, str]) -> dict[str, str]:
    return {name: base64.b64encode(value.encode()).decode() for name, value in values.items()}


def make_random(kubernetes: Kubernetes, arguments: argparse.Namespace) -> None:
    if kubernetes.find_secret(arguments.secret):
        print(f"The Secret {arguments.secret} exists: nothing to do")
        return
    values = dict(value.split("=", 1) for value in arguments.value)
    for name, value in values.items():
        if value.startswith("random:"):
            values[name] = secrets.token_hex(int(value.removeprefix("random:")))
    labels = dict(label.split("=", 1) for label in arguments.label)
    made = kubernetes.create_secret(arguments.secret, values, arguments.type, labels)
    print(f"The Secret {arguments.secret} {'is made' if made else 'exists: nothing to do'}")


def make_keys(kubernetes: Kubernetes, arguments: argparse.Namespace) -> None:
    # The pods wait for the shared keys.  So the first operator exists before a pod can make one itself.
    if arguments.first_operator:
        make_first_operator(kubernetes, arguments.first_operator)
    if arguments.shared:
        make_shared(kubernetes, arguments.shared)


def make_first_operator(kubernetes: Kubernetes, name: str) -> None:
    found = kubernetes.find_secret(name)
    if found and found.get("data"):
        print(f"The Secret {name} exists: nothing to do")
        return
    # Empty first: this shows that we can write it, before there is a key that nobody else has.
    if not found:
        kubernetes.create_secret(name, {})
    code, key, said = run_for_file("key", "bootstrap", "--out", "{file}")
    if code:
        kubernetes.delete_secret(name)
        if code != REFUSED:
            raise Failure(f"the first operator's key cannot be made: {said}")
        print("An operator exists already, so no first key is made. If nobody has an operator's key any more, run in a"
              " pod of the service: oracle key bootstrap --force")  # fmt: skip
        return
    kubernetes.fill_secret(name, {"key": key})
    print(f"The first operator's key is in the Secret {name}. It expires in a week")


def make_shared(kubernetes: Kubernetes, name: str) -> None:
    if kubernetes.find_secret(name):
        print(f"The Secret {name} exists: nothing to do")
        return
    code, key, said = run_for_file("audit", "keys", "create", file_setting="ORACLE_AUDIT_KEY_FILE")
    if code:
        raise Failure(f"the key of history cannot be made. If the Secret {name} was lost, restore it. {said}")
    made = kubernetes.create_secret(name, {"signing.keys": key, "cache.key": secrets.token_hex(32)})
    print(f"The Secret {name} {'is made. Keep a copy of it' if made else 'exists: nothing to do'}")


def run_for_file(*words: str, file_setting: str = "") -> tuple[int, str, str]:
    """Run a command of the oracle that writes a secret into a file; return its exit code, the secret, its error."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "secret"
        environ = {**os.environ, **({file_setting: str(file)} if file_setting else {})}
        command = ["oracle", *(word.format(file=file) for word in words)]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        return done.returncode, file.read_text() if file.exists() else "", done.stderr.strip()


def wait_for_rollout(kubernetes: Kubernetes, arguments: argparse.Namespace) -> None:
    ends_at = time.monotonic() + arguments.seconds
    while not is_rolled_out(kubernetes.find_deployment(arguments.deployment)):
        if time.monotonic() > ends_at:
            raise Failure(
                f"not all pods of {arguments.deployment} are new and ready after {arguments.seconds} s. Correct that;"
                " then run `helm upgrade` again, or `oracle migrate --stage post`"
            )
        time.sleep(PAUSE_S)
    print(f"All pods of {arguments.deployment} are new")


def is_rolled_out(deployment: Any) -> bool:
    if deployment is None:
        return False
    wanted, status = deployment["spec"].get("replicas", 1), deployment.get("status", {})
    counts = [status.get(name, 0) for name in ("replicas", "updatedReplicas", "availableReplicas")]
    return status.get("observedGeneration", 0) >= deployment["metadata"]["generation"] and counts == [wanted] * 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    random = commands.add_parser("random")
    random.add_argument("secret")
    random.add_argument("value", nargs="+")
    random.add_argument("--type", default="Opaque")
    random.add_argument("--label", action="append", default=[])
    random.set_defaults(act=make_random)
    keys = commands.add_parser("keys")
    keys.add_argument("--first-operator", default="")
    keys.add_argument("--shared", default="")
    keys.set_defaults(act=make_keys)
    rollout = commands.add_parser("rollout")
    rollout.add_argument("deployment")
    rollout.add_argument("seconds", type=int)
    rollout.set_defaults(act=wait_for_rollout)
    arguments = parser.parse_args()
    try:
        arguments.act(Kubernetes(), arguments)
    except Failure as exc:
        sys.exit(f"setup: {exc}")


if __name__ == "__main__":
    main()
