"""Samples of what the service did: differences of the counters of all its processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from oracle.telemetry.metrics import Metrics
from oracle.telemetry.samples import KEPT, Samples, find_quantile, join

if TYPE_CHECKING:
    from pathlib import Path


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        self.now += 15.0
        return self.now


def make_samples(metrics: Metrics) -> Samples:
    return Samples(metrics.look, clock=Clock(), now=lambda: 1_700_000_000.0)


def test_a_sample_has_what_all_processes_counted_since_the_one_before(tmp_path: Path) -> None:
    first, second = Metrics.open(tmp_path, "hub", 0), Metrics.open(tmp_path, "hub", 1)
    first.add("lookups_total", 7, party_id_type="MSISDN", result="hit")
    samples = make_samples(first)
    samples.take()
    assert list(samples.kept) == []
    first.add("lookups_total", 3, party_id_type="MSISDN", result="hit")
    second.add("lookups_total", 1, party_id_type="IBAN", result="directory")
    second.add("errors_total", 2, code="3204")
    second.add("changes_total", 5, operation="register", result="done")
    second.add("changes_total", 9, operation="register", result="refused")
    second.set("audit_waiting_seconds", 1.5)
    samples.take()
    (sample,) = samples.kept
    assert (sample.count(), sample.count("hit"), sample.hit_ratio) == (4, 3, 0.75)
    assert (sample.errors, sample.changes, sample.span_s, sample.waiting_s) == (2, 5, 15.0, 1.5)
    first.close()
    second.close()


def test_samples_are_of_an_hour() -> None:
    samples = make_samples(Metrics.open(None, "hub", 0))
    for _ in range(KEPT + 10):
        samples.take()
    assert len(samples.kept) == KEPT
    whole = join(samples.kept)
    assert whole is not None
    assert whole.span_s == 3_600.0
    assert (whole.hit_ratio, whole.waiting_s) == (None, None)
    assert join([]) is None


def test_a_counter_that_begins_anew_counts_as_nothing() -> None:
    metrics = Metrics.open(None, "hub", 0)
    samples = make_samples(metrics)
    metrics.add("errors_total", 5, code="3204")
    samples.take()
    metrics.add("errors_total", -4, code="3204")
    samples.take()
    assert samples.kept[0].errors == 0


def test_a_quantile_lies_in_its_bucket() -> None:
    metrics = Metrics.open(None, "hub", 0)
    slot = metrics.slot("lookup_duration_seconds", operation="lookup")
    for seconds in [0.0004] * 98 + [0.003, 9.0]:
        metrics.observe(slot, seconds)
    durations = metrics.look().count_buckets("lookup_duration_seconds", operation="lookup")
    assert sum(durations) == 100
    assert find_quantile(durations, 0.5) == pytest.approx(0.0005 * 50 / 98)
    assert find_quantile(durations, 0.99) == pytest.approx(0.005)
    assert find_quantile(durations, 1.0) == 5.0
    assert find_quantile([0.0] * 14, 0.99) is None


def test_a_snapshot_lists_living_processes_with_their_gauges(tmp_path: Path) -> None:
    metrics = Metrics.open(tmp_path, "jobs", 0)
    Metrics.open(tmp_path, "hub", 0).close()  # has stopped
    metrics.set("job_failing", 1.0, job="sealing")
    metrics.set("audit_sealing", 1.0)
    metrics.mark("lease_age_seconds")
    snapshot = metrics.look()
    (process,) = snapshot.list_processes()
    assert (process.role, process.index, process.gauges["audit_sealing"]) == ("jobs", "0", 1.0)
    assert 0 <= process.gauges["lease_age_seconds"] < 60
    assert process.resident_bytes > 0
    assert snapshot.read_gauges("job_failing", "job") == {"sealing": 1.0}
    assert snapshot.read_gauges("audit_waiting_seconds") == {}
    metrics.close()
