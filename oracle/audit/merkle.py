"""The Merkle tree of RFC 9162, section 2: hashes, proofs, and the tiles they are kept in.  Pure; no I/O.

Hashes.    leaf = SHA-256(0x00 ‖ data), node = SHA-256(0x01 ‖ left ‖ right), the empty tree is SHA-256("").
Subtrees.  (level, place) is the full subtree over leaves [place·2^level, (place+1)·2^level).  It never changes once
           its leaves are there.  Any range of leaves is a few of them (`subtrees`), folded from the right (`fold`).
Proofs.    A proof is a list of ranges (`inclusion_ranges`, `consistency_ranges`), hence of subtrees: whoever stores
           hashes is asked for all of them at once and needs to know nothing of trees.
Tiles.     Stored are the subtrees of level 0, 8, 16, … (as in C2SP tlog-tiles): a tile is 256 hashes of one of these
           levels, and any other subtree is at most 255 hashes of one tile.  A hash per leaf and 1/255 more.
Growing.   `Edge` is what an appender has to remember: the unfinished tile of each level, at most 255 hashes each.
           Its root comes from those alone.  `Frontier` is the same for a reader who stores nothing: the subtrees
           that the leaves so far are made of, at most one a level.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from typing import Final, NamedTuple

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = sha256(b"").digest()
TILE_HEIGHT: Final = 8
TILE_WIDTH: Final = 1 << TILE_HEIGHT


def leaf_hash(data: bytes) -> bytes:
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def full_root(hashes: Sequence[bytes]) -> bytes:
    """The root over a power of two of hashes."""
    level = hashes
    while len(level) > 1:
        pairs = iter(level)
        level = [sha256(b"\x01" + left + right).digest() for left, right in zip(pairs, pairs, strict=True)]
    return level[0]


def fold(hashes: Sequence[bytes]) -> bytes:
    """The hash of a range from those of its subtrees, left to right."""
    if not hashes:
        return EMPTY_ROOT
    root = hashes[-1]
    for left in reversed(hashes[:-1]):
        root = node_hash(left, root)
    return root


# Which hashes ---------------------------------------------------------------------------------------------------


class Subtree(NamedTuple):
    level: int
    place: int


class Range(NamedTuple):
    """Leaves [begin, end)."""

    begin: int
    end: int


def subtrees(begin: int, end: int) -> list[Subtree]:
    """The largest full subtrees that make up the leaves [begin, end), left to right."""
    found = []
    while begin < end:
        level = (end - begin).bit_length() - 1
        if begin:
            level = min(level, (begin & -begin).bit_length() - 1)
        found.append(Subtree(level, begin >> level))
        begin += 1 << level
    return found


def _split(size: int) -> int:
    """The largest power of two below size: where RFC 9162 divides a tree."""
    return 1 << (size - 1).bit_length() - 1


def inclusion_ranges(index: int, size: int) -> list[Range]:
    """PATH(index, D[size]) of RFC 9162 section 2.1.3.1: one hash for each, in the order of the proof."""
    if not 0 <= index < size:
        raise ValueError("no such leaf in a tree of this size")
    begin, end, path = 0, size, list[Range]()
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if index < middle:
            path.append(Range(middle, end))
            end = middle
        else:
            path.append(Range(begin, middle))
            begin = middle
    return path[::-1]


def consistency_ranges(old: int, new: int) -> list[Range]:
    """PROOF(old, D[new]) of RFC 9162 section 2.1.4.1; empty for the empty tree and for the same one."""
    if not 0 <= old <= new:
        raise ValueError("a tree does not shrink")
    if old in (0, new):
        return []
    begin, end, path, whole = 0, new, list[Range](), True
    while old != end:
        middle = begin + _split(end - begin)
        if old <= middle:
            path.append(Range(middle, end))
            end = middle
        else:
            path.append(Range(begin, middle))
            begin, whole = middle, False
    if not whole:
        path.append(Range(begin, end))
    return path[::-1]


def prove(ranges: Sequence[Range], hash_of: Callable[[Subtree], bytes]) -> list[bytes]:
    return [fold([hash_of(subtree) for subtree in subtrees(*each)]) for each in ranges]


# Checking proofs ------------------------------------------------------------------------------------------------


def verify_inclusion(index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes) -> bool:
    """RFC 9162 section 2.1.3.2: the leaf hash stands at this index of the tree with this root."""
    if not 0 <= index < size:
        return False
    node, last, current = index, size - 1, leaf
    for part in proof:
        if last == 0 or len(part) != HASH_BYTES:
            return False
        if node & 1 or node == last:
            current = node_hash(part, current)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            current = node_hash(current, part)
        node, last = node >> 1, last >> 1
    return last == 0 and current == root


def verify_consistency(old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """RFC 9162 section 2.1.4.2: the tree of size `new` begins with the tree of size `old`."""
    if not 0 <= old <= new or any(len(part) != HASH_BYTES for part in proof):
        return False
    if old == new:
        return not proof and old_root == new_root
    if old == 0:
        return not proof and old_root == EMPTY_ROOT
    path = list(proof)
    if old & (old - 1) == 0:
        path.insert(0, old_root)
    if not path:
        return False
    node, last = old - 1, new - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    from_old = from_new = path[0]
    for part in path[1:]:
        if last == 0:
            return False
        if node & 1 or node == last:
            from_old, from_new = node_hash(part, from_old), node_hash(part, from_new)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            from_new = node_hash(from_new, part)
        node, last = node >> 1, last >> 1
    return last == 0 and from_old == old_root and from_new == new_root


class Frontier:
    """The leaves so far, as the subtrees they are made of."""

    def __init__(self) -> None:
        self.size = 0
        self._stack: list[tuple[int, bytes]] = []

    def push(self, level: int, subtree: bytes) -> None:
        """Append 2^level leaves at once.  Raises ValueError where such a subtree cannot begin."""
        if self.size & (1 << level) - 1:
            raise ValueError("a subtree of this level does not begin here")
        self.size += 1 << level
        stack = self._stack
        while stack and stack[-1][0] == level:
            subtree = node_hash(stack.pop()[1], subtree)
            level += 1
        stack.append((level, subtree))

    def extend(self, leaves: Sequence[bytes]) -> None:
        """Append leaf hashes; whole tiles are quicker."""
        at = 0
        while at < len(leaves):
            if self.size % TILE_WIDTH == 0 and len(leaves) - at >= TILE_WIDTH:
                self.push(TILE_HEIGHT, full_root(leaves[at : at + TILE_WIDTH]))
                at += TILE_WIDTH
            else:
                self.push(0, leaves[at])
                at += 1

    def copy(self) -> Frontier:
        other = Frontier()
        other.size, other._stack = self.size, self._stack.copy()
        return other

    def root(self) -> bytes:
        return fold([subtree for _, subtree in self._stack])


# Tiles ----------------------------------------------------------------------------------------------------------


class Stored(NamedTuple):
    """Where a subtree's hash comes from: hashes [first, first + 2^k) of a tile level."""

    tile_level: int
    first: int
    width: int


class Fragment(NamedTuple):
    """Hashes in a row of one tile: what one append adds to it."""

    tile_level: int
    first: int
    hashes: bytes


def stored(subtree: Subtree) -> Stored:
    tile_level, above = divmod(subtree.level, TILE_HEIGHT)
    return Stored(tile_level, subtree.place << above, 1 << above)


def edge_of(size: int) -> list[Stored]:
    """The unfinished tiles of a tree of this size, one a level: what `Edge` has to be given to go on."""
    found = []
    tile_level = 0
    while entries := size >> TILE_HEIGHT * tile_level:
        found.append(Stored(tile_level, entries - entries % TILE_WIDTH, entries % TILE_WIDTH))
        tile_level += 1
    return found


class Edge:
    """A tree that grows: append leaf hashes, get what is to be stored; the root at any time."""

    def __init__(self, size: int = 0, unfinished: Iterable[Sequence[bytes]] = ()) -> None:
        self.size = size
        self._unfinished = [list(tile) for tile in unfinished]
        if [len(tile) for tile in self._unfinished] != [tile.width for tile in edge_of(size)]:
            raise ValueError("these are not the unfinished tiles of a tree of this size")

    def copy(self) -> Edge:
        return Edge(self.size, self._unfinished)

    def append(self, leaves: Sequence[bytes]) -> list[Fragment]:
        first, self.size = self.size, self.size + len(leaves)
        return self._append(0, first, leaves)

    def _append(self, tile_level: int, first: int, hashes: Sequence[bytes]) -> list[Fragment]:
        if tile_level == len(self._unfinished):
            self._unfinished.append([])
        fragments, finished, at = list[Fragment](), list[bytes](), 0
        parent = first // TILE_WIDTH
        while at < len(hashes):
            tile = self._unfinished[tile_level]
            part = hashes[at : at + TILE_WIDTH - len(tile)]
            fragments.append(Fragment(tile_level, first + at, b"".join(part)))
            tile.extend(part)
            at += len(part)
            if len(tile) == TILE_WIDTH:
                finished.append(full_root(tile))
                self._unfinished[tile_level] = []
        return fragments + (self._append(tile_level + 1, parent, finished) if finished else [])

    def root(self) -> bytes:
        frontier = Frontier()
        for tile_level in reversed(range(len(self._unfinished))):
            for entry in self._unfinished[tile_level]:
                frontier.push(TILE_HEIGHT * tile_level, entry)
        return frontier.root()
