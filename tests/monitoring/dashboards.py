"""The dashboard of Grafana, as a list of panels.  `make monitoring` writes deploy/monitoring/dashboard.json from it.

A query names its metrics as they are; `{}` behind a name stands for the labels that the dashboard chooses by.  A row of
panels fills the 24 columns of Grafana's grid.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

TITLE: Final = "Alias oracle"
UID: Final = "alias-oracle"
SOURCE: Final = {"type": "prometheus", "uid": "${DS_PROMETHEUS}"}
CHOSEN: Final = 'cluster=~"$cluster_name",namespace=~"$namespace"'
COLUMNS: Final = 24
WINDOW: Final = "[$__rate_interval]"
PLUGIN: Final = "10.2.3"


@dataclass(frozen=True)
class Panel:
    """`queries`: each a legend and a query.  `steps`: colours from a value on."""

    title: str
    unit: str
    queries: Sequence[tuple[str, str]]
    text: str = ""
    kind: str = "timeseries"
    stacked: bool = False
    steps: Sequence[tuple[float | None, str]] = ((None, "green"),)
    names: dict[str, str] = field(default_factory=dict)  # what a value of a stat is called
    most: float | None = None


def stat(title: str, unit: str, query: str, text: str = "", **options: Any) -> Panel:
    return Panel(title, unit, [("", query)], text, kind="stat", **options)


def rate(metric: str, by: str = "") -> str:
    return f"sum{f' by ({by})' if by else ''} (rate({metric}{WINDOW}))"


def quantile(part: float, metric: str, by: str = "") -> str:
    return f"histogram_quantile({part}, sum by ({f'{by}, ' if by else ''}le) (rate({metric}{WINDOW})))"


LOOKUPS: Final = "moja_oracle_lookups_total{}"
LOOKUP_TIME: Final = 'moja_oracle_lookup_duration_seconds_bucket{operation="lookup",}'
CHANGE_TIME: Final = 'moja_oracle_lookup_duration_seconds_bucket{operation!="lookup",}'
ERRORS: Final = 'moja_oracle_errors_total{code=~"2.*",}'
HUB_CPU: Final = 'moja_oracle_process_cpu_seconds_total{role="hub",}'
READ: Final = 'moja_oracle_lookups_total{result=~"hit|negative_hit|directory|directory_empty",}'
HIT: Final = 'moja_oracle_lookups_total{result=~"hit|negative_hit",}'
BAD_BELOW: Final = ((None, "red"), (1, "green"))
UP: Final = {"0": "away", "1": "ok"}

ROWS: Final[Sequence[tuple[str, Sequence[Sequence[Panel]]]]] = (
    (
        "Now",
        [
            [
                stat("Lookups", "reqps", rate(LOOKUPS)),
                stat(
                    "Errors of the oracle", "percentunit",
                    f"{rate(ERRORS)} / {rate(LOOKUPS)}",
                    "Answers with a code from 2000 to 2999, of all lookups. Alert: OracleErrors",
                    steps=((None, "green"), (0.001, "red")),
                ),
                stat(
                    "99 % of lookups within", "s", quantile(0.99, LOOKUP_TIME), "Alert: OracleSlow",
                    steps=((None, "green"), (0.05, "red")),
                ),
                stat(
                    "Hit ratio", "percentunit", f"{rate(HIT)} / {rate(READ)}",
                    "What Redis held, of what was looked up. Alert: OracleHitRatioLow",
                    steps=((None, "red"), (0.8, "green")),
                ),
                stat("PostgreSQL", "none", "min(moja_oracle_database_connected{})", "Alert: OracleDatabaseAway",
                     steps=BAD_BELOW, names=UP),
                stat("Redis", "none", "min(moja_oracle_cache_connected{})", "Alert: OracleCacheDegraded",
                     steps=BAD_BELOW, names=UP),
                stat("Oldest change that is not sealed", "s", "max(moja_oracle_audit_waiting_seconds{})",
                     "Alert: OracleSealingWaits", steps=((None, "green"), (60, "red"))),
                stat("Alerts", "none", 'count(ALERTS{alertstate="firing",alertname=~"Oracle.+",}) or vector(0)',
                     "Alerts of the oracle that fire now", steps=((None, "green"), (1, "red"))),
            ],
        ],
    ),
    (
        "Lookups",
        [
            [
                Panel("Lookups by result", "reqps", [("{{result}}", rate(LOOKUPS, "result"))],
                      "hit, negative_hit: from Redis. directory, directory_empty: from PostgreSQL", stacked=True),
                Panel("Latency of lookups", "s",
                      [(f"{part:.0%}", quantile(part, LOOKUP_TIME)) for part in (0.5, 0.95, 0.99)],
                      "From a request read to its answer written. Alert above 50 ms: OracleSlow"),
                Panel("Hit ratio", "percentunit", [("hit ratio", f"{rate(HIT)} / {rate(READ)}")],
                      "What Redis held, of what was looked up. Alert below 80 %: OracleHitRatioLow", most=1),
            ],
            [
                Panel("Lookups by party identifier type", "reqps",
                      [("{{party_id_type}}", f"{rate(LOOKUPS, 'party_id_type')} > 0")], stacked=True),
                Panel("Error answers by code", "reqps",
                      [("{{code}}", f"{rate('moja_oracle_errors_total{}', 'code')} > 0")],
                      "From 2000 on: the oracle could not answer. From 3000 on: faults of the caller"),
                Panel("Requests by method", "reqps",
                      [("{{method}}", f"{rate('moja_oracle_http_requests_total{}', 'method')} > 0")]),
            ],
        ],
    ),
    (
        "Cost",
        [
            [
                Panel(
                    "CPU of a lookup", "s",
                    [("hub workers", f"{rate(HUB_CPU)} / {rate(LOOKUPS)}")],
                    "CPU time of all hub workers, divided by their lookups. Changes are in it, too",
                ),
                Panel("CPU by role", "none",
                      [("{{role}}", rate("moja_oracle_process_cpu_seconds_total{}", "role"))], "Cores"),
                Panel("Memory by role", "bytes",
                      [("{{role}}", "sum by (role) (moja_oracle_process_resident_memory_bytes{})")]),
            ],
            [
                Panel("Delay of the event loop", "s",
                      [("{{instance}} {{role}} {{index}}", "moja_oracle_event_loop_lag_seconds{}")],
                      "The worst one of the last 15 seconds: more than 50 ms delays lookups"),
                Panel("Client connections", "none",
                      [("{{role}}", "sum by (role) (moja_oracle_http_connections{})")]),
                Panel("Compiled lookup path", "none",
                      [("{{instance}} {{role}} {{index}}", 'moja_oracle_compiled{role="hub",}')],
                      "0: plain Python, about twice the CPU", most=1),
            ],
        ],
    ),
    (
        "Changes",
        [
            [
                Panel("Changes by operation and result", "reqps",
                      [("{{operation}} {{result}}",
                        f"{rate('moja_oracle_changes_total{}', 'operation, result')} > 0")], stacked=True),
                Panel(
                    "99 % of changes within", "s",
                    [("{{operation}}",
                      quantile(0.99, CHANGE_TIME, "operation"))],
                ),
                Panel(
                    "What was ignored", "reqps",
                    [
                        ("hint: {{reason}}", f"{rate('moja_oracle_hints_ignored_total{}', 'reason')} > 0"),
                        ("removal by another FSP", f"{rate('moja_oracle_ignored_removals_total{}')} > 0"),
                        ("unknown FSP", f"{rate('moja_oracle_unknown_fsps_refused_total{}')} > 0"),
                    ],
                    "Calls that changed nothing on purpose: history has them",
                ),
            ],
        ],
    ),
    (
        "Imports",
        [
            [
                Panel("Files that are not finished", "none",
                      [("{{state}}",
                        'max by (state) (moja_oracle_import_batches{state=~"validating|waiting|applying",})')],
                      "waiting: for a second person"),
                Panel("Rows read", "rowsps", [("{{result}}", rate("moja_oracle_import_rows_read_total{}", "result"))]),
                Panel("Rows applied", "rowsps",
                      [("{{result}}", rate("moja_oracle_import_rows_applied_total{}", "result"))]),
                Panel("Longest time without progress", "s",
                      [("file", "max(moja_oracle_import_stalled_seconds{})")],
                      "Of a file whose turn it is. Alert above 60 s for 15 minutes: OracleImportStuck"),
            ],
        ],
    ),
    (
        "Sealing of history",
        [
            [
                Panel("Events sealed", "ops", [("events", rate("moja_oracle_audit_sealed_total{}"))]),
                Panel("Oldest event that is not sealed", "s", [("waits", "max(moja_oracle_audit_waiting_seconds{})")],
                      "Alert above 60 s for 5 minutes: OracleSealingWaits"),
                Panel("Processes that seal", "none", [("sealer", "sum(moja_oracle_audit_sealing{})")],
                      "Exactly one process of a directory seals"),
                Panel("Background jobs that cannot work", "none",
                      [("{{exported_job}}", "max by (exported_job) (moja_oracle_job_failing{})")]),
            ],
            [
                Panel("Differences of the directory from its history", "none",
                      [("differences", "max(moja_oracle_audit_directory_differences{})")],
                      "More than 0: run oracle audit verify --directory"),
                Panel("Age of the last complete comparison", "s",
                      [("age", "time() - max(moja_oracle_audit_directory_compared_timestamp_seconds{})")]),
            ],
        ],
    ),
    (
        "PostgreSQL",
        [
            [
                Panel(
                    "State of PostgreSQL", "none",
                    [("answers {{instance}} {{role}} {{index}}", "moja_oracle_database_connected{}"),
                     ("takes changes {{instance}} {{role}} {{index}}", "moja_oracle_database_takes_changes{}")],
                    "1: yes. Alert after 1 minute: OracleDatabaseAway", most=1,
                ),
                Panel("Connections of our processes", "none",
                      [("open {{role}}", "sum by (role) (moja_oracle_database_pool_size{})"),
                       ("idle {{role}}", "sum by (role) (moja_oracle_database_pool_idle{})")]),
                Panel("Connections of the server", "none",
                      [("used", "max(moja_oracle_database_connections_used{})"),
                       ("max_connections", "max(moja_oracle_database_connections_max{})")],
                      "All clients of the server, ours and others"),
                Panel("Size of the database", "bytes", [("bytes", "max(moja_oracle_database_bytes{})")],
                      "It grows with every change: history is kept forever"),
            ],
            [
                Panel("Queries for lookups", "reqps",
                      [("queries", rate("moja_oracle_database_batches_total{}")),
                       ("keys", rate("moja_oracle_database_batched_keys_total{}"))],
                      "One query reads the keys of all lookups that wait"),
                Panel("Database calls that failed", "reqps", [("failed", rate("moja_oracle_database_errors_total{}"))]),
                Panel("Commits without an answer", "none",
                      [("{{instance}} {{role}} {{index}}", "moja_oracle_database_repairs_waiting{}")],
                      "That are not made good yet"),
                Panel("Aliases", "none", [("aliases", "max(moja_oracle_directory_aliases{})")],
                      "As PostgreSQL estimates"),
            ],
        ],
    ),
    (
        "Redis",
        [
            [
                Panel(
                    "State of Redis", "none",
                    [("connected {{instance}} {{role}} {{index}}", "moja_oracle_cache_connected{}"),
                     ("degraded {{instance}} {{role}} {{index}}", "moja_oracle_cache_degraded{}")],
                    "degraded 1: lookups go to PostgreSQL. Alert after 5 minutes: OracleCacheDegraded", most=1,
                ),
                Panel("Memory of Redis", "bytes",
                      [("used", "max(moja_oracle_cache_memory_bytes{})"),
                       ("maxmemory", "max(moja_oracle_cache_memory_max_bytes{}) > 0")]),
                Panel("Keys in Redis", "none",
                      [("keys", "max(moja_oracle_cache_keys{})"),
                       ("evicted since its start", "max(moja_oracle_cache_evicted_keys{})")]),
                Panel("Commands that failed or came too late", "reqps",
                      [("failed", rate("moja_oracle_cache_unreachable_total{}"))]),
            ],
            [
                Panel("Reads", "reqps",
                      [("keys read", rate("moja_oracle_cache_reads_total{}")),
                       ("round trips", rate("moja_oracle_cache_batches_total{}"))]),
                Panel("Entries stored after a miss", "reqps",
                      [("rights taken", rate("moja_oracle_cache_tokens_total{}")),
                       ("stored", rate("moja_oracle_cache_fills_total{}")),
                       ("a change came first", rate("moja_oracle_cache_fill_lost_total{}"))]),
                Panel("Fences and generations", "reqps",
                      [("fences", rate("moja_oracle_cache_fences_total{}")),
                       ("generations", rate("moja_oracle_cache_generation_bumps_total{}"))],
                      "A new generation puts all copies out of use"),
                Panel("Values that were not believed", "reqps",
                      [("{{reason}}", f"{rate('moja_oracle_cache_refused_total{}', 'reason')} > 0")],
                      "Somebody else writes to Redis, or the services have different keys"),
            ],
        ],
    ),
    (
        "Leases and processes",
        [
            [
                Panel("Age of the lease", "s",
                      [("{{instance}} {{role}} {{index}}", "moja_oracle_lease_age_seconds{}")],
                      "Since PostgreSQL last confirmed the generation. Alert above 5 s for 1 minute: OracleLeaseOld"),
                Panel("Generation of the copies", "none",
                      [("{{instance}} {{role}} {{index}}", "moja_oracle_cache_generation{}")],
                      "All processes agree within a second"),
                Panel("Processes", "none", [("{{role}}", "sum by (role) (moja_oracle_processes{})")]),
                Panel("Time since the start", "s",
                      [("{{instance}} {{role}} {{index}}", "time() - moja_oracle_process_start_time_seconds{}")],
                      "A process that starts again and again has been killed"),
            ],
        ],
    ),
    (
        "Budgets against scans",
        [
            [
                Panel("Tokens taken, by class of the FSP", "ops",
                      [("{{fsp_class}}", rate("moja_oracle_budget_tokens_total{}", "fsp_class"))],
                      "found 1, nobody 3, conflict 10, unless the settings say otherwise"),
                Panel("Questions with an empty bucket", "reqps",
                      [("{{fsp_class}}", rate("moja_oracle_budget_exceeded_total{}", "fsp_class"))],
                      "Refused if ORACLE_BUDGET_MODE is enforce, else answered"),
                Panel("FSPs whose bucket is empty", "none",
                      [("{{fsp_class}}", "max by (fsp_class) (moja_oracle_budget_empty{})")]),
                Panel("Budgets corrected through Redis", "none",
                      [("{{instance}} {{role}} {{index}}", "moja_oracle_budget_corrected{}")],
                      "0: each process counts alone, so an FSP can take more", most=1),
            ],
        ],
    ),
    (
        "ALS beside the oracle",
        [
            [
                Panel(
                    "99 % of lookups, as ALS sees them and as the oracle does", "s",
                    [("ALS: with the network", quantile(0.99, "moja_als_egress_oracleRequest_bucket{}")),
                     ("oracle", quantile(0.99, LOOKUP_TIME))],
                    "ALS's own metric, of a real ALS or of our account lookup listener",
                ),
                Panel(
                    "Calls of the oracle, as ALS counts them and as the oracle does", "reqps",
                    [("ALS: success {{success}}", rate("moja_als_egress_oracleRequest_count{}", "success")),
                     ("oracle", rate(LOOKUPS))],
                ),
                Panel(
                    "99 % of GET /parties of ALS within", "s",
                    [("until its answer", quantile(0.99, "moja_als_ing_getPartiesByTypeAndID_bucket{}")),
                     ("forwarded", quantile(0.99, "moja_als_getPartiesByTypeAndID_bucket{}"))],
                ),
                Panel(
                    "Types that ALS asks this oracle for", "none",
                    [("{{party_id_type}}", "min by (party_id_type) (moja_oracle_als_registered{})"),
                     ("minutes since the last check",
                      "(time() - max(moja_oracle_als_checked_timestamp_seconds{})) / 60")],
                    "1: yes. Alert after 2 minutes: OracleRegistrationLost",
                ),
            ],
            [
                Panel("Messages to FSPs", "reqps",
                      [("{{kind}} {{result}}", f"{rate('moja_oracle_callbacks_total{}', 'kind, result')} > 0")],
                      "Of the account lookup listener"),
                Panel("Calls to FSPs and other services", "reqps",
                      [("{{result}}", f"{rate('moja_oracle_calls_total{}', 'result')} > 0")]),
                Panel("99 % of calls within", "s",
                      [("calls", quantile(0.99, "moja_oracle_call_duration_seconds_bucket{}"))]),
                Panel("Calls under way, and blocked hosts", "none",
                      [("under way", "sum(moja_oracle_calls_under_way{})"),
                       ("connections", "sum(moja_oracle_calls_connections{})"),
                       ("hosts blocked", "sum(moja_oracle_calls_hosts_blocked{})")]),
            ],
        ],
    ),
)  # fmt: skip


def list_panels() -> list[Panel]:
    return [panel for _, lines in ROWS for line in lines for panel in line]


def choose(query: str) -> str:
    """Put the labels that the dashboard chooses by behind each metric: for `{}`, or before the end of `{…,}`."""
    return query.replace(",}", f",{CHOSEN}}}").replace("{}", f"{{{CHOSEN}}}")


def make_dashboard() -> str:
    panels: list[dict[str, Any]] = []
    y = 0
    for title, lines in ROWS:
        panels.append(_make_row(title, y))
        y += 1
        for line in lines:
            width = COLUMNS // len(line)
            height = 4 if line[0].kind == "stat" else 8
            for number, panel in enumerate(line):
                place = {"h": height, "w": width, "x": number * width, "y": y}
                panels.append(_make_panel(panel, place))
            y += height
    for number, made in enumerate(panels, 1):
        made["id"] = number
    return json.dumps(_make_frame(panels), indent=2) + "\n"


def _make_frame(panels: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "__inputs": [
            {
                "name": "DS_PROMETHEUS", "label": "Prometheus", "description": "", "type": "datasource",
                "pluginId": "prometheus", "pluginName": "Prometheus",
            }
        ],
        "__elements": {},
        "__requires": [
            {"type": "grafana", "id": "grafana", "name": "Grafana", "version": PLUGIN},
            {"type": "datasource", "id": "prometheus", "name": "Prometheus", "version": "1.0.0"},
            {"type": "panel", "id": "stat", "name": "Stat", "version": ""},
            {"type": "panel", "id": "timeseries", "name": "Time series", "version": ""},
        ],
        "annotations": {"list": [_make_annotation()]},
        "editable": True,
        "fiscalYearStartMonth": 0,
        "graphTooltip": 1,
        "id": None,
        "links": [],
        "panels": panels,
        "refresh": "30s",
        "schemaVersion": 39,
        "tags": ["mojaloop", "alias-oracle"],
        "templating": {
            "list": [
                _make_source_variable(),
                _make_variable("cluster_name", "Cluster", "label_values(moja_oracle_info, cluster)"),
                _make_variable(
                    "namespace", "Namespace", 'label_values(moja_oracle_info{cluster=~"$cluster_name"}, namespace)'
                ),
            ]
        },
        "time": {"from": "now-1h", "to": "now"},
        "timepicker": {},
        "timezone": "",
        "title": TITLE,
        "uid": UID,
        "version": 1,
        "weekStart": "",
    }  # fmt: skip


def _make_annotation() -> dict[str, Any]:
    return {
        "builtIn": 1, "datasource": {"type": "grafana", "uid": "-- Grafana --"}, "enable": True, "hide": True,
        "iconColor": "rgba(0, 211, 255, 1)", "name": "Annotations & Alerts", "type": "dashboard",
    }  # fmt: skip


def _make_source_variable() -> dict[str, Any]:
    """The data source for a Grafana that loads this file by its sidecar: only an import by hand asks for __inputs."""
    return {
        "name": "DS_PROMETHEUS", "label": "Prometheus", "type": "datasource", "query": "prometheus", "regex": "",
        "refresh": 1, "multi": False, "includeAll": False, "current": {}, "hide": 0, "options": [],
        "skipUrlSync": False,
    }  # fmt: skip


def _make_variable(name: str, label: str, query: str) -> dict[str, Any]:
    """A variable whose "All" also fits series without the label."""
    return {
        "name": name, "label": label, "type": "query", "datasource": SOURCE, "definition": query,
        "query": {"query": query, "refId": "StandardVariableQuery"}, "refresh": 2, "sort": 1, "multi": True,
        "includeAll": True, "allValue": ".*", "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "hide": 0, "options": [], "regex": "", "skipUrlSync": False,
    }  # fmt: skip


def _make_row(title: str, y: int) -> dict[str, Any]:
    place = {"h": 1, "w": COLUMNS, "x": 0, "y": y}
    return {"collapsed": False, "gridPos": place, "id": 0, "panels": [], "title": title, "type": "row"}


def _make_panel(panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    steps = [{"color": colour, "value": value} for value, colour in panel.steps]
    defaults: dict[str, Any] = {
        "color": {"mode": "thresholds" if panel.kind == "stat" else "palette-classic"},
        "mappings": _make_mappings(panel),
        "min": 0,
        "thresholds": {"mode": "absolute", "steps": steps},
        "unit": panel.unit,
    }
    if panel.most is not None:
        defaults["max"] = panel.most
    if panel.kind == "timeseries":
        defaults["custom"] = {
            "drawStyle": "line", "fillOpacity": 20 if panel.stacked else 5, "lineWidth": 1, "showPoints": "never",
            "spanNulls": False, "stacking": {"group": "A", "mode": "normal" if panel.stacked else "none"},
        }  # fmt: skip
    return {
        "datasource": SOURCE,
        "description": panel.text,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "gridPos": place,
        "id": 0,
        "options": _make_options(panel),
        "pluginVersion": PLUGIN,
        "targets": [
            {
                "datasource": SOURCE, "editorMode": "code", "expr": choose(query), "legendFormat": legend or "__auto",
                "range": True, "refId": chr(ord("A") + number),
            }
            for number, (legend, query) in enumerate(panel.queries)
        ],
        "title": panel.title,
        "type": panel.kind,
    }  # fmt: skip


def _make_mappings(panel: Panel) -> list[dict[str, Any]]:
    if not panel.names:
        return []
    options = {value: {"index": number, "text": text} for number, (value, text) in enumerate(panel.names.items())}
    return [{"type": "value", "options": options}]


def _make_options(panel: Panel) -> dict[str, Any]:
    if panel.kind == "stat":
        return {
            "colorMode": "background", "graphMode": "none", "justifyMode": "center", "orientation": "auto",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}, "textMode": "value",
        }  # fmt: skip
    return {
        "legend": {"calcs": ["lastNotNull"], "displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
