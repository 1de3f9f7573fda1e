"""How a directory differs from its events: nothing, whatever the service did with it."""

from __future__ import annotations

from contextlib import aclosing

from spoken import require_translations

from oracle.audit import log
from oracle.audit.directory import WHOLE, Comparison, open_snapshot


async def list_differences(url: str, chunk: int = 3) -> list[str]:
    """List them as `oracle audit verify --directory` prints them."""
    connection = await log.connect(url, "test")
    try:
        comparison = Comparison(connection, chunk=chunk)
        async with open_snapshot(connection, WHOLE), aclosing(comparison.find()) as found:
            differences = [each.finding async for each in found]
    finally:
        await connection.close()
    for each in differences:
        require_translations(each.where)
    return [str(each) for each in differences]
