"""Checks an export with nothing but its files, the key that one trusts, and the checkpoint that one kept.

What is found.  A line that was altered, removed, inserted or moved, by its number; a manifest, a checkpoint or hashes
                that do not belong together; a log that does not extend the checkpoint that was kept.
How.            Lines and sealed hashes are read side by side.  Whichever of the two makes the signed root is the one to
                believe: if the hashes do, they name the lines that differ.
Trust.          From a vkey that one was given, along the statements that introduce its successors.  Without one the key
                of the export itself is used, which shows accidents, not forgery: the caller is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from oracle.audit import leaf, merkle
from oracle.audit.checkpoint import BadNote, Checkpoint, Trust, VerifierKey
from oracle.audit.difference import Difference, Windows
from oracle.audit.export import CSV, EVENTS, FORMAT, HASHES, MANIFEST, Manifest

# More than so many differences are counted, not listed.
LISTED_MAX: Final = 1_000
MANIFEST_BYTES_MAX: Final = 16 * 1024 * 1024
LINE_BYTES_MAX: Final = 16 * 1024 * 1024
_LINES: Final = 1_024


class Finding(NamedTuple):
    """Something that is not as it was sealed: what, and where."""

    kind: str
    where: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.where}"


class Verdict(NamedTuple):
    findings: list[Finding]
    leaves: int
    notes: list[str]


def verify_export(directory: Path, trusted: Sequence[str] = (), since: str | None = None) -> Verdict:
    """`trusted` vkeys, `since` the note that was kept.  Raises OSError when files cannot be read."""
    for path in (directory / name for name in (MANIFEST, EVENTS, HASHES, CSV)):
        # A pipe or a device would be read for ever.
        if path.exists() and not path.is_file():
            return Verdict([Finding("file", f"{path.name} is not a plain file")], 0, [])
    with (directory / MANIFEST).open("rb") as file:
        text = file.read(MANIFEST_BYTES_MAX + 1)
    if len(text) > MANIFEST_BYTES_MAX:
        return Verdict([Finding("manifest", f"is longer than {MANIFEST_BYTES_MAX} bytes")], 0, [])
    try:
        made = msgspec.json.decode(text, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        return Verdict([Finding("manifest", f"cannot be read: {exc}")], 0, [])
    notes = []
    if not trusted:
        trusted = [key.vkey for key in made.keys[:1]]
        notes.append(f"no key was given; the export's own first one was used: {', '.join(trusted)}")
    return Verdict(list(_Offline(directory, made, trusted, since).findings()), made.count, notes)


class _Offline:
    def __init__(self, directory: Path, made: Manifest, trusted: Sequence[str], since: str | None) -> None:
        self._directory, self._made, self._trusted, self._since = directory, made, trusted, since
        self._root_since: bytes | None = None  # of the lines, at the size that was kept

    def findings(self) -> Iterator[Finding]:
        made = self._made
        if made.format != FORMAT:
            yield Finding("manifest", f"its format is not {FORMAT}")
            return
        if not 0 <= made.begin <= made.end or made.count != made.end - made.begin:
            yield Finding("manifest", "begin, end and count contradict each other")
            return
        if any(len(each) != merkle.HASH_BYTES for each in (*made.left, *made.right)):
            yield Finding("manifest", "the hashes beside the range are none")
            return
        keys = [VerifierKey(key.vkey, key.from_size, key.statement) for key in made.keys]
        try:
            trust = Trust(made.origin, keys, self._trusted)
            checkpoint = trust.opened(made.checkpoint)
        except BadNote as exc:
            yield Finding("checkpoint", f"in the manifest: {exc}")
            return
        if checkpoint.size < made.end or checkpoint.root != made.root:
            yield Finding("manifest", "its range and root are not those of its checkpoint")
            return
        kept: Checkpoint | None = None
        if self._since is not None:
            try:
                kept = trust.opened(self._since)
            except BadNote as exc:
                yield Finding("checkpoint", f"that was kept: {exc}")
        try:
            yield from self._compared(checkpoint, None if kept is None else kept.size)
        except ValueError:
            yield Finding("manifest", "the hashes beside the range do not fit its bounds")
            return
        yield from self._csv()
        if kept is not None:
            yield from self._extends(kept, checkpoint)

    def _compared(self, checkpoint: Checkpoint, kept_size: int | None) -> Iterator[Finding]:
        made = self._made
        from_lines = merkle.Frontier(made.begin, made.left)
        from_hashes = from_lines.copy()
        windows = Windows()
        told: list[Difference] = []
        count = 0
        with (self._directory / EVENTS).open("rb") as events, (self._directory / HASHES).open("rb") as sealed:
            self._keep(from_lines, kept_size)
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
                told += fresh[: LISTED_MAX - len(told)]
        rest = windows.end()
        count += len(rest)
        told += rest[: LISTED_MAX - len(told)]
        lines_right, hashes_right = (self._root(each) == checkpoint.root for each in (from_lines, from_hashes))
        if not lines_right:
            self._root_since = None
        if lines_right and told:
            yield Finding("hashes", f"{HASHES} is not what was sealed; the lines are")
        elif not lines_right:
            yield from self._located(told, count)
            if not hashes_right:
                yield Finding("root", f"neither the lines nor {HASHES} make the root that was signed")

    def _extend(self, tree: merkle.Frontier, leaves: list[bytes], kept_size: int | None) -> None:
        if kept_size is not None and tree.size < kept_size <= tree.size + len(leaves):
            cut = kept_size - tree.size
            tree.extend(leaves[:cut])
            self._keep(tree, kept_size)
            leaves = leaves[cut:]
        tree.extend(leaves)

    def _keep(self, tree: merkle.Frontier, kept_size: int | None) -> None:
        if tree.size == kept_size:
            self._root_since = tree.root()

    def _root(self, tree: merkle.Frontier) -> bytes | None:
        """Of the whole log, if there are as many leaves as there should be."""
        if tree.size != self._made.end:
            return None
        wanted = merkle.subtrees(self._made.end, Checkpoint.of_note(self._made.checkpoint).size)
        for subtree, each in zip(wanted, self._made.right, strict=True):
            tree.push(subtree.level, each)
        return tree.root()

    def _located(self, told: Sequence[Difference], count: int) -> Iterator[Finding]:
        named = self._event_ids({each.found for each in told if each.found is not None})
        for each in told:
            leaf_at = "" if each.sealed is None else f"leaf {self._made.begin + each.sealed}"
            line = "" if each.found is None else f"line {each.found + 1} (event {named.get(each.found, 'unreadable')})"
            match each.kind:
                case "altered":
                    yield Finding("altered", f"{line} is not what was sealed as {leaf_at}")
                case "removed":
                    yield Finding("removed", f"{leaf_at} has no line")
                case "inserted":
                    yield Finding("inserted", f"{line} was not sealed in this range")
                case "moved":
                    yield Finding("moved", f"{line} was sealed as {leaf_at}")
        if count > len(told):
            yield Finding("more", f"{count - len(told)} differences are not listed")

    def _event_ids(self, wanted: set[int]) -> dict[int, int]:
        named = {}
        if wanted:
            with (self._directory / EVENTS).open("rb") as events:
                for number, line in enumerate(iter(lambda: events.readline(LINE_BYTES_MAX), b"")):
                    if number in wanted:
                        try:
                            named[number] = leaf.read(line.rstrip(b"\n")).event_id
                        except ValueError:
                            continue
        return named

    def _csv(self) -> Iterator[Finding]:
        path = self._directory / CSV
        if not path.exists():
            return
        with ExitStack() as stack:
            events, table = (stack.enter_context(each.open("rb")) for each in (self._directory / EVENTS, path))
            wanted = leaf.csv_header()
            number = 0
            while True:
                if table.read(len(wanted)) != wanted:
                    yield Finding("csv", f"row {number} of {CSV} is not line {number} of {EVENTS}")
                    return
                line = events.readline(LINE_BYTES_MAX).rstrip(b"\n")
                number += 1
                if not line:
                    break
                try:
                    wanted = leaf.csv_row(line)
                except ValueError:
                    yield Finding("csv", f"row {number} of {CSV} cannot be compared: the line is none of an export")
                    return
            if table.read(1):
                yield Finding("csv", f"{CSV} has more rows than {EVENTS} has lines")

    def _extends(self, kept: Checkpoint, checkpoint: Checkpoint) -> Iterator[Finding]:
        since = self._made.since
        if kept.size > checkpoint.size:
            yield Finding("rewritten", f"{kept.size} leaves were signed before, this log has {checkpoint.size}")
        elif self._root_since is not None:
            if self._root_since != kept.root:
                yield Finding("rewritten", f"the log does not extend what was signed at {kept.size} leaves")
        elif since is not None and since.size == kept.size:
            sizes = (kept.size, checkpoint.size)
            if not merkle.verify_consistency(*sizes, kept.root, checkpoint.root, since.proof):
                yield Finding("rewritten", f"the log is not shown to extend what was signed at {kept.size} leaves")
        elif kept.size == checkpoint.size:
            if kept.root != checkpoint.root:
                yield Finding("rewritten", f"two roots were signed for {kept.size} leaves")
        else:
            yield Finding("unproved", f"the export holds no proof from {kept.size} leaves on: export it with --since")


def _leaf(line: bytes) -> bytes:
    # A last line without its end would otherwise pass; nothing else may be lost in silence.
    return leaf.leaf_hash(line[:-1]) if line.endswith(b"\n") else leaf.leaf_hash(line + b"(no end of line)")
