"""One page for all processes: they are real processes here, some of them killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from oracle.telemetry import metrics as module
from oracle.telemetry.metrics import CONTENT_TYPE, DERIVED, PREFIX, SERIES, Metrics, find_boot, render, watch_event_loop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Worker = subprocess.Popen[str]

COUNT = """
import sys
from pathlib import Path
from oracle.telemetry.metrics import Metrics
metrics = Metrics.open(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
hits = metrics.slots("lookups_total", "party_id_type", result="hit")
lookup = metrics.slot("lookup_duration_seconds", operation="lookup")
for line in sys.stdin:
    for _ in range(int(line)):
        metrics.cells[hits["MSISDN"]] += 1
        metrics.observe(lookup, 0.002)
    metrics.set("cache_generation", 7)
    print("counted", flush=True)
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str, int], Worker]]:
    started: list[Worker] = []

    def one(role: str, index: int) -> Worker:
        worker = subprocess.Popen(
            [sys.executable, "-c", COUNT, str(tmp_path), role, str(index)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(worker)
        return worker

    yield one
    for worker in started:
        worker.kill()
        worker.communicate()


def count(worker: Worker, times: int) -> None:
    assert worker.stdin
    assert worker.stdout
    worker.stdin.write(f"{times}\n")
    worker.stdin.flush()
    assert worker.stdout.readline() == "counted\n"


def samples(page: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name.removeprefix(PREFIX), frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


def read(page: bytes, name: str, **labels: str) -> float | None:
    return samples(page).get((name, frozenset(labels.items())))


def hits(page: bytes) -> float | None:
    return read(page, "lookups_total", party_id_type="MSISDN", result="hit")


def test_a_page_adds_up_the_counters_of_all_processes(tmp_path: Path, start: Callable[[str, int], Worker]) -> None:
    count(start("hub", 0), 1000)
    count(start("hub", 1), 234)
    page = render(tmp_path)
    assert hits(page) == 1234
    assert read(page, "lookup_duration_seconds_count", operation="lookup") == 1234
    assert read(page, "lookup_duration_seconds_sum", operation="lookup") == pytest.approx(1234 * 0.002)
    assert read(page, "lookup_duration_seconds_bucket", operation="lookup", le="0.001") == 0
    assert read(page, "lookup_duration_seconds_bucket", operation="lookup", le="0.0025") == 1234
    assert read(page, "lookup_duration_seconds_bucket", operation="lookup", le="+Inf") == 1234


def test_a_killed_process_loses_nothing_and_its_successor_counts_on(
    tmp_path: Path, start: Callable[[str, int], Worker]
) -> None:
    first = start("hub", 0)
    count(first, 500)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert hits(render(tmp_path)) == 500
    count(start("hub", 0), 5)
    assert hits(render(tmp_path)) == 505
    assert [path.name for path in (tmp_path / "metrics").iterdir()] == ["hub-0"]


def test_the_start_of_the_machine_is_known_where_systemd_hides_it() -> None:
    """deploy/systemd hides /proc/stat (ProcSubset=pid); without this, /metrics was a 500 under our own unit."""
    assert find_boot("/proc/hidden") == pytest.approx(find_boot(), abs=2)


def test_gauges_and_process_figures_are_of_living_processes_only(
    tmp_path: Path, start: Callable[[str, int], Worker]
) -> None:
    worker = start("hub", 3)
    count(worker, 1)
    page = render(tmp_path)
    assert read(page, "cache_generation", role="hub", index="3") == 7
    assert read(page, "processes", role="hub") == 1
    process = {"role": "hub", "index": "3", "serviceName": "alias-oracle"}
    assert read(page, "process_resident_memory_bytes", **process) > 1_000_000  # type: ignore[operator]
    assert read(page, "process_cpu_seconds_total", **process) is not None
    started = read(page, "process_start_time_seconds", **process)
    assert started == pytest.approx(psutil.Process(worker.pid).create_time(), abs=2)
    assert read(render(tmp_path), "process_start_time_seconds", **process) == started
    # Not reaped yet: a zombie is no living process either.
    worker.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 60
    while read(render(tmp_path), "processes", role="hub") == 1:
        assert time.monotonic() < deadline
    assert read(render(tmp_path), "cache_generation", role="hub", index="3") is None


def test_a_new_process_starts_with_gauges_unset(tmp_path: Path) -> None:
    first = Metrics.open(tmp_path, "hub", 0)
    first.set("cache_connected", 1)
    first.close()
    second = Metrics.open(tmp_path, "hub", 0)
    assert read(second.render(), "cache_connected", role="hub", index="0") is None
    assert read(second.render(), "http_connections", role="hub", index="0") == 0
    second.close()


def test_a_process_that_overlaps_its_predecessor_gets_cells_of_its_own(
    tmp_path: Path, start: Callable[[str, int], Worker]
) -> None:
    count(start("hub", 0), 10)
    count(start("hub", 0), 1)
    page = render(tmp_path)
    assert hits(page) == 11
    assert read(page, "cache_generation", role="hub", index="0") == 7
    assert read(page, "cache_generation", role="hub", index="0.1") == 7


def test_a_file_of_another_layout_is_not_shown_and_begun_anew(tmp_path: Path) -> None:
    folder = tmp_path / "metrics"
    folder.mkdir()
    for stale in (b"", b"short", b"another layout!!" + b"\xff" * 9, b"another layout!!" + b"\xff" * 50_000):
        (folder / "hub-0").write_bytes(stale)
        assert hits(render(tmp_path)) == 0
        metrics = Metrics.open(tmp_path, "hub", 0)
        metrics.add("lookups_total", party_id_type="MSISDN", result="hit")
        assert hits(render(tmp_path)) == 1
        metrics.close()


def test_other_files_in_the_folder_do_not_disturb(tmp_path: Path) -> None:
    (tmp_path / "metrics" / "sub-0").mkdir(parents=True)
    (tmp_path / "metrics" / "notes.txt").write_text("hello")
    (tmp_path / "metrics" / "evil-0\n").write_bytes(b"x" * 50_000)
    assert hits(render(tmp_path)) == 0
    assert hits(render(tmp_path / "absent")) == 0


def test_unknown_label_values_count_as_other_and_are_shown_only_then() -> None:
    metrics = Metrics.open(None, "cli", 0)
    assert b'"other"' not in metrics.render()
    by_type = metrics.slots("lookups_total", "party_id_type", result="hit")
    metrics.cells[by_type["525512345678"]] += 1
    metrics.add("errors_total", code="9999")
    page = metrics.render()
    assert read(page, "lookups_total", party_id_type="other", result="hit") == 1
    assert read(page, "errors_total", code="other") == 1
    assert b"525512345678" not in page
    assert b"9999" not in page


def test_every_series_of_the_table_is_on_the_page_with_its_help() -> None:
    metrics = Metrics.open(None, "hub", 0)
    for series in SERIES:
        if series.kind in {"gauge", "age"}:
            metrics.set(series.name, 1, **{key: values[0] for key, values in series.labels})
    families = {family.name: family for family in text_string_to_metric_families(metrics.render().decode())}
    for name, help_text in [
        *((series.name, series.help) for series in SERIES),
        *((name, help_text) for name, _, _, help_text in DERIVED),
    ]:
        family = families.pop(PREFIX + name.removesuffix("_total"))
        assert family.documentation == help_text
        assert family.samples
    assert not families
    assert CONTENT_TYPE.startswith("text/plain; version=0.0.4")


def test_a_bucket_holds_its_upper_end() -> None:
    metrics = Metrics.open(None, "hub", 0)
    slot = metrics.slot("lookup_duration_seconds", operation="bulk")
    for seconds in (0.0, 0.0005, 0.00051, 5.0, 5.1):
        metrics.observe(slot, seconds)
    page = metrics.render()
    held = [
        read(page, "lookup_duration_seconds_bucket", operation="bulk", le=end)
        for end in ("0.0005", "0.001", "2.5", "5.0", "+Inf")
    ]
    assert held == [2, 3, 3, 4, 5]


def test_an_age_grows_by_itself() -> None:
    metrics = Metrics.open(None, "hub", 0)
    assert read(metrics.render(), "lease_age_seconds", role="hub", index="0") is None
    metrics.mark("lease_age_seconds", time.monotonic() - 100)
    age = read(metrics.render(), "lease_age_seconds", role="hub", index="0")
    assert age is not None
    assert 100 <= age < 160
    metrics.mark("lease_age_seconds")
    assert read(metrics.render(), "lease_age_seconds", role="hub", index="0") < 60  # type: ignore[operator]


def test_a_blocked_event_loop_shows() -> None:
    metrics = Metrics.open(None, "hub", 0)

    looks: list[None] = []

    async def block() -> None:
        watch = asyncio.create_task(watch_event_loop(metrics, every_s=0.01, look=lambda: looks.append(None)))
        await asyncio.sleep(0.02)
        time.sleep(0.2)  # noqa: ASYNC251  (what is measured)
        await asyncio.sleep(0.05)
        watch.cancel()

    asyncio.run(block())
    lag = read(metrics.render(), "event_loop_lag_seconds", role="hub", index="0")
    assert lag is not None
    assert lag > 0.1
    assert len(looks) > 1


def test_late_increments_after_close_are_harmless(tmp_path: Path) -> None:
    metrics = Metrics.open(tmp_path, "hub", 0)
    metrics.close()
    metrics.close()
    metrics.add("cache_reads_total")
    metrics.observe(metrics.slot("lookup_duration_seconds", operation="lookup"), 1.0)
    assert read(render(tmp_path), "processes", role="hub") == 0


def test_a_later_process_of_the_same_pid_is_not_taken_for_the_writer(tmp_path: Path) -> None:
    metrics = Metrics.open(tmp_path, "hub", 0)
    metrics.cells[module._STARTED] -= 1
    assert read(render(tmp_path), "processes", role="hub") == 0
    metrics.close()


def test_a_role_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="role"):
        Metrics.open(tmp_path, "../hub", 0)


def test_an_increment_makes_no_object_that_stays() -> None:
    import tracemalloc

    metrics = Metrics.open(None, "hub", 0)
    slot = metrics.slot("cache_reads_total")
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(1000):
        metrics.cells[slot] += 1
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 1000
    assert os.getpid() == metrics.cells[module._PID]
