"""`oracle batch approve`, `reject` and `cancel`: decide about one batch, or about several at once."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from oracle.commands.batch_calls import fill_path, follow, open_results
from oracle.commands.batch_words import name_alias, name_batch, print_reply
from oracle.commands.failures import Misused, Refused
from oracle.commands.output import format_count, print_line, print_note
from oracle.commands.verbs import REASON, Arguments, Verbs, add_fsp, add_if_match, parse_number

if TYPE_CHECKING:
    from oracle.commands.client import Client, Reply

POLL_CHANGE_S: Final = 0.1  # the change of one alias is made as soon as the importing process sees it


def add(batches: Verbs) -> None:
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


def _approve(client: Client, arguments: Arguments) -> None:
    def approve(batch_id: int) -> Reply:
        return client.call(
            "POST", "/fsps/{fsp_id}/batches/{batch_id}/approve", body=_make_body(arguments),
            if_match=arguments.if_match, **fill_path(client, arguments, batch_id),
        )  # fmt: skip

    def finish(decided: Reply) -> Reply:
        return decided if decided.body["change"] is None else _follow_change(client, decided)

    _decide(approve, finish, arguments)


def _reject(client: Client, arguments: Arguments) -> None:
    def reject(batch_id: int) -> Reply:
        return client.call(
            "POST", "/fsps/{fsp_id}/batches/{batch_id}/reject", body=_make_body(arguments),
            if_match=arguments.if_match, **fill_path(client, arguments, batch_id),
        )  # fmt: skip

    _decide(reject, _finish_at_once, arguments)


def _cancel(client: Client, arguments: Arguments) -> None:
    def cancel(batch_id: int) -> Reply:
        return client.call(
            "POST", "/fsps/{fsp_id}/batches/{batch_id}/cancel", body=_make_body(arguments),
            if_match=arguments.if_match, **fill_path(client, arguments, batch_id),
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
        print_reply(one, arguments)
        _explain_applying(one.body, arguments)
        return
    if arguments.if_match is not None:
        raise Misused("--if-match is the version of one batch: name one batch")
    decided = [(number, _try(number, partial(decide, number))) for number in numbers]
    ended = [(number, reply and _try(number, partial(finish, reply))) for number, reply in decided]
    for _, reply in ended:
        if reply is not None and arguments.json:
            print_reply(reply, arguments)
        elif reply is not None:
            shown = name_alias(reply.body, for_people=sys.stdout.isatty())
            print_line(f"batch {shown['batchId']} {shown['state']}: {shown['fileName']}")
            _explain_applying(reply.body, arguments)
    failed = sum(reply is None for _, reply in ended)
    if failed:
        raise Refused(f"{failed} of {format_count(len(numbers), 'batch', 'batches')} failed", "See the reasons above")


def _try(number: int, work: Callable[[], Reply]) -> Reply | None:
    """Do it for one batch of several; None if it was refused, which is printed."""
    from oracle.commands.client import ClientError  # noqa: PLC0415 - imports as in cli

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


# What follows an approval --------------------------------------------------------------------------------------------


def _explain_applying(batch: dict[str, Any], arguments: Arguments) -> None:
    """Say that the rows of an approved file are not applied yet, and how to see when they are."""
    if batch["state"] == "applying" and not arguments.json:
        print_note(
            f"batch {batch['batchId']} is approved, and its rows are being applied. To see the end, and whether rows"
            f" failed: oracle batch watch {name_batch(batch, arguments)}"
        )


def _follow_change(client: Client, decided: Reply) -> Reply:
    """Wait until the change of one alias is made.  Raises Refused if the directory refuses it."""
    from oracle.commands.progress import Progress  # noqa: PLC0415 - imports as in cli

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
    import msgspec  # noqa: PLC0415 - imports as in cli

    with open_results(client, batch, "ndjson", only_failed=True) as pieces:
        row = msgspec.json.decode(b"".join(pieces))
    return f"the alias is not changed: {row['message']} ({row['code']})"
