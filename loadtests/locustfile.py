"""Simulates a hub with locust: `locust -f loadtests/locustfile.py --host http://... --aliases N --profile hot`.

Users.      Each user is one connection of the hub that asks, waits for the answer, and asks again at once (a closed
            loop).  A hub has up to 512 connections and never closes them: choose the number of users like your hub.
Checks.     It checks each whole answer: the right FSP and no other, the SubId repeated or absent.  A wrong answer is a
            failure.
Directory.  It must be made by `dataset --count N`; only misses and unknown ask unregistered identifiers.
Verdict.    The exit code is 1 if an answer was wrong, or the run was slower than the baseline (see thresholds.py);
            stdout shows the reasons, or why nothing was compared.
Profile.    locust's own option, which it saves with the results: one of profiles.py; default: hot.
More load.  Use `--processes 4` if one core cannot make enough load.
"""

from __future__ import annotations

import csv
import uuid
from pathlib import Path
from typing import Any

from locust import FastHttpUser, constant, events, task
from locust.runners import MasterRunner, WorkerRunner
from locust.stats import PERCENTILES_TO_REPORT, StatsCSV

from loadtests.keys import SEED, Alias, Keys, list_fsp_ids
from loadtests.profiles import PROFILES, Lookup, Sampler, make_answer, make_bulk_body, make_hub_headers, make_lookup
from loadtests.thresholds import TOTAL, Limits, Row, compare, judge, read_csv

BULK_ITEMS = 2_000
BULK_PAUSE_S = 1.0


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def _add_options(parser: Any) -> None:
    limits = Limits()
    group = parser.add_argument_group("Alias directory")
    group.add_argument("--aliases", type=int, default=1_000_000, help="aliases in the directory (default 1,000,000)")
    group.add_argument("--dataset-seed", type=int, default=SEED, help="seed of the dataset")
    group.add_argument("--baseline", default="", help="_final.csv of an earlier run to compare with")
    group.add_argument(
        "--failures-max", type=float, default=limits.failures_share, help="largest share of failures (default 0)"
    )
    for at, ratio in limits.ratios.items():
        text = f"largest ratio of p{at} to the baseline's (default {ratio:g})"
        group.add_argument(f"--p{at}-ratio-max", type=float, default=ratio, help=text)


@events.init.add_listener  # type: ignore[untyped-decorator]
def _choose(environment: Any, **_: Any) -> None:
    options = environment.parsed_options
    options.profile = options.profile or "hot"
    if options.profile not in PROFILES:
        raise SystemExit(f"unknown --profile: {options.profile}; use one of {', '.join(PROFILES)}")
    writes = options.profile == "writes"
    environment.user_classes = [Hub, Bulk] if writes else [Hub]


class Asking(FastHttpUser):
    """The parts that both kinds of user share: their FSP, their sampler, and their check of an answer."""

    abstract = True
    wait_time = constant(0)
    # Like the hub, which waits 20 s for an answer and follows redirects; an oracle sends none.
    connection_timeout = 20.0
    network_timeout = 20.0
    max_redirects = 1
    sampler: Sampler
    source: str

    def on_start(self) -> None:
        options, runner = self.environment.parsed_options, self.environment.runner
        process = runner.worker_index if isinstance(runner, WorkerRunner) else 0
        if not hasattr(self.environment, "sampler"):  # one for each process, so that no key is used twice
            keys = Keys(options.dataset_seed)
            self.environment.sampler = Sampler(options.profile, keys, options.aliases, process)
        self.sampler = self.environment.sampler
        self.source = list_fsp_ids()[(process * 101 + id(self) // 64) % len(list_fsp_ids())]

    def look_up(self, lookup: Lookup, name: str = "") -> None:
        headers = make_hub_headers(self.source)
        with self.client.get(lookup.target, headers=headers, name=name or lookup.name, catch_response=True) as answer:
            # Failures name no identifier, because people share reports.
            if answer.status_code != 200:
                answer.failure(f"status {answer.status_code}")
            elif answer.json() != lookup.answer:
                answer.failure("wrong answer")


class Hub(Asking):
    @task
    def ask(self) -> None:
        if self.environment.parsed_options.profile == "writes" and self.sampler.chooses_write():
            self.register(self.sampler.choose_free())
        else:
            self.look_up(self.sampler.lookup())

    def register(self, alias: Alias) -> None:
        """Register an alias, then look it up: after the answer, every lookup must find it."""
        sub_id = {"partySubIdOrType": alias.sub_id} if alias.sub_id else {}
        with self.client.post(
            f"/participants/{alias.party_id_type}/{alias.identifier}",
            headers=make_hub_headers(self.source),
            json={"fspId": self.source, **sub_id},
            name="one",
            catch_response=True,
        ) as answer:
            if answer.status_code != 201:
                answer.failure(f"status {answer.status_code}")
                return
        registered = make_lookup(alias)
        self.look_up(registered._replace(answer=make_answer(self.source, alias.sub_id or None)), "just registered")


class Bulk(Asking):
    """A single user that sends bulks all the time, beside the others."""

    fixed_count = 1
    wait_time = constant(BULK_PAUSE_S)

    @task
    def send(self) -> None:
        aliases = [self.sampler.choose_free() for _ in range(BULK_ITEMS)]
        with self.client.post(
            "/participants",
            headers=make_hub_headers(self.source),
            json=make_bulk_body(str(uuid.uuid4()), self.source, aliases),
            name=f"bulk of {BULK_ITEMS}",
            catch_response=True,
        ) as answer:
            if answer.status_code != 201:
                answer.failure(f"status {answer.status_code}")
            elif any("errorInformation" in item for item in answer.json()["partyList"]):
                answer.failure("an item was refused")


@events.quitting.add_listener  # type: ignore[untyped-decorator]
def _judge(environment: Any, **_: Any) -> None:
    if isinstance(environment.runner, WorkerRunner):
        return
    options = environment.parsed_options
    baseline = read_csv(Path(options.baseline)) if options.baseline else None
    limits = Limits(options.failures_max, {at: getattr(options, f"p{at}_ratio_max") for at in Limits().ratios})
    rows = _collect_rows(environment.stats)
    failed = [verdict for verdict in judge(rows, baseline or {}, limits) if not verdict.holds]
    processes = f", {environment.runner.worker_count} processes" if isinstance(environment.runner, MasterRunner) else ""
    total = rows[TOTAL]
    print(f"\n{options.profile}{processes}: {total.requests:,} requests, {total.failures:,} wrong or failed answers")
    for verdict in failed:
        print(verdict)
    print(compare(rows, baseline, limits).text)
    environment.process_exit_code = 1 if failed else 0
    if options.csv_prefix:
        _write_final(environment, Path(f"{options.csv_prefix}_final.csv"))


def _write_final(environment: Any, file: Path) -> None:
    """Write the whole run in the form of locust's _stats.csv, which lacks the last second or two."""
    with file.open("w", encoding="utf-8", newline="") as table:
        StatsCSV(environment, PERCENTILES_TO_REPORT).requests_csv(csv.writer(table))


def _collect_rows(stats: Any) -> dict[str, Row]:
    def row(entry: Any) -> Row:
        percentiles = {at: float(entry.get_response_time_percentile(at / 100)) for at in Limits().ratios}
        return Row(entry.num_requests, entry.num_failures, percentiles, float(entry.total_rps))

    rows = {f"{method} {name}": row(entry) for (name, method), entry in stats.entries.items()}
    return {**rows, TOTAL: row(stats.total)}
