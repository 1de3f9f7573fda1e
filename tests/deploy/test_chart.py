"""The Helm chart: what it renders for six sets of values, rendered by Helm's own engine, and that all of it is valid.

python tests/deploy/test_chart.py --write     write golden/ again, after a change of the chart: read the difference
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
from deploy_tools import BAD_VALUES, RENDER, TOOLS, TOP

from oracle.run.listeners import list_places
from oracle.run.order import choose_roles
from oracle.settings import SETTINGS, load

HERE: Final = Path(__file__).parent
CHART: Final = TOP / "deploy" / "helm" / "alias-oracle"
SETS: Final = sorted(file.stem for file in (HERE / "values").glob("*.yaml"))
# The operators publish these kinds, and no package here has their schemas.
UNCHECKED: Final = {"Cluster", "HTTPRoute", "PerconaPGCluster", "PrometheusRule", "ServiceMonitor"}
HEX: Final = bytes(range(32)).hex()

Document = dict[str, Any]


def find(rendered: dict[str, Any], name: str, kind: str, ending: str = "") -> Document:
    found = [
        each for each in rendered["sets"][name]["documents"]
        if each["kind"] == kind and each["metadata"]["name"].endswith(ending)
    ]  # fmt: skip
    assert len(found) == 1, [each["metadata"]["name"] for each in found]
    document: Document = found[0]
    return document


def list_pods(rendered: dict[str, Any], name: str) -> list[Document]:
    documents = rendered["sets"][name]["documents"]
    return [each["spec"]["template"] for each in documents if each["kind"] in ("Deployment", "StatefulSet", "Job")]


def read_env(container: Document, tmp_path: Path) -> dict[str, str]:
    """Read the environment of a container as a pod would have it, with any text for a secret."""
    env = {}
    for each in container["env"]:
        secret = HEX if each["name"].endswith(("_KEY", "_SECRET")) else "s3cr/et@"
        env[each["name"]] = each.get("value", secret)
    authority = tmp_path / "ca.crt"
    authority.write_text(Path("/etc/ssl/certs/ca-certificates.crt").read_text())
    return {name: value.replace("/etc/oracle/db-ca/ca.crt", str(authority)) for name, value in env.items()}


def test_there_are_six_sets_of_values() -> None:
    assert len(SETS) == 6
    assert sorted(file.stem for file in (HERE / "golden").glob("*.yaml")) == SETS


@pytest.mark.parametrize("name", SETS)
def test_the_chart_renders_what_was_read_and_accepted(rendered: dict[str, Any], name: str) -> None:
    golden = (HERE / "golden" / f"{name}.yaml").read_text()
    assert rendered["sets"][name]["golden"] == golden, "read the difference, then run: make golden"


@pytest.mark.parametrize("name", SETS)
def test_kubernetes_accepts_every_object(rendered: dict[str, Any], name: str) -> None:
    assert rendered["sets"][name]["faults"] == []


def test_only_kinds_of_operators_are_unchecked(rendered: dict[str, Any]) -> None:
    assert {kind for one in rendered["sets"].values() for kind in one["unchecked"]} == UNCHECKED


def test_helm_lint_has_no_complaint(rendered: dict[str, Any]) -> None:
    assert rendered["lint"]["errors"] == []
    assert [each["error"] for each in rendered["lint"]["messages"]] == ["icon is recommended"]


@pytest.mark.parametrize(("values", "reason"), BAD_VALUES.items())
def test_a_wrong_value_is_refused_with_its_reason(rendered: dict[str, Any], values: str, reason: str) -> None:
    assert reason in rendered["refused"][values]


def test_the_link_of_each_alert_begins_with_the_address_of_the_documents(rendered: dict[str, Any]) -> None:
    links = rendered["runbooks"]
    assert len(links) == 2 * len(set(links)) > 2  # the rules of Prometheus, and those of Grafana
    assert all(link.startswith("https://git.example/oracle/docs/operate.md#oracle") for link in links)


def test_the_packed_chart_contains_the_files_that_it_shares(rendered: dict[str, Any]) -> None:
    """They are symbolic links: Helm must pack what they point to."""
    for file in (CHART / "files").iterdir():
        assert rendered["archive"][f"alias-oracle/files/{file.name}"] == len(file.read_bytes())


@pytest.mark.parametrize("name", SETS)
def test_the_service_accepts_its_settings(rendered: dict[str, Any], name: str, tmp_path: Path) -> None:
    """The environment of each container of our image is one that the program reads, and its ports are the pod's."""
    pod = find(rendered, name, "Deployment", "oracle")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    settings = load(read_env(container, tmp_path)).settings
    ports = {each["containerPort"] for each in container["ports"]}
    assert {place.port for place in list_places(settings, choose_roles(settings))} == ports
    assert {place.host for place in list_places(settings, choose_roles(settings))} == {"0.0.0.0"}  # noqa: S104
    assert settings.audit_key_file == Path("/etc/oracle/keys/signing.keys")
    assert settings.cache_key == (HEX,)
    (migrate,) = pod["initContainers"]
    owner = load(read_env(migrate, tmp_path)).settings
    assert "password=s3cr%2Fet%40" in (owner.database_url or "")
    assert "ORACLE_DATABASE_OWNER_URL" not in read_env(container, tmp_path)


@pytest.mark.parametrize("name", SETS)
def test_every_pod_has_few_rights(rendered: dict[str, Any], name: str) -> None:
    for template in list_pods(rendered, name):
        pod = template["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert "cpu" not in container["resources"].get("limits", {})


@pytest.mark.parametrize("name", SETS)
def test_services_and_policies_choose_the_pods(rendered: dict[str, Any], name: str) -> None:
    documents = rendered["sets"][name]["documents"]
    labels = [template["metadata"]["labels"] for template in list_pods(rendered, name)]
    for each in documents:
        spec = each.get("spec", {})
        if each["kind"] == "Service":
            chosen = spec["selector"]
        elif each["kind"] in ("NetworkPolicy", "PodDisruptionBudget"):
            chosen = (spec.get("podSelector") or spec.get("selector"))["matchLabels"]
        else:
            continue
        assert [pod for pod in labels if chosen.items() <= pod.items()], each["metadata"]["name"]


@pytest.mark.parametrize("name", SETS)
def test_only_the_admin_listener_is_reachable_from_outside(rendered: dict[str, Any], name: str) -> None:
    for each in rendered["sets"][name]["documents"]:
        text = json.dumps(each["spec"]) if each["kind"] in ("Ingress", "HTTPRoute") else ""
        assert not re.search(r'"name": "[^"]*oracle"|account-lookup', text)


def test_no_secret_is_in_a_config_map(rendered: dict[str, Any]) -> None:
    documents = rendered["sets"]["account-lookup"]["documents"]
    holders = {each["kind"] for each in documents if "p@ss: word" in json.dumps(each)}
    assert holders == {"Secret"}


def test_a_change_of_what_the_setup_job_does_changes_its_name(rendered: dict[str, Any]) -> None:
    """A Job cannot be changed: Helm would fail."""
    names = {name: find(rendered, name, "Job", _ending(rendered, name))["metadata"]["name"] for name in SETS}
    assert len({name.rpartition("-")[2] for name in names.values()}) == len(SETS)


def _ending(rendered: dict[str, Any], name: str) -> str:
    jobs = [each["metadata"]["name"] for each in rendered["sets"][name]["documents"] if each["kind"] == "Job"]
    (setup,) = [job for job in jobs if "-setup-" in job]
    return str(setup)


def test_no_value_is_unknown_to_the_settings(rendered: dict[str, Any]) -> None:
    del rendered  # not rendered: the texts of the templates themselves
    text = "".join(file.read_text() for file in (CHART / "templates").iterdir())
    names = set(re.findall(r"name: (ORACLE_[A-Z_]+)", text))
    known = {setting.variable for setting in SETTINGS.values()} | {"ORACLE_OWNER_PASSWORD", "ORACLE_SERVICE_PASSWORD"}
    assert names <= known


if __name__ == "__main__" and "--write" in sys.argv:
    done = subprocess.run(
        [sys.executable, str(RENDER)], input=b"[]", env={"PYTHONPATH": str(TOOLS)}, capture_output=True, check=True
    )
    for set_name, one in json.loads(done.stdout)["sets"].items():
        (HERE / "golden" / f"{set_name}.yaml").write_text(one["golden"])
