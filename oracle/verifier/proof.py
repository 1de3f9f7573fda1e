"""One event with its proof, in one file that a second party can check (docs/audit.md describes each member).

The form is the answer of the history API at `/log/entries/{event}`, with `format`, `keyId` and `keys`.  An answer as
the API gave it is accepted, too: then the key must come from the person who checks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from . import leaf, merkle
from .checkpoint import BadNote, Checkpoint, Note, Trust, Verifier, VerifierKey, unbase64
from .files import Malformed, read_bytes
from .verdict import Finding, Verdict, Voucher

FORMAT: Final = "alias-oracle-proof/1"
PROOF_BYTES_MAX: Final = 16 * 1024 * 1024
KEYS_MAX: Final = 1_000


class ProofKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    vkey: str
    from_size: int
    statement: str | None = None


class Proof(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """Hashes are Base64."""

    format: str = FORMAT
    event_id: int
    leaf_index: int
    line: str
    leaf_hash: str
    size: int
    root: str
    proof: list[str]
    checkpoint: str
    key_id: str | None = None
    keys: list[ProofKey] = []


def make_proof(answer: Any, keys: Sequence[Any], checkpoint: str | None) -> Proof:
    """Put together what the API answered; `checkpoint` replaces the one in the answer.  Raises Malformed."""
    try:
        known = {name: answer[name] for name in ("eventId", "leafIndex", "line", "leafHash", "size", "root", "proof")}
        note = checkpoint or answer["checkpoint"]
        proof = msgspec.convert({**known, "checkpoint": note, "keys": keys}, Proof)
        key = find_key(proof)
    except (msgspec.MsgspecError, BadNote, TypeError, LookupError) as exc:
        raise Malformed(f"the answer is not a proof: {exc}") from exc
    return msgspec.structs.replace(proof, key_id=None if key is None else key.key_id.hex())


def encode_proof(proof: Proof) -> bytes:
    return msgspec.json.format(msgspec.json.encode(proof), indent=2) + b"\n"


def read_proof(path: Path) -> Proof:
    """Raises Unreadable, Malformed."""
    try:
        return msgspec.json.decode(read_bytes(path, PROOF_BYTES_MAX).removeprefix(b"\xef\xbb\xbf"), type=Proof)
    except msgspec.ValidationError as exc:
        raise Malformed(f"{path.name} is not a file of `oracle audit proof --out`: {exc}") from exc
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise Malformed(
            f"{path.name} is not a file of `oracle audit proof --out`, or another program damaged it: it is not JSON"
            " in UTF-8"
        ) from exc


def find_key(proof: Proof) -> Verifier | None:
    """Return the key of the file that must sign its checkpoint, if the file has one.  Raises BadNote."""
    if not proof.keys:
        return None
    origin = Checkpoint.of_note(proof.checkpoint).origin
    return Trust(origin, _list_keys(proof), [proof.keys[0].vkey]).find_due(proof.size)


def verify_proof(proof: Proof, trusted: Sequence[str] = (), kept: Sequence[str] = ()) -> Verdict:
    """Check a proof.  `trusted` are vkeys, `kept` are signed notes."""
    found = list(_check_path(proof))
    signers: tuple[str, ...] = ()
    vouchers: list[Voucher] = []
    if not found:
        try:
            checkpoint, trust = _open_checkpoint(proof, trusted)
        except BadNote as exc:
            found.append(Finding("checkpoint", f"the one in the file: {exc}"))
        else:
            signers = () if trust is None else (trust.find_due(checkpoint.size).vkey,)
            vouchers += ["key"] if trusted else []
            compared = list(_compare_kept(checkpoint, trust, kept))
            found += compared
            vouchers += ["checkpoint"] if kept and not compared else []
    return Verdict(found, 1, (), tuple(vouchers), signers)


def _check_path(proof: Proof) -> Iterator[Finding]:
    """Check that the line is the event, and that its hash leads to the root of the checkpoint."""
    if proof.format != FORMAT:
        yield Finding("proof", f"its format is not {FORMAT}")
        return
    try:
        checkpoint = Checkpoint.of_note(proof.checkpoint)
        root, leaf_hash = unbase64(proof.root), unbase64(proof.leaf_hash)
        path = [unbase64(each) for each in proof.proof]
    except BadNote as exc:
        yield Finding("proof", f"it cannot be read: {exc}")
        return
    line = proof.line.encode("utf-8", "surrogatepass")
    try:
        event_id = leaf.read(line).event_id
    except ValueError:
        yield Finding("proof", "its line is not an event")
        return
    if event_id != proof.event_id:
        yield Finding("proof", f"its line is event {event_id}, not event {proof.event_id}")
    elif leaf.leaf_hash(line) != leaf_hash:
        yield Finding("altered", f"the line of event {event_id} differs from what was hashed")
    elif (checkpoint.size, checkpoint.root) != (proof.size, root):
        yield Finding("proof", "its size or its root differs from its checkpoint")
    elif not merkle.verify_inclusion(proof.leaf_index, proof.size, leaf_hash, path, root):
        yield Finding("proof", f"event {event_id} is not in the history of this checkpoint")


def _open_checkpoint(proof: Proof, trusted: Sequence[str]) -> tuple[Checkpoint, Trust | None]:
    """Check the signature; None where there is no key to check it with.  Raises BadNote."""
    keys = _list_keys(proof)
    if not keys:
        # An answer of the API: one of the given keys must have signed it.
        note = Note.of(proof.checkpoint)
        keys = [VerifierKey(vkey, 0, None) for vkey in trusted if note.is_signed_by(Verifier.of(vkey))][:1]
        if trusted and not keys:
            raise BadNote("not signed by a key that you gave")
    if not keys:
        return Checkpoint.of_note(proof.checkpoint), None
    if len(keys) > KEYS_MAX:
        raise BadNote(f"the file lists more than {KEYS_MAX:,} keys")
    if keys[0].from_size:
        raise BadNote("the first key of a log signs from its beginning on")
    trust = Trust(Checkpoint.of_note(proof.checkpoint).origin, keys, trusted or [keys[0].vkey])
    checkpoint = trust.open(proof.checkpoint)
    if proof.keys and trust.find_due(checkpoint.size).key_id.hex() != proof.key_id:
        raise BadNote("`keyId` is not the id of the key that signed it")
    return checkpoint, trust


def _compare_kept(checkpoint: Checkpoint, trust: Trust | None, kept: Sequence[str]) -> Iterator[Finding]:
    for note in kept:
        try:
            mine = Checkpoint.of_note(note) if trust is None else trust.open(note)
        except BadNote as exc:
            yield Finding("checkpoint", f"the one that you kept: {exc}")
            continue
        if mine.origin != checkpoint.origin:
            yield Finding("checkpoint", "the one that you kept: it belongs to another log")
        elif mine.size != checkpoint.size:
            yield Finding(
                "unproved",
                f"the proof leads to a checkpoint of {checkpoint.size} leaves, the one that you kept has {mine.size}:"
                f" ask for a proof for yours (`oracle audit proof` with --checkpoint)",
            )
        elif mine.root != checkpoint.root:
            yield Finding("rewritten", f"two roots were signed for {mine.size} leaves: keep both checkpoints")


def _list_keys(proof: Proof) -> list[VerifierKey]:
    return [VerifierKey(key.vkey, key.from_size, key.statement) for key in proof.keys]
