"""Exports and proofs of a log that this process makes: no database, no service."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path
from typing import Any

from oracle.audit.export import encode_manifest
from oracle.audit.signer import Signer, sign_note
from oracle.verifier import leaf, merkle
from oracle.verifier.checkpoint import Checkpoint
from oracle.verifier.manifest import CSV, EVENTS, HASHES, MANIFEST, Manifest, ManifestKey, Since
from oracle.verifier.proof import Proof, encode_proof, make_proof

ORIGIN = "alias-oracle/test"
PHONE = "5255123400"  # each identifier begins with it


def make_line(number: int, fsp_id: str = "greenbank", reason: str = "march.csv") -> bytes:
    event = {
        "event_id": number + 1, "xact": 700 + number, "at": "2026-03-03T10:00:00.000000Z", "entity": "alias",
        "action": "registered", "channel": "import", "actor": "maker", "role": "dfsp-maker", "party_id_type": "MSISDN",
        "party_identifier": f"{PHONE}{number}", "sub_id": "", "fsp_id": fsp_id, "before": None,
        "after": {"currency": "MXN", "default": True, "fsp_id": fsp_id}, "reason": reason, "request_id": "batch:1",
        "trace_id": None,
    }  # fmt: skip
    return json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode()


class Log:
    """A log with one key."""

    def __init__(self, count: int, signer: Signer | None = None, **line: str) -> None:
        self.signer = signer or Signer.new(ORIGIN)
        self.lines = [make_line(number, **line) for number in range(count)]

    @property
    def vkey(self) -> str:
        return self.signer.verifier.vkey

    @property
    def keys(self) -> list[dict[str, Any]]:
        """As the API lists them."""
        return [{"vkey": self.vkey, "fromSize": 0, "statement": None}]

    def hash_range(self, begin: int, end: int) -> bytes:
        tree = merkle.Frontier()
        tree.extend([leaf.leaf_hash(line) for line in self.lines[begin:end]])
        return tree.root()

    def hash_subtree(self, subtree: merkle.Subtree) -> bytes:
        begin = subtree.place << subtree.level
        return self.hash_range(begin, begin + (1 << subtree.level))

    def sign(self, size: int) -> str:
        return sign_note(Checkpoint(self.signer.verifier.name, size, self.hash_range(0, size)).text, [self.signer])

    def export(
        self, directory: Path, begin: int = 0, end: int | None = None, size: int | None = None, since: int | None = None
    ) -> Path:
        size = len(self.lines) if size is None else size
        end = size if end is None else end
        lines = self.lines[begin:end]
        proof = merkle.prove(merkle.consistency_ranges(since or 0, size), self.hash_subtree)
        manifest = Manifest(
            origin=self.signer.verifier.name, begin=begin, end=end, count=end - begin, root=self.hash_range(0, size),
            checkpoint=self.sign(size), keys=[ManifestKey(self.vkey, 0)],
            left=[self.hash_subtree(each) for each in merkle.subtrees(0, begin)],
            right=[self.hash_subtree(each) for each in merkle.subtrees(end, size)],
            since=None if since is None else Since(since, proof),
        )  # fmt: skip
        directory.mkdir(parents=True)
        (directory / EVENTS).write_bytes(b"".join(line + b"\n" for line in lines))
        (directory / HASHES).write_bytes(b"".join(map(leaf.leaf_hash, lines)))
        (directory / CSV).write_bytes(leaf.csv_header() + b"".join(map(leaf.csv_row, lines)))
        (directory / MANIFEST).write_bytes(encode_manifest(manifest))
        return directory

    def answer(self, index: int, size: int | None = None) -> dict[str, Any]:
        """Answer as the API does at /log/entries."""
        size = len(self.lines) if size is None else size
        path = merkle.prove(merkle.inclusion_ranges(index, size), self.hash_subtree)
        return {
            "eventId": index + 1, "leafIndex": index, "line": self.lines[index].decode(),
            "leafHash": write_base64(leaf.leaf_hash(self.lines[index])), "size": size,
            "root": write_base64(self.hash_range(0, size)), "proof": [write_base64(each) for each in path],
            "checkpoint": self.sign(size),
        }  # fmt: skip

    def prove(self, index: int, size: int | None = None) -> Proof:
        return make_proof(self.answer(index, size), self.keys, None)

    def write_proof(self, path: Path, index: int, size: int | None = None) -> Path:
        path.write_bytes(encode_proof(self.prove(index, size)))
        return path


def write_base64(data: bytes) -> str:
    return b64encode(data).decode()
