"""The alert rules, by Prometheus' own checker: when each fires, when it does not, and what it says then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import alert_forms
import yaml
from promtool import run_promtool

HUB = 'namespace="hub"'
POD = 'namespace="hub",pod="oracle-0",instance="10.0.0.1:3001"'
LOOKUPS = "moja_oracle_lookups_total"
BUCKET = "moja_oracle_lookup_duration_seconds_bucket"


@dataclass(frozen=True)
class Case:
    """Series, one value a minute, and the first minute at which the alert fires; None: it never does in 60 minutes."""

    alert: str
    what: str
    series: dict[str, str]
    fires_at: int | None
    description: str = ""
    labels: dict[str, str] = field(default_factory=lambda: {"namespace": "hub"})
    clears_at: int | None = None


def lookups(hit: int, directory: int = 0) -> dict[str, str]:
    """So many lookups a minute."""
    return {
        f'{LOOKUPS}{{{HUB},result="hit"}}': f"0+{hit}x60",
        f'{LOOKUPS}{{{HUB},result="directory"}}': f"0+{directory}x60",
    }


def errors(values: str, code: str = "2003") -> dict[str, str]:
    return {f'moja_oracle_errors_total{{{HUB},code="{code}"}}': values}


def times(below_50_ms: int, below_100_ms: int) -> dict[str, str]:
    """So many lookups a minute that took less than 50 and less than 100 ms."""
    ends = {"0.05": below_50_ms, "0.1": below_100_ms, "+Inf": below_100_ms}
    return {f'{BUCKET}{{{HUB},operation="lookup",le="{end}"}}': f"0+{count}x60" for end, count in ends.items()}


def gauge(name: str, values: str, labels: str = POD) -> dict[str, str]:
    return {f"moja_oracle_{name}{{{labels}}}": values}


def up(values: str) -> dict[str, str]:
    """Whether Prometheus could read the page of the pod."""
    return {f'up{{job="alias-oracle",{POD}}}': values}


def info(values: str, labels: str = POD) -> dict[str, str]:
    return gauge("info", values, f'job="alias-oracle",{labels}')


GONE = "stale _x54"
OTHER = 'namespace="another hub",pod="oracle-0",instance="10.0.1.1:3001"'
POD_LABELS = {"namespace": "hub", "pod": "oracle-0", "instance": "10.0.0.1:3001"}
PROCESS_LABELS = {**POD_LABELS, "role": "hub", "index": "1"}
NOT_LATER = "Changes of more than a minute ago are not in the sealed log yet, or no process seals history."
CASES: Sequence[Case] = (
    # Errors
    Case("OracleErrors", "two of a thousand", lookups(1000) | errors("0+2x60"), 6,
         "Errors with a code from 2000 to 2999 are 0.2% of the lookups of the last 5 minutes."),
    Case("OracleErrors", "one of two thousand", lookups(2000) | errors("0+1x60"), None),
    Case("OracleErrors", "a single error in a quiet hour", lookups(6) | errors("0x10 1x50"), None),
    Case("OracleErrors", "faults of callers", lookups(1000) | errors("0+500x60", "3204"), None),
    Case("OracleErrors", "changes fail, and nobody looks up", lookups(0) | errors("0+5x60"), 6,
         "Errors with a code from 2000 to 2999 are +Inf% of the lookups of the last 5 minutes."),
    Case("OracleErrors", "an end", lookups(1000) | errors("0+2x20 40x40"), 6,
         "Errors with a code from 2000 to 2999 are 0.2% of the lookups of the last 5 minutes.", clears_at=26),
    # Slow
    Case("OracleSlow", "2 % take longer than 50 ms", times(980, 1000), 11,
         "1 of 100 lookups takes longer than 75ms. The limit is 50 ms."),
    Case("OracleSlow", "0.5 % take longer than 50 ms", times(995, 1000), None),
    # Redis
    Case("OracleCacheDegraded", "one of two processes",
         gauge("cache_degraded", "0x5 1x55", POD + ',role="hub",index="0"')
         | gauge("cache_degraded", "0x60", POD + ',role="hub",index="1"'), 11,
         "A process of 10.0.0.1:3001 reads from PostgreSQL what Redis should hold.", POD_LABELS),
    Case("OracleCacheDegraded", "a restart of Redis", gauge("cache_degraded", "0x5 1x3 0x52"), None),
    # PostgreSQL
    Case("OracleDatabaseAway", "no answer", gauge("database_connected", "1x5 0x10 1x45"), 7,
         "A process of 10.0.0.1:3001 cannot use PostgreSQL. Its /health says why.", POD_LABELS, clears_at=17),
    Case("OracleDatabaseAway", "no changes",
         gauge("database_connected", "1x60") | gauge("database_takes_changes", "1x5 0x55"), 7,
         "A process of 10.0.0.1:3001 cannot use PostgreSQL. Its /health says why.", POD_LABELS),
    Case("OracleDatabaseAway", "one look", gauge("database_connected", "1x5 0 1x54"), None),
    # Lease
    Case("OracleLeaseOld", "one process hangs",
         gauge("lease_age_seconds", "0.2x5 60+60x54", POD + ',role="hub",index="1"')
         | gauge("lease_age_seconds", "0.2x60", POD + ',role="hub",index="0"'), 7,
         "The process hub 1 of 10.0.0.1:3001 asked last 2m 0s ago.", PROCESS_LABELS),
    Case("OracleLeaseOld", "young leases", gauge("lease_age_seconds", "0.4x60", POD + ',role="hub",index="0"'), None),
    # Sealing
    Case("OracleSealingWaits", "an old event", gauge("audit_waiting_seconds", "0x5 61+60x54") | gauge("info", "1x60")
         | gauge("audit_sealing", "1x60"), 11, NOT_LATER),
    Case("OracleSealingWaits", "a sealer that works", gauge("audit_waiting_seconds", "59x60") | gauge("info", "1x60")
         | gauge("audit_sealing", "1x60", POD + ',role="jobs"'), None),
    Case("OracleSealingWaits", "another machine seals", gauge("info", "1x60") | gauge("audit_sealing", "0x60")
         | gauge("audit_sealing", "1x60", 'namespace="hub",pod="oracle-1"'), None),
    Case("OracleSealingWaits", "all wait for another one", gauge("info", "1x60") | gauge("audit_sealing", "0x60"), 5,
         NOT_LATER),
    Case("OracleSealingWaits", "no jobs process", gauge("info", "1x60"), 5, NOT_LATER),
    # Registration
    Case("OracleRegistrationLost", "one of two types",
         gauge("als_registered", "1x5 0x55", HUB + ',party_id_type="MSISDN"')
         | gauge("als_registered", "1x60", HUB + ',party_id_type="IBAN"'), 8,
         "ALS has no usable row for MSISDN, so lookups of that type fail.",
         {"namespace": "hub", "party_id_type": "MSISDN"}),
    Case("OracleRegistrationLost", "healed within a minute",
         gauge("als_registered", "1x5 0 1x54", HUB + ',party_id_type="MSISDN"'), None),
    # Files
    Case("OracleImportStuck", "no progress", gauge("import_stalled_seconds", "0x5 30+60x54"), 22,
         "A file whose turn it is has not advanced for 16m 30s."),
    Case("OracleImportStuck", "progress each minute", gauge("import_stalled_seconds", "59x60"), None),
    # Hit ratio
    Case("OracleHitRatioLow", "70 %", lookups(7000, 3000), 31,
         "Redis held 70% of what lookups asked for. The rest comes from PostgreSQL."),
    Case("OracleHitRatioLow", "90 %", lookups(900, 100), None),
    Case("OracleHitRatioLow", "few lookups", lookups(300, 200), None),
    # A service that is gone
    Case("OracleGone", "the page cannot be read", up("1x5 0x55") | info(f"1x5 {GONE}"), 8,
         "Prometheus reads no metrics of 10.0.0.1:3001. The service has stopped, or cannot be reached.",
         POD_LABELS),
    Case("OracleGone", "an end", up("1x5 0x10 1x45") | info("1x5 stale _x10 1x44"), 8,
         "Prometheus reads no metrics of 10.0.0.1:3001. The service has stopped, or cannot be reached.",
         POD_LABELS, clears_at=17),
    Case("OracleGone", "all pods of a namespace", info(f"1x5 {GONE}") | info("1x60", OTHER), 8,
         "Prometheus reads no metrics of any oracle. The service has stopped, or cannot be reached."),
    Case("OracleGone", "there never was one", {'up{job="another"}': "1x60"}, 2,
         "Prometheus reads no metrics of any oracle. The service has stopped, or cannot be reached.", {}),
    Case("OracleGone", "a restart", up("1x5 0x1 1x53") | info("1x5 stale _x1 1x52"), None),
    Case("OracleGone", "a pod takes the place of another one", info(f"1x5 {GONE}")
         | info("_x3 1x57", 'namespace="hub",pod="oracle-1",instance="10.0.0.2:3001"'), None),
    Case("OracleGone", "another service is down", info("1x60") | {'up{job="another",instance="x"}': "0x60"},
         None),
    # Certificates.  Time begins at 0; 14 days are 1,209,600 s.
    Case("OracleCertificateExpires", "of a listener",
         gauge("tls_certificate_expires_timestamp_seconds", "1209000x60", POD + ',role="hub",index="0"'), 30,
         "The certificate for the listener hub of 10.0.0.1:3001, expires in 13d 23h 20m 0s.",
         {**POD_LABELS, "role": "hub", "certificate": "listener"}),
    Case("OracleCertificateExpires", "for calls",
         gauge("calls_certificate_expires_timestamp_seconds", "1209000x60", POD + ',role="jobs",index="0"'), 30,
         "The certificate for calls to others, in the process jobs of 10.0.0.1:3001, expires in 13d 23h 20m 0s.",
         {**POD_LABELS, "role": "jobs", "certificate": "calls"}),
    Case("OracleCertificateExpires", "later", gauge("tls_certificate_expires_timestamp_seconds", "1300000x60"), None),
    Case("OracleCertificateExpires", "a new one in time",
         gauge("tls_certificate_expires_timestamp_seconds", "1209000x20 9000000x40"), None),
    # Issuers
    Case("OracleIssuerAway", "one of them", gauge("issuers_away", "0x5 1x10 0x45"), 11,
         "10.0.0.1:3001 cannot fetch the keys of identity providers: 1 of them.", POD_LABELS, clears_at=17),
    Case("OracleIssuerAway", "a restart of it", gauge("issuers_away", "0x5 1x3 0x52"), None),
)  # fmt: skip
MINUTES = 60


def make_test(case: Case) -> dict[str, Any]:
    rule = next(rule for rule in alert_forms.list_alerts() if rule["alert"] == case.alert)
    texts = {**rule["annotations"], "description": case.description}
    alert = {"exp_labels": {**rule["labels"], **case.labels}, "exp_annotations": texts}
    fires_at = MINUTES if case.fires_at is None else case.fires_at
    silent = [*range(fires_at), *range(case.clears_at or MINUTES, MINUTES)]
    looks: list[dict[str, Any]] = [{"eval_time": f"{minute}m", "exp_alerts": []} for minute in silent]
    if fires_at < MINUTES:
        looks.append({"eval_time": f"{fires_at}m", "exp_alerts": [alert]})
    series = [{"series": name, "values": values} for name, values in case.series.items()]
    return {
        "name": f"{case.alert}: {case.what}",
        "interval": "1m",
        "input_series": series,
        "alert_rule_test": [{**look, "alertname": case.alert} for look in looks],
    }


def test_each_alert_fires_at_its_time_and_not_before(promtool: Path, tmp_path: Path) -> None:
    document = {
        "rule_files": [str(alert_forms.SOURCE)],
        "evaluation_interval": "1m",
        "tests": [make_test(case) for case in CASES],
    }
    path = tmp_path / "tests.yaml"
    path.write_text(yaml.safe_dump(document))
    run_promtool(promtool, "test", "rules", str(path))


def test_every_alert_has_a_case_that_fires_and_one_that_does_not() -> None:
    for rule in alert_forms.list_alerts():
        fires = {case.fires_at is not None for case in CASES if case.alert == rule["alert"]}
        assert fires == {True, False}, rule["alert"]


def test_the_checker_accepts_the_rules_in_each_form(promtool: Path, tmp_path: Path) -> None:
    run_promtool(promtool, "check", "rules", "--lint=all", "--lint-fatal", str(alert_forms.SOURCE))
    inner = tmp_path / "rules.yaml"
    for form in (
        yaml.safe_dump(yaml.safe_load(alert_forms.make_prometheus_rule())["spec"]),
        alert_forms.make_shortened(20),
    ):
        inner.write_text(form)
        run_promtool(promtool, "check", "rules", "--lint=all", "--lint-fatal", str(inner))


def test_shortened_rules_differ_only_in_their_times() -> None:
    shortened = [rule for group in yaml.safe_load(alert_forms.make_shortened(20))["groups"] for rule in group["rules"]]
    for ours, short in zip(alert_forms.list_alerts(), shortened, strict=True):
        assert short["expr"] == ours["expr"].replace("[5m]", "[15s]").replace("[24h]", "[4320s]")
        assert alert_forms.find_seconds(short["for"]) == alert_forms.find_seconds(ours["for"]) / 20
        assert {**short, "expr": "", "for": ""} == {**ours, "expr": "", "for": ""}
