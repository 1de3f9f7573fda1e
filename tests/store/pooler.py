"""A pooler between a client and PostgreSQL, as far as a client notices one when it connects.

`keep`      whether it hands on the settings that the client asks for.  PgBouncer refuses most of them, or drops them if
            its ignore_startup_parameters names them.
`own_key`   whether it names a process of its own, as each pooler does that shares a session among clients.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

TRACKED: Final = (b"user", b"database", b"application_name", b"client_encoding")
KEY_DATA: Final = b"K\0\0\0\x0c"  # type, length; then the process and its secret
PIECE_BYTES: Final = 65_536


@asynccontextmanager
async def open_pooler(folder: Path, upstream: Path, *, keep: bool, own_key: bool) -> AsyncIterator[str]:
    """Listen in the folder in front of the socket `upstream`; yield the end of a URL that leads here."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_unix_connection(upstream)
        size = int.from_bytes(await reader.readexactly(4), "big")
        first = await reader.readexactly(size - 4)
        up_writer.write(first_message(first if keep else drop_settings(first)))
        await asyncio.gather(copy(reader, up_writer), copy(up_reader, writer, own_key=own_key))

    server = await asyncio.start_unix_server(accept, folder / ".s.PGSQL.5432")
    try:
        yield f"?host={folder}&port=5432"
    finally:
        server.close()


def first_message(content: bytes) -> bytes:
    return (len(content) + 4).to_bytes(4, "big") + content


def drop_settings(content: bytes) -> bytes:
    """Leave out what a pooler does not track."""
    words = content[4:].split(b"\0")
    pairs = zip(words[::2], words[1::2], strict=False)
    kept = b"".join(b"%b\0%b\0" % pair for pair in pairs if pair[0] in TRACKED)
    return content[:4] + kept + b"\0"


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, own_key: bool = False) -> None:
    with suppress(OSError):
        while piece := await reader.read(PIECE_BYTES):
            at = piece.find(KEY_DATA) if own_key else -1
            if at >= 0:
                piece = piece[: at + 5] + b"\0\0\0\x01" + piece[at + 9 :]
                own_key = False
            writer.write(piece)
            await writer.drain()
    writer.close()
