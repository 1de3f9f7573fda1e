"""`oracle audit proof`, `status`, `fetch …`: what an auditor takes from the service, to check it elsewhere.

All of it is checked without trust in the service: a proof here at once, by `oracle.verifier`; an export by
`oracle-verify` on any machine.
"""
# ruff: noqa: PLC0415 - imports as in cli

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from oracle.commands.audit_questions import ROOT, TIME, decode, make_prefix
from oracle.commands.failures import CommandError, Found, Misused, Refused
from oracle.commands.output import (
    format_count,
    format_json,
    open_output,
    print_line,
    print_note,
    show,
    write_output,
)
from oracle.commands.verbs import (
    Arguments,
    add_call,
    parse_number,
    parse_past_time,
)
from oracle.private_files import create_private_file

if TYPE_CHECKING:
    from oracle.commands.client import Client

KEPT: Final = "a checkpoint that you kept, or the directory of an earlier export"


def add(verbs: Any) -> None:
    """`verbs` are those of `oracle audit`."""
    proof = add_call(verbs, "proof", _check_proof, "fetch the proof that an event is in the sealed log, and check it")
    proof.add_argument("event", type=parse_number, metavar="EVENT", help="number of the event, as `events` shows it")
    proof.add_argument("--checkpoint", type=Path, metavar="FILE", help=f"{KEPT}: the event must be in it")
    proof.add_argument(
        "--out", type=Path, metavar="FILE",
        help="write the proof to this new file, which anybody can check with oracle-verify",
    )  # fmt: skip
    add_keys(proof)

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


# The log ----------------------------------------------------------------------------------------------------------


def _show_status(client: Client, arguments: Arguments) -> None:
    show(client.call("GET", f"{client.url}{ROOT}/log/status").body, as_json=arguments.json)


def _fetch_checkpoint(client: Client, _: Arguments) -> None:
    write_output([_fetch_bytes(client, "/log/checkpoint")])


def _fetch_keys(client: Client, arguments: Arguments) -> None:
    for key in client.call("GET", f"{client.url}{ROOT}/log/keys").body["items"]:
        print_line(format_json(key) if arguments.json else key["vkey"])


def _check_proof(client: Client, arguments: Arguments) -> None:
    """Check everything here: the service is not trusted."""
    from oracle.commands.client import ClientError
    from oracle.verifier.files import Malformed
    from oracle.verifier.proof import encode_proof, make_proof, verify_proof
    from oracle.verifier.verdict import explain

    kept, trusted = read_checkpoint(arguments.checkpoint), read_verifier_keys(arguments.key)
    size = None if kept is None else _read_size(kept, arguments.checkpoint)
    path = f"{ROOT}{make_prefix(client)}/log/entries/{{event}}"
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
    keys = client.call("GET", f"{client.url}{ROOT}/log/keys").body["items"]
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
    manifest = decode(made)
    span = {"begin": manifest["begin"], "end": manifest["end"]}
    for name in (EVENTS, HASHES, *([CSV] if arguments.csv else [])):
        with (
            client.download(f"{client.url}{ROOT}/export/{name}", query=span) as pieces,
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


def _fetch_bytes(client: Client, path: str, query: dict[str, Any] | None = None) -> bytes:
    with client.download(f"{client.url}{ROOT}{path}", query=query) as pieces:
        return b"".join(pieces)
