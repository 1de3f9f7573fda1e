"""The forms of the alert rules, all made from deploy/monitoring/alerts.yaml (`make monitoring`).

PrometheusRule  for the operator of Prometheus, which chooses rules by the label `role: alert-rules`
Grafana         a ConfigMap for Grafana's sidecar, which chooses it by the label `grafana_alert: "1"`
shortened       for `make alerts`: all durations divided, so that each alert fires within minutes

A rule of Prometheus fires for each sample that its query returns.  Grafana asks whether a number is not 0, and the
value of a sample can be 0.  So a second step there makes 1 of each sample.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import yaml

PLACE: Final = Path(__file__).resolve().parents[2] / "deploy" / "monitoring"
SOURCE: Final = PLACE / "alerts.yaml"
NAME: Final = "alias-oracle"
HEAD: Final = "# Written by `make monitoring` from alerts.yaml: change it there.\n"
# As Mojaloop's charts of Prometheus and Grafana call them.
DATASOURCE_UID: Final = "prometheus"
FOLDER: Final = "Mojaloop"
LOOK_BACK_S: Final = 600
_DURATION: Final = re.compile(r"\[(\d+)([smh])\]")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600}


def read_rules() -> dict[str, Any]:
    rules: dict[str, Any] = yaml.safe_load(SOURCE.read_text())
    return rules


def list_alerts() -> list[dict[str, Any]]:
    return [rule for group in read_rules()["groups"] for rule in group["rules"]]


def make_prometheus_rule() -> str:
    labels = {"app.kubernetes.io/name": NAME, "role": "alert-rules"}
    return HEAD + _dump(
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PrometheusRule",
            "metadata": {"name": NAME, "labels": labels},
            "spec": read_rules(),
        }
    )


def make_grafana_alerts() -> str:
    groups = [
        {
            "orgId": 1,
            "name": group["name"],
            "folder": FOLDER,
            "interval": "1m",
            "rules": [_make_grafana_rule(rule) for rule in group["rules"]],
        }
        for group in read_rules()["groups"]
    ]
    labels = {"app.kubernetes.io/name": NAME, "grafana_alert": "1"}
    return HEAD + _dump(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": f"{NAME}-alerts", "labels": labels},
            "data": {f"{NAME}-alerts.yaml": _dump({"apiVersion": 1, "groups": groups})},
        }
    )


def make_shortened(factor: float) -> str:
    """Divide each `for` and each range of a query, and nothing else: no limit of an alert changes."""
    rules = read_rules()
    for group in rules["groups"]:
        for rule in group["rules"]:
            rule["for"] = _divide(rule["for"], factor)
            rule["expr"] = _DURATION.sub(lambda found: f"[{_divide(found[1] + found[2], factor)}]", rule["expr"])
    return _dump(rules)


def find_seconds(duration: str) -> int:
    return int(duration[:-1]) * _SECONDS[duration[-1]]


def _make_grafana_rule(rule: dict[str, Any]) -> dict[str, Any]:
    texts = {name: text.replace("$value", "$values.A.Value") for name, text in rule["annotations"].items()}
    expression = {"type": "__expr__", "uid": "__expr__"}
    return {
        "uid": f"{NAME}-{rule['alert'].removeprefix('Oracle').lower()}",
        "title": rule["alert"],
        "condition": "B",
        "data": [
            {
                "refId": "A",
                "relativeTimeRange": {"from": LOOK_BACK_S, "to": 0},
                "datasourceUid": DATASOURCE_UID,
                "model": {"refId": "A", "expr": rule["expr"], "instant": True, "range": False},
            },
            {
                "refId": "B",
                "relativeTimeRange": {"from": LOOK_BACK_S, "to": 0},
                "datasourceUid": "__expr__",
                "model": {
                    "refId": "B",
                    "type": "math",
                    "datasource": expression,
                    "expression": "is_number($A) || is_inf($A)",
                },
            },
        ],
        "noDataState": "OK",  # no sample: nothing to alert about
        "execErrState": "Error",
        "for": rule["for"],
        "labels": rule["labels"],
        "annotations": texts,
    }


def _divide(duration: str, factor: float) -> str:
    return f"{max(1, round(find_seconds(duration) / factor))}s"


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]  # yaml has no types
    """Without aliases, and with texts of several lines as blocks."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent_text)


def _dump(value: object) -> str:
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=1000, allow_unicode=True)
    return text


FORMS: Final = {
    "alerts.prometheusrule.yaml": make_prometheus_rule,
    "alerts.grafana.yaml": make_grafana_alerts,
}
