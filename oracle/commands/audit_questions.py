"""`oracle audit events`, `resolve`, `timeline`, `diff`, `proof`, `reads`, `status`, `fetch …`.

By the API, for auditors, who have a key and no access to the database; a key that is bound to an FSP asks about that
FSP's aliases.
Identifiers go in bodies, never in URLs.  What is fetched is checked before it is called good: a proof against the
checkpoint that came with it, an export by `oracle audit verify --offline`, which needs nothing of this.
"""
# ruff: noqa: PLC0415, T201 - imports as in cli; a command line prints

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from oracle.commands.output import json_line, note, show, show_pages, text_of
from oracle.commands.verbs import CommandError, add_fsp, add_limit, calling, fsp_of, number, past

if TYPE_CHECKING:
    from oracle.audit.checkpoint import Checkpoint
    from oracle.commands.client import Client

Arguments = argparse.Namespace
Command = Callable[[Any, str, Callable[[Arguments], int], str], argparse.ArgumentParser]

CHANNELS: Final = ("hub", "admin", "import", "self-heal", "seed", "sql")
ACTIONS: Final = ("registered", "changed", "removed", "ignored")
ENTITIES: Final = ("alias", "fsp", "route", "policy", "credential", "batch")

_ROOT: Final = "/audit/v1"
_EVENT: Final = ("at", "eventId", "entity", "action", "channel", "actor", "fspId", "kind", "identifier", "subId", "now")
_READ: Final = ("at", "readId", "credentialId", "role", "asked", "partyIdType", "identifier", "fspId")
_PAGE: Final = 1_000

WHEN: Final = "2026-03-03T10:00:00Z, 2026-03-03, or 7d for a week ago"


def add(kinds: Any, command: Command) -> None:
    """`kinds` are the subcommands of `oracle audit`."""
    events = calling(kinds, command, "events", _events, "list changes, the newest first")
    events.add_argument("--kind", metavar="KIND", help="with --identifier")
    events.add_argument("--identifier", metavar="ID", help="in any spelling of its kind")
    events.add_argument("--country", metavar="CC", help="allows the national form of an MSISDN")
    events.add_argument("--fsp", metavar="FSP", help="only this one's")
    events.add_argument("--channel", choices=CHANNELS, help="only through this one")
    events.add_argument("--action", choices=ACTIONS, help="only these")
    events.add_argument("--entity", choices=ENTITIES, help="only of these")
    for name, text in (
        ("actor", "a credential, an FSP or a database user"),
        ("request", "an X-Request-ID, or batch:NUMBER for what a file did"),
        ("trace", "a trace id"),
    ):
        events.add_argument(f"--{name}", metavar=name[0].upper(), help=text)
    _add_times(events)
    add_limit(events)

    resolve = calling(kinds, command, "resolve", _resolve, "what the hub was told of an identifier, and who made it so")
    _add_party(resolve)
    resolve.add_argument("--at", type=past, metavar="WHEN", help=f"{WHEN}; left out: now")
    resolve.add_argument("--currency", metavar="C", type=str.upper)

    timeline = calling(kinds, command, "timeline", _timeline, "the life of an identifier, the oldest first")
    _add_party(timeline)
    timeline.add_argument("--currency", metavar="C", type=str.upper)
    add_limit(timeline)

    diff = calling(kinds, command, "diff", _diff, "how an FSP's aliases at one instant differ from those at another")
    add_fsp(diff)
    diff.add_argument("--from", dest="since", type=past, metavar="WHEN", required=True, help=WHEN)
    diff.add_argument("--to", dest="until", type=past, metavar="WHEN", required=True, help="the other instant")

    proof = calling(kinds, command, "proof", _proof, "prove that an event is in the log, and check the proof")
    proof.add_argument("event", type=number, metavar="EVENT", help="its number")
    proof.add_argument("--checkpoint", type=Path, metavar="FILE", help="one that was kept: the event has to be in it")
    add_keys(proof)

    reads = calling(kinds, command, "reads", _reads, "who read history, the newest first")
    reads.add_argument("--credential", metavar="ID", help="only what this one asked")
    _add_times(reads)
    add_limit(reads)

    calling(kinds, command, "status", _status, "how far history is sealed")
    text = "print the latest signed checkpoint, by the API: keep it elsewhere"
    calling(kinds, command, "fetch-checkpoint", _fetch_checkpoint, text, json=False)
    text = "print the public keys of the log, the newest last, by the API: write them down"
    calling(kinds, command, "fetch-keys", _fetch_keys, text)

    text = "write an export as `oracle audit export` makes it, but by the API"
    fetch = calling(kinds, command, "fetch", _fetch, text, json=False)
    fetch.add_argument("directory", type=Path, metavar="DIR", help="new, or empty")
    fetch.add_argument("--from", dest="since", type=past, metavar="WHEN", help=f"what was sealed from here on: {WHEN}")
    fetch.add_argument("--to", dest="until", type=past, metavar="WHEN", help="what was sealed before this")
    fetch.add_argument("--since", dest="kept", type=Path, metavar="FILE", help="prove that this checkpoint is extended")
    fetch.add_argument("--csv", action="store_true", help="a table as well")


def add_keys(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--key", action="append", default=[], metavar="VKEY", help="a public key to trust, or a file of them"
    )


def _add_party(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", metavar="KIND", help="MSISDN, CLABE, NRC, ACCOUNT_ID, …")
    parser.add_argument("identifier", metavar="ID", help="in any spelling of its kind")
    parser.add_argument("--sub", metavar="S", help="the SubId or type")
    parser.add_argument("--country", metavar="CC", help="allows the national form of an MSISDN")
    parser.add_argument("--as-stored", action="store_true", help="letter by letter: stored under older rules")


def _add_times(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--from", dest="since", type=past, metavar="WHEN", help=f"from here on: {WHEN}")
    parser.add_argument("--to", dest="until", type=past, metavar="WHEN", help="before this")


# What happened ----------------------------------------------------------------------------------------------------


def _events(client: Client, arguments: Arguments) -> None:
    asked = {
        "kind": arguments.kind, "identifier": arguments.identifier, "country": arguments.country,
        "fspId": arguments.fsp, "actor": arguments.actor, "channel": arguments.channel, "action": arguments.action,
        "entity": arguments.entity, "requestId": arguments.request, "traceId": arguments.trace,
        "since": arguments.since, "until": arguments.until,
    }  # fmt: skip
    pages = _pages(client, "/events/search", asked, arguments.limit)
    show_pages(pages, _EVENT, as_json=arguments.json, shaped=_shaped)


def _shaped(event: Any) -> Any:
    return {**event, "actor": event["actorLabel"] or event["actor"], "now": event["after"]}


def _resolve(client: Client, arguments: Arguments) -> None:
    asked = {**_party(arguments), "currency": arguments.currency, "at": arguments.at}
    told = _post(client, "/resolve", asked)
    if arguments.json:
        print(json_line(told))
        return
    party = told.pop("party")
    entries, events = told.pop("entries"), told.pop("events")
    show({**party, **told}, as_json=False)
    for entry in entries:
        print(f"stood: {entry['fspId']} ({entry['fspStatus']}) {entry['currency'] or 'any currency'}, "
              f"SubId {entry['subId'] or 'none'}, by event {entry['eventId']}")  # fmt: skip
    for event in events:
        _explain(event)


def _explain(event: Any) -> None:
    who = f"{event['actorLabel']} ({event['actor']})" if event["actorLabel"] else event["actor"]
    role = f" as {event['role']}" if event["role"] else ""
    print(f"event {event['eventId']}: {event['at']} {event['entity']} {event['action']} by {text_of(who)}{role}"
          f" through {event['channel']}" + (f": {text_of(event['reason'])}" if event["reason"] else ""))  # fmt: skip
    batch = event["batch"]
    if batch is not None:
        lines = ", ".join(map(str, batch["lines"])) or "unknown"
        print(f"  from file {text_of(batch['fileName'])}, line {lines} (batch {batch['batchId']},"
              f" SHA-256 {batch['fileSha256']})")  # fmt: skip
        uploader = batch["uploadedByLabel"] or batch["uploadedBy"]
        print(f"  uploaded by {text_of(uploader)} ({batch['uploadedBy']}) at {batch['uploadedAt']}")
        if batch["decidedBy"]:
            decider = batch["decidedByLabel"] or batch["decidedBy"]
            reason = f": {text_of(batch['decisionReason'])}" if batch["decisionReason"] else ""
            print(f"  let in by {text_of(decider)} ({batch['decidedBy']}) at {batch['decidedAt']}{reason}")


def _timeline(client: Client, arguments: Arguments) -> None:
    pages = _pages(client, "/timeline", {**_party(arguments), "currency": arguments.currency}, arguments.limit)
    for page in pages:
        for moment in page:
            if arguments.json:
                print(json_line(moment))
                continue
            answer = moment["fspId"] or "nobody"
            print(f"{moment['at']}  {answer} {moment['currency'] or ''} ({moment['reason']})")
            for event in moment["events"]:
                print("  ", end="")
                _explain(event)


def _diff(client: Client, arguments: Arguments) -> None:
    path = f"{client.url}{_ROOT}/fsps/{{fsp_id}}/diff"
    query = {"from": arguments.since, "to": arguments.until}
    with client.download(path, query=query, fsp_id=fsp_of(client, arguments)) as pieces:
        last = None
        for line in _lines(pieces):
            last = _decoded(line)
            if "end" in last:
                break
            print(json_line(last) if arguments.json else _difference(last))
    if last is None or "end" not in last:
        raise CommandError("the answer broke off")
    end = last["end"]
    note(f"{end['added']} added, {end['removed']} removed, {end['changed']} changed")


def _difference(told: Any) -> str:
    parts = [f"{sign}{part['currency'] or 'any'}" for sign, name in (("-", "removed"), ("+", "added"))
             for part in told[name]]  # fmt: skip
    return "\t".join([told["change"], told["partyIdType"], text_of(told["identifier"]), text_of(told["subId"]), *parts])


def _reads(client: Client, arguments: Arguments) -> None:
    query = {"credentialId": arguments.credential, "from": arguments.since, "to": arguments.until}
    pages = client.pages(f"{client.url}{_ROOT}/reads", query=query, limit=arguments.limit)
    show_pages(pages, _READ, as_json=arguments.json)


# The log ----------------------------------------------------------------------------------------------------------


def _status(client: Client, arguments: Arguments) -> None:
    show(client.call("GET", f"{client.url}{_ROOT}/log/status").body, as_json=arguments.json)


def _fetch_checkpoint(client: Client, _: Arguments) -> None:
    sys.stdout.write(_raw(client, "/log/checkpoint").decode())


def _fetch_keys(client: Client, arguments: Arguments) -> None:
    for key in client.call("GET", f"{client.url}{_ROOT}/log/keys").body["items"]:
        print(json_line(key) if arguments.json else key["vkey"])


def _proof(client: Client, arguments: Arguments) -> None:
    """Everything that can be wrong with it is looked at here; the service is not believed."""
    from oracle.audit.checkpoint import BadNote, Checkpoint, Note, Verifier

    kept, keys = text_of_file(arguments.checkpoint), vkeys_of(arguments.key)
    try:
        size = None if kept is None else Checkpoint.of_note(kept).size
        path = f"{_ROOT}{_own(client)}/log/entries/{{event}}"
        told = client.call("GET", client.url + path, query={"size": size}, event=arguments.event).body
        given = kept or told["checkpoint"] or ""
        checkpoint = Checkpoint.of_note(given)
        signed = [key for key in keys if Note.of(given).is_signed_by(Verifier.of(key))]
    except BadNote as exc:
        raise CommandError(f"the checkpoint cannot be read: {exc}") from exc
    if not is_proved(told, arguments.event, checkpoint):
        raise CommandError("the proof does not hold")
    if keys and not signed:
        raise CommandError("the checkpoint is not signed by a key that is trusted")
    if arguments.json:
        print(json_line(told))
        return
    print(told["line"])
    note(f"leaf {told['leafIndex']} of {checkpoint.size}: the proof holds under"
         f" {'the checkpoint that was kept' if kept else 'the latest checkpoint'}"
         f"{'' if keys else ' (no --key was given: its signature was not looked at)'}")  # fmt: skip


def is_proved(told: Any, event_id: int, checkpoint: Checkpoint) -> bool:
    """Whether an answer holds the line of this event, and leads from it to the root of the checkpoint."""
    from base64 import b64decode

    from oracle.audit import leaf, merkle

    try:
        line = told["line"].encode()
        proof = [b64decode(each, validate=True) for each in told["proof"]]
        is_it = leaf.read(line).event_id == event_id
        hashed = leaf.leaf_hash(line)
        return is_it and merkle.verify_inclusion(told["leafIndex"], checkpoint.size, hashed, proof, checkpoint.root)
    except (LookupError, TypeError, ValueError, AttributeError):
        return False


def _fetch(client: Client, arguments: Arguments) -> None:
    from oracle.audit.checkpoint import BadNote, Checkpoint
    from oracle.audit.export import CSV, EVENTS, HASHES, MANIFEST

    query = {"from": arguments.since, "to": arguments.until}
    kept = text_of_file(arguments.kept)
    if kept is not None:
        try:
            query["sinceSize"] = Checkpoint.of_note(kept).size
        except BadNote as exc:
            raise CommandError(f"{arguments.kept}: {exc}") from exc
    directory: Path = arguments.directory
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise CommandError(f"{directory} is not empty")
    made = _raw(client, "/export/manifest.json", query)
    told = _decoded(made)
    span = {"begin": told["begin"], "end": told["end"]}
    for name in (EVENTS, HASHES, *([CSV] if arguments.csv else [])):
        with (
            client.download(f"{client.url}{_ROOT}/export/{name}", query=span) as pieces,
            (directory / name).open("xb") as file,
        ):
            for piece in pieces:
                file.write(piece)
    (directory / MANIFEST).write_bytes(made)  # last: without it, it is no export
    note(f"{told['count']} leaves, {told['begin']} to {told['end']}, in {directory}: oracle audit verify --offline")


# Files and keys that were kept ------------------------------------------------------------------------------------


def vkeys_of(given: list[str]) -> list[str]:
    """The public keys that were typed, and those in the files that were named."""
    from oracle.audit.checkpoint import BadNote, Verifier

    texts = [each if "+" in each else text_of_file(Path(each)) or "" for each in given]
    try:
        keys = [Verifier.of(line).vkey for text in texts for line in text.splitlines() if line.strip()]
    except BadNote as exc:
        raise CommandError(f"--key: {exc}") from exc
    if given and not keys:  # else another key would be trusted, or none
        raise CommandError("--key: there is none in the file")
    return keys


def text_of_file(path: Path | None) -> str | None:
    try:
        return None if path is None else path.read_text(encoding="utf-8")
    except OSError as exc:
        raise CommandError(f"{path}: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise CommandError(f"{path}: is not text") from exc


# Calls ------------------------------------------------------------------------------------------------------------


def _party(arguments: Arguments) -> dict[str, Any]:
    return {"kind": arguments.kind, "identifier": arguments.identifier, "subId": arguments.sub,
            "country": arguments.country, "asStored": arguments.as_stored}  # fmt: skip


def _own(client: Client) -> str:
    """For a key that is bound to an FSP, where it may ask."""
    from urllib.parse import quote

    fsp_id = client.me["fspId"]
    return "" if fsp_id is None else f"/fsps/{quote(fsp_id, safe='')}"


def _post(client: Client, path: str, asked: dict[str, Any]) -> Any:
    said = {name: value for name, value in asked.items() if value is not None}
    return client.call("POST", f"{client.url}{_ROOT}{_own(client)}{path}", body=said, reads=True).body


def _pages(client: Client, path: str, asked: dict[str, Any], limit: int) -> Iterator[list[Any]]:
    left = limit
    while True:
        page = _post(client, path, {**asked, "limit": min(left, _PAGE) if limit else _PAGE})
        if page["items"]:
            yield page["items"]
        left -= len(page["items"])
        if page["next"] is None or (limit and left <= 0):
            return
        asked = {**asked, "cursor": page["next"]}


def _raw(client: Client, path: str, query: dict[str, Any] | None = None) -> bytes:
    with client.download(f"{client.url}{_ROOT}{path}", query=query) as pieces:
        return b"".join(pieces)


def _lines(pieces: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
    if rest:
        yield rest


def _decoded(text: bytes) -> Any:
    import msgspec

    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as exc:
        raise CommandError("the answer is none of the audit API") from exc
