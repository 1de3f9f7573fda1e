"""`oracle import FILE` and `oracle batch …`: files that are checked, approved by a second person, and applied.

Import.   The file is sent in pieces and is never in memory as a whole.  Then the command asks for the batch twice a
          second, which survives a restart of the service.  It ends when the batch is done or waits for a second
          person.  With `--wait` it waits for the approval too; with `--no-wait` it ends after the upload.
Failure.  A row that is not applied makes the command fail, so that a script notices; the other rows are applied.
Results.  A download that breaks leaves no file that looks complete.
"""
# ruff: noqa: PLC0415 - imports as in cli

from __future__ import annotations

import argparse
import codecs
import itertools
import os
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from oracle.commands.failures import CommandError, Misused, Refused
from oracle.commands.output import (
    format_count,
    format_identifier,
    open_output,
    print_line,
    print_note,
    shorten_time,
    show,
    show_pages,
    write_output,
)
from oracle.commands.verbs import (
    REASON,
    Arguments,
    Verbs,
    add_by,
    add_call,
    add_fsp,
    add_if_match,
    add_limit,
    find_fsp,
    parse_country,
    parse_number,
    parse_past_time,
)

if TYPE_CHECKING:
    from oracle.commands.client import Client, Reply, Upload
    from oracle.commands.progress import Progress

COLUMNS: Final = (
    "batchId", "fspId", "state", "rows.read", "rows.applied", "rows.failed", "uploadedBy", "uploadedAt", "decidedBy",
    "fileName",
)  # fmt: skip
STATES: Final = ("validating", "waiting", "applying", "done", "rejected", "cancelled", "failed")
FINAL: Final = frozenset({"done", "rejected", "cancelled", "failed"})
_MARKS: Final = ((codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
PIECE_BYTES: Final = 256 * 1024
CHECKED_BYTES_MAX: Final = 1024 * 1024  # that one check takes
CHECKED_ROWS_MAX: Final = 100
POLL_EVERY_S: Final = 0.5
POLL_CHANGE_S: Final = 0.1  # the change of one alias is made as soon as the importing process sees it
SILENCE_MAX_S: Final = 60.0  # of the service while a batch is followed: a restart, a failover of its database


def add(commands: Any) -> None:
    upload = add_call(
        commands, "import", _import, "register the aliases of a CSV or NDJSON file",
        "`oracle batch template` prints an example of such a file. Where an FSP needs a second person, rows are applied"
        " after that person has approved the batch.",
    )  # fmt: skip
    upload.add_argument("file", metavar="FILE", help="file with one alias a line; - is stdin (CSV)")
    upload.add_argument("--note", metavar="TEXT", help="a note for the person who approves the file")
    _add_country(upload)
    add_fsp(upload)
    upload.add_argument(
        "--wait", action=argparse.BooleanOptionalAction,
        help="--wait: wait until a second person has approved and all rows are applied; --no-wait: end after the"
        " upload (default: wait until the rows are applied, or approval is needed)",
    )  # fmt: skip
    upload.add_argument("--results", type=Path, metavar="FILE", help="write each row with its result to this file")

    batches = Verbs(
        commands, "batch",
        "follow, approve, reject or cancel files, and changes of one alias that need a second person; download results",
    )  # fmt: skip
    listed = batches.add("list", _list, "list the batches (files, and changes of one alias), newest first")
    listed.add_argument("--fsp", metavar="FSP", help="only batches of this FSP")
    listed.add_argument("--state", choices=STATES, help="only batches in this state")
    add_by(listed, "only batches that this person uploaded, approved, rejected or cancelled")
    listed.add_argument("--uploaded-by", metavar="PERSON", help="only batches that this person uploaded")
    listed.add_argument(
        "--from", dest="since", type=parse_past_time, metavar="TIME",
        help="only those uploaded at this time or later: 2026-11-30 (in UTC), or 7d for a week ago",
    )  # fmt: skip
    listed.add_argument(
        "--to", dest="until", type=parse_past_time, metavar="TIME", help="only those uploaded before this time"
    )
    add_limit(listed)

    for name, work, text in (
        ("show", _show, "show one batch"),
        ("watch", _watch, "follow a batch until it ends"),
    ):
        _add_id(batches.add(name, work, text))

    for name, work, text in (
        (
            "approve",
            _approve,
            "approve batches of another person: files, or changes of one alias; they are then applied",
        ),
        ("reject", _reject, "reject batches of another person"),
        ("cancel", _cancel, "cancel batches; rows that are already applied stay"),
    ):
        decide = batches.add(name, work, text)
        decide.add_argument(
            "batch_ids", nargs="+", type=parse_number, metavar="BATCH", help="number of a batch, as `list` shows it"
        )
        add_fsp(decide)
        decide.add_argument("--reason", required=name == "reject", metavar="TEXT", help=REASON)
        add_if_match(decide)

    results = batches.add("results", _save_results, "download the result of each row", json=False)
    _add_id(results)
    results.add_argument("--format", choices=("csv", "ndjson"), help="format of the file (default: that of the upload)")
    results.add_argument(
        "--failed", nargs="?", const=Path("-"), type=Path, metavar="FILE",
        help="only rows that are not applied, as they came, with line and reason: correct them, and import the file"
        " again (default: print them)",
    )  # fmt: skip
    _add_out(results)

    file = batches.add("file", _save_file, "download the file as it was uploaded", json=False)
    _add_id(file)
    _add_out(file)

    checked = batches.add("check", _check, "check the first MiB of a file as `oracle import` would, and change nothing")
    checked.add_argument("file", metavar="FILE", help="the file; - is stdin")
    _add_country(checked)
    add_fsp(checked)

    template = batches.add("template", _save_template, "print an example of a file for `oracle import`", json=False)
    template.add_argument(
        "format", nargs="?", choices=("csv", "ndjson"), default="csv", help="format of the file (default: csv)"
    )
    _add_out(template)


def _add_country(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--country", type=parse_country, metavar="CC",
        help="country of phone numbers without country code, in rows without a country; for example MX"
        " (default: the country of the FSP)",
    )  # fmt: skip


def _add_id(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("batch_id", type=parse_number, metavar="BATCH", help="number of the batch, as `list` shows it")
    add_fsp(parser)


def _add_out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, metavar="FILE", help="write to this file (default: stdout)")


# Import -----------------------------------------------------------------------------------------------------------


def _import(client: Client, arguments: Arguments) -> None:
    if arguments.results is not None and arguments.wait is False:
        raise Misused("--results needs the end of the import: remove --no-wait")
    with nullcontext() if arguments.results is None else open_output(arguments.results) as results:
        batch = _upload_and_follow(client, arguments)
        if arguments.json:
            show(batch, as_json=True)
        else:
            _sum_up(batch, arguments)
        if results is not None:
            with _download_results(client, batch, None, only_failed=False) as pieces:
                results.writelines(pieces)
    _require_all(batch, arguments)


def _upload_and_follow(client: Client, arguments: Arguments) -> Any:
    """Upload the file, follow the batch, and return it as it is at the end of the wait."""
    from oracle.commands.client import ClientError
    from oracle.commands.progress import Progress

    fsp_id = find_fsp(client, arguments)
    file_name = "stdin" if arguments.file == "-" else Path(arguments.file).name
    # Replaced: a file name can hold bytes that no URL can carry.
    query = {
        "fileName": file_name.encode(errors="replace").decode(),
        "note": arguments.note,
        "country": arguments.country,
    }
    with Progress() as progress, _open(arguments.file) as descriptor:
        upload = _make_upload(arguments.file, descriptor, progress)
        batch = client.call("POST", "/fsps/{fsp_id}/batches", fsp_id=fsp_id, query=query, upload=upload).body
        if arguments.wait is not False:
            try:
                batch = follow(client, batch, progress, through_approval=bool(arguments.wait))
            except (KeyboardInterrupt, ClientError):  # also when the service does not answer any more
                print_note(
                    f"The import continues on the server. To follow it: oracle batch watch {_name(batch, arguments)}"
                )
                raise
    return batch


@contextmanager
def _open(name: str) -> Iterator[int]:
    if name == "-":
        yield sys.stdin.fileno()
        return
    with open(name, "rb", buffering=0) as file:  # noqa: PTH123 - its descriptor is what is wanted
        yield file.fileno()


def _make_upload(name: str, descriptor: int, progress: Progress) -> Upload:
    """A pipe has no size and can be read only once."""
    from oracle.commands.client import Upload

    media_type = "application/x-ndjson" if name.endswith((".ndjson", ".jsonl")) else "text/csv"
    status = os.fstat(descriptor)
    size = status.st_size if stat.S_ISREG(status.st_mode) else None
    return Upload(
        lambda: progress.count_upload(_read_pieces(descriptor, size), size),
        media_type,
        size,
        is_repeatable=size is not None,
    )


def _read_pieces(descriptor: int, size: int | None) -> Iterator[bytes]:
    """Read from the beginning, at most the announced size: the file can grow meanwhile."""
    if size is None:
        while piece := os.read(descriptor, PIECE_BYTES):
            yield piece
        return
    at = 0
    while at < size and (piece := os.pread(descriptor, min(PIECE_BYTES, size - at), at)):
        at += len(piece)
        yield piece


def follow(
    client: Client,
    batch: Any,
    progress: Progress,
    *,
    through_approval: bool,
    poll_every_s: float = POLL_EVERY_S,
    silence_max_s: float = SILENCE_MAX_S,
) -> Any:
    """Ask for the batch until it has ended; without `through_approval` also until it waits for a second person."""
    from oracle.commands.client import ClientError

    answered_at = time.monotonic()
    names = {"fsp_id": batch["fspId"], "batch_id": batch["batchId"]}
    while True:
        progress.report(batch)
        if batch["state"] in FINAL or (batch["state"] == "waiting" and not through_approval):
            return batch
        time.sleep(poll_every_s)
        try:
            batch = client.call("GET", "/fsps/{fsp_id}/batches/{batch_id}", **names).body
            answered_at = time.monotonic()
        except ClientError as exc:
            if exc.is_final or time.monotonic() - answered_at > silence_max_s:
                raise


def _sum_up(batch: Any, arguments: Arguments) -> None:
    rows = batch["rows"]
    print_line(
        f"batch {batch['batchId']} {batch['state']}: {format_count(rows['read'], 'row')} read, {rows['valid']:,} valid,"
        f" {rows['applied']:,} applied, {rows['failed']:,} failed"
    )
    if batch["state"] == "waiting":
        if rows["failed"]:
            print_note(f"To correct the failed rows: oracle batch results {_name(batch, arguments)} --failed fix.csv")
        print_note(f"Another person must approve it: oracle batch approve {_name(batch, arguments)}")


def _require_all(batch: Any, arguments: Arguments) -> None:
    """Raises Refused unless every row is applied or can still be applied."""
    number, state, failed = batch["batchId"], batch["state"], batch["rows"]["failed"]
    if batch["error"] is not None:
        raise Refused(f"batch {number}: {batch['error']['message']}", code=batch["error"]["code"])
    if state in ("rejected", "cancelled"):
        why = f": {batch['decisionReason']}" if state == "rejected" and batch["decisionReason"] else ""
        who = batch["decidedByName"] if state == "rejected" else batch["cancelledByName"]
        fact = f"batch {number} was {state}{f' by {who}' if who else ''}{why}"
        raise Refused(fact, "Correct the file, then import it again: oracle import FILE")
    if state == "done" and failed:
        command = f"oracle batch results {_name(batch, arguments)} --failed"
        raise Refused(f"batch {number}: {format_count(failed, 'row')} failed", f"To see why: {command}")


def _name(batch: Any, arguments: Arguments) -> str:
    """Return the arguments that name this batch in the next command."""
    return f"{batch['batchId']} --fsp {arguments.fsp}" if arguments.fsp else str(batch["batchId"])


def _check(client: Client, arguments: Arguments) -> None:
    """Show the first rows of a file that are not valid.  Raises Refused if there are any."""
    from oracle.commands.client import Upload

    with _open(arguments.file) as descriptor:
        data = bytearray()
        for piece in _read_pieces(descriptor, None):
            data += piece
            if len(data) > CHECKED_BYTES_MAX:
                break
    begin, is_part = bytes(data[:CHECKED_BYTES_MAX]), len(data) > CHECKED_BYTES_MAX
    query = {"country": arguments.country, "isPart": "true" if is_part else None, "limit": CHECKED_ROWS_MAX}
    upload = Upload(lambda: iter((begin,)), "text/csv", len(begin))
    fsp_id = find_fsp(client, arguments)
    checked = client.call("POST", "/fsps/{fsp_id}/batches/check", fsp_id=fsp_id, query=query, upload=upload).body
    if arguments.json:
        show(checked, as_json=True)
    elif checked["error"] is None:
        show_pages([checked["failed"]], ("line", "kind", "code", "message"), as_json=False)
    if checked["error"] is not None:
        raise Refused(checked["error"]["message"], code=checked["error"]["code"])
    rows, of = checked["rows"], "the first " if is_part else ""
    print_note(f"{of}{format_count(rows['read'], 'row')}: {rows['valid']:,} valid, {rows['failed']:,} not valid")
    if rows["failed"]:
        raise Refused(f"{format_count(rows['failed'], 'row')} not valid", "Correct the file, then import it")


# Batches ----------------------------------------------------------------------------------------------------------


def _list(client: Client, arguments: Arguments) -> None:
    query = {
        "state": arguments.state,
        "uploadedBy": arguments.uploaded_by,
        "by": arguments.by,
        "from": arguments.since,
        "to": arguments.until,
    }
    fsp_id = arguments.fsp or client.me["fspId"]
    if fsp_id is None:
        pages = client.fetch_pages("/batches", query=query, limit=arguments.limit)
    else:
        pages = client.fetch_pages("/fsps/{fsp_id}/batches", query=query, limit=arguments.limit, fsp_id=fsp_id)
    name_alias = partial(_name_alias, for_people=sys.stdout.isatty())
    show_pages(pages, COLUMNS, as_json=arguments.json, reshape=name_alias)


def _name_alias(batch: dict[str, Any], *, for_people: bool) -> dict[str, Any]:
    """Name the alias of a batch that changes one, where a file has its name."""
    if batch["change"] is None or batch["change"]["identifier"] is None:
        return batch
    return {**batch, "fileName": f"one alias: {_describe_change(batch['change'], for_people=for_people)}"}


def _describe_change(change: dict[str, Any], *, for_people: bool = False) -> str:
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


def explain_waiting(batch: dict[str, Any], arguments: Arguments) -> None:
    """Say which change of one alias waits, and who can approve it."""
    number = batch["batchId"]
    change = _describe_change(batch["change"], for_people=sys.stdout.isatty())
    print_line(f"batch {number} waits for a second person: {change}")
    print_note(
        f"Nothing is changed yet. A checker of {batch['fspId']} or an operator must approve it, with another key than"
        f" yours: oracle batch approve {_name(batch, arguments)}"
    )


def _read(client: Client, arguments: Arguments) -> Reply:
    return client.call("GET", "/fsps/{fsp_id}/batches/{batch_id}", **_fill_path(client, arguments))


def _show(client: Client, arguments: Arguments) -> None:
    reply = _read(client, arguments)
    _print_reply(reply, arguments)
    if reply.body["state"] == "waiting" and not arguments.json:
        name = _name(reply.body, arguments)
        if reply.body["change"] is None:
            print_note(f"To read its rows, and which of them are not valid: oracle batch results {name}")
        print_note(f"To decide: oracle batch approve {name}, or oracle batch reject {name} --reason TEXT")


def _watch(client: Client, arguments: Arguments) -> None:
    from oracle.commands.progress import Progress

    with Progress() as progress:
        batch = follow(client, _read(client, arguments).body, progress, through_approval=True)
    if arguments.json:
        show(batch, as_json=True)
    else:
        _sum_up(batch, arguments)
    _require_all(batch, arguments)


def _approve(client: Client, arguments: Arguments) -> None:
    def approve(batch_id: int) -> Reply:
        return client.call(
            "POST", "/fsps/{fsp_id}/batches/{batch_id}/approve", body=_make_body(arguments),
            if_match=arguments.if_match, **_fill_path(client, arguments, batch_id),
        )  # fmt: skip

    def finish(decided: Reply) -> Reply:
        return decided if decided.body["change"] is None else _follow_change(client, decided)

    _decide(approve, finish, arguments)


def _explain_applying(batch: dict[str, Any], arguments: Arguments) -> None:
    """Say that the rows of an approved file are not applied yet, and how to see when they are."""
    if batch["state"] == "applying" and not arguments.json:
        print_note(
            f"batch {batch['batchId']} is approved, and its rows are being applied. To see the end, and whether rows"
            f" failed: oracle batch watch {_name(batch, arguments)}"
        )


def _follow_change(client: Client, decided: Reply) -> Reply:
    """Wait until the change of one alias is made.  Raises Refused if the directory refuses it."""
    from oracle.commands.progress import Progress

    with Progress() as progress:
        batch = follow(client, decided.body, progress, through_approval=True, poll_every_s=POLL_CHANGE_S)
    if batch["rows"]["failed"]:
        raise Refused(
            f"batch {batch['batchId']} is approved, but {_find_reason(client, batch)}",
            "The person who made the change can correct it and send it again",
        )
    return decided._replace(body=batch, etag=None)


def _find_reason(client: Client, batch: Any) -> str:
    """Say why the change of one alias was refused."""
    import msgspec

    with _download_results(client, batch, "ndjson", only_failed=True) as pieces:
        row = msgspec.json.decode(b"".join(pieces))
    return f"the alias is not changed: {row['message']} ({row['code']})"


def _reject(client: Client, arguments: Arguments) -> None:
    def reject(batch_id: int) -> Reply:
        return client.call(
            "POST", "/fsps/{fsp_id}/batches/{batch_id}/reject", body=_make_body(arguments),
            if_match=arguments.if_match, **_fill_path(client, arguments, batch_id),
        )  # fmt: skip

    _decide(reject, _finish_at_once, arguments)


def _cancel(client: Client, arguments: Arguments) -> None:
    def cancel(batch_id: int) -> Reply:
        return client.call(
            "POST", "/fsps/{fsp_id}/batches/{batch_id}/cancel", body=_make_body(arguments),
            if_match=arguments.if_match, **_fill_path(client, arguments, batch_id),
        )  # fmt: skip

    _decide(cancel, _finish_at_once, arguments)


def _finish_at_once(decided: Reply) -> Reply:
    return decided


def _decide(decide: Callable[[int], Reply], finish: Callable[[Reply], Reply], arguments: Arguments) -> None:
    """Decide about each batch, then wait for each; of several, go on after a refusal.

    Raises Refused if there was one.
    """
    numbers = arguments.batch_ids
    if len(numbers) == 1:
        one = finish(decide(numbers[0]))
        _print_reply(one, arguments)
        _explain_applying(one.body, arguments)
        return
    if arguments.if_match is not None:
        raise Misused("--if-match is the version of one batch: name one batch")
    decided = [(number, _try(number, partial(decide, number))) for number in numbers]
    ended = [(number, reply and _try(number, partial(finish, reply))) for number, reply in decided]
    for _, reply in ended:
        if reply is not None and arguments.json:
            _print_reply(reply, arguments)
        elif reply is not None:
            shown = _name_alias(reply.body, for_people=sys.stdout.isatty())
            print_line(f"batch {shown['batchId']} {shown['state']}: {shown['fileName']}")
            _explain_applying(reply.body, arguments)
    failed = sum(reply is None for _, reply in ended)
    if failed:
        raise Refused(f"{failed} of {format_count(len(numbers), 'batch', 'batches')} failed", "See the reasons above")


def _try(number: int, work: Callable[[], Reply]) -> Reply | None:
    """Do it for one batch of several; None if it was refused, which is printed."""
    from oracle.commands.client import ClientError

    try:
        return work()
    except Refused as exc:
        print_note(str(exc))
    except ClientError as exc:
        if not exc.is_final:
            raise
        print_note(f"batch {number}: {exc}")
    return None


def _make_body(arguments: Arguments) -> dict[str, str]:
    return {} if arguments.reason is None else {"reason": arguments.reason}


def _fill_path(client: Client, arguments: Arguments, batch_id: int | None = None) -> dict[str, Any]:
    number = arguments.batch_id if batch_id is None else batch_id
    return {"fsp_id": find_fsp(client, arguments), "batch_id": number}


def _print_reply(reply: Reply, arguments: Arguments) -> None:
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
        what = _describe_change(change, for_people=True) if known else change["action"]
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


# Downloads --------------------------------------------------------------------------------------------------------


def _save_results(client: Client, arguments: Arguments) -> None:
    only_failed = arguments.failed is not None
    out = arguments.out
    if only_failed and str(arguments.failed) != "-":
        if out is not None:
            raise Misused("name the file once: after --failed or after --out")
        out = arguments.failed
    if out is not None and str(out) == "-":
        out = None
    names = _fill_path(client, arguments)
    batch = client.call("GET", "/fsps/{fsp_id}/batches/{batch_id}", **names).body
    with _download_results(client, batch, arguments.format, only_failed=only_failed) as pieces:
        if out is None:
            write_output(_as_utf8(pieces) if sys.stdout.isatty() else pieces)
        else:
            _write(pieces, out, replace=not only_failed)
    if only_failed:
        _explain_failed(batch, arguments, out)


def _explain_failed(batch: Any, arguments: Arguments, out: Path | None) -> None:
    """Print what a person can do with the file of failed rows."""
    if batch["state"] == "failed":
        print_note(
            f"The file was refused as a whole ({batch['error']['message']}), so rows are missing here."
            f" Correct the whole file, and import it again: oracle batch file {_name(batch, arguments)}"
        )
    elif batch["state"] not in FINAL:
        print_note(f"Batch {batch['batchId']} has not ended: more rows can fail.")
    elif out is not None:
        print_note(f"Correct the rows in {out}, then: oracle import {out}. It ignores the columns of results.")


def _as_utf8(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Convert results to UTF-8 for a terminal: a file that came in UTF-16 has its results in UTF-16."""
    first = next(pieces, b"")
    found = next((name for mark, name in _MARKS if first.startswith(mark)), None)
    if found is None:
        yield first
        yield from pieces
        return
    decoder = codecs.getincrementaldecoder(found)()
    for piece in itertools.chain((first,), pieces):
        yield decoder.decode(piece).encode()


def _download_results(
    client: Client, batch: Any, form: str | None, *, only_failed: bool
) -> AbstractContextManager[Iterator[bytes]]:
    query = {"format": form, "only": "failed" if only_failed else None}
    names = {"fsp_id": batch["fspId"], "batch_id": batch["batchId"]}
    return client.download("/fsps/{fsp_id}/batches/{batch_id}/results", query=query, **names)


def _save_file(client: Client, arguments: Arguments) -> None:
    with client.download("/fsps/{fsp_id}/batches/{batch_id}/file", **_fill_path(client, arguments)) as pieces:
        _write(pieces, arguments.out)


def _save_template(client: Client, arguments: Arguments) -> None:
    with client.download("/templates/{name}", name=f"import.{arguments.format}") as pieces:
        _write(pieces, arguments.out)


def _write(pieces: Iterable[bytes], out: Path | None, *, replace: bool = True) -> None:
    if out is None or str(out) == "-":
        write_output(pieces)
        return
    try:
        with open_output(out, replace=replace) as file:
            file.writelines(pieces)
    except FileExistsError as exc:  # the failed rows of before, perhaps corrected already
        raise CommandError(f"{out} exists already, and was kept", "Name a new file") from exc
