"""Writes history as files that anybody can check anywhere.

The files are described in `oracle.verifier.manifest`.  Everything streams: the memory is that of a few thousand lines.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Final

import asyncpg
import msgspec

from oracle.audit import log
from oracle.private_files import create_private_file
from oracle.store.queries import QUERIES
from oracle.verifier import leaf, merkle
from oracle.verifier.checkpoint import Checkpoint
from oracle.verifier.manifest import CSV, EVENTS, HASHES, MANIFEST, Manifest, ManifestKey, Since
from oracle.verifier.merkle import Stored

_HASHES_AT_ONCE: Final = 64 * merkle.TILE_WIDTH


class ExportError(Exception):
    """The export cannot be made; one line for the caller."""


async def stream_lines(connection: asyncpg.Connection, begin: int, end: int) -> AsyncGenerator[bytes]:
    """Stream the lines of leaves [begin, end), some thousand at once.  Close it to stop early.  Raises LookupError."""
    async with aclosing(log.stream_leaves(connection, begin, end)) as leaves:
        async for rows in leaves:
            yield b"".join(leaf.line(row) + b"\n" for row in rows)


async def stream_hashes(connection: asyncpg.Connection, begin: int, end: int) -> AsyncGenerator[bytes]:
    """Raises Damaged."""
    while begin < end:
        until = min(end, (begin // _HASHES_AT_ONCE + 1) * _HASHES_AT_ONCE)
        yield b"".join((await log.fetch_hashes(connection, [Stored(0, begin, until - begin)]))[0])
        begin = until


async def make_manifest(
    connection: asyncpg.Connection, begin: int, end: int | None = None, since_size: int | None = None
) -> Manifest:
    """Describe the leaves [begin, end) under the latest checkpoint; by default up to the last.  Raises ExportError."""
    latest = await connection.fetchrow(QUERIES["audit_checkpoint_latest"])
    if latest is None:
        raise ExportError("no event is sealed yet: try again in a second, while `oracle serve` runs")
    size = latest["size"]
    end = size if end is None else end
    if not 0 <= begin <= end <= size:
        raise ExportError(f"the log has {size} leaves: choose a range within them")
    if since_size is not None and not 0 <= since_size <= size:
        raise ExportError(
            f"the older checkpoint has {since_size} leaves, the log only {size}: run `oracle audit verify`"
        )
    sides = merkle.subtrees(0, begin), merkle.subtrees(end, size)
    found = await log.fetch_subtree_hashes(connection, [*sides[0], *sides[1]])
    since = None
    if since_size is not None:
        since = Since(since_size, await log.prove_consistency(connection, since_size, size))
    return Manifest(
        origin=await connection.fetchval(QUERIES["audit_origin"]),
        begin=begin,
        end=end,
        count=end - begin,
        root=latest["root"],
        checkpoint=latest["note"],
        keys=[ManifestKey(*key) for key in await log.fetch_keys(connection)],
        left=[found[each] for each in sides[0]],
        right=[found[each] for each in sides[1]],
        since=since,
    )


def encode_manifest(manifest: Manifest) -> bytes:
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


async def export(
    connection: asyncpg.Connection,
    directory: Path,
    begin: int = 0,
    end: int | None = None,
    *,
    since: Checkpoint | None = None,
    with_csv: bool = False,
) -> Manifest:
    """Into a new or empty directory; the manifest comes last.  Raises ExportError, LookupError, Damaged, OSError."""
    manifest = await make_manifest(connection, begin, end, None if since is None else since.size)
    _make_empty(directory)
    await _write_events(connection, directory, manifest, with_csv=with_csv)
    with create_private_file(directory / HASHES) as file:
        async with aclosing(stream_hashes(connection, manifest.begin, manifest.end)) as parts:
            async for part in parts:
                file.write(part)
    with create_private_file(directory / MANIFEST) as file:
        file.write(encode_manifest(manifest))
    return manifest


def _make_empty(directory: Path) -> None:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise ExportError(f"{directory} is not empty: name a new or empty directory")


async def _write_events(connection: asyncpg.Connection, directory: Path, manifest: Manifest, *, with_csv: bool) -> None:
    with create_private_file(directory / EVENTS) as events:
        table = create_private_file(directory / CSV) if with_csv else None
        try:
            if table is not None:
                table.write(leaf.csv_header())
            async with aclosing(stream_lines(connection, manifest.begin, manifest.end)) as parts:
                async for part in parts:
                    events.write(part)
                    if table is not None:
                        table.write(b"".join(leaf.csv_row(line) for line in part.splitlines()))
        finally:
            if table is not None:
                table.close()
