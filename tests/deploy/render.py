"""Renders the chart and validates what comes out, in a process of its own: Helm's engine is a Go program.

It runs with the packages of requirements.lock alone (see deploy_tools), and prints one JSON object:

    sets        for each file in values/: golden (the text to compare), documents, unchecked kinds, faults
    lint        what `helm lint` says
    refused     for each text of bad values that it is given: what Helm says
    runbooks    the links of all alerts, with runbookBaseUrl set
    archive     the names of the files in the packed chart, with the number of their bytes

With the argument `compose` it prints for each Compose file the document and its faults.
"""

from __future__ import annotations

import functools
import json
import re
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml
from compose_spec import PyCompose
from helm_python import Chart
from helm_python.chart import lint
from helm_python.errors import HelmError

HERE = Path(__file__).parent
DEPLOY = HERE.parents[1] / "deploy"
CHART = DEPLOY / "helm" / "alias-oracle"
# Both read hundreds of texts, most of them the same.
read_yaml_documents = functools.partial(yaml.load_all, Loader=yaml.CSafeLoader)
read_yaml = functools.cache(functools.partial(yaml.load, Loader=yaml.CSafeLoader))
kubernetes_validate.utils.schema_contents = functools.cache(kubernetes_validate.utils.schema_contents)
KUBERNETES = ("1.29", "1.37")  # the oldest and the newest that have schemas of all that is used


def main() -> None:
    if sys.argv[1:] == ["compose"]:
        json.dump(check_all_compose(), sys.stdout, default=str)
        return
    bad, seen = json.load(sys.stdin), set[str]()
    with Chart.load(CHART) as chart:
        found = {
            "sets": {file.stem: render(chart, file, seen) for file in sorted((HERE / "values").glob("*.yaml"))},
            "lint": lint(CHART),
            "refused": {text: find_refusal(chart, yaml.safe_load(text)) for text in bad},
            "runbooks": list_runbooks(chart),
            "archive": pack(chart),
        }
    json.dump(found, sys.stdout, default=str)


def render(chart: Chart, file: Path, seen: set[str]) -> dict[str, Any]:
    values = yaml.safe_load(file.read_text())
    texts = chart.render(values, name="moja", namespace="mojaloop", is_install=True)
    notes = texts.pop("alias-oracle/templates/NOTES.txt")
    documents = [each for _, text in sorted(texts.items()) for each in read_yaml_documents(text) if each]
    unchecked: set[str] = set()
    faults = []
    for each in documents:
        for version in choose_versions(each, seen):
            try:
                kubernetes_validate.validate(each, version, strict=True)
            except kubernetes_validate.SchemaNotFoundError:
                unchecked.add(each["kind"])
            except kubernetes_validate.ValidationError as exc:
                faults.append(f"{each['kind']} {each['metadata']['name']}, Kubernetes {version}: {exc.message}")
    golden = yaml.safe_dump_all([shorten(each) for each in documents], sort_keys=False, width=110)
    return {"golden": f"{golden}---\n{notes.strip()}\n", "documents": documents, "unchecked": sorted(unchecked),
            "faults": faults}  # fmt: skip


def list_runbooks(chart: Chart) -> list[str]:
    forms = {"prometheusRule": {"enabled": True}, "grafana": {"alerts": {"enabled": True}}}
    values = {"metrics": {"runbookBaseUrl": "https://git.example/oracle/", **forms}}
    text = chart.render(values, name="moja", namespace="mojaloop")["alias-oracle/templates/monitoring.yaml"]
    return re.findall(r"runbook_url: (\S+)", text)


def choose_versions(document: dict[str, Any], seen: set[str]) -> list[str]:
    """Choose what to check it against: the newest, if it is not the same as one before; the oldest, once for a kind."""
    text, kind = json.dumps(document, default=str), document["kind"]
    versions = [version for version, key in zip(KUBERNETES, (kind, text), strict=True) if key not in seen]
    seen |= {text, kind}
    return versions


def shorten(document: dict[str, Any]) -> dict[str, Any]:
    """Write the name of a file in place of its contents, which have tests of their own."""
    contents = read_contents()
    data = document.get("data", {})
    for name, text in data.items():
        if isinstance(text, str) and text.rstrip() in contents:
            data[name] = f"(the file {contents[text.rstrip()]})"
    alerts = read_yaml((CHART / "files" / "alerts.yaml").read_text())
    if document.get("spec") == alerts:
        document = {**document, "spec": "(the file alerts.yaml)"}
    if document["metadata"]["name"].endswith("-alerts"):
        grafana = read_yaml((CHART / "files" / "alerts.grafana.yaml").read_text())
        if data == grafana["data"]:
            document = {**document, "data": "(the data of the file alerts.grafana.yaml)"}
    return document


@functools.cache
def read_contents() -> dict[str, str]:
    return {file.read_text().rstrip(): file.name for file in (CHART / "files").iterdir()}


def check_all_compose() -> dict[str, Any]:
    return {file.name: check_compose(file) for file in sorted((DEPLOY / "compose").glob("docker-*.yml"))}


def check_compose(file: Path) -> dict[str, Any]:
    # It knows neither `<<` nor variables.
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", file.read_text())
    document = yaml.safe_load(text)
    try:
        PyCompose.from_json(json.dumps(document))
    except ValueError as exc:
        return {"document": document, "faults": [str(exc)]}
    return {"document": document, "faults": []}


def find_refusal(chart: Chart, values: dict[str, Any]) -> str:
    try:
        chart.validate_schema(values)
        chart.render(values, name="moja", namespace="mojaloop")
    except HelmError as exc:
        return str(exc)
    return ""


def pack(chart: Chart) -> dict[str, int]:
    with tempfile.TemporaryDirectory() as directory, tarfile.open(chart.save(directory)) as archive:
        return {member.name: member.size for member in archive if member.isfile()}


if __name__ == "__main__":
    main()
