"""`oracle budgets`: how much each FSP can still ask, against scans of the directory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from oracle.commands.output import print_note, show_pages
from oracle.commands.verbs import Arguments, add_call

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oracle.commands.client import Client

COLUMNS: Final = ("fspId", "fspClass", "tokens", "size", "refillPerMinute")
_MODES: Final = {
    "off": "budget_mode is off: nobody pays.",
    "observe": "budget_mode is observe: an FSP with an empty bucket is counted, and gets its answers.",
    "enforce": "budget_mode is enforce: an FSP with an empty bucket gets 429, until it has tokens again.",
}


def add(commands: Any) -> None:
    add_call(
        commands, "budgets", _list, "list the budgets of FSPs against scans",
        "Each lookup and each conflict takes tokens of the FSP that asks. With the key of an FSP you see its budget"
        " alone. The line without an FSP is the budget of all sources that the directory does not know.",
    )  # fmt: skip


def _list(client: Client, arguments: Arguments) -> None:
    modes: set[str] = set()
    show_pages(_fetch(client, modes), COLUMNS, as_json=arguments.json)
    for mode in modes:
        print_note(_MODES[mode])


def _fetch(client: Client, modes: set[str]) -> Iterator[list[Any]]:
    cursor = None
    while True:
        page = client.call("GET", "/budgets", query={"cursor": cursor, "limit": 1_000}).body
        modes.add(page["mode"])
        yield page["items"]
        cursor = page["next"]
        if cursor is None:
            return
