"""Checks exports with their files, keys that you trust, and checkpoints that you kept.  It needs no service.

Findings.  A line that was altered, removed, inserted or moved, by its number; a manifest, a checkpoint or hashes that
           do not belong together; events that are in no export; histories that contradict each other.
Method.    Lines and sealed hashes are read side by side.  The side that leads to the signed root is right: if the
           hashes do, they show which lines differ.
Trust.     It begins with a vkey that you give, and follows the statements that introduce newer keys.  Without a vkey,
           the first key of the export itself is used.  That shows accidents, not forgery: then only a checkpoint that
           you kept can confirm the files (`histories`).
Hostile.   Every file is read once, in pieces.  A line, a list and the number of lines have limits, so the memory is
           that of a few thousand hashes and one line.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final

from . import leaf, merkle
from .checkpoint import BadNote, Checkpoint, Trust, VerifierKey
from .difference import WINDOW, Difference, Windows
from .files import Malformed, Unreadable, describe, read_manifest
from .histories import Claims, History, Kept, compare_histories
from .manifest import CSV, EVENTS, FORMAT, HASHES, Manifest
from .verdict import LISTED_MAX, Finding, Verdict, Voucher

LINE_BYTES_MAX: Final = 16 * 1024 * 1024
KEYS_MAX: Final = 1_000
_LINES: Final = 1_024
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_NO_END: Final = b"(no end of line)"


def verify_exports(
    directories: Sequence[Path], trusted: Sequence[str] = (), kept: Sequence[str] = (), *, window: int = WINDOW
) -> Verdict:
    """Check exports, each and together.  `trusted` are vkeys, `kept` are signed notes.  Raises Unreadable."""
    found: list[Finding] = []
    exports: list[Export] = []
    is_single = len(directories) == 1
    for directory in directories:
        label = "" if is_single else f"{directory}: "
        try:
            export = Export(directory, label)
        except Malformed as exc:
            found.append(Finding("manifest", f"{label}{exc}"))
            continue
        found += [Finding(each.kind, label + each.where) for each in export.open(trusted or _take_first_key(exports))]
        exports.append(export)
    opened = [export for export in exports if export.checkpoint is not None]
    notes: list[str] = []
    histories: list[History] = []
    checkpoints = list(_open_kept(kept, opened, found))
    sizes = {each.size for each in checkpoints} | {size for export in opened for size in export.list_sizes()}
    for export in opened:
        label = export.label
        try:
            found += [Finding(each.kind, label + each.where) for each in export.check(sizes, window)]
        except OSError as exc:
            raise Unreadable(f"{exc.filename}: cannot be read: {describe(exc)}") from exc
        notes += [label + note for note in export.notes]
        histories.append(export.describe_history())
    vouchers: tuple[Voucher, ...] = ()
    if opened and len(opened) == len(directories):
        contradictions, vouchers = compare_histories(histories, checkpoints, by_key=bool(trusted))
        found += contradictions
        notes += _describe_scope(histories)
    signers = tuple(dict.fromkeys(export.signer for export in opened))
    return Verdict(found, sum(export.manifest.count for export in opened), tuple(notes), vouchers, signers)


def _take_first_key(exports: Sequence[Export]) -> list[str]:
    """Without a key of the person, all exports are measured by the first key of the first one."""
    return [key.vkey for export in exports[:1] for key in export.manifest.keys[:1]]


def _open_kept(kept: Sequence[str], exports: Sequence[Export], found: list[Finding]) -> Iterator[Kept]:
    """Open the notes by the export with most keys."""
    known = max(exports, key=lambda export: len(export.manifest.keys), default=None)
    if known is None or known.trust is None:
        return
    for number, note in enumerate(kept, 1):
        label = "the one that you kept" if len(kept) == 1 else f"number {number} of those that you kept"
        try:
            checkpoint = known.trust.open(note)
        except BadNote as exc:
            found.append(Finding("checkpoint", f"{label}: {exc}"))
        else:
            yield Kept(checkpoint.size, checkpoint.root)


def _describe_scope(histories: Sequence[History]) -> Iterator[str]:
    begin, end = min(each.begin for each in histories), max(each.end for each in histories)
    size = max(each.size for each in histories)
    if begin:
        yield f"the files begin with leaf {begin}: earlier events are not in them"
    if end < size:
        yield f"the files end before leaf {end}: the log has {size} leaves, the later events are not in them"


class Export:
    """The files of one export.  Call `open`, then `check`."""

    def __init__(self, directory: Path, label: str) -> None:
        """Raises Unreadable, Malformed."""
        self.directory, self.label = directory, label
        self.manifest: Manifest = read_manifest(directory)
        self.trust: Trust | None = None
        self.checkpoint: Checkpoint | None = None
        self.signer = ""
        self.notes: list[str] = []
        self._claims: Claims = {}
        self._is_sound = False

    def list_sizes(self) -> set[int]:
        """Return the sizes of the log at which others can be compared with this export."""
        since = self.manifest.since
        checkpoint = set() if self.checkpoint is None else {self.checkpoint.size}
        return {self.manifest.begin, self.manifest.end} | checkpoint | (set() if since is None else {since.size})

    def open(self, trusted: Sequence[str]) -> Iterator[Finding]:
        """Check the manifest and the signature of its checkpoint; `checkpoint` is None where one is wrong."""
        manifest = self.manifest
        if manifest.format != FORMAT:
            yield Finding("manifest", f"its format is not {FORMAT}")
            return
        if not 0 <= manifest.begin <= manifest.end or manifest.count != manifest.end - manifest.begin:
            yield Finding("manifest", "begin, end and count contradict each other")
            return
        if any(len(each) != merkle.HASH_BYTES for each in (*manifest.left, *manifest.right)):
            yield Finding("manifest", "a hash beside the range has a wrong length")
            return
        if len(manifest.keys) > KEYS_MAX:
            yield Finding("manifest", f"it lists more than {KEYS_MAX:,} keys")
            return
        keys = [VerifierKey(key.vkey, key.from_size, key.statement) for key in manifest.keys]
        try:
            self.trust = Trust(manifest.origin, keys, trusted or [key.vkey for key in manifest.keys[:1]])
            checkpoint = self.trust.open(manifest.checkpoint)
        except BadNote as exc:
            yield Finding("checkpoint", f"the one in the manifest: {exc}")
            return
        if checkpoint.size < manifest.end or checkpoint.root != manifest.root:
            yield Finding("manifest", "its range or its root does not match its checkpoint")
            return
        self.checkpoint, self.signer = checkpoint, self.trust.find_due(checkpoint.size).vkey

    def check(self, sizes: Collection[int], window: int) -> Iterator[Finding]:
        """Check the lines; note the root of each of these sizes of the log that they show.  Raises OSError."""
        if self.checkpoint is None:
            return
        self._claims = {self.checkpoint.size: self.checkpoint.root}
        for name in (EVENTS, HASHES, CSV):
            path = self.directory / name
            if name != CSV and not path.exists():
                yield Finding("file", f"{name} is missing")
                return
            if path.exists() and not path.is_file():  # a pipe or a device could be endless
                yield Finding("file", f"{name} is not a plain file")
                return
        try:
            yield from self._compare(self.checkpoint, sizes, window)
        except ValueError:
            yield Finding("manifest", "the hashes beside the range do not fit its bounds")
            return
        yield from self._check_csv()

    def describe_history(self) -> History:
        manifest, checkpoint = self.manifest, self.checkpoint
        size = 0 if checkpoint is None else checkpoint.size
        name = "the export" if not self.label else str(self.directory)
        since = None if manifest.since is None else (manifest.since.size, manifest.since.proof)
        return History(name, manifest.origin, manifest.begin, manifest.end, size, self._claims, since, self._is_sound)

    def _compare(self, checkpoint: Checkpoint, sizes: Collection[int], window: int) -> Iterator[Finding]:
        count = self.manifest.count
        from_lines = _Tree(self.manifest, checkpoint.size, sizes)
        from_hashes: _Tree | None = None  # while both are equal, one tree is enough
        windows = Windows(window)
        differences: list[Difference] = []
        differences_count = number = 0
        hashes_size = (self.directory / HASHES).stat().st_size
        if hashes_size != count * merkle.HASH_BYTES:
            yield Finding("hashes", f"{HASHES} has {hashes_size:,} bytes instead of {count * merkle.HASH_BYTES:,}")
        with (self.directory / EVENTS).open("rb") as events, (self.directory / HASHES).open("rb") as sealed:
            lines = _Lines(events)
            left = count
            while True:
                leaves = [leaf.leaf_hash(line) for line in islice(lines, _LINES)]
                data = sealed.read(min(_LINES, left) * merkle.HASH_BYTES)
                hashes = [data[at : at + merkle.HASH_BYTES] for at in range(0, len(data), merkle.HASH_BYTES)]
                left -= len(hashes)
                if not leaves and not hashes:
                    break
                if from_hashes is None and hashes != leaves:
                    from_hashes = from_lines.copy()
                if from_hashes is not None:
                    from_hashes.extend(hashes)
                from_lines.extend(leaves)
                fresh = windows.feed(hashes, leaves)
                differences_count += len(fresh)
                differences += fresh[: LISTED_MAX - len(differences)]
                number += len(leaves)
                if number > count + LISTED_MAX + window:
                    yield Finding("more", f"{EVENTS} has far more lines than {count:,}; the rest was not read")
                    break
                if lines.too_long:
                    yield Finding("file", f"line {lines.too_long} of {EVENTS} is longer than {LINE_BYTES_MAX:,} bytes")
                    break
        fresh = windows.end()
        differences_count += len(fresh)
        differences += fresh[: LISTED_MAX - len(differences)]
        self.notes += lines.list_notes()
        hashes_right = from_hashes is not None and from_hashes.find_root() == checkpoint.root
        lines_right = from_lines.find_root() == checkpoint.root
        if lines_right:
            self._is_sound = True
            self._claims |= from_lines.roots
        if lines_right and differences:
            yield Finding("hashes", f"{HASHES} differs from what was sealed; the lines do not")
        elif not lines_right:
            yield from self._locate(differences, differences_count)
            if not hashes_right:  # also where both are equal
                yield Finding("root", f"neither the lines nor {HASHES} lead to the signed root")

    def _locate(self, differences: Sequence[Difference], count: int) -> Iterator[Finding]:
        event_ids = self._read_event_ids({each.found for each in differences if each.found is not None})
        for each in differences:
            leaf_at = "" if each.sealed is None else f"leaf {self.manifest.begin + each.sealed}"
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

    def _read_event_ids(self, wanted: Collection[int]) -> dict[int, int]:
        event_ids: dict[int, int] = {}
        if wanted:
            with (self.directory / EVENTS).open("rb") as events:
                for number, line in enumerate(islice(_Lines(events), max(wanted) + 1)):
                    if number in wanted:
                        try:
                            event_ids[number] = leaf.read(line.removesuffix(_NO_END)).event_id
                        except ValueError:
                            continue
        return event_ids

    def _check_csv(self) -> Iterator[Finding]:
        path = self.directory / CSV
        if not path.exists():
            return
        with ExitStack() as stack:
            events, table = (stack.enter_context(each.open("rb")) for each in (self.directory / EVENTS, path))
            if table.read(len(leaf.csv_header())) != leaf.csv_header():
                yield Finding("csv", f"the column names of {CSV} were changed: a spreadsheet that saves it does so")
                return
            for number, line in enumerate(_Lines(events), 1):
                try:
                    wanted = leaf.csv_row(line)
                except ValueError:
                    yield Finding("csv", f"row {number} of {CSV} cannot be compared: line {number} is not an event")
                    return
                if table.read(len(wanted)) != wanted:
                    yield Finding("csv", f"row {number} of {CSV} differs from line {number} of {EVENTS}")
                    return
            if table.read(1):
                yield Finding("csv", f"{CSV} has more rows than {EVENTS} has lines")


class _Lines:
    """Iterates over the lines of a file without their ends.  It ends at a line that is too long.

    CR LF, and a byte order mark, come from a program that converted the file.  The text of the events is the same.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._number = 0
        self._has_mark = self._has_returns = False
        self.too_long = 0  # the number of that line

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        line = b"" if self.too_long else self._file.readline(LINE_BYTES_MAX)
        if not line:
            raise StopIteration
        self._number += 1
        if self._number == 1 and line.startswith(_BYTE_ORDER_MARK):
            self._has_mark = True
            line = line.removeprefix(_BYTE_ORDER_MARK)
        if line.endswith(b"\r\n"):
            self._has_returns = True
            return line[:-2]
        if line.endswith(b"\n"):
            return line[:-1]
        if len(line) == LINE_BYTES_MAX:
            self.too_long = self._number
        return line + _NO_END  # a last line without its end would pass otherwise

    def list_notes(self) -> Iterator[str]:
        if self._has_returns:
            yield f"{EVENTS} has Windows line ends (CR LF): they were ignored, the events are the same"
        if self._has_mark:
            yield f"{EVENTS} begins with a byte order mark: it was ignored, the events are the same"


class _Tree:
    """The tree of the log, from the hashes beside the range and the leaves in it.  Raises ValueError."""

    def __init__(
        self, manifest: Manifest, size: int, sizes: Collection[int], tree: merkle.Frontier | None = None
    ) -> None:
        """`size` is that of the log; `roots` will hold the roots at those of the `sizes` that the leaves reach."""
        self._manifest, self._size = manifest, size
        self._wanted = sorted((each for each in set(sizes) if manifest.begin <= each <= size), reverse=True)
        self._tree = tree or merkle.Frontier(manifest.begin, manifest.left)
        self.roots: Claims = {}
        self._note_root()

    def copy(self) -> _Tree:
        """Copy the tree, without the sizes that are wanted."""
        return _Tree(self._manifest, self._size, (), self._tree.copy())

    def extend(self, leaves: Sequence[bytes]) -> None:
        begin = 0
        while self._wanted and self._wanted[-1] <= min(self._tree.size + len(leaves) - begin, self._manifest.end):
            cut = begin + self._wanted[-1] - self._tree.size
            self._tree.extend(leaves[begin:cut])
            begin = cut
            self._note_root()
        self._tree.extend(leaves[begin:])

    def find_root(self) -> bytes | None:
        """Return the root of the whole log, if the number of leaves is right."""
        if self._tree.size != self._manifest.end:
            return None
        for subtree, each in zip(merkle.subtrees(self._manifest.end, self._size), self._manifest.right, strict=True):
            self._tree.push(subtree.level, each)
            self._note_root()
        return self._tree.root()

    def _note_root(self) -> None:
        while self._wanted and self._wanted[-1] <= self._tree.size:
            if self._wanted.pop() == self._tree.size:
                self.roots[self._tree.size] = self._tree.root()
