"""`oracle import FILE` and `oracle batch …`: files that are checked, approved by a second person, and applied.

The modules beside this one have what each command does: `batch_uploads`, `batch_decisions` and `batch_downloads`.
Here are the declaration of all and the commands that show batches.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from oracle.commands import batch_decisions, batch_downloads, batch_uploads
from oracle.commands.batch_calls import add_id, follow, read_batch, require_all
from oracle.commands.batch_words import name_alias, name_batch, print_reply, sum_up
from oracle.commands.output import print_note, show, show_pages
from oracle.commands.verbs import Arguments, Verbs, add_by, add_limit, parse_past_time

if TYPE_CHECKING:
    from oracle.commands.client import Client

COLUMNS: Final = (
    "batchId", "fspId", "state", "rows.read", "rows.applied", "rows.failed", "uploadedBy", "uploadedAt", "decidedBy",
    "fileName",
)  # fmt: skip
STATES: Final = ("validating", "waiting", "applying", "done", "rejected", "cancelled", "failed")


def add(commands: Any) -> None:
    batch_uploads.add_import(commands)
    batches = Verbs(
        commands, "batch",
        "follow, approve, reject or cancel files, and changes of one alias that need a second person; download results",
    )  # fmt: skip
    _add_list(batches)
    add_id(batches.add("show", _show, "show one batch"))
    add_id(batches.add("watch", _watch, "follow a batch until it ends"))
    batch_decisions.add(batches)
    batch_downloads.add(batches)
    batch_uploads.add_check(batches)
    batch_downloads.add_template(batches)


def _add_list(batches: Verbs) -> None:
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
    reshape = partial(name_alias, for_people=sys.stdout.isatty())
    show_pages(pages, COLUMNS, as_json=arguments.json, reshape=reshape)


def _show(client: Client, arguments: Arguments) -> None:
    reply = read_batch(client, arguments)
    print_reply(reply, arguments)
    if reply.body["state"] == "waiting" and not arguments.json:
        name = name_batch(reply.body, arguments)
        if reply.body["change"] is None:
            print_note(f"To read its rows, and which of them are not valid: oracle batch results {name}")
        print_note(f"To decide: oracle batch approve {name}, or oracle batch reject {name} --reason TEXT")


def _watch(client: Client, arguments: Arguments) -> None:
    from oracle.commands.progress import Progress  # noqa: PLC0415 - imports as in cli

    with Progress() as progress:
        batch = follow(client, read_batch(client, arguments).body, progress, through_approval=True)
    if arguments.json:
        show(batch, as_json=True)
    else:
        sum_up(batch, arguments)
    require_all(batch, arguments)
