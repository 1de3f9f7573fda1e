"""Batches as people read them: what a file is, which change of one alias waits, and what to type next."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from oracle.commands.output import format_count, format_identifier, print_line, print_note, shorten_time, show

if TYPE_CHECKING:
    from oracle.commands.client import Reply
    from oracle.commands.verbs import Arguments


def name_batch(batch: Any, arguments: Arguments) -> str:
    """Return the arguments that name this batch in the next command."""
    return f"{batch['batchId']} --fsp {arguments.fsp}" if arguments.fsp else str(batch["batchId"])


def sum_up(batch: Any, arguments: Arguments) -> None:
    """Print how many rows were read and applied, and what a person can do while the batch waits."""
    rows = batch["rows"]
    print_line(
        f"batch {batch['batchId']} {batch['state']}: {format_count(rows['read'], 'row')} read, {rows['valid']:,} valid,"
        f" {rows['applied']:,} applied, {rows['failed']:,} failed"
    )
    if batch["state"] == "waiting":
        name = name_batch(batch, arguments)
        if rows["failed"]:
            print_note(f"To correct the failed rows: oracle batch results {name} --failed fix.csv")
        print_note(f"Another person must approve it: oracle batch approve {name}")


def explain_waiting(batch: dict[str, Any], arguments: Arguments) -> None:
    """Say which change of one alias waits, and who can approve it."""
    number = batch["batchId"]
    change = describe_change(batch["change"], for_people=sys.stdout.isatty())
    print_line(f"batch {number} waits for a second person: {change}")
    print_note(
        f"Nothing is changed yet. A checker of {batch['fspId']} or an operator must approve it, with another key than"
        f" yours: oracle batch approve {name_batch(batch, arguments)}"
    )


def name_alias(batch: dict[str, Any], *, for_people: bool) -> dict[str, Any]:
    """Name the alias of a batch that changes one, where a file has its name."""
    if batch["change"] is None or batch["change"]["identifier"] is None:
        return batch
    return {**batch, "fileName": f"one alias: {describe_change(batch['change'], for_people=for_people)}"}


def describe_change(change: dict[str, Any], *, for_people: bool = False) -> str:
    """Write `update MSISDN 525598765432, SubId x, new currency: USD (now: MXN)`.

    For people the identifier as they write it.
    """
    text = f"{change['action']} {change['kind']} {format_identifier(change) if for_people else change['identifier']}"
    text += f", SubId {change['subId']}" if change["subId"] else ""
    if change["action"] == "update":
        text += f", new currency: {change['currency'] or 'any'}"
    elif change["currency"]:
        text += f", currency {change['currency']}"
    return text + _describe_present(change)


def _describe_present(change: dict[str, Any]) -> str:
    """Write ` (now: MXN, USD)` while the change waits; of a new alias nothing."""
    present = change.get("present")
    if present is None or (not present and change["action"] == "add"):
        return ""
    return f" (now: {', '.join(each or 'any' for each in present) or 'not registered'})"


# One batch, in a few lines -------------------------------------------------------------------------------------------


def print_reply(reply: Reply, arguments: Arguments) -> None:
    """Print the batch: grouped at a terminal, elsewhere each member for itself."""
    grouped = sys.stdout.isatty() and not arguments.json
    show(summarise(reply.body) if grouped else reply.body, as_json=arguments.json, version=reply.etag)


def summarise(batch: dict[str, Any]) -> dict[str, str]:
    """Group the members of a batch into a few lines for people; what is not so yet has no line."""
    rows, change, error = batch["rows"], batch["change"], batch["error"]
    lines = {
        "batch": f"{batch['batchId']} of {batch['fspId']}",
        "state": batch["state"],
        "error": error and f"{error['message']} ({error['code']})",
        "file": f"{batch['fileName']} ({batch['fileFormat']}, {batch['fileBytes']:,} bytes)",
        "SHA-256": batch["fileSha256"],
        "country": batch["country"],
        "note": batch["note"],
        "uploaded": _describe_act(batch, "uploadedAt", "uploadedBy"),
        "rows": f"{rows['read']:,} read, {rows['valid']:,} valid, {rows['applied']:,} applied"
        f" ({rows['changed']:,} changed something), {rows['failed']:,} failed",
        "speed": _describe_speed(batch),
        "checked": _describe_act(batch, "validatedAt", ""),
        "rejected" if batch["state"] == "rejected" else "approved": _describe_act(batch, "decidedAt", "decidedBy"),
        "decision reason": batch["decisionReason"],
        "cancelled": batch["cancelledBy"] and _describe_act(batch, "finishedAt", "cancelledBy"),
        "applied from": _describe_act(batch, "startedAt", ""),
        "finished": _describe_act(batch, "finishedAt", ""),
        "file deleted": _describe_act(batch, "fileDeletedAt", ""),
    }
    if change is not None:
        known = change["identifier"] is not None
        what = describe_change(change, for_people=True) if known else change["action"]
        lines["change"] = f"{what}, only of the version that its maker saw" if change["ifMatch"] else what
        for name in ("file", "SHA-256", "country", "checked", "applied from"):
            del lines[name]
        if batch["state"] == "waiting":
            del lines["rows"]
        lines["reason"], lines["asked for"] = lines.pop("note"), lines.pop("uploaded")
    order = ("batch", "state", "change", "reason", "asked for")
    return {name: text for name in (*order, *lines) if (text := lines.get(name))}


def _describe_act(batch: dict[str, Any], at: str, by: str) -> str:
    """Write `2026-11-28 19:05:15Z by Ana (maker of bluebank)`; '' if it did not happen."""
    if batch[at] is None:
        return ""
    who = by and (batch[f"{by}Name"] or batch[by])
    return shorten_time(batch[at]) + (f" by {who}" if who else "")


def _describe_speed(batch: dict[str, Any]) -> str:
    if not batch["rowsPerS"]:
        return ""
    left = "" if batch["secondsLeft"] is None else f", {batch['secondsLeft']:,.0f} s left"
    return f"{batch['rowsPerS']:,.0f} rows/s{left}"
