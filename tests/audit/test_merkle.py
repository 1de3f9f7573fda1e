"""The tree: the vectors of the reference implementation, an independent implementation, and laws over random trees."""

from __future__ import annotations

from functools import cache

import pytest
import tamperlog.merkle as independent
from hypothesis import given
from hypothesis import strategies as st
from tamperlog.errors import ProofError

from oracle.verifier import merkle

# The example tree of the Certificate Transparency reference implementation (google/certificate-transparency,
# merkletree/merkle_tree_test.cc; again in transparency-dev/merkle, testonly/constants.go).
LEAVES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
PATHS = {
    (0, 1): [],
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    (1, 5): [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
EXTENSIONS = {
    (1, 1): [],
    (1, 8): PATHS[0, 8],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}


class Tree:
    """Leaf hashes in memory, stored as the fragments of tiles that a database would get."""

    def __init__(self) -> None:
        self.frontier = merkle.Frontier()
        self.leaves: list[bytes] = []
        self.tiles: dict[tuple[int, int], bytes] = {}

    def append(self, leaves: list[bytes]) -> None:
        self.leaves += leaves
        first, self.frontier = self.frontier.size, self.frontier.copy()
        self.frontier.extend(leaves)
        for level, place, hashes in merkle.fragments(first, leaves, self.frontier.completed):
            assert place // 256 == (place + len(hashes) // 32 - 1) // 256, "a fragment lies in one tile"
            for at in range(0, len(hashes), 32):
                assert (level, place + at // 32) not in self.tiles, "nothing is stored twice"
                self.tiles[level, place + at // 32] = hashes[at : at + 32]

    def hash_of(self, subtree: merkle.Subtree) -> bytes:
        level, first, width = merkle.locate(subtree)
        return merkle.full_root([self.tiles[level, first + n] for n in range(width)])

    def root(self, size: int) -> bytes:
        return merkle.fold([self.hash_of(each) for each in merkle.subtrees(0, size)])

    def inclusion(self, index: int, size: int) -> list[bytes]:
        return merkle.prove(merkle.inclusion_ranges(index, size), self.hash_of)

    def consistency(self, old: int, new: int) -> list[bytes]:
        return merkle.prove(merkle.consistency_ranges(old, new), self.hash_of)


def number_leaves(size: int, *, salt: bytes = b"") -> list[bytes]:
    return [merkle.leaf_hash(b"%d" % n + salt) for n in range(size)]


def grow(size: int, step: int = 100) -> Tree:
    tree, leaves = Tree(), number_leaves(size)
    for at in range(0, size, step):
        tree.append(leaves[at : at + step])
    return tree


@cache
def big() -> Tree:
    return grow(70_000, 777)


sizes = st.one_of(
    st.integers(1, 70), st.integers(1, 70_000), st.sampled_from([255, 256, 257, 511, 512, 65_536, 65_537])
)


def test_the_roots_of_the_example_tree() -> None:
    tree = Tree()
    assert [merkle.EMPTY_ROOT.hex(), *(_append(tree, leaf).hex() for leaf in LEAVES)] == ROOTS


def _append(tree: Tree, leaf: bytes) -> bytes:
    tree.append([merkle.leaf_hash(leaf)])
    return tree.frontier.root()


def example() -> Tree:
    tree = Tree()
    tree.append([merkle.leaf_hash(leaf) for leaf in LEAVES])
    return tree


@pytest.mark.parametrize(("index", "size"), PATHS)
def test_the_paths_of_the_example_tree(index: int, size: int) -> None:
    tree = example()
    proof = tree.inclusion(index, size)
    assert [part.hex() for part in proof] == PATHS[index, size]
    assert merkle.verify_inclusion(index, size, tree.leaves[index], proof, bytes.fromhex(ROOTS[size]))


@pytest.mark.parametrize(("old", "new"), EXTENSIONS)
def test_the_consistency_proofs_of_the_example_tree(old: int, new: int) -> None:
    proof = example().consistency(old, new)
    assert [part.hex() for part in proof] == EXTENSIONS[old, new]
    assert merkle.verify_consistency(old, new, bytes.fromhex(ROOTS[old]), bytes.fromhex(ROOTS[new]), proof)


def test_an_independent_implementation_finds_the_same_roots_and_proofs_for_every_small_tree() -> None:
    leaves = number_leaves(40)
    tree = grow(40)
    for size in range(1, 41):
        here = leaves[:size]
        assert tree.root(size) == independent.merkle_root(here)
        for index in range(size):
            assert tree.inclusion(index, size) == independent.inclusion_proof(index, here)
        for old in range(size + 1):
            assert tree.consistency(old, size) == independent.consistency_proof(old, here)


@given(sizes, st.data())
def test_an_independent_implementation_accepts_our_proofs(size: int, data: st.DataObject) -> None:
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size))
    root = big().root(size)
    independent.verify_inclusion(index, size, big().leaves[index], big().inclusion(index, size), root)
    independent.verify_consistency(old, big().root(old), size, root, big().consistency(old, size))


@given(sizes, st.data())
def test_ours_and_the_independent_one_refuse_the_same(size: int, data: st.DataObject) -> None:
    """A proof that was changed anywhere, or that is used for another leaf or size."""
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size))
    claimed_index, claimed_size = data.draw(st.integers(0, size + 1)), data.draw(st.sampled_from([size, size + 1]))
    proof, extension = big().inclusion(index, size), big().consistency(old, size)
    for part in (proof, extension):
        match data.draw(st.sampled_from(["change", "drop", "add", "keep"])):
            case "change" if part:
                part[data.draw(st.integers(0, len(part) - 1))] = merkle.leaf_hash(b"another")
            case "drop" if part:
                part.pop(data.draw(st.integers(0, len(part) - 1)))
            case "add":
                part.insert(data.draw(st.integers(0, len(part))), merkle.leaf_hash(b"another"))
    root = big().root(size)
    included = (claimed_index, claimed_size, big().leaves[index], proof, root)
    assert merkle.verify_inclusion(*included) == _accepts(independent.verify_inclusion, *included)
    roots = (big().root(old), root)
    ours = merkle.verify_consistency(old, claimed_size, *roots, extension)
    assert ours == _accepts(independent.verify_consistency, old, roots[0], claimed_size, roots[1], extension)


def _accepts(verify: object, *arguments: object) -> bool:
    try:
        verify(*arguments)  # type: ignore[operator]
    except ProofError:
        return False
    return True


@given(st.lists(st.integers(0, 600), max_size=8))
def test_a_tree_that_grows_in_any_steps_stores_the_same_and_can_go_on_from_what_is_stored(steps: list[int]) -> None:
    tree, leaves = Tree(), number_leaves(sum(steps))
    for step in steps:
        size = tree.frontier.size
        tree.append(leaves[size : size + step])
        size = tree.frontier.size
        tree.frontier = merkle.Frontier(size, [tree.hash_of(each) for each in merkle.subtrees(0, size)])
        assert tree.frontier.root() == big().root(size)
    assert all(big().tiles[where] == stored for where, stored in tree.tiles.items())


@given(sizes, st.data())
def test_a_range_is_connected_to_a_root_by_the_subtrees_left_and_right_of_it(size: int, data: st.DataObject) -> None:
    begin = data.draw(st.integers(0, size))
    end = data.draw(st.integers(begin, min(size, begin + 2_000)))
    frontier = merkle.Frontier()
    for each in merkle.subtrees(0, begin):
        frontier.push(each.level, big().hash_of(each))
    frontier.extend(big().leaves[begin:end])
    assert frontier.root() == big().root(end)
    for each in merkle.subtrees(end, size):
        frontier.push(each.level, big().hash_of(each))
    assert frontier.root() == big().root(size)


def test_what_cannot_be_asked_is_refused() -> None:
    for bad in [(0, 0), (3, 3), (-1, 2)]:
        with pytest.raises(ValueError, match="no such leaf"):
            merkle.inclusion_ranges(*bad)
    with pytest.raises(ValueError, match="does not shrink"):
        merkle.consistency_ranges(3, 2)
    frontier = merkle.Frontier()
    frontier.push(0, merkle.EMPTY_ROOT)
    with pytest.raises(ValueError, match="does not begin here"):
        frontier.push(1, merkle.EMPTY_ROOT)
    with pytest.raises(ValueError, match="shorter"):
        merkle.Frontier(3, [merkle.EMPTY_ROOT])
