"""`oracle audit events`, `resolve`, `timeline`, `diff`, `proof`, `reads`, `status`, `fetch …`: by the API.

They are for auditors, who have a key and no access to the database.  A key of one FSP asks about the aliases of that
FSP.  Identifiers go in bodies, never in URLs.  What was fetched is checked by `oracle.verifier`: a proof here at once,
an export by `oracle-verify` on any machine.
"""
# ruff: noqa: PLC0415, T201 - imports as in cli; a command line prints

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from oracle.commands.failures import FOUND, OK, CommandError, Found, Misused, Refused, Unreachable
from oracle.commands.output import (
    explain_nrc,
    format_count,
    format_json,
    format_value,
    note_more,
    open_output,
    print_line,
    print_note,
    shorten_time,
    show,
    show_pages,
    write_output,
)
from oracle.commands.verbs import (
    ALL_KINDS,
    Arguments,
    add_as_stored,
    add_by,
    add_call,
    add_country,
    add_fsp,
    add_limit,
    add_party,
    find_fsp,
    parse_number,
    parse_past_time,
)
from oracle.private_files import create_private_file

if TYPE_CHECKING:
    from oracle.commands.client import Client, Pages

CHANNELS: Final = ("hub", "account-lookup", "admin", "import", "self-heal", "seed", "sql")
ACTIONS: Final = ("registered", "changed", "removed", "ignored")
ENTITIES: Final = (
    *("alias", "fsp", "route", "policy", "credential", "batch", "audit-key", "secret", "oracle"),
    *("endpoints", "jws-key", "als-oracle", "budget", "session"),
    "audit-reads",
)

_ROOT: Final = "/audit/v1"
_EVENT: Final = (
    "at",
    "eventId",
    "entity",
    "action",
    "channel",
    "actor",
    "fspId",
    "kind",
    "identifier",
    "subId",
    "now",
    "reason",
)
_BOOKKEEPING: Final = frozenset({"version", "changed_at", "created_at"})
_READ: Final = ("at", "readId", "credential", "role", "asked", "partyIdType", "identifier", "fspId")

# Why lookups were answered so, for people.
REASONS: Final = {
    "alias": "alias",
    "route": "route",
    "alias_not_answered": "registered, but its FSP was suspended or closed",
    "route_not_answered": "a route decided, but its FSP was suspended or closed",
    "other_currencies": "registered for other currencies only",
    "nobody": "not registered",
}

WATCH_S: Final = 2.0
KEPT: Final = "a checkpoint that you kept, or the directory of an earlier export"

TIME: Final = "2026-03-03T10:00:00Z, 2026-03-03T10:00-06:00, 2026-03-03 (in UTC), or 7d for a week ago"


def add(verbs: Any) -> None:
    """`verbs` are those of `oracle audit`."""
    events = add_call(verbs, "events", _list_events, "list changes of the directory, newest first")
    events.add_argument("--kind", metavar="KIND", help=f"kind of the --identifier: {ALL_KINDS}")
    events.add_argument("--identifier", metavar="IDENTIFIER", help="only changes of this identifier; needs --kind")
    add_country(events)
    events.add_argument("--fsp", metavar="FSP", help="only changes of this FSP and its aliases")
    events.add_argument("--channel", choices=CHANNELS, help="only changes that came this way")
    events.add_argument("--action", choices=ACTIONS, help="only this action")
    events.add_argument("--entity", choices=ENTITIES, help="only changes of this type of object")
    for name, metavar, text in (
        ("actor", "ID", "only changes by this key, FSP or database user, by its id"),
        ("request", "ID", "only changes of the call with this X-Request-ID, or batch:NUMBER for those of a file"),
        ("trace", "ID", "only changes of the call with this trace id"),
    ):
        events.add_argument(f"--{name}", metavar=metavar, help=text)
    add_by(events, "only changes by this person")
    _add_times(events)
    add_limit(events)

    event = add_call(verbs, "event", _show_event, "show one change of the directory, and the file that it came from")
    event.add_argument("event", type=parse_number, metavar="EVENT", help="number of the event, as `events` shows it")

    text = "show which FSP lookups found for an identifier at a given time, and who registered it"
    resolve = add_call(verbs, "resolve", _resolve, text)
    _add_stored_party(resolve)
    resolve.add_argument("--at", type=parse_past_time, metavar="TIME", help=f"{TIME} (default: now)")
    resolve.add_argument("--currency", metavar="CURRENCY", type=str.upper, help="look up for this currency only")

    text = "list how the answer for an identifier changed over time, oldest first"
    timeline = add_call(verbs, "timeline", _list_moments, text)
    _add_stored_party(timeline)
    timeline.add_argument("--currency", metavar="CURRENCY", type=str.upper, help="look up for this currency only")
    add_limit(timeline)

    diff = add_call(verbs, "diff", _list_differences, "list the differences between the aliases of an FSP at two times")
    add_fsp(diff)
    diff.add_argument(
        "--from", dest="since", type=parse_past_time, metavar="TIME", required=True, help=f"the first time: {TIME}"
    )
    diff.add_argument(
        "--to", dest="until", type=parse_past_time, metavar="TIME", required=True, help=f"the second time: {TIME}"
    )

    proof = add_call(verbs, "proof", _check_proof, "fetch the proof that an event is in the sealed log, and check it")
    proof.add_argument("event", type=parse_number, metavar="EVENT", help="number of the event, as `events` shows it")
    proof.add_argument("--checkpoint", type=Path, metavar="FILE", help=f"{KEPT}: the event must be in it")
    proof.add_argument(
        "--out", type=Path, metavar="FILE",
        help="write the proof to this new file, which anybody can check with oracle-verify",
    )  # fmt: skip
    add_keys(proof)

    reads = add_call(verbs, "reads", _list_reads, "list who read history, newest first")
    reads.add_argument("--credential", metavar="ID", help="only reads with the key of this id")
    add_by(reads, "only reads by this person")
    _add_times(reads)
    add_limit(reads)

    add_call(verbs, "verifications", _list_verifications, "list verifications that the service did for people")
    start = add_call(
        verbs, "start-verification", _start_verification, "let the service verify history, and watch it until its end"
    )
    start.add_argument("--log-only", action="store_true", help="do not compare the directory with its events")
    stop = add_call(verbs, "stop-verification", _stop_verification, "stop a verification that waits or runs")
    stop.add_argument("number", type=parse_number, metavar="NUMBER", help="its number, as `verifications` shows it")

    add_call(verbs, "status", _show_status, "show how much of history is sealed")
    text = "fetch the latest signed checkpoint and print it; keep it outside of this system"
    add_call(verbs, "fetch-checkpoint", _fetch_checkpoint, text, json=False)
    text = "fetch the public keys that sign history and print them, newest last; keep them"
    add_call(verbs, "fetch-keys", _fetch_keys, text)

    text = "fetch history as files, like `oracle audit export`, without access to the database"
    fetch = add_call(verbs, "fetch", _fetch, text, json=False)
    fetch.add_argument("directory", type=Path, metavar="DIR", help="directory for the files; new or empty")
    fetch.add_argument(
        "--from", dest="since", type=parse_past_time, metavar="TIME", help=f"begin with events sealed at: {TIME}"
    )
    fetch.add_argument(
        "--to", dest="until", type=parse_past_time, metavar="TIME", help="end with the events sealed before this time"
    )
    fetch.add_argument(
        "--since", dest="kept", type=Path, metavar="FILE",
        help=f"{KEPT}: add the proof that the log extends it",
    )  # fmt: skip
    fetch.add_argument(
        "--after", type=Path, metavar="EXPORT",
        help="directory of an earlier export: fetch what follows it, with the proof that it is the same history",
    )  # fmt: skip
    fetch.add_argument("--csv", action="store_true", help="also write the events as a CSV table")


def add_keys(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--key", action="append", default=[], metavar="KEY",
        help="a public key to trust, or a file of them (from `oracle audit fetch-keys`); can be repeated",
    )  # fmt: skip


def _add_stored_party(parser: argparse.ArgumentParser) -> None:
    add_party(parser)
    add_as_stored(parser)


def _add_times(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--from", dest="since", type=parse_past_time, metavar="TIME", help=f"only at this time or later: {TIME}"
    )
    parser.add_argument("--to", dest="until", type=parse_past_time, metavar="TIME", help="only before this time")


# What happened ----------------------------------------------------------------------------------------------------


def _list_events(client: Client, arguments: Arguments) -> None:
    question = {
        "kind": arguments.kind, "identifier": arguments.identifier, "country": arguments.country,
        "fspId": arguments.fsp, "actor": arguments.actor, "by": arguments.by,
        "channel": arguments.channel, "action": arguments.action,
        "entity": arguments.entity, "requestId": arguments.request, "traceId": arguments.trace,
        "from": arguments.since, "to": arguments.until,
    }  # fmt: skip
    pages = _search(client, "/events/search", question, arguments.limit)
    show_pages(pages, _EVENT, as_json=arguments.json, reshape=_add_summary)


def _show_event(client: Client, arguments: Arguments) -> None:
    path = f"{_ROOT}{_make_prefix(client)}/events/{{event}}"
    event = client.call("GET", client.url + path, event=arguments.event).body
    if arguments.json:
        print_line(format_json(event))
        return
    _explain(event)
    print_line(f"  {describe_change(event)}")


def _add_summary(event: Any) -> Any:
    """Add what the event did: in words for a terminal; elsewhere what is registered now, for programs."""
    return {**event, "now": describe_change(event) if sys.stdout.isatty() else event["after"]}


def describe_change(event: Any) -> str:
    """Write `currency MXN, default yes`; of a change what differs; of a removal what was there."""
    before, after = event["before"] or {}, event["after"] or {}
    if not after:
        return f"nothing; before: {_describe_members(before)}" if before else ""
    if not before:
        return _describe_members(after)
    names = [name for name in after if after[name] != before.get(name) and name not in _BOOKKEEPING]
    return ", ".join(
        f"{_name_member(name)} {_describe_value(after[name])} (before: {_describe_value(before.get(name))})"
        for name in names
    )


def _describe_members(members: Any) -> str:
    return ", ".join(
        f"{_name_member(name)} {_describe_value(value)}"
        for name, value in members.items()
        if name not in _BOOKKEEPING and (value is False or value not in (None, "", [], 0))
    )


def _name_member(name: str) -> str:
    return name.replace("fsp_id", "FSP").replace("_", " ")


def _describe_value(value: Any) -> str:
    if value is None or value in ("", []):
        return "none"
    if value == "infinity":
        return "never"
    text = format_value(value)
    return shorten_time(text.removeprefix("\\x"))


def _resolve(client: Client, arguments: Arguments) -> None:
    question = {**_make_party(arguments), "currency": arguments.currency, "at": arguments.at}
    answer = _post(client, "/resolve", question)
    if arguments.json:
        print_line(format_json(answer))
        return
    answer["reason"] = REASONS.get(answer["reason"], answer["reason"])
    party = answer.pop("party")
    entries, events = answer.pop("entries"), answer.pop("events")
    show({**party, **answer}, as_json=False)
    for entry in entries:
        print_line(f"entry: {entry['fspId']} ({entry['fspStatus']}), {entry['currency'] or 'any currency'}, "
              f"SubId {entry['subId'] or 'none'}, registered by event {entry['eventId']}")  # fmt: skip
    for event in events:
        _explain(event)


def _explain(event: Any) -> None:
    who = _name_person(event, "actor")
    role = f" as {event['role']}" if event["role"] and not event["actorName"] else ""
    reason = f": {event['reason']}" if event["reason"] else ""
    print_line(f"event {event['eventId']}: {event['at']} {event['entity']} {event['action']} by {who}{role}"
          f" through {event['channel']}{reason}")  # fmt: skip
    batch = event["batch"]
    if batch is not None:
        lines = ", ".join(map(str, batch["lines"])) or "unknown"
        print_line(f"  from file {batch['fileName']}, line {lines} (batch {batch['batchId']},"
              f" SHA-256 {batch['fileSha256']})")  # fmt: skip
        print_line(f"  uploaded by {_name_person(batch, 'uploadedBy')} at {batch['uploadedAt']}")
        if batch["decidedBy"]:
            reason = f": {batch['decisionReason']}" if batch["decisionReason"] else ""
            print_line(f"  approved by {_name_person(batch, 'decidedBy')} at {batch['decidedAt']}{reason}")


def _name_person(item: Any, member: str) -> str:
    """Write `Ana (maker of bluebank), key abcdefghijkl`; the id alone for an actor that has no name."""
    name = item[f"{member}Name"]
    return f"{name}, key {item[member]}" if name else str(item[member])


def _list_moments(client: Client, arguments: Arguments) -> None:
    question = {**_make_party(arguments), "currency": arguments.currency}

    def name_party(page: Any) -> None:
        if not arguments.json:
            party = page["party"]
            print_line(f"{party['kind']} {explain_nrc(party['identifier'], party['display'])}")

    pages = _search(client, "/timeline", question, arguments.limit, name_party)
    for page in pages:
        for moment in page:
            if arguments.json:
                print_line(format_json(moment))
                continue
            answer = moment["fspId"] or "nobody"
            currency = f" {moment['currency']}" if moment["currency"] else ""
            print_line(f"{moment['at']}  {answer}{currency} ({REASONS.get(moment['reason'], moment['reason'])})")
            for event in moment["events"]:
                print("  ", end="")
                _explain(event)
    note_more(pages)


def _list_differences(client: Client, arguments: Arguments) -> None:
    path = f"{client.url}{_ROOT}/fsps/{{fsp_id}}/diff"
    query = {"from": arguments.since, "to": arguments.until}
    with client.download(path, query=query, fsp_id=find_fsp(client, arguments)) as pieces:
        last = None
        for line in _split_lines(pieces):
            last = _decode(line)
            if "end" in last:
                break
            print(format_json(last) if arguments.json else _format_difference(last))
    if last is None or "end" not in last:
        raise Unreachable("the connection broke before the list was complete. Try again")
    end = last["end"]
    print_note(f"{end['added']} added, {end['removed']} removed, {end['changed']} changed")


def _format_difference(difference: Any) -> str:
    parts = [f"{sign}{part['currency'] or 'any'}" for sign, name in (("-", "removed"), ("+", "added"))
             for part in difference[name]]  # fmt: skip
    change, type_, sub_id = (format_value(difference[name]) for name in ("change", "partyIdType", "subId"))
    identifier = difference["identifier"]
    shown = format_value(identifier)
    if sys.stdout.isatty():
        type_, shown = _write_party(type_, shown)
    return "\t".join([change, type_, shown, sub_id, *parts])


def _write_party(type_: str, identifier: str) -> tuple[str, str]:
    """Write the kind and the identifier as people write them."""
    from oracle.identifiers import display

    if type_ == "MSISDN":
        return type_, display("MSISDN", identifier).text
    shown = explain_nrc(identifier) if type_ == "PERSONAL_ID" else identifier
    return type_ if shown == identifier else "NRC", shown


def _list_reads(client: Client, arguments: Arguments) -> None:
    query = {"credentialId": arguments.credential, "by": arguments.by, "from": arguments.since, "to": arguments.until}
    pages = client.fetch_pages(f"{client.url}{_ROOT}/reads", query=query, limit=arguments.limit)
    show_pages(pages, _READ, as_json=arguments.json)


# Verifications by the service --------------------------------------------------------------------------------------


def _list_verifications(client: Client, arguments: Arguments) -> None:
    items = client.call("GET", f"{client.url}{_ROOT}/verifications").body["items"]
    for item in items:
        if arguments.json:
            print_line(format_json(item))
        else:
            print_line(_describe_verification(item))


def _start_verification(client: Client, arguments: Arguments) -> int:
    """Return 1 if something differs, as `oracle audit verify` does."""
    from time import sleep

    path = f"{client.url}{_ROOT}/verifications"
    item = client.call("POST", path, body={"directory": not arguments.log_only}).body
    while item["state"] in ("waiting", "running"):
        print_note(_describe_verification(item))
        sleep(WATCH_S)
        item = client.call("GET", f"{path}/{{number}}", number=item["verificationId"]).body
    if arguments.json:
        print_line(format_json(item))
    else:
        for finding in item["listed"]:
            print_line(f"{finding['kind']}: {finding['text']}")
    print_note(_describe_verification(item))
    return OK if item["state"] == "done" and not item["findings"] else FOUND


def _stop_verification(client: Client, arguments: Arguments) -> None:
    path = f"{client.url}{_ROOT}/verifications/{{number}}/stop"
    item = client.call("POST", path, number=arguments.number).body
    print_line(format_json(item) if arguments.json else _describe_verification(item))


def _describe_verification(item: Any) -> str:
    read = f"{format_count(item['leavesRead'], 'event')} of {item['leaves']}"
    rows = f", {format_count(item['rowsRead'], 'row')} of the directory" if item["directory"] else ""
    found = format_count(item["findings"], "difference")
    return f"{item['verificationId']}\t{item['state']}\t{read}{rows}\t{found}"


# The log ----------------------------------------------------------------------------------------------------------


def _show_status(client: Client, arguments: Arguments) -> None:
    show(client.call("GET", f"{client.url}{_ROOT}/log/status").body, as_json=arguments.json)


def _fetch_checkpoint(client: Client, _: Arguments) -> None:
    write_output([_fetch_bytes(client, "/log/checkpoint")])


def _fetch_keys(client: Client, arguments: Arguments) -> None:
    for key in client.call("GET", f"{client.url}{_ROOT}/log/keys").body["items"]:
        print_line(format_json(key) if arguments.json else key["vkey"])


def _check_proof(client: Client, arguments: Arguments) -> None:
    """Check everything here: the service is not trusted."""
    from oracle.commands.client import ClientError
    from oracle.verifier.files import Malformed
    from oracle.verifier.proof import encode_proof, make_proof, verify_proof
    from oracle.verifier.verdict import explain

    kept, trusted = read_checkpoint(arguments.checkpoint), read_verifier_keys(arguments.key)
    size = None if kept is None else _read_size(kept, arguments.checkpoint)
    path = f"{_ROOT}{_make_prefix(client)}/log/entries/{{event}}"
    try:
        answer = client.call("GET", client.url + path, query={"size": size}, event=arguments.event).body
    except ClientError as exc:
        if arguments.checkpoint is None or "it was sealed after" not in str(exc):
            raise
        raise Refused(
            f"the checkpoint in {arguments.checkpoint} is older than event {arguments.event}",
            "Leave out --checkpoint, or give a newer one (`oracle audit fetch-checkpoint`). To prove that history since"
            f" yours is one, too: oracle audit fetch DIR --since {arguments.checkpoint}",
            code=exc.code,
            status=exc.status,
        ) from exc
    keys = client.call("GET", f"{client.url}{_ROOT}/log/keys").body["items"]
    try:
        proof = make_proof(answer, keys, kept)
    except Malformed as exc:
        raise CommandError(str(exc)) from exc
    verdict = verify_proof(proof, trusted, [] if kept is None else [kept])
    if verdict.findings:
        raise Found(f"the proof is not valid: {verdict.findings[0]}")
    if proof.event_id != arguments.event:
        raise Found(f"the proof is not valid: it is of event {proof.event_id}, not of event {arguments.event}")
    made = encode_proof(proof)
    if arguments.out is not None:
        try:
            with open_output(arguments.out, replace=False) as file:
                file.write(made)
        except FileExistsError as exc:
            raise CommandError(f"{arguments.out} exists already, and was kept", "Name a new file with --out") from exc
        print_note(f"The proof is in {arguments.out}. To check it anywhere: oracle-verify proof FILE --key KEY")
    elif arguments.json:
        print_line(format_json(answer))
    else:
        write_output([f"{proof.line}\n".encode()])
    place = f"event {proof.event_id} is leaf {proof.leaf_index} of a history of {proof.size} leaves"
    for line in explain(verdict, place, "the answer"):
        print_note(line)


def _fetch(client: Client, arguments: Arguments) -> None:
    from oracle.verifier.manifest import CSV, EVENTS, HASHES, MANIFEST

    query = {"from": arguments.since, "to": arguments.until}
    if arguments.after is not None:
        if arguments.since is not None or arguments.kept is not None:
            raise Misused("--after begins where the earlier export ends: remove --from and --since")
        query["begin"] = _read_end(arguments.after)
    kept_in = arguments.after or arguments.kept
    kept = read_checkpoint(kept_in)
    if kept is not None:
        query["sinceSize"] = _read_size(kept, kept_in)
    directory: Path = arguments.directory
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise CommandError(f"{directory} is not empty: name a new or empty directory")
    made = _fetch_bytes(client, "/export/manifest.json", query)
    manifest = _decode(made)
    span = {"begin": manifest["begin"], "end": manifest["end"]}
    for name in (EVENTS, HASHES, *([CSV] if arguments.csv else [])):
        with (
            client.download(f"{client.url}{_ROOT}/export/{name}", query=span) as pieces,
            create_private_file(directory / name) as file,
        ):
            for piece in pieces:
                file.write(piece)
    with create_private_file(directory / MANIFEST) as file:  # last: without it, the files are not an export
        file.write(made)
    print_note(
        f"{format_count(manifest['count'], 'event')}, leaves {manifest['begin']} to {manifest['end']}, written to"
        f" {directory}. To check them anywhere: oracle-verify export {directory} --key KEY"
    )


# Files and keys of the auditor -------------------------------------------------------------------------------------


def read_verifier_keys(given: list[str]) -> list[str]:
    """Read the public keys that were typed, and those in files."""
    from oracle.verifier.files import Unreadable, read_keys

    try:
        return read_keys(given)
    except Unreadable as exc:
        raise CommandError(f"--key: {exc}") from exc


def read_checkpoint(path: Path | None) -> str | None:
    """Read the signed note from a file, or from the directory of an earlier export."""
    from oracle.verifier import files

    try:
        return None if path is None else files.read_checkpoint(path)
    except files.Unreadable as exc:
        raise CommandError(str(exc)) from exc


def _read_end(export: Path) -> int:
    """Return the first leaf after those of an export."""
    from oracle.verifier.files import Malformed, Unreadable, read_manifest

    try:
        return read_manifest(export).end
    except (Malformed, Unreadable) as exc:
        raise CommandError(str(exc)) from exc


def _read_size(note: str, path: Path) -> int:
    from oracle.verifier.checkpoint import BadNote, Checkpoint

    try:
        return Checkpoint.of_note(note).size
    except BadNote as exc:
        raise CommandError(f"{path}: {exc}") from exc


# Calls ------------------------------------------------------------------------------------------------------------


def _make_party(arguments: Arguments) -> dict[str, Any]:
    return {"kind": arguments.kind, "identifier": arguments.identifier, "subId": arguments.sub,
            "country": arguments.country, "asStored": arguments.as_stored}  # fmt: skip


def _make_prefix(client: Client) -> str:
    """Make the beginning of the path at which a key of one FSP can ask."""
    from urllib.parse import quote

    fsp_id = client.me["fspId"]
    return "" if fsp_id is None else f"/fsps/{quote(fsp_id, safe='')}"


def _post(client: Client, path: str, question: dict[str, Any]) -> Any:
    body = {name: value for name, value in question.items() if value is not None}
    return client.call("POST", f"{client.url}{_ROOT}{_make_prefix(client)}{path}", body=body, reads=True).body


def _search(
    client: Client, path: str, question: dict[str, Any], limit: int, begin: Callable[[Any], None] = lambda _: None
) -> Pages:
    """`begin` gets the first page as a whole."""
    from oracle.commands.client import Pages

    def fetch(size: int, cursor: str | None) -> Any:
        page = _post(client, path, {**question, "limit": size, "cursor": cursor})
        if cursor is None:
            begin(page)
        return page

    return Pages(fetch, limit)


def _fetch_bytes(client: Client, path: str, query: dict[str, Any] | None = None) -> bytes:
    with client.download(f"{client.url}{_ROOT}{path}", query=query) as pieces:
        return b"".join(pieces)


def _split_lines(pieces: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
    if rest:
        yield rest


def _decode(text: bytes) -> Any:
    import msgspec

    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as exc:
        raise Unreachable("the answer did not come from an audit API. Check ORACLE_ADMIN_URL") from exc
