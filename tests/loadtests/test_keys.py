"""An index always gives the same key, no other index gives it, and it has the spelling that the directory stores."""

from __future__ import annotations

import pytest

from loadtests.keys import SHARES, Alias, Keys, list_fsp_ids, make_path
from oracle.identifiers import Reading

FAR = 100_000_000

READING = Reading()


def make_aliases(keys: Keys) -> list[Alias]:
    return [keys.make_alias(index) for index in (*range(500), *range(FAR, FAR + 500))]


def test_a_seed_always_gives_the_same_aliases() -> None:
    assert make_aliases(Keys()) == make_aliases(Keys())
    assert make_aliases(Keys(1)) != make_aliases(Keys(2))


@pytest.mark.parametrize("first", [0, FAR, -5_000])
def test_every_identifier_is_its_own_canonical_form(first: int) -> None:
    keys = Keys()
    first = first if first >= 0 else keys.capacity + first
    for index in range(first, first + 5_000):
        party_id_type, identifier, sub_id, fsp_id = keys.make_alias(index)
        assert READING.canonicalise(party_id_type, identifier) == identifier
        special = {"clabe": "CLABE", "nrc": "NRC"}.get(keys.name_kind(index))
        if special:
            assert READING.canonicalise(special, identifier) == identifier
        key = READING.read_hub_key(party_id_type, identifier, sub_id or None)
        assert key == (party_id_type, identifier, sub_id)
        assert fsp_id in list_fsp_ids()


def test_no_key_occurs_twice() -> None:
    keys = Keys()
    found = {keys.make_alias(index)[:3] for index in range(100_000)}
    assert len(found) == 100_000


def test_every_kind_has_its_share_of_any_hundred_aligned_indexes() -> None:
    keys = Keys()
    kinds = [keys.name_kind(index) for index in range(700, 800)]
    assert {kind: kinds.count(kind) for kind in SHARES} == SHARES
    assert all(keys.name_kind(300 + position) == "nrc" for position in keys.find_positions(["nrc"]))


def test_fsps_have_sizes_by_zipfs_law_and_none_is_empty() -> None:
    keys = Keys()
    owners = [keys.make_alias(index).fsp_id for index in range(50_000)]
    sizes = {fsp_id: owners.count(fsp_id) for fsp_id in list_fsp_ids()}
    assert min(sizes.values()) > 0
    assert sizes["fsp-001"] / sizes["fsp-010"] == pytest.approx(10, rel=0.25)


def test_the_consecutive_mix_counts_like_wrk() -> None:
    keys = Keys(mix="consecutive")
    assert keys.make_alias(0) == Alias("MSISDN", "525500000000", "", "fsp-001")
    assert keys.make_alias(1_234_567).identifier == "525501234567"
    assert keys.make_alias(FAR).identifier == "525600000000"


def test_an_index_beyond_the_range_is_refused() -> None:
    keys = Keys()
    for index in (-1, keys.capacity):
        with pytest.raises(IndexError):
            keys.make_alias(index)


def test_a_hundred_million_aliases_leave_room_for_as_many_misses() -> None:
    assert Keys().capacity >= 3 * FAR


def test_a_target_needs_no_percent_encoding() -> None:
    keys = Keys()
    for index in range(300):
        target = make_path(keys.make_alias(index))
        assert target.isascii()
        assert not set(target) & set(' %#&"<>')
