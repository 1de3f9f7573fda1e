"""Imports from the upload to the results: the result of each row, also after interruptions and crashes."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest
from bulk_engine import READING, Engine, as_uploader, open_engine
from servers import make_database, make_template

from oracle import errors
from oracle.identifiers import PartyKey
from oracle.imports import applying, one_alias, quota, results, uploads, worker
from oracle.imports.applying import Applying, Pace, Superseded
from oracle.imports.chunks import ROW_RESULTS
from oracle.imports.import_limits import ImportLimits
from oracle.imports.reading import Reader, RowChecks
from oracle.imports.validating import Validating
from oracle.store.cache.coherence import Coherence, Fence, Timing
from oracle.store.postgres import Transaction

if TYPE_CHECKING:
    from conftest import StartPostgres

# No test here depends on the time when changes are acknowledged.
SHORT_LEASES = Timing(lease_s=0.05)
ENTRIES = """SELECT identifier, sub_id, fsp_id, currency FROM aliases
UNION ALL SELECT identifier, sub_id, fsp_id, currency FROM alias_currencies ORDER BY 1, 2, 3, 4"""


@pytest.fixture
async def engine(database_url: str, redis_url: str) -> AsyncIterator[Engine]:
    """Open an engine with FSPs a and b."""
    async with open_engine(database_url, redis_url, timing=SHORT_LEASES) as made:
        yield made


@pytest.fixture
def small(engine: Engine) -> None:
    """Use chunks of seven rows, portions with at most three rows of a key, and parts of a few rows."""
    engine.set_limits(part_bytes=200, block_bytes=100, rows_per_chunk=7)
    engine.passes_max = 3


async def list_entries(engine: Engine) -> list[tuple[str, ...]]:
    return [tuple(row) for row in await engine.db.fetch(ENTRIES)]


# Results of rows ----------------------------------------------------------------------------------------------


async def test_an_add_is_a_registration_by_the_owner(engine: Engine) -> None:
    assert await engine.import_rows("ALIAS,x,,,,add", "ALIAS,y,,MXN,,") == ["added", "added"]
    assert await engine.import_rows("ALIAS,x,,,,add", "ALIAS,y,,USD,,", "ALIAS,y,s,USD,,") == [
        "unchanged",
        "added",
        "added",
    ]
    assert await engine.import_rows("ALIAS,x,,,,", "ALIAS,z,,,,", fsp_id="b") == ["held_elsewhere", "added"]
    assert await list_entries(engine) == [
        ("x", "", "a", ""), ("y", "", "a", "MXN"), ("y", "", "a", "USD"), ("y", "s", "a", "USD"), ("z", "", "b", ""),
    ]  # fmt: skip


async def test_a_replacement_leaves_the_one_entry_of_the_row(engine: Engine) -> None:
    await engine.import_rows("ALIAS,x,,MXN,,", "ALIAS,x,,USD,,", "ALIAS,y,,MXN,,")
    rows = ["ALIAS,x,,USD,,replace", "ALIAS,y,,MXN,,replace", "ALIAS,z,,,,replace", "ALIAS,y,s,,,replace"]
    assert await engine.import_rows(*rows) == ["changed", "unchanged", "added", "added"]
    assert await engine.import_rows("ALIAS,x,,,,replace", fsp_id="b") == ["held_elsewhere"]
    assert await list_entries(engine) == [
        ("x", "", "a", "USD"), ("y", "", "a", "MXN"), ("y", "s", "a", ""), ("z", "", "a", ""),
    ]  # fmt: skip


async def test_a_removal_takes_the_entry_or_one_currency_of_it(engine: Engine) -> None:
    await engine.import_rows("ALIAS,x,,MXN,,", "ALIAS,x,,USD,,", "ALIAS,y,,MXN,,", "ALIAS,y,,USD,,", "ALIAS,z,s,,,")
    rows = ["ALIAS,x,,,,remove", "ALIAS,y,,MXN,,remove", "ALIAS,z,,,,remove", "ALIAS,z,s,EUR,,remove"]
    assert await engine.import_rows(*rows) == ["removed", "removed", "not_registered", "not_registered"]
    assert await list_entries(engine) == [("y", "", "a", "USD"), ("z", "s", "a", "")]


async def test_removing_an_entry_of_another_fsp_looks_like_removing_nothing(engine: Engine) -> None:
    await engine.import_rows("ALIAS,x,,,,")
    batch_id = await engine.upload_rows("ALIAS,x,,,,remove", "ALIAS,nobody,,,,remove", fsp_id="b")
    await engine.work(batch_id)
    _, held, nothing = (await engine.fetch_results(batch_id)).decode().splitlines()
    assert held.split(",")[1:4] == nothing.split(",")[1:4]


@pytest.mark.usefixtures("small")
async def test_rows_of_one_key_take_effect_in_the_order_of_their_lines(engine: Engine) -> None:
    rows = ["add", "add", "remove", "remove", "add", "replace", "add", "remove", "add"]
    became = await engine.import_rows(*(f"ALIAS,x,,,,{action}" for action in rows))
    assert became == [
        "added", "unchanged", "removed", "not_registered", "added", "unchanged", "unchanged", "removed", "added",
    ]  # fmt: skip


class Model:
    """Applies one row at a time to the entries of each key, the default one first."""

    def __init__(self, shared: bool) -> None:
        self.shared = shared
        self.entries: dict[tuple[str, str], list[tuple[str, str]]] = {}

    def apply(self, fsp_id: str, row: tuple[str, str, str, str]) -> str:
        identifier, sub_id, currency, action = row
        held = self.entries.setdefault((identifier, sub_id), [])
        mine = [c for f, c in held if f == fsp_id]
        if action == "remove":
            gone = [c for c in mine if currency in ("", c)]
            left = [e for e in held if e[0] != fsp_id or e[1] not in gone]
            # If the default entry is removed, the first of the further ones becomes the default.
            held[:] = left if not left or held[0] == left[0] else sorted(left, key=lambda entry: entry[1])
            return "removed" if gone else "not_registered"
        if held and not self.shared and held[0][0] != fsp_id:
            return "held_elsewhere"
        if any(f != fsp_id and c == currency for f, c in held):
            return "held_elsewhere"
        if action == "add" or not mine:
            if currency in mine:
                return "unchanged"
            held.append((fsp_id, currency))
            return "added"
        if mine == [currency]:
            return "unchanged"
        at = held.index((fsp_id, mine[0]))
        stays = [e for e in held if e[0] != fsp_id]
        held[:] = [(fsp_id, currency), *stays] if at == 0 else [*stays, (fsp_id, currency)]
        return "changed"


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("policy", ["unique", "per-currency"])
async def test_random_files_have_the_results_of_a_slow_model(engine: Engine, policy: str) -> None:
    await engine.db.execute("UPDATE key_policies SET policy = $1::key_policy", policy)
    source = random.Random(policy)
    model = Model(shared=policy == "per-currency")
    for fsp_id in ("a", "b") * 6:
        rows = [
            (
                source.choice("uvwx"), source.choice(["", "", "s"]), source.choice(["", "MXN", "USD"]),
                source.choice(["add", "replace", "remove"]),
            )
            for _ in range(source.randrange(1, 60))
        ]  # fmt: skip
        lines = [f"ALIAS,{identifier},{sub_id},{currency},,{action}" for identifier, sub_id, currency, action in rows]
        expected = [model.apply(fsp_id, row) for row in rows]
        assert await engine.import_rows(*lines, fsp_id=fsp_id) == expected
        wanted = sorted((i, s, f, c) for (i, s), held in model.entries.items() for f, c in held)
        assert await list_entries(engine) == wanted


async def test_rows_that_the_fsp_can_no_longer_register_are_refused(engine: Engine) -> None:
    await engine.db.execute("UPDATE fsps SET two_persons = true")
    rows = ["ALIAS,x,,MXN,,", "ALIAS,y,,USD,,", "EMAIL,a@b.mx,,,,", "ALIAS,z,,,,remove"]
    batch_ids = [await engine.upload_rows(*rows) for _ in range(2)]
    async with engine.run_imports():
        for batch_id in batch_ids:
            await engine.wait_settled(batch_id)
        await engine.db.execute("UPDATE fsps SET kinds = '{ALIAS}', currencies = '{MXN}'")
        await engine.decide(batch_ids[0], approve=True)
        await engine.wait_settled(batch_ids[0])
        await engine.db.execute("UPDATE fsps SET status = 'suspended'")
        await engine.decide(batch_ids[1], approve=True)
        await engine.wait_settled(batch_ids[1])
    outcomes = [[outcome for _, outcome in await engine.list_results(batch_id)] for batch_id in batch_ids]
    assert outcomes == [["added", "not_allowed", "not_allowed", "not_registered"], ["fsp_not_active"] * 4]


async def test_a_batch_is_done_when_lookups_answer_its_last_rows(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If no fence could be set, other processes answer a change only after the lease that follows its commit."""
    states: list[str] = []
    settle = Coherence.settle

    async def settle_and_record(self: Coherence, fence: Fence) -> None:
        await settle(self, fence)
        states.append((await engine.fetch_batch(batch_id))["state"])

    monkeypatch.setattr(Coherence, "settle", settle_and_record)
    batch_id = await engine.upload_rows("ALIAS,x,,,,", "ALIAS,y,,,,")
    (batch,) = await engine.work(batch_id)
    assert (batch["state"], batch["finished_at"] is None) == ("done", False)
    assert set(states) == {"applying"}


async def test_a_row_that_the_database_refuses_leaves_the_other_rows_applied(engine: Engine) -> None:
    await engine.db.execute("ALTER TABLE aliases ADD CHECK (identifier <> 'n17')")
    became = await engine.import_rows(*(f"ALIAS,n{n},,,," for n in range(40)))
    assert became == ["not_accepted" if n == 17 else "added" for n in range(40)]


@pytest.mark.usefixtures("small")
async def test_a_mixed_file_has_its_counts_and_results(engine: Engine) -> None:
    await engine.import_rows("ALIAS,mine,,,,", "ALIAS,gone,,,,")
    await engine.import_rows("ALIAS,theirs,,,,", fsp_id="b")
    batch_id = await engine.upload_rows(
        "ALIAS,mine,,,,", "ALIAS,new,,,,", "FAX,1,,,,", "ALIAS,theirs,,,,", "ALIAS,gone,,,,remove", "ALIAS,@at,,,,"
    )
    (batch,) = await engine.work(batch_id)
    counted = {name: batch[f"rows_{name}"] for name in ("read", "valid", "applied", "changed", "failed")}
    assert (batch["state"], counted) == ("done", {"read": 6, "valid": 5, "applied": 4, "changed": 3, "failed": 2})
    table = (await engine.fetch_results(batch_id)).decode().splitlines()
    assert [line.split(",")[1] for line in table[1:]] == [
        "unchanged", "added", "invalid", "refused", "removed", "added",
    ]  # fmt: skip
    assert table[6] == "7,added,,,'@at,ALIAS,'@at,,,,"
    failed = (await engine.fetch_results(batch_id, only_failed=True)).decode().splitlines()
    assert failed == [table[0], table[3], table[4]]
    lines = [json.loads(line) for line in (await engine.fetch_results(batch_id, "ndjson")).splitlines()]
    assert [line["status"] for line in lines] == [line.split(",")[1] for line in table[1:]]
    assert (lines[5]["canonical"], lines[5]["identifier"]) == ("@at", "@at")


# Files that cannot be read ------------------------------------------------------------------------------------


async def test_files_and_rows_are_counted_on_the_metrics_page(engine: Engine) -> None:
    await engine.import_rows("ALIAS,theirs,,,,", fsp_id="b")
    lines = ["ALIAS,one,,,,", "ALIAS,one,,,,", "ALIAS,one,,,,remove", "ALIAS,theirs,,,,", "FAX,1,,,,", "ALIAS,two,,,,"]
    await engine.import_rows(*lines)
    await engine.work(await engine.upload("number;name\n"))

    def render_page() -> str:
        return engine.metrics.render().decode()

    for result, count in {"added": 3, "unchanged": 1, "removed": 1, "refused": 1, "changed": 0}.items():
        assert f'import_rows_applied_total{{result="{result}"}} {count}.0' in render_page()
    for result, count in {"valid": 6, "invalid": 1}.items():
        assert f'import_rows_read_total{{result="{result}"}} {count}.0' in render_page()
    assert "import_batches{" not in render_page(), "no process imports, so none reports"
    async with engine.run_imports(), asyncio.timeout(60):
        while 'import_batches{index="0",role="jobs",state="failed"} 1.0' not in render_page():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert 'import_batches{index="0",role="jobs",state="done"} 2.0' in render_page()


async def test_a_file_that_cannot_be_read_fails_and_changes_nothing(engine: Engine) -> None:
    batch_id = await engine.upload("kind,identifier,colour\nALIAS,x,red\n")
    (batch,) = await engine.work(batch_id)
    assert (batch["state"], batch["error_code"]) == ("failed", "unknown_column")
    assert await list_entries(engine) == []


@pytest.mark.usefixtures("small")
async def test_if_the_end_of_a_file_is_refused_so_are_the_rows_before_it(
    engine: Engine,
) -> None:
    engine.set_limits(part_bytes=40, rows_max=10, block_bytes=20)
    batch_id = await engine.upload_rows(*["ALIAS,x,,,,"] * 20)
    (batch,) = await engine.work(batch_id)
    assert (batch["state"], batch["error_code"], batch["rows_read"]) == ("failed", "too_many_rows", 7)
    assert await engine.list_results(batch_id) == [(line, "file_refused") for line in range(2, 9)]
    assert await list_entries(engine) == []


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("good", [0, 1])
async def test_reading_stops_when_nearly_no_row_is_good(engine: Engine, good: int) -> None:
    """A wrong order of columns, for example: as CSV or NDJSON, also behind a first row that is good."""
    engine.set_limits(bad_rows_max=20, bad_rows_per_good=10)
    rows = ["ALIAS,x,,,,"] * good + ["525512345678,MSISDN,,,,"] * 5000
    lines = ['{"kind":"525512345678","identifier":"MSISDN"}\n'] * 5000
    batch_ids = [await engine.upload_rows(*rows), await engine.upload("".join(lines), "b")]
    for batch in await engine.work(*batch_ids):
        assert (batch["state"], batch["error_code"]) == ("failed", "too_many_bad_rows")
        assert batch["rows_read"] == batch["rows_failed"] + batch["rows_valid"] == 21
        assert batch["error_message"].startswith("Reading stopped after 21 rows: ")
        assert "template" in batch["error_message"]
        statuses = [status for _, status in await engine.list_results(batch["batch_id"])]
        assert statuses == ["file_refused"] * batch["rows_valid"] + ["unknown_kind"] * batch["rows_failed"]
    assert await list_entries(engine) == []


@pytest.mark.usefixtures("small")
async def test_a_file_with_some_good_rows_is_read_to_its_end(engine: Engine) -> None:
    engine.set_limits(bad_rows_max=20, bad_rows_per_good=10)
    bad = ["525512345678,MSISDN,,,,"]
    (batch,) = await engine.work(await engine.upload_rows(*[*["ALIAS,x,,,,"] * 5, *bad * 40]))
    assert (batch["state"], batch["rows_applied"], batch["rows_failed"]) == ("done", 5, 40)


async def test_a_damaged_stored_file_is_not_applied(engine: Engine) -> None:
    batch_id = await engine.upload_rows("ALIAS,x,,,,")
    another = await engine.upload_rows("ALIAS,x,,,,")
    await engine.db.execute("UPDATE batches SET file_sha256 = sha256('another') WHERE batch_id = $1", batch_id)
    await engine.db.execute("UPDATE batch_files SET data = 'another' WHERE batch_id = $1", another)
    for batch in await engine.work(batch_id, another):
        assert (batch["state"], batch["error_code"]) == ("failed", "damaged_file")
    assert await list_entries(engine) == []


# Uploads ------------------------------------------------------------------------------------------------------


async def test_an_interrupted_upload_leaves_nothing(engine: Engine) -> None:
    engine.set_limits(part_bytes=10)

    async def body() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b"0123456789"
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await uploads.receive(engine.changes, as_uploader("maker"), body(), engine.limits, fsp_id="a")
    left = "SELECT (SELECT count(*) FROM batch_files) + (SELECT count(*) FROM batch_uploads)"
    assert await engine.db.fetchval(left) == 0


async def test_parts_of_an_upload_whose_process_died_are_deleted_later(
    engine: Engine,
) -> None:
    engine.set_limits(parts_dropped=2)
    await engine.db.execute("INSERT INTO batch_uploads VALUES (77, now() - interval '1 h'), (78, now())")
    parts = "INSERT INTO batch_files SELECT b, n, '' FROM unnest('{77,78}'::int[]) AS b, generate_series(0, 4) AS n"
    await engine.db.execute(parts)
    batch_id = await engine.upload_rows("ALIAS,x,,,,")
    while await uploads.drop_abandoned(engine.changes, 1800, engine.limits):
        pass
    kept = await engine.db.fetch("SELECT batch_id, count(*) FROM batch_files GROUP BY 1 ORDER BY 1")
    assert [tuple(row) for row in kept] == sorted([(78, 5), (batch_id, 1)])


async def test_an_abandoned_upload_becomes_no_batch(engine: Engine) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"kind,identifier\n"
        await engine.db.execute("DELETE FROM batch_uploads")

    with pytest.raises(uploads.Abandoned):
        await uploads.receive(engine.changes, as_uploader("maker"), body(), fsp_id="a")


async def test_a_too_large_or_empty_file_is_refused(engine: Engine) -> None:
    async def body(*pieces: bytes) -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    context = as_uploader("maker")
    with pytest.raises(uploads.TooLong):
        await uploads.receive(
            engine.changes, context, body(b"12345", b"678901"), ImportLimits(file_bytes_max=10), fsp_id="a"
        )
    with pytest.raises(errors.MissingElement):
        await uploads.receive(engine.changes, context, body(), fsp_id="a")


async def test_a_batch_keeps_its_parts_if_the_answer_of_its_commit_was_lost(engine: Engine) -> None:
    batch_id = await engine.upload_rows("ALIAS,x,,,,")
    await uploads.abandon(engine.changes, as_uploader("maker"), batch_id)
    assert (await engine.work(batch_id))[0]["state"] == "done"


# Two persons, cancelling --------------------------------------------------------------------------------------


async def test_simultaneous_uploads_count_for_each_other(engine: Engine) -> None:
    await engine.upload_rows("ALIAS,x,,,,", "ALIAS,y,,,,")
    stored = (await engine.db.fetchval("SELECT sum(file_bytes) FROM batches")) or 0
    limits = quota.Quota(open_max=3, bytes_max=stored + 100)
    with limits.count_upload("a") as first, limits.count_upload("a") as second, limits.count_upload("b") as other:
        for one, fsp_id in ((first, "a"), (second, "a"), (other, "b")):
            await one.look(engine.postgres, fsp_id)
        with limits.count_upload("a") as third, pytest.raises(quota.TooManyOpen):
            await third.look(engine.postgres, "a")
        first.add(60)
        with pytest.raises(quota.TooManyBytes):
            second.add(60)
        first.count_as_ended()
        with pytest.raises(quota.TooManyBytes):
            second.add(0)
        other.add(100)
    with ExitStack() as stack:
        for _ in range(quota.COMING_MAX):
            stack.enter_context(limits.count_upload("a"))
        with pytest.raises(quota.TooManyComing):
            stack.enter_context(limits.count_upload("a"))
        stack.enter_context(limits.count_upload("b"))


async def test_a_second_person_approves_a_file(engine: Engine) -> None:
    await engine.db.execute("UPDATE fsps SET two_persons = true")
    batch_id = await engine.upload_rows("ALIAS,x,,,,")
    (batch,) = await engine.work(batch_id)
    assert (batch["state"], batch["needs_approval"]) == ("waiting", True)
    assert await engine.list_results(batch_id) == [(2, "pending")]
    with pytest.raises(errors.Refused, match="your own file"):
        await engine.decide(batch_id, approve=True, by="maker")
    await engine.decide(batch_id, approve=True)
    with pytest.raises(errors.Refused, match="waiting"):
        await engine.decide(batch_id, approve=False)
    (batch,) = await engine.work(batch_id)
    assert (batch["state"], batch["decided_by"], await list_entries(engine)) == (
        "done",
        "checker",
        [("x", "", "a", "")],
    )


async def test_changes_of_one_alias_have_a_limit_of_their_own(engine: Engine) -> None:
    await engine.db.execute("UPDATE fsps SET two_persons = fsp_id = 'a'")
    names = iter("abcd")

    async def ask(transaction: Transaction) -> str:
        if await one_alias.needs_approval(transaction, "a", waiting_max=2):
            change = one_alias.OneChange("add", "ALIAS", PartyKey("ALIAS", next(names), ""), "", "")
            return str((await one_alias.add_batch(transaction, as_uploader("a"), "a", change))["state"])
        return "made"

    assert [await engine.changes.administer(as_uploader("a"), ask) for _ in range(2)] == ["waiting", "waiting"]
    with pytest.raises(one_alias.TooManyWaiting):
        await engine.changes.administer(as_uploader("a"), ask)
    held = await engine.postgres.row("batches_in_quota", "a", 3600.0, [])
    assert (held["open"], held["bytes"] > 0) == (0, True)  # files that wait have another limit
    await engine.db.execute("UPDATE fsps SET two_persons = false")
    assert await engine.changes.administer(as_uploader("a"), ask) == "made"


async def test_two_persons_can_become_required_while_a_file_is_read(engine: Engine) -> None:
    batch_id = await engine.upload_rows("ALIAS,x,,,,")
    await engine.db.execute("UPDATE fsps SET two_persons = true")
    assert (await engine.work(batch_id))[0]["state"] == "waiting"


async def test_a_rejected_file_changes_nothing(engine: Engine) -> None:
    await engine.db.execute("UPDATE fsps SET two_persons = true")
    batch_id = await engine.upload_rows("ALIAS,x,,,,", "FAX,x,,,,")
    await engine.work(batch_id)
    await engine.decide(batch_id, approve=False)
    (batch,) = await engine.work(batch_id)
    assert (batch["state"], batch["decision_reason"], await list_entries(engine)) == ("rejected", "because", [])
    assert await engine.list_results(batch_id) == [(2, "rejected"), (3, "unknown_kind")]


@pytest.mark.usefixtures("small")
async def test_cancelling_keeps_only_the_applied_rows(engine: Engine) -> None:
    batch_id = await engine.upload_rows(*(f"ALIAS,n{n:04},,,," for n in range(2000)))
    async with engine.run_imports():
        await engine.wait_until(batch_id, lambda batch: batch["rows_applied"] > 20)
        await engine.cancel(batch_id)
        batch = await engine.fetch_batch(batch_id)
    outcomes = [outcome for _, outcome in await engine.list_results(batch_id)]
    assert batch["state"] == "cancelled"
    assert outcomes == ["added"] * batch["rows_applied"] + ["cancelled"] * (2000 - batch["rows_applied"])
    assert len(await list_entries(engine)) == batch["rows_applied"] < 2000
    with pytest.raises(errors.Refused, match="ended"):
        await engine.cancel(batch_id)


@pytest.mark.usefixtures("small")
async def test_a_file_can_be_cancelled_while_it_is_read(engine: Engine) -> None:
    batch_id = await engine.upload_rows(*(f"ALIAS,n{n:04},,,," for n in range(2000)))
    async with engine.run_imports():
        await engine.wait_until(batch_id, lambda batch: batch["rows_read"] > 20)
        await engine.cancel(batch_id)
    assert (await engine.fetch_batch(batch_id))["state"] == "cancelled"
    assert await list_entries(engine) == []


# Interruptions ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small")
async def test_an_import_stopped_at_random_moments_ends_with_the_same_results(engine: Engine) -> None:
    """Cancel the import task at any point of its work; `make faults` kills processes."""
    source = random.Random(5)
    lines = [
        f"ALIAS,n{source.randrange(300)},,{source.choice(['', 'MXN'])},,{source.choice(['add', 'remove'])}"
        for _ in range(600)
    ]
    undisturbed = await engine.upload_rows(*lines)
    await engine.work(undisturbed)
    expected = await engine.fetch_results(undisturbed), await list_alias_events(engine, undisturbed)
    await engine.db.execute("DELETE FROM alias_currencies; DELETE FROM aliases")
    disturbed = await engine.upload_rows(*lines)
    for _ in range(25):
        task = asyncio.create_task(engine.make_imports().run(asyncio.Event()))
        await asyncio.sleep(source.random() * 0.2)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await engine.work(disturbed)
    assert (await engine.fetch_results(disturbed), await list_alias_events(engine, disturbed)) == expected


async def list_alias_events(engine: Engine, batch_id: int) -> list[tuple[str, ...]]:
    rows = await engine.db.fetch(
        "SELECT action, party_identifier, before::text, after::text FROM events"
        " WHERE entity = 'alias' AND request_id = $1",
        f"batch:{batch_id}",
    )
    return sorted(tuple(map(str, row)) for row in rows)


@pytest.mark.usefixtures("small")
async def test_a_file_that_makes_the_reader_fail_stops_no_other_file(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Reader.feed
    monkeypatch.setattr(Reader, "feed", lambda self, data: 1 / 0 if b"defect" in data else read(self, data))
    engine.set_limits(files_read_max=1)
    defect, other = await engine.upload_rows("ALIAS,defect,,,,"), await engine.upload_rows("ALIAS,x,,,,", fsp_id="b")
    async with engine.run_imports():
        assert (await engine.wait_settled(other))["state"] == "done"
    assert (await engine.fetch_batch(defect))["state"] == "validating"


@pytest.mark.usefixtures("small")
async def test_a_slow_part_is_read_in_several_turns(engine: Engine) -> None:
    """Otherwise a part of empty lines or open quotes would delay the files of others."""
    engine.set_limits(part_bytes=100_000, block_bytes=100)
    lines = [f"ALIAS,n{n % 150},,,,{'remove' * (n % 7 == 0)}" for n in range(200)]
    at_once = await engine.upload_rows(*lines)
    await engine.work(at_once)
    engine.set_limits(read_s=0)
    in_turns = await engine.upload_rows(*lines, fsp_id="b")
    batch = await engine.fetch_batch(in_turns)
    reading = Validating(engine.changes, engine.postgres, batch, RowChecks(READING), limits=engine.limits)
    steps = 0
    while await reading.step():
        steps += 1
    assert steps > 30
    batches = [await engine.fetch_batch(at_once), await engine.fetch_batch(in_turns)]
    assert len({(b["rows_read"], b["rows_valid"], b["bytes_read"], b["chunks"]) for b in batches}) == 1
    chunks_of = "SELECT first_line, row_count, rows FROM batch_chunks WHERE batch_id = $1 ORDER BY chunk"
    assert await engine.db.fetch(chunks_of, at_once) == await engine.db.fetch(chunks_of, in_turns)


@pytest.mark.usefixtures("small")
async def test_many_large_files_of_one_fsp_do_not_delay_a_small_file_of_another(
    engine: Engine,
) -> None:
    # A large file takes so many turns that it is still being read when the small one is done and this test looks.
    engine.set_limits(part_bytes=100_000, block_bytes=10, read_s=0)
    large = [await engine.upload_rows(*["ALIAS,x,,,,"] * 5_000) for _ in range(engine.limits.files_read_max)]
    small = await engine.upload_rows("ALIAS,y,,,,", fsp_id="b")
    async with engine.run_imports():
        await engine.wait_settled(small)
        assert {(await engine.fetch_batch(batch_id))["state"] for batch_id in large} == {"validating"}
        for batch_id in large:
            await engine.cancel(batch_id)


async def test_two_processes_together_apply_a_batch_once(engine: Engine) -> None:
    """Both believe that they hold the lock."""
    await engine.db.execute("UPDATE fsps SET two_persons = true")
    batch_id = await engine.upload_rows(*(f"ALIAS,n{n},,,," for n in range(200)))
    await engine.work(batch_id)
    await engine.decide(batch_id, approve=True)

    async def apply() -> None:
        while (batch := await engine.fetch_batch(batch_id))["state"] == "applying":
            try:
                one = Applying(engine.changes, engine.postgres, batch, Pace())
                while await one.step():
                    pass
            except Superseded:
                pass

    await asyncio.gather(apply(), apply())
    batch = await engine.fetch_batch(batch_id)
    assert (batch["state"], batch["rows_applied"], batch["rows_changed"]) == ("done", 200, 200)
    assert await engine.db.fetchval("SELECT count(*) FROM events WHERE entity = 'alias'") == 200


async def test_a_process_takes_over_imports_when_the_lock_is_free(engine: Engine) -> None:
    holder = await asyncpg.connect(engine.database_url)
    await holder.execute("SELECT pg_advisory_lock($1)", worker.LOCK)
    batch_id = await engine.upload_rows("ALIAS,x,,,,")
    waits = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'oracle imports' AND state = 'idle'"
        " AND datname = current_database()"
    )
    async with engine.run_imports(), asyncio.timeout(60):
        while not await engine.db.fetchval(waits):  # noqa: ASYNC110 - PostgreSQL sends no notice
            await asyncio.sleep(0.01)
        assert (await engine.fetch_batch(batch_id))["state"] == "validating"
        holder.terminate()
        await engine.wait_settled(batch_id)


@pytest.mark.usefixtures("small")
async def test_files_of_one_fsp_are_applied_in_the_order_of_their_approval(engine: Engine) -> None:
    await engine.db.execute("UPDATE fsps SET two_persons = true")
    first = await engine.upload_rows(*["ALIAS,x,,,,"] * 30)
    second = await engine.upload_rows("ALIAS,x,,,,remove")
    await engine.work(first, second)
    await engine.decide(second, approve=True)
    await engine.decide(first, approve=True)
    await engine.work(first, second)
    assert await engine.list_results(second) == [(2, "not_registered")]


def test_a_process_that_waited_for_a_core_rests_before_the_next_portion() -> None:
    pace = Pace()
    pace.adapt(0.5, waited_s=0.02)
    assert pace.rest_s == 0
    pace.adapt(0.5, waited_s=0.2)
    assert pace.rest_s == 0.5 * applying.REST
    pace.adapt(0.5, waited_s=0.02)
    assert pace.rest_s == 0


def test_the_kernel_reports_the_wait_for_a_core(tmp_path: Path) -> None:
    file = tmp_path / "schedstat"
    assert applying.read_waited_s(file) == 0  # there is no such file
    for text, waited_s in (("71 2500000000 9\n", 2.5), ("", 0.0), ("71 many 9\n", 0.0)):
        file.write_text(text)
        assert applying.read_waited_s(file) == waited_s


async def test_a_portion_that_takes_too_long_is_retried(engine: Engine) -> None:
    """Another transaction locks an entry for longer than a change can wait."""
    await engine.import_rows("ALIAS,x,,,,")
    blocker = await asyncpg.connect(engine.database_url)
    async with blocker.transaction():
        await blocker.execute("SELECT FROM aliases FOR UPDATE")
        batch_id = await engine.upload_rows("ALIAS,x,,USD,,replace", "ALIAS,y,,,,")
        async with engine.run_imports():
            await engine.wait_until(batch_id, lambda batch: batch["state"] == "applying")
            async with asyncio.timeout(60):
                while not engine.postgres.take_errors():  # noqa: ASYNC110 - it is a count
                    await asyncio.sleep(0.01)
            await blocker.execute("ROLLBACK")
            await engine.wait_settled(batch_id)
    blocker.terminate()
    assert await engine.list_results(batch_id) == [(2, "changed"), (3, "added")]


async def test_imports_continue_when_the_database_comes_back(start_postgres: StartPostgres, redis_url: str) -> None:
    server = await start_postgres()
    await make_template(server)
    async with open_engine(server.url(await make_database(server)), redis_url, timing=SHORT_LEASES) as engine:
        engine.set_limits(rows_per_chunk=100)
        batch_id = await engine.upload_rows(*(f"ALIAS,n{n},,,," for n in range(4_000)))
        async with engine.run_imports():
            await engine.wait_until(batch_id, lambda batch: batch["rows_applied"] > 1000)
            server.kill()
            await server.start()
            batch = await engine.wait_settled(batch_id)
        assert (batch["state"], batch["rows_applied"], batch["rows_changed"]) == ("done", 4_000, 4_000)
        assert [outcome for _, outcome in await engine.list_results(batch_id)] == ["added"] * 4_000


# Origin of an alias -------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small")
async def test_an_event_leads_to_its_file_its_uploader_and_its_line(engine: Engine) -> None:
    batch_id = await engine.upload_rows(*(f"ALIAS,n{n},,,," for n in range(50)), "ALIAS,n7,,USD,,")
    await engine.work(batch_id)
    event = await engine.db.fetchrow(
        "SELECT *, xact::text AS xact FROM events WHERE party_identifier = 'n7' ORDER BY event_id LIMIT 1"
    )
    assert (event["channel"], event["actor"], event["role"]) == ("import", "maker", "dfsp-maker")
    named = int(event["request_id"].removeprefix("batch:"))
    batch = await engine.fetch_batch(named)
    assert (batch["file_name"], batch["uploaded_by"]) == ("a.csv", "maker")
    key = PartyKey("ALIAS", "n7", "")
    assert [row.line for row in await results.find_rows_about(engine.postgres, named, key, event["xact"])] == [9]
    assert [row.line for row in await results.find_rows_about(engine.postgres, named, key)] == [9, 52]


async def test_the_history_shows_the_uploader_and_the_approver(engine: Engine) -> None:
    await engine.db.execute("UPDATE fsps SET two_persons = true")
    batch_id = await engine.upload_rows("ALIAS,x,,,,")
    await engine.work(batch_id)
    await engine.decide(batch_id, approve=True)
    await engine.work(batch_id)
    events = await engine.db.fetch("SELECT actor, after FROM events WHERE entity = 'batch' ORDER BY event_id")
    found = [(event["actor"], json.loads(event["after"])["state"]) for event in events]
    assert found == [("maker", "validating"), ("maker", "waiting"), ("checker", "applying"), ("maker", "done")]


def test_row_results_keep_their_numbers() -> None:
    """Databases contain them."""
    assert [outcome.code or outcome.status for outcome in ROW_RESULTS] == [
        "added", "changed", "unchanged", "removed", "invalid", "held_elsewhere", "not_registered", "fsp_not_active",
        "not_allowed", "not_accepted", "changed_since",
    ]  # fmt: skip
