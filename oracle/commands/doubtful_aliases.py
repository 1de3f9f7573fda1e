"""`oracle alias doubtful`: aliases that were stored under older rules, which the hub refuses or reads otherwise today.

List.     The service looks at every entry, page by page; the command prints the doubtful ones as they come.
Remove.   What was found is kept in a nameless file until the person has agreed.  So exactly the printed entries are
          removed, each by its stored key, and memory is for one of them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from typing import IO, TYPE_CHECKING, Any, Final, Literal

from oracle.commands.failures import Refused
from oracle.commands.output import format_count, format_json, print_note, show_pages
from oracle.commands.verbs import Arguments, Verbs, add_fsp, require_consent

if TYPE_CHECKING:
    from oracle.commands.client import Client

COLUMNS: Final = ("fspId", "partyIdType", "identifier", "subId", "currency", "state", "doubt.message")
PAGE: Final = 1_000
NOT_FOUND: Final = 404


class _Count:
    """How many entries the service has looked at, and how many of them are doubtful."""

    def __init__(self) -> None:
        self.scanned = 0
        self.doubtful = 0


def add(aliases: Verbs) -> None:
    doubtful = aliases.add(
        "doubtful", _search, "list stored aliases that the hub refuses or reads otherwise today, or remove them",
        "Older versions accepted more than this one: phone numbers without their country, currencies that do not exist."
        " Such an alias stays as it is until somebody removes it. Without --fsp, an operator gets those of all FSPs.",
    )  # fmt: skip
    add_fsp(doubtful)
    doubtful.add_argument("--remove", action="store_true", help="remove them, after asking")
    doubtful.add_argument("--yes", action="store_true", help="with --remove: do not ask")


def _search(client: Client, arguments: Arguments) -> None:
    count = _Count()
    with tempfile.TemporaryFile() as found:
        pages = _fetch_all(client, arguments, count, found)
        show_pages(pages, COLUMNS, as_json=arguments.json)
        verb = "is" if count.doubtful == 1 else "are"
        print_note(f"Looked at {format_count(count.scanned, 'entry', 'entries')}: {count.doubtful:,} {verb} doubtful.")
        if arguments.remove and count.doubtful:
            _require_consent(count.doubtful, arguments)
            found.seek(0)
            _remove_all(client, found)


# List -------------------------------------------------------------------------------------------------------------


def _fetch_all(client: Client, arguments: Arguments, count: _Count, found: IO[bytes]) -> Iterator[list[Any]]:
    """Yield what is doubtful, page by page; with --remove, keep it in the file too, as lines of JSON."""
    for fsp_id in _list_fsps(client, arguments):
        for page in _fetch_pages(client, fsp_id):
            items = [{"fspId": fsp_id, **item} for item in page["items"]]
            count.scanned += page["scanned"]
            count.doubtful += len(items)
            if arguments.remove:
                found.writelines(f"{format_json(item)}\n".encode() for item in items)
            if items:
                yield items


def _list_fsps(client: Client, arguments: Arguments) -> Iterator[str]:
    """Yield the FSP of --fsp, else that of the key, else all."""
    named = arguments.fsp or client.me["fspId"]
    if named is not None:
        yield named
        return
    for page in client.fetch_pages("/fsps"):
        yield from (fsp["fspId"] for fsp in page)


def _fetch_pages(client: Client, fsp_id: str) -> Iterator[Any]:
    query: dict[str, Any] = {"limit": PAGE}
    while True:
        page = client.call("GET", "/fsps/{fsp_id}/aliases/doubtful", fsp_id=fsp_id, query=query).body
        yield page
        if page["next"] is None:
            return
        query["cursor"] = page["next"]


# Remove -----------------------------------------------------------------------------------------------------------


def _require_consent(count: int, arguments: Arguments) -> None:
    """Ask.  Raises CommandError unless the person agrees."""
    entries = format_count(count, "doubtful entry", "doubtful entries")
    require_consent(f"{entries} found.", f"Remove {entries}?", "nothing was removed", yes=arguments.yes)


def _remove_all(client: Client, found: Iterable[bytes]) -> None:
    """Remove each; go on after a refusal.  Raises Refused if some could not be removed."""
    from oracle.commands.client import ClientError  # noqa: PLC0415 - imports as in cli

    removed = gone = waiting = refused = 0
    for line in found:
        try:
            became = _remove(client, line)
            removed += became == "removed"
            gone += became == "gone"
            waiting += became == "waiting"
        except ClientError as exc:
            if not exc.is_final:
                raise
            refused += 1
            print_note(f"not removed: {exc}")
    already = f" {format_count(gone, 'entry', 'entries')} had gone already." if gone else ""
    print_note(f"Removed {format_count(removed, 'entry', 'entries')}.{already}")
    if waiting:
        print_note(
            f"{format_count(waiting, 'removal waits', 'removals wait')} for a second person. To see what waits:"
            " oracle batch list --state waiting"
        )
    if refused:
        raise Refused(f"{format_count(refused, 'entry', 'entries')} could not be removed", "See the reasons above")


def _remove(client: Client, line: bytes) -> Literal["removed", "waiting", "gone"]:
    """Remove one entry, or let its removal wait for a second person; `gone`: it did not exist any more."""
    import msgspec  # noqa: PLC0415 - imports as in cli

    from oracle.commands.client import ClientError  # noqa: PLC0415

    entry = msgspec.json.decode(line)
    query = {
        "asStored": True, "subId": entry["subId"], "currency": entry["currency"],
        "reason": "correction", "note": f"doubtful alias: {entry['doubt']['reason'] or entry['doubt']['code']}",
    }  # fmt: skip
    try:
        reply = client.call(
            "DELETE", "/fsps/{fsp_id}/aliases/{kind}/{identifier}", query=query, fsp_id=entry["fspId"],
            kind=entry["partyIdType"], identifier=entry["identifier"],
        )  # fmt: skip
    except ClientError as exc:
        if exc.status == NOT_FOUND:  # the owner removed it, or it went with another entry under its key
            return "gone"
        raise
    return "removed" if reply.body is None else "waiting"
