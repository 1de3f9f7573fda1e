"""How the service is: what is wrong, what it does now, and what it did in the last hour."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from oracle.api.console.declarations import page
from oracle.api.console.formats import (
    DASH,
    format_bytes,
    format_number,
    format_seconds,
    format_share,
    read_time,
    round_figures,
)
from oracle.api.console.languages import Lazy, Text, _, lazy, ngettext
from oracle.api.console.plots import Line, Plot, Value, draw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from oracle.api.console.answers import Answer
    from oracle.api.console.visits import Visit

NEEDS: Final = ("getServiceState", "listServiceSamples")
HOUR_S: Final = 3_600.0
SPAN_MIN_S: Final = 1.0
EXPIRES_SOON: Final = timedelta(days=30)
STALLED_S: Final = 300.0
FULL: Final = 0.9  # of the connections, of the memory
# Lines of the first plot, and the results of lookups that each adds up.
RESULTS: Final[Mapping[Lazy, tuple[str, ...]]] = {
    lazy("From the copies in Redis"): ("hit", "negative_hit"),
    lazy("From PostgreSQL"): ("directory", "directory_empty"),
    lazy("By a prefix route"): ("routed",),
    lazy("Not answered"): ("refused", "unavailable", "over_budget"),
}
PROCESSES: Final[Mapping[str, Lazy]] = {
    "hub": lazy("Lookups of the hub"),
    "admin": lazy("Administration"),
    "jobs": lazy("Background jobs"),
    "account-lookup": lazy("Account lookup"),
    "oracles": lazy("Registration of oracles"),
}
JOBS: Final[Mapping[str, Lazy]] = {
    "store": lazy("connecting to the database"),
    "imports": lazy("files"),
    "housekeeping": lazy("deleting what has expired"),
    "sealing": lazy("sealing the history"),
    "directory": lazy("comparing the directory with its history"),
    "registration": lazy("the registration at the ALS"),
}
MODES: Final[Mapping[str, Lazy]] = {
    "off": lazy("Off"),
    "observe": lazy("Counted, not enforced"),
    "enforce": lazy("Enforced"),
}


class Finding(NamedTuple):
    """Something that a person should look at."""

    kind: str  # of the badge: bad, warn
    text: str
    reason: str = ""  # of the API, in English


@page("health", "GET", "/health", lazy("Health"), needs=NEEDS, menu=100)
async def show_health(visit: Visit) -> Answer:
    return visit.show("health/health.html", block="now", **await _describe(visit))


@page("health_now", "GET", "/health/now", lazy("Health"), needs=NEEDS, under="health", is_part=True, is_automatic=True)
async def show_health_now(visit: Visit) -> Answer:
    return visit.show("health/health.html", block="now", **await _describe(visit))


async def _describe(visit: Visit) -> dict[str, Any]:
    state, samples = await asyncio.gather(visit.get("getServiceState"), visit.get("listServiceSamples"))
    now = datetime.now(UTC)
    return {
        "state": state,
        "findings": list(find_problems(state, now)),
        "now": describe_now(state),
        "stores": _describe_stores(state),
        "work": _describe_work(state),
        "processes": [_describe_process(one) for one in state["processes"]],
        "as_of": now,
        "is_young": now - read_time(state["startedAt"]) < timedelta(seconds=HOUR_S),
        "has_tls": any(one["certificateExpiresAt"] for one in state["processes"]),
        "plots": draw_plots(samples["items"], read_time(state["startedAt"])),
        "refreshes": visit.query["refresh"] != "off",
    }  # fmt: skip


# What is wrong ----------------------------------------------------------------------------------------------------


def find_problems(state: Mapping[str, Any], now: datetime) -> Iterable[Finding]:
    """Find what a person should look at, the worst first."""
    yield from _find_problems_of_stores(state)
    for job in state["failingJobs"]:
        name = str(JOBS.get(job, job))
        yield Finding("bad", _("A background job cannot work: {job}. The log has the reason.").format(job=name))
    yield from _find_problems_of_history(state)
    yield from _find_problems_at_als(state)
    yield from _find_problems_of_certificates(state, now)
    yield from _find_problems_of_work(state)


def _find_problems_of_work(state: Mapping[str, Any]) -> Iterable[Finding]:
    stalled_s = state["imports"]["stalledS"] or 0
    if stalled_s > STALLED_S:
        yield Finding(
            "warn",
            _("A file has not advanced for {minutes} minutes.").format(minutes=format_number(round(stalled_s / 60))),
        )
    blocked = state["calls"]["hostsBlocked"]
    if blocked:
        text = ngettext("{n} host is not called, because too many calls failed.",
                        "{n} hosts are not called, because too many calls failed.", blocked)  # fmt: skip
        yield Finding("warn", text.format(n=format_number(blocked)))
    empty = state["budgets"]["empty"]
    if empty and state["budgets"]["mode"] == "enforce":
        text = ngettext("{n} FSP has used up its budget, and its lookups are refused.",
                        "{n} FSPs have used up their budgets, and their lookups are refused.", empty)  # fmt: skip
        yield Finding("warn", text.format(n=format_number(empty)))


_PARTS: Final[Mapping[str, Lazy]] = {
    "datastore": lazy("PostgreSQL does not answer. Lookups are answered from the copies in Redis while they count."),
    "cache": lazy("Redis does not answer. PostgreSQL answers the lookups: correct, but slower."),
    "changes": lazy("PostgreSQL takes no changes. Lookups are answered."),
}


def _find_problems_of_stores(state: Mapping[str, Any]) -> Iterable[Finding]:
    for part in state["parts"]:
        if part["status"] != "OK" and part["name"] in _PARTS:
            kind = "warn" if part["name"] == "cache" else "bad"
            yield Finding(kind, str(_PARTS[part["name"]]), part["reason"] or "")
    used, most = state["database"]["connections"], state["database"]["connectionsMax"]
    if used and most and used > FULL * most:
        text = _("PostgreSQL has {used} of at most {most} connections.")
        yield Finding("warn", text.format(used=format_number(used), most=format_number(most)))
    used, most = state["cache"]["memoryBytes"], state["cache"]["memoryMaxBytes"]
    if used and most and used > FULL * most:
        text = _("Redis uses {share} of its memory, and removes copies that are seldom asked for.")
        yield Finding("warn", text.format(share=format_share(round(used / most, 2))))


def _find_problems_of_history(state: Mapping[str, Any]) -> Iterable[Finding]:
    parts = {part["name"]: part for part in state["parts"]}
    if parts.get("sealing", {}).get("status") == "DOWN":
        yield Finding(
            "bad", _("The history is not sealed in time. The log has the reason."), parts["sealing"]["reason"]
        )
    differences = state["sealing"]["directoryDifferences"]
    if differences:
        text = ngettext("{n} difference between the directory and its history was found.",
                        "{n} differences between the directory and its history were found.", differences)  # fmt: skip
        yield Finding("bad", text.format(n=format_number(differences)))


def _find_problems_at_als(state: Mapping[str, Any]) -> Iterable[Finding]:
    missing = sorted(name for name, registered in state["als"]["registered"].items() if not registered)
    if missing:
        yield Finding(
            "warn", _("The ALS of the hub does not ask this oracle for: {types}.").format(types=", ".join(missing))
        )


def _find_problems_of_certificates(state: Mapping[str, Any], now: datetime) -> Iterable[Finding]:
    soonest = min((read_time(one["certificateExpiresAt"]) for one in state["processes"] if one["certificateExpiresAt"]),
                  default=None)  # fmt: skip
    if soonest is not None and soonest - now < EXPIRES_SOON:
        days = (soonest - now).days
        if days < 0:
            yield Finding("bad", _("The TLS certificate has expired. Install a new one."))
        else:
            text = ngettext("The TLS certificate expires in {n} day. Install a new one.",
                            "The TLS certificate expires in {n} days. Install a new one.", days)  # fmt: skip
            yield Finding("warn", text.format(n=format_number(days)))


# What it does -----------------------------------------------------------------------------------------------------


def describe_now(state: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Describe the last minute, for `ui.facts`."""
    recent = state["recent"]
    return [
        (_("Lookups per second"), write_number(None if recent is None else _count(recent) / recent["seconds"])),
        (_("Answered from Redis"), _write_share(recent and recent["hitRatio"])),
        (_("99 of 100 lookups within"), format_seconds(recent and recent["p99S"])),
        (_("Sealing of the history"), _describe_sealing(state["sealing"])),
        (_("Registration at the ALS"), _describe_als(state["als"])),
    ]  # fmt: skip


def _describe_sealing(sealing: Mapping[str, Any]) -> str:
    waiting_s = sealing["waitingS"]
    if waiting_s is None:
        return _("Not known yet")
    if waiting_s < 1:
        return _("Up to date")
    return _("{time} behind").format(time=format_seconds(waiting_s))


def _describe_als(als: Mapping[str, Any]) -> str:
    if not als["isSet"]:
        return _("No ALS is set")
    if not als["registered"]:
        return _("Not known yet")
    return _("Registered") if all(als["registered"].values()) else _("Not complete")


def _describe_process(process: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **process,
        "name": str(PROCESSES.get(process["role"], process["role"])),
        "lag": format_seconds(process["eventLoopLagS"]),
        "lease": _write_ago(process["leaseAgeS"]),
    }


def _describe_memory(cache: Mapping[str, Any]) -> str:
    if cache["memoryBytes"] is None or cache["memoryMaxBytes"] is None:
        return format_bytes(cache["memoryBytes"])
    text = _("{n} of {most}")
    return text.format(n=format_bytes(cache["memoryBytes"]), most=format_bytes(cache["memoryMaxBytes"]))


def _describe_stores(state: Mapping[str, Any]) -> list[dict[str, Any]]:
    database, cache = state["database"], state["cache"]
    return [
        {
            "name": "PostgreSQL", "works": database["connected"] and database["takesChanges"],
            "facts": [
                (_("Aliases (estimate)"), format_number(database["aliases"])),
                (_("Size"), format_bytes(database["sizeBytes"])),
                (_("Connections"), _write_part(database["connections"], database["connectionsMax"])),
            ],
        },
        {
            "name": "Redis", "works": cache["connected"] and not cache["degraded"],
            "facts": [
                (_("Copies"), format_number(cache["keys"])),
                (_("Memory"), _describe_memory(cache)),
                (_("Removed for lack of memory"), format_number(cache["evictedKeys"])),
            ],
        },
    ]  # fmt: skip


def _describe_work(state: Mapping[str, Any]) -> list[tuple[str, str]]:
    batches, calls, budgets = state["imports"]["batches"], state["calls"], state["budgets"]
    return [
        (_("Files that are checked"), format_number(batches.get("validating", 0))),
        (_("Files and changes that wait for a checker"), format_number(batches.get("waiting", 0))),
        (_("Files that are applied"), format_number(batches.get("applying", 0))),
        (_("Changes whose result is not known yet"), format_number(state["database"]["repairsWaiting"])),
        (_("Calls to others under way"), format_number(calls["underWay"])),
        (_("Budgets against scans"), str(MODES[budgets["mode"]])),
        (_("FSPs with an empty budget"), format_number(budgets["empty"])),
    ]  # fmt: skip


# The last hour ----------------------------------------------------------------------------------------------------


def draw_plots(items: Sequence[Mapping[str, Any]], started: datetime) -> list[Plot]:
    """Draw what happened in the last hour, or since the service started."""
    times = [read_time(one["at"]) for one in items]

    # Soon after the start there is little to show: the plot begins then, and grows to an hour.
    end = times[-1] if times else datetime.now(UTC)
    span_s = min(max((end - min([started, *times[:1]])).total_seconds(), SPAN_MIN_S), HOUR_S)

    def plot(name: str, title: Text, write: Callable[[Value], str], *lines: Line, top: float | None = None) -> Plot:
        return draw(name, title, times, lines, write, span_s=span_s, top=top)

    def rate(name: str, per_s: float = 1.0) -> list[Value]:
        return [one[name] / one["seconds"] * per_s if one["seconds"] else None for one in items]

    def rate_of(*results: str) -> list[Value]:
        return [_count(one, *results) / one["seconds"] if one["seconds"] else None for one in items]

    return [
        plot("lookups", _("Lookups per second"), write_number,
             *(Line(name, rate_of(*results)) for name, results in RESULTS.items())),
        plot("times", _("Time of lookups"), format_seconds,
             Line(_("99 of 100 within"), [one["p99S"] for one in items]),
             Line(_("Half of them within"), [one["p50S"] for one in items])),
        plot("hits", _("Lookups that Redis answers"), _write_share,
             Line(_("Share"), [one["hitRatio"] for one in items]), top=1.0),
        plot("errors", _("Errors per minute"), write_number,
             Line(_("Error answers"), rate("errors", 60)),
             Line(_("Over budget"), rate("overBudget", 60))),
        plot("changes", _("Changes per second"), write_number,
             Line(_("By the hub"), rate("changes")),
             Line(_("By files"), rate("rows"))),
        plot("sealing", _("Wait until events are sealed"), format_seconds,
             Line(_("The oldest event"), [one["sealingWaitS"] for one in items])),
    ]  # fmt: skip


def _count(sample: Mapping[str, Any], *results: str) -> int:
    return sum(count for name, count in sample["lookups"].items() if not results or name in results)


def write_number(value: Value) -> str:
    return DASH if value is None else format_number(round_figures(value))


def _write_share(value: Value) -> str:
    return DASH if value is None else format_share(round(value, 3))


def _write_ago(seconds: Value) -> str:
    return DASH if seconds is None else _("{time} ago").format(time=format_seconds(seconds))


def _write_part(value: Value, most: Value) -> str:
    return DASH if value is None else _("{n} of {most}").format(n=format_number(value), most=format_number(most))
