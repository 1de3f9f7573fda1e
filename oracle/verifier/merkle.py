"""Builds the Merkle tree of RFC 9162, section 2: hashes, proofs, and the tiles that store them.  Pure; no I/O.

Hashes.    leaf = SHA-256(0x00 ‖ data), node = SHA-256(0x01 ‖ left ‖ right), the empty tree is SHA-256("").
Subtrees.  (level, place) is the full subtree over leaves [place·2^level, (place+1)·2^level).  It never changes once
           its leaves exist.  Any range of leaves is a few subtrees (`subtrees`), folded from the right (`fold`).
Proofs.    A proof is a list of ranges (`inclusion_ranges`, `consistency_ranges`), and so a list of subtrees.  The store
           can return all their hashes at once and needs no knowledge of trees.
Tiles.     The subtrees of level 0, 8, 16, … are stored (as in C2SP tlog-tiles): a tile is 256 hashes of one of these
           levels, and any other subtree is at most 255 hashes of one tile.  That is one hash a leaf and 1/255 more.
Growing.   `Frontier` is all that an appender or a reader must remember: the subtrees of the leaves so far, at most one
           a level.  The root and the proofs of earlier leaves need nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from itertools import groupby
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
    """Return the root over a power of two of hashes."""
    level = hashes
    while len(level) > 1:
        pairs = iter(level)
        level = [sha256(b"\x01" + left + right).digest() for left, right in zip(pairs, pairs, strict=True)]
    return level[0]


def fold(hashes: Sequence[bytes]) -> bytes:
    """Return the hash of a range from those of its subtrees, left to right."""
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
    """Return the largest full subtrees that make up the leaves [begin, end), left to right."""
    found = []
    while begin < end:
        level = (end - begin).bit_length() - 1
        if begin:
            level = min(level, (begin & -begin).bit_length() - 1)
        found.append(Subtree(level, begin >> level))
        begin += 1 << level
    return found


def _split(size: int) -> int:
    """Return the largest power of two below size: RFC 9162 divides a tree there."""
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
    """RFC 9162 section 2.1.3.2: the leaf hash is at this index of the tree with this root."""
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
    """The leaves so far, as subtrees: at most one a level.

    `completed` collects the hashes to store above the leaves, as they become complete: (tile level, place, hash).
    """

    def __init__(self, size: int = 0, hashes: Sequence[bytes] = ()) -> None:
        """With the hashes of subtrees(0, size)."""
        self.size = size
        self.completed: list[tuple[int, int, bytes]] = []
        levels = [subtree.level for subtree in subtrees(0, size)]
        self._stack = list(zip(levels, hashes, strict=True))

    def push(self, level: int, subtree: bytes) -> None:
        """Append 2^level leaves at once.  Raises ValueError where such a subtree cannot begin."""
        if self.size & (1 << level) - 1:
            raise ValueError("a subtree of this level does not begin here")
        self.size += 1 << level
        stack = self._stack
        while True:
            if level and level % TILE_HEIGHT == 0:
                self.completed.append((level // TILE_HEIGHT, (self.size >> level) - 1, subtree))
            if not stack or stack[-1][0] != level:
                break
            subtree = node_hash(stack.pop()[1], subtree)
            level += 1
        stack.append((level, subtree))

    def extend(self, leaves: Sequence[bytes]) -> None:
        """Append leaf hashes; whole tiles are faster."""
        at = 0
        while at < len(leaves):
            if self.size % TILE_WIDTH == 0 and len(leaves) - at >= TILE_WIDTH:
                self.push(TILE_HEIGHT, full_root(leaves[at : at + TILE_WIDTH]))
                at += TILE_WIDTH
            else:
                self.push(0, leaves[at])
                at += 1

    def copy(self) -> Frontier:
        return Frontier(self.size, [subtree for _, subtree in self._stack])

    def root(self) -> bytes:
        return fold([subtree for _, subtree in self._stack])


# Tiles ----------------------------------------------------------------------------------------------------------


class Stored(NamedTuple):
    """Where the hash of a subtree comes from: hashes [first, first + 2^k) of a tile level."""

    tile_level: int
    first: int
    width: int


class Fragment(NamedTuple):
    """Consecutive hashes of one tile: what one append adds to it."""

    tile_level: int
    first: int
    hashes: bytes


def locate(subtree: Subtree) -> Stored:
    tile_level, above = divmod(subtree.level, TILE_HEIGHT)
    return Stored(tile_level, subtree.place << above, 1 << above)


def fragments(first: int, leaves: Sequence[bytes], completed: Iterable[tuple[int, int, bytes]]) -> list[Fragment]:
    """List what to store after an append: the hashes of the leaves from `first` on, and the completed subtrees."""
    rows = [(0, first + n, each) for n, each in enumerate(leaves)] + sorted(completed)
    found: list[Fragment] = []
    for (tile_level, _), row in groupby(rows, key=lambda each: (each[0], each[1] // TILE_WIDTH)):
        hashes = list(row)
        found.append(Fragment(tile_level, hashes[0][1], b"".join(each for _, _, each in hashes)))
    return found
