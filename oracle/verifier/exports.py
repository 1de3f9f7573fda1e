"""Checks an export with its files, a key that you trust, and a checkpoint that you kept.  It needs no service.

Findings.  A line that was altered, removed, inserted or moved, by its number; a manifest, a checkpoint or hashes that
           do not belong together; a log that does not extend the checkpoint that you kept.
Method.    Lines and sealed hashes are read side by side.  The side that leads to the signed root is right: if the
           hashes do, they show which lines differ.
Trust.     It begins with a vkey that you give, and follows the statements that introduce newer keys.  Without a vkey,
           the first key of the export itself is used.  That shows accidents, not forgery, and a note warns of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from . import leaf, merkle
from .checkpoint import BadNote, Checkpoint, Trust, VerifierKey
from .difference import WINDOW, Difference, Windows
from .manifest import CSV, EVENTS, FORMAT, HASHES, MANIFEST, Manifest

# More than so many differences are counted, not listed.
LISTED_MAX: Final = 1_000
MANIFEST_BYTES_MAX: Final = 16 * 1024 * 1024
LINE_BYTES_MAX: Final = 16 * 1024 * 1024
_LINES: Final = 1_024


class Finding(NamedTuple):
    """A difference from what was sealed: what, and where."""

    kind: str
    where: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.where}"


class Verdict(NamedTuple):
    findings: list[Finding]
    leaves: int
    notes: list[str]


def verify_export(
    directory: Path, trusted: Sequence[str] = (), since: str | None = None, *, window: int = WINDOW
) -> Verdict:
    """Check an export.  `trusted` are vkeys, `since` is a note that you kept.  Raises OSError."""
    for path in (directory / name for name in (MANIFEST, EVENTS, HASHES, CSV)):
        # A pipe or a device could be endless.
        if path.exists() and not path.is_file():
            return Verdict([Finding("file", f"{path.name} is not a plain file")], 0, [])
    with (directory / MANIFEST).open("rb") as file:
        text = file.read(MANIFEST_BYTES_MAX + 1)
    if len(text) > MANIFEST_BYTES_MAX:
        return Verdict([Finding("manifest", f"is longer than {MANIFEST_BYTES_MAX} bytes")], 0, [])
    try:
        manifest = msgspec.json.decode(text, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        return Verdict([Finding("manifest", f"cannot be read: {exc}")], 0, [])
    notes = []
    if not trusted:
        trusted = [key.vkey for key in manifest.keys[:1]]
        notes.append(f"no key was given; the first key of the export itself was used: {', '.join(trusted)}")
    return Verdict(list(_Check(directory, manifest, trusted, since, window).find()), manifest.count, notes)


class _Check:
    def __init__(
        self, directory: Path, manifest: Manifest, trusted: Sequence[str], since: str | None, window: int
    ) -> None:
        self._directory, self._manifest, self._trusted, self._since = directory, manifest, trusted, since
        self._window = window
        self._root_since: bytes | None = None  # of the lines, at the size of the kept checkpoint

    def find(self) -> Iterator[Finding]:
        manifest = self._manifest
        if manifest.format != FORMAT:
            yield Finding("manifest", f"its format is not {FORMAT}")
            return
        if not 0 <= manifest.begin <= manifest.end or manifest.count != manifest.end - manifest.begin:
            yield Finding("manifest", "begin, end and count contradict each other")
            return
        if any(len(each) != merkle.HASH_BYTES for each in (*manifest.left, *manifest.right)):
            yield Finding("manifest", "a hash beside the range has a wrong length")
            return
        keys = [VerifierKey(key.vkey, key.from_size, key.statement) for key in manifest.keys]
        try:
            trust = Trust(manifest.origin, keys, self._trusted)
            checkpoint = trust.open(manifest.checkpoint)
        except BadNote as exc:
            yield Finding("checkpoint", f"the one in the manifest: {exc}")
            return
        if checkpoint.size < manifest.end or checkpoint.root != manifest.root:
            yield Finding("manifest", "its range or its root does not match its checkpoint")
            return
        kept: Checkpoint | None = None
        if self._since is not None:
            try:
                kept = trust.open(self._since)
            except BadNote as exc:
                yield Finding("checkpoint", f"the one that you kept: {exc}")
        try:
            yield from self._compare(checkpoint, None if kept is None else kept.size)
        except ValueError:
            yield Finding("manifest", "the hashes beside the range do not fit its bounds")
            return
        yield from self._check_csv()
        if kept is not None:
            yield from self._check_extension(kept, checkpoint)

    def _compare(self, checkpoint: Checkpoint, kept_size: int | None) -> Iterator[Finding]:
        manifest = self._manifest
        from_lines = merkle.Frontier(manifest.begin, manifest.left)
        from_hashes = from_lines.copy()
        windows = Windows(self._window)
        differences: list[Difference] = []
        count = 0
        with (self._directory / EVENTS).open("rb") as events, (self._directory / HASHES).open("rb") as sealed:
            self._note_root(from_lines, kept_size)
            while True:
                lines = [_leaf(line) for line in islice(iter(lambda: events.readline(LINE_BYTES_MAX), b""), _LINES)]
                data = sealed.read(_LINES * merkle.HASH_BYTES)
                hashes = [data[at : at + merkle.HASH_BYTES] for at in range(0, len(data), merkle.HASH_BYTES)]
                if not lines and not hashes:
                    break
                self._extend(from_lines, lines, kept_size)
                from_hashes.extend(hashes)
                fresh = windows.feed(hashes, lines)
                count += len(fresh)
                differences += fresh[: LISTED_MAX - len(differences)]
        rest = windows.end()
        count += len(rest)
        differences += rest[: LISTED_MAX - len(differences)]
        lines_right, hashes_right = (self._root(each) == checkpoint.root for each in (from_lines, from_hashes))
        if not lines_right:
            self._root_since = None
        if lines_right and differences:
            yield Finding("hashes", f"{HASHES} differs from what was sealed; the lines do not")
        elif not lines_right:
            yield from self._locate(differences, count)
            if not hashes_right:
                yield Finding("root", f"neither the lines nor {HASHES} lead to the signed root")

    def _extend(self, tree: merkle.Frontier, leaves: list[bytes], kept_size: int | None) -> None:
        if kept_size is not None and tree.size < kept_size <= tree.size + len(leaves):
            cut = kept_size - tree.size
            tree.extend(leaves[:cut])
            self._note_root(tree, kept_size)
            leaves = leaves[cut:]
        tree.extend(leaves)

    def _note_root(self, tree: merkle.Frontier, kept_size: int | None) -> None:
        if tree.size == kept_size:
            self._root_since = tree.root()

    def _root(self, tree: merkle.Frontier) -> bytes | None:
        """Return the root of the whole log, if the number of leaves is right."""
        if tree.size != self._manifest.end:
            return None
        wanted = merkle.subtrees(self._manifest.end, Checkpoint.of_note(self._manifest.checkpoint).size)
        for subtree, each in zip(wanted, self._manifest.right, strict=True):
            tree.push(subtree.level, each)
        return tree.root()

    def _locate(self, differences: Sequence[Difference], count: int) -> Iterator[Finding]:
        event_ids = self._read_event_ids({each.found for each in differences if each.found is not None})
        for each in differences:
            leaf_at = "" if each.sealed is None else f"leaf {self._manifest.begin + each.sealed}"
            line = (
                "" if each.found is None else f"line {each.found + 1} (event {event_ids.get(each.found, 'unreadable')})"
            )
            match each.kind:
                case "altered":
                    yield Finding("altered", f"{line} differs from what was sealed as {leaf_at}")
                case "removed":
                    yield Finding("removed", f"{leaf_at} has no line")
                case "inserted":
                    yield Finding("inserted", f"{line} was not sealed in this range")
                case "moved":
                    yield Finding("moved", f"{line} was sealed as {leaf_at}")
        if count > len(differences):
            yield Finding("more", f"{count - len(differences)} differences are not listed")

    def _read_event_ids(self, wanted: set[int]) -> dict[int, int]:
        event_ids = {}
        if wanted:
            with (self._directory / EVENTS).open("rb") as events:
                for number, line in enumerate(iter(lambda: events.readline(LINE_BYTES_MAX), b"")):
                    if number in wanted:
                        try:
                            event_ids[number] = leaf.read(line.rstrip(b"\n")).event_id
                        except ValueError:
                            continue
        return event_ids

    def _check_csv(self) -> Iterator[Finding]:
        path = self._directory / CSV
        if not path.exists():
            return
        with ExitStack() as stack:
            events, table = (stack.enter_context(each.open("rb")) for each in (self._directory / EVENTS, path))
            wanted = leaf.csv_header()
            number = 0
            while True:
                if table.read(len(wanted)) != wanted:
                    yield Finding("csv", f"row {number} of {CSV} differs from line {number} of {EVENTS}")
                    return
                line = events.readline(LINE_BYTES_MAX).rstrip(b"\n")
                number += 1
                if not line:
                    break
                try:
                    wanted = leaf.csv_row(line)
                except ValueError:
                    yield Finding("csv", f"row {number} of {CSV} cannot be compared: line {number} is not an event")
                    return
            if table.read(1):
                yield Finding("csv", f"{CSV} has more rows than {EVENTS} has lines")

    def _check_extension(self, kept: Checkpoint, checkpoint: Checkpoint) -> Iterator[Finding]:
        since = self._manifest.since
        if kept.size > checkpoint.size:
            yield Finding("rewritten", f"{kept.size} leaves were signed, but this log has only {checkpoint.size}")
        elif self._root_since is not None:
            if self._root_since != kept.root:
                yield Finding("rewritten", f"the log does not extend the checkpoint of {kept.size} leaves")
        elif since is not None and since.size == kept.size:
            sizes = (kept.size, checkpoint.size)
            if not merkle.verify_consistency(*sizes, kept.root, checkpoint.root, since.proof):
                yield Finding(
                    "rewritten", f"the export does not prove that it extends the checkpoint of {kept.size} leaves"
                )
        elif kept.size == checkpoint.size:
            if kept.root != checkpoint.root:
                yield Finding("rewritten", f"two roots were signed for {kept.size} leaves")
        else:
            yield Finding("unproved", f"the export has no proof from {kept.size} leaves on: make it with --since")


def _leaf(line: bytes) -> bytes:
    # A last line without its end would pass otherwise.
    return leaf.leaf_hash(line[:-1]) if line.endswith(b"\n") else leaf.leaf_hash(line + b"(no end of line)")
