"""Each profile asks as described, and knows the right answer."""

from __future__ import annotations

import pytest

from loadtests.keys import Keys
from loadtests.profiles import PROFILES, Lookup, Sampler, make_bulk_body, make_hub_headers

ALIASES = 10_000
KEYS = Keys()


def list_lookups(profile: str, many: int, index: int = 0) -> list[Lookup]:
    sampler = Sampler(profile, KEYS, ALIASES, index, seed=1)
    return [sampler.lookup() for _ in range(many)]


@pytest.mark.parametrize("profile", PROFILES)
def test_an_answer_names_an_fsp_exactly_if_the_alias_is_registered(profile: str) -> None:
    registered = {(alias.identifier, alias.sub_id): alias.fsp_id for alias in map(KEYS.make_alias, range(ALIASES))}
    for lookup in list_lookups(profile, 300):
        path, _, query = lookup.target.partition("?partySubIdOrType=")
        identifier = path.rpartition("/")[2]
        fsp_id = registered.get((identifier, query)) or registered.get((identifier, ""))
        entries = lookup.answer["partyList"]
        assert bool(entries) == (profile not in {"misses", "unknown"})
        if entries:
            assert entries == [{"fspId": fsp_id, **({"partySubIdOrType": query} if query else {})}]


def test_hot_asks_few_often_and_uniform_asks_many() -> None:
    hot, uniform = ({lookup.target for lookup in list_lookups(profile, 3_000)} for profile in ("hot", "uniform"))
    assert len(hot) < len(uniform) * 0.7
    assert len({lookup.target for lookup in list_lookups("unknown", 3_000)}) <= 100


def test_misses_and_registrations_are_unique_across_processes() -> None:
    seen: list[str] = []
    for index in range(3):
        sampler = Sampler("misses", KEYS, ALIASES, index)
        seen += [sampler.lookup().target for _ in range(200)]
        seen += [str(sampler.choose_free()) for _ in range(200)]
    assert len(set(seen)) == len(seen)


def test_mixed_asks_for_nrc_and_clabe_under_all_their_sub_ids() -> None:
    names = {lookup.name for lookup in list_lookups("mixed", 2_000)}
    nrc = {f"PERSONAL_ID/{name}" for name in ("NATIONAL_REGISTRATION", "NATIONAL_ID_CARD", "NRC")}
    assert names >= {"MSISDN", "ACCOUNT_ID", "ACCOUNT_ID/CLABE", "PERSONAL_ID", "EMAIL", "IBAN", "ALIAS/SubId"} | nrc


def test_the_headers_are_those_of_a_hub() -> None:
    headers = make_hub_headers("payerfsp")
    assert headers["content-type"] == "application/vnd.interoperability.participants+json;version=2.0"
    assert headers["accept"] == "application/vnd.interoperability.participants+json;version=2"
    assert headers["fspiop-source"] == "payerfsp"
    assert headers["fspiop-destination"] == "Hub"
    assert headers["User-Agent"] == "axios/1.18.1"
    assert headers["Accept-Encoding"] == "gzip, compress, deflate, br"
    assert headers["date"].endswith("GMT")
    assert "accept" not in make_hub_headers("payerfsp", accept=False)


def test_a_bulk_has_the_form_that_a_hub_sends() -> None:
    body = make_bulk_body("r", "payerfsp", [KEYS.make_alias(index) for index in range(100)])
    assert {item["fspId"] for item in body["partyList"]} == {"payerfsp"}
    assert sum("partySubIdOrType" in item for item in body["partyList"]) == 4
