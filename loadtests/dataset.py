"""Fills an empty directory with 1 to 100 million aliases: `python -m loadtests.dataset --count N`.

For.        Load tests only.  It bypasses the triggers that write events, so history has no event of any row.
            `oracle seed` writes one event for each row, and is slower.
Refuses.    A directory that contains an alias, or an event about one.  It checks that while it holds the tables' lock.
How.        One transaction: triggers off, index off, COPY FREEZE (all rows are visible at once, so no later VACUUM
            must write them a second time), index built in one sort, triggers on, cache generation increased.  If it is
            interrupted, the directory is as empty as before.  CHECK constraints stay on: every key is checked.
Locks.      Lookups that miss the cache wait until it is done.  Fill first and serve later, or wait.
Rights.     It needs the owner of the tables (role `oracle` on the embedded server), not a superuser.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

import asyncpg
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from loadtests.arguments import parse_count
from loadtests.keys import MIXES, SEED, Alias, Keys, Mix, list_fsp_ids
from oracle.run.embedded import EmbeddedError, join_embedded
from oracle.store.migrate import migrate

CHUNK: Final = 20_000
# In the directory that git ignores, but not the one that `serve` uses by default.
DATA_DIR: Final = Path(".oracle/load")
# Sorting 100 million keys of 30 bytes: the more memory, the fewer passes over the disk.
INDEX_MEMORY_MB: Final = 512


class Refused(Exception):
    """The directory is not filled; the text gives the reason in one line."""


class Filled(NamedTuple):
    aliases: int
    copy_s: float
    index_s: float
    vacuum_s: float
    table_bytes: int
    index_bytes: int

    def __str__(self) -> str:
        total_s = self.copy_s + self.index_s + self.vacuum_s
        table, index = self.table_bytes / self.aliases, self.index_bytes / self.aliases
        return "\n".join(
            (
                f"{self.aliases:,} aliases in {total_s:.1f} s: {self.aliases / total_s:,.0f} rows/s in all",
                f"  copy    {self.copy_s:8.1f} s  {self.aliases / self.copy_s:12,.0f} rows/s",
                f"  index   {self.index_s:8.1f} s",
                f"  vacuum  {self.vacuum_s:8.1f} s",
                f"  bytes per alias: {table:.1f} table + {index:.1f} index",
                "  no events were written for them: this directory is for load tests",
            )
        )


async def fill(
    url: str, keys: Keys, count: int, processes: int, advance: Callable[[int], object] = lambda _: None
) -> Filled:
    """Fill the directory, completely or not at all.  Raises Refused."""
    if not 0 < count <= keys.capacity // 2:  # the other half is for keys that are registered nowhere
        raise Refused(f"count {count:,}: the {keys.mix} mix allows 1 to {keys.capacity // 2:,}")
    connection = await asyncpg.connect(url, server_settings={"application_name": "load test dataset"})
    try:
        async with connection.transaction():
            await _take_empty(connection)
            await _add_fsps(connection)
            began = time.monotonic()
            primary_key = await _strip_table(connection)
            await _copy(connection, _make_chunks(keys, count, processes, advance))
            copied = time.monotonic()
            await _restore_table(connection, primary_key)
            await connection.execute("SELECT cache_generation_bump()")
        indexed = time.monotonic()
        await connection.execute("VACUUM (ANALYZE) aliases")
        sizes = await connection.fetchrow(
            "SELECT pg_table_size('aliases') AS table_bytes, pg_indexes_size('aliases') AS index_bytes"
        )
    finally:
        await connection.close()
    return Filled(count, copied - began, indexed - copied, time.monotonic() - indexed, *sizes)


async def _take_empty(connection: Any) -> None:
    # TRUNCATE and ALTER need this lock anyway.  Taken first, it keeps the results of the checks below valid.
    await connection.execute(
        "SET LOCAL lock_timeout = '10s'; LOCK TABLE aliases, alias_currencies IN ACCESS EXCLUSIVE MODE"
    )
    if await connection.fetchval("SELECT EXISTS (SELECT FROM aliases) OR EXISTS (SELECT FROM alias_currencies)"):
        raise Refused("the directory has aliases: use an empty directory")
    if await connection.fetchval("SELECT EXISTS (SELECT FROM events WHERE entity = 'alias')"):
        raise Refused("the directory has a history of aliases: use a directory without one")


async def _add_fsps(connection: Any) -> None:
    """Add the FSPs in the usual way, with events, because they are few."""
    await connection.execute(
        "SELECT set_config('oracle.channel', 'seed', true), set_config('oracle.reason', 'load test', true)"
    )
    await connection.execute(
        "INSERT INTO fsps (fsp_id) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING", list(list_fsp_ids())
    )
    unfit = "SELECT count(*) FROM fsps WHERE fsp_id = ANY ($1) AND status NOT IN ('active', 'provisional')"
    if await connection.fetchval(unfit, list(list_fsp_ids())):
        raise Refused("FSPs with the names fsp-001 to fsp-300 are suspended or closed here: use another directory")


async def _strip_table(connection: Any) -> tuple[str, str]:
    """Prepare the table for COPY; return the name and the definition of the primary key that was removed."""
    name, definition = await connection.fetchrow(
        "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE conrelid = 'aliases'::regclass AND contype = 'p'"
    )
    # FREEZE needs a table that this transaction has truncated.
    await connection.execute(
        f"ALTER TABLE aliases DISABLE TRIGGER USER; ALTER TABLE aliases DROP CONSTRAINT {name}; TRUNCATE aliases"
    )
    return name, definition


async def _restore_table(connection: Any, primary_key: tuple[str, str]) -> None:
    """Add the primary key again, and enable the triggers."""
    name, definition = primary_key
    await connection.execute(
        f"SET LOCAL maintenance_work_mem = '{INDEX_MEMORY_MB}MB';"
        f"ALTER TABLE aliases ADD CONSTRAINT {name} {definition};"
        "ALTER TABLE aliases ENABLE TRIGGER USER"
    )


async def _copy(connection: Any, chunks: AsyncIterator[bytes]) -> None:
    columns = ["identifier", "party_id_type", "sub_id", "fsp_id"]
    await connection.copy_to_table("aliases", source=chunks, columns=columns, format="text", freeze=True)


async def _make_chunks(
    keys: Keys, count: int, processes: int, advance: Callable[[int], object]
) -> AsyncIterator[bytes]:
    """Make chunks in other processes, two chunks ahead in each: PostgreSQL's side of COPY is one process, too."""
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(
        processes, multiprocessing.get_context("spawn"), _prepare, (keys.seed, keys.mix, keys.one_fsp)
    ) as pool:
        pending: deque[tuple[int, asyncio.Future[bytes]]] = deque()
        for start in range(0, count, CHUNK):
            stop = min(start + CHUNK, count)
            pending.append((stop - start, loop.run_in_executor(pool, _make, start, stop)))
            if len(pending) > 2 * processes:
                rows, chunk = pending.popleft()
                yield await chunk
                advance(rows)
        for rows, chunk in pending:
            yield await chunk
            advance(rows)


_keys: Keys | None = None


def _prepare(seed: int, mix: Mix, one_fsp: bool) -> None:
    global _keys  # noqa: PLW0603 - what a process of the pool works with
    _keys = Keys(seed, mix, one_fsp=one_fsp)


def _make(start: int, stop: int) -> bytes:
    return cast("Keys", _keys).make_copy_lines(start, stop)


async def count_aliases(url: str, keys: Keys) -> int:
    """Return the number of aliases in the directory.  Raises Refused if they are not of this seed and mix.

    Finds the last index by bisection: counting 100 million rows takes half a minute.
    """
    connection = await asyncpg.connect(url)
    try:
        if not await connection.fetchval("SELECT EXISTS (SELECT FROM aliases)"):
            return 0
        if not await _has_alias(connection, keys.make_alias(0)):
            raise Refused(f"the directory has other aliases than those of seed {keys.seed}, mix {keys.mix}")
        there, absent = 0, keys.capacity
        while absent - there > 1:
            middle = (there + absent) // 2
            if await _has_alias(connection, keys.make_alias(middle)):
                there = middle
            else:
                absent = middle
    finally:
        await connection.close()
    return there + 1


async def _has_alias(connection: Any, alias: Alias) -> bool:
    found: bool = await connection.fetchval(
        "SELECT EXISTS (SELECT FROM aliases"
        " WHERE (party_id_type, identifier, sub_id, fsp_id) = ($1::party_id_type, $2, $3, $4))",
        *alias,
    )
    return found


async def fill_with_progress(url: str, keys: Keys, count: int, processes: int = 1) -> Filled:
    """Fill the directory, show a progress bar, and print the figures."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    began = time.monotonic()
    done = 0
    with Progress(*columns, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("copy", total=count, rate="")

        def advance(rows: int) -> None:
            nonlocal done
            done += rows
            name = "copy" if done < count else "index, vacuum"
            rate = f"{done / (time.monotonic() - began):,.0f} rows/s"
            progress.update(task, completed=done, rate=rate, description=name)

        filled = await fill(url, keys, count, processes, advance)
    print(filled)
    return filled


async def fill_embedded(data_dir: Path, keys: Keys, count: int, processes: int) -> None:
    """Fill the PostgreSQL of a data directory: that of a running `serve`, or one that is started for this."""
    async with join_embedded(data_dir) as embedded:
        url = embedded.owner_url or ""
        await migrate(url)
        await fill_with_progress(url, keys, count, processes)
    print(f"  serve it with ORACLE_DATA_DIR={data_dir}")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=parse_count, default=1_000_000, help="number of aliases (default 1,000,000)")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--mix", choices=MIXES, default="realistic", help="the ceiling needs `consecutive`")
    parser.add_argument("--one-fsp", action="store_true", help="all aliases are of one FSP, fsp-001")
    parser.add_argument(
        "--processes",
        type=parse_count,
        default=max(1, (os.cpu_count() or 2) - 1),
        help="number of processes that make rows",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--database-url", help="URL of a migrated directory (default: an embedded one)")
    where.add_argument(
        "--data-dir", type=Path, default=DATA_DIR, help=f"data directory of the embedded one (default {DATA_DIR})"
    )
    arguments = parser.parse_args()
    keys = Keys(arguments.seed, arguments.mix, one_fsp=arguments.one_fsp)
    try:
        if arguments.database_url:
            asyncio.run(fill_with_progress(arguments.database_url, keys, arguments.count, arguments.processes))
        else:
            asyncio.run(fill_embedded(arguments.data_dir, keys, arguments.count, arguments.processes))
    except (Refused, EmbeddedError) as exc:
        print(f"dataset: {exc}", file=sys.stderr)
        return 1
    except (OSError, asyncpg.PostgresError) as exc:
        print(f"dataset: {type(exc).__name__}: {str(exc).partition(chr(10))[0]}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
