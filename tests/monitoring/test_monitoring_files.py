"""The files of deploy/monitoring: the forms are equal, and each query asks for what the service publishes.

`python tests/monitoring/test_monitoring_files.py --write` (`make monitoring`) writes those that are made from others.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import alert_forms
import dashboards
import pytest
import yaml
from promtool import run_promtool

from oracle.telemetry.metrics import ALS_PREFIX, ALS_SERIES, DERIVED, PREFIX, SERIES

GENERATED: Final[dict[str, Callable[[], str]]] = {
    **alert_forms.FORMS,
    "dashboard.json": dashboards.make_dashboard,
}
OPERATE: Final = alert_forms.PLACE.parents[1] / "docs" / "operate.md"
ALERTS: Final = (
    *("OracleErrors", "OracleSlow", "OracleCacheDegraded", "OracleDatabaseAway", "OracleLeaseOld"),
    *("OracleSealingWaits", "OracleRegistrationLost", "OracleImportStuck", "OracleHitRatioLow"),
    *("OracleGone", "OracleCertificateExpires", "OracleIssuerAway"),
)
# Labels that Prometheus, Kubernetes or the page itself adds to each series.  Prometheus calls its own name of a target
# `job`, and renames our label.
ADDED: Final = frozenset(
    {"cluster", "namespace", "pod", "instance", "role", "index", "le", "serviceName", "serviceVersion", "version"}
    | {"exported_job"}
)
METRIC: Final = re.compile(r"\b(moja_[A-Za-z_]+|ALERTS)(?:\{([^}]*)\})?")
MATCHER: Final = re.compile(r'(\w+)(=~|!=|=)"([^"]*)"')
GROUPING: Final = re.compile(r"\bby \(([^)]*)\)")


def read_dashboard() -> dict[str, Any]:
    dashboard: dict[str, Any] = json.loads((alert_forms.PLACE / "dashboard.json").read_text())
    return dashboard


def list_queries() -> Iterator[tuple[str, str]]:
    """Each query of the rules and of the dashboard, with where it is."""
    for rule in alert_forms.list_alerts():
        yield rule["alert"], rule["expr"]
    for panel in read_dashboard()["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]


def list_published() -> dict[str, dict[str, tuple[str, ...]]]:
    """Each name on the page, with its labels and their values; no values: any."""
    published: dict[str, dict[str, tuple[str, ...]]] = {"ALERTS": {"alertstate": (), "alertname": ALERTS}}
    for prefix, series in [*((PREFIX, one) for one in SERIES), *((ALS_PREFIX, one) for one in ALS_SERIES)]:
        names = (
            [f"{series.name}_{part}" for part in ("bucket", "sum", "count")]
            if series.kind == "histogram"
            else [series.name]
        )
        published |= {prefix + name: dict(series.labels) for name in names}
    return published | {PREFIX + name: dict.fromkeys(labels, ()) for name, _, labels, _ in DERIVED}


@pytest.mark.parametrize("name", GENERATED)
def test_a_generated_file_is_up_to_date(name: str) -> None:
    assert (alert_forms.PLACE / name).read_text() == GENERATED[name](), "run: make monitoring"


def test_the_forms_of_the_alerts_are_equal() -> None:
    rules = alert_forms.list_alerts()
    operator = yaml.safe_load((alert_forms.PLACE / "alerts.prometheusrule.yaml").read_text())
    assert operator["kind"] == "PrometheusRule"
    assert operator["metadata"]["labels"]["role"] == "alert-rules"
    assert [rule for group in operator["spec"]["groups"] for rule in group["rules"]] == rules
    sidecar = yaml.safe_load((alert_forms.PLACE / "alerts.grafana.yaml").read_text())
    assert sidecar["kind"] == "ConfigMap"
    assert sidecar["metadata"]["labels"]["grafana_alert"] == "1"
    (text,) = sidecar["data"].values()
    made = [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]
    assert len({rule["uid"] for rule in made}) == len(rules)
    for ours, theirs in zip(rules, made, strict=True):
        asked, decided = theirs["data"]
        assert theirs["title"] == ours["alert"]
        assert asked["model"]["expr"] == ours["expr"]
        assert theirs["for"] == ours["for"]
        assert theirs["labels"] == ours["labels"]
        assert theirs["annotations"].keys() == ours["annotations"].keys()
        assert "$value " not in str(theirs["annotations"])
        assert theirs["condition"] == decided["refId"]


def test_every_alert_has_a_paragraph_of_the_runbook() -> None:
    anchors = {
        line.removeprefix("### ").lower() for line in OPERATE.read_text().splitlines() if line.startswith("### ")
    }
    rules = alert_forms.list_alerts()
    assert tuple(rule["alert"] for rule in rules) == ALERTS
    for rule in rules:
        page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert page == "docs/operate.md"
        assert anchor == rule["alert"].lower()
        assert anchor in anchors
        assert rule["labels"]["severity"] in ("critical", "warning")


def test_every_query_names_only_what_the_service_publishes() -> None:
    published = list_published()
    for where, query in list_queries():
        found = METRIC.findall(query)
        assert found, (where, query)
        for name, matchers in found:
            assert name in published, (where, name)
            labels = published[name]
            for label, _, value in MATCHER.findall(matchers):
                assert label in labels or label in ADDED, (where, name, label)
                if labels.get(label) and "$" not in value:
                    wanted = [re.compile(part) for part in value.split("|")]
                    assert all(any(part.fullmatch(one) for one in labels[label]) for part in wanted), (where, value)
        grouped = {label.strip() for text in GROUPING.findall(query) for label in text.split(",")}
        known = ADDED.union(*(published[name] for name, _ in found))
        assert grouped <= known - {"job"}, (where, query)


def test_every_query_of_the_dashboard_is_one_that_prometheus_can_read(promtool: Path, tmp_path: Path) -> None:

    queries = [query.replace("$__rate_interval", "5m") for _, query in list_queries()]
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries)]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"{len(queries)} rules found" in run_promtool(promtool, "check", "rules", str(path))


def test_the_dashboard_is_of_the_form_that_the_sidecar_of_mojaloop_loads() -> None:
    dashboard = read_dashboard()
    assert [one["name"] for one in dashboard["__inputs"]] == ["DS_PROMETHEUS"]
    # The sidecar fills in no inputs: a variable of the same name chooses the data source there.
    assert [one["name"] for one in dashboard["templating"]["list"]] == ["DS_PROMETHEUS", "cluster_name", "namespace"]
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({panel["title"] for panel in panels if panel["type"] != "row"}) > 40
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= dashboards.COLUMNS
        assert not cells & taken, panel["title"]
        taken |= cells
        for target in panel.get("targets", ()):
            assert target["datasource"]["uid"] == "${DS_PROMETHEUS}"
            selected = METRIC.findall(target["expr"])
            assert all("$cluster_name" in matchers for _, matchers in selected), panel["title"]
            assert "rate(" not in target["expr"] or "$__rate_interval" in target["expr"]


def main() -> None:
    parser = argparse.ArgumentParser(description="write the files of deploy/monitoring that are made from others")
    parser.add_argument("--write", action="store_true", required=True)
    parser.parse_args()
    for name, make in GENERATED.items():
        (alert_forms.PLACE / name).write_text(make())


if __name__ == "__main__":
    main()
