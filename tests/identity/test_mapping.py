"""From claims to a role and FSPs."""

from __future__ import annotations

import re
from typing import Any

import pytest

from oracle.api.admin.forms import FSP_ID
from oracle.identity.claims import Claims
from oracle.identity.identity import Identity, Role, is_fsp_id
from oracle.identity.mapping import Mapping
from oracle.identity.presets import PRESETS
from oracle.identity.rules import Rule
from oracle.settings import RULE_SETS

REALM = "realm_access.roles"


def describe(
    values: dict[str, Any] | None = None, alias: str = "hub", subject: str = "ana", client_id: str = "portal"
) -> Claims:
    return Claims(alias, subject, client_id, {"sub": subject, **(values or {})})


def choose(claims: Claims, *rules: Rule) -> Identity | None:
    return Mapping(rules).choose(claims)


def fsps(*fsp_ids: str) -> frozenset[str]:
    return frozenset(fsp_ids)


def test_the_first_rule_that_fits_wins() -> None:
    rules = [Rule(REALM, Role.AUDITOR, has="audit"), Rule(REALM, Role.OPERATOR, has="admin")]
    both = describe({"realm_access": {"roles": ["admin", "audit"]}})
    assert choose(both, *rules) == Identity("oidc:hub:ana", Role.AUDITOR, None, "oidc", "oidc:hub:ana")
    assert choose(both, *reversed(rules)) == Identity("oidc:hub:ana", Role.OPERATOR, None, "oidc", "oidc:hub:ana")


@pytest.mark.parametrize(
    "values",
    [
        {}, {"realm_access": None}, {"realm_access": "admin"}, {"realm_access": ["admin"]},
        {"realm_access": {"roles": {"admin": 1}}}, {"realm_access": {"roles": [["admin"]]}},
        {"realm_access": {"roles": ["Admin", "admin ", "administrator", "x admin"]}},
        {"realm_access": {"roles": "x admin"}}, {"realm_access": {"roles": [7, None, True]}},
        {"realm_access.roles": ["admin"]}, {"realm_access": {"roles": []}},
    ],
)  # fmt: skip
def test_claims_that_only_look_alike_give_nothing(values: dict[str, Any]) -> None:
    assert choose(describe(values), Rule(REALM, Role.OPERATOR, has="admin")) is None


def test_a_claim_that_is_a_text_is_one_word_and_scopes_are_several() -> None:
    for claim, values in (
        ("role", {"role": "admin"}),
        ("scope", {"scope": "openid admin"}),
        ("scp", {"scp": ["admin"]}),
    ):
        assert choose(describe(values), Rule(claim, Role.OPERATOR, has="admin")) is not None


def test_a_list_names_a_claim_with_dots_in_its_name() -> None:
    values: dict[str, Any] = {
        "resource_access": {"alias.oracle": {"roles": ["admin"]}},
        "https://hub.example/roles": ["admin"],
    }
    for path in (["resource_access", "alias.oracle", "roles"], ["https://hub.example/roles"]):
        assert choose(describe(values), Rule(path, Role.OPERATOR, has="admin")) is not None
    assert choose(describe(values), Rule("resource_access.alias.oracle.roles", Role.OPERATOR, has="admin")) is None


def test_a_pattern_fits_whole_words_and_names_every_fsp() -> None:
    rule = Rule("roles", Role.MAKER, pattern="dfsp:(?P<fsp>[a-z]+)")
    found = choose(describe({"roles": ["dfsp:green", "dfsp:red", "xdfsp:blue", "dfsp:blue1", "dfsp:blue\n"]}), rule)
    assert found is not None
    assert found.fsp_ids == fsps("green", "red")


def test_a_pattern_is_not_tried_on_long_words() -> None:
    rule = Rule("roles", Role.MAKER, pattern="(?P<fsp>a)(a+)+b?")
    assert choose(describe({"roles": ["a" * 257]}), rule) is None


@pytest.mark.parametrize("value", [None, "", [], 7, {"id": "green"}, "gr een", "grün", ".", "..", "g" * 33, ["\n"]])
def test_a_rule_that_names_fsps_gives_nothing_without_one(value: Any) -> None:
    """Otherwise a claim that is absent, or that no FSP can have, would open every FSP."""
    rule = Rule(REALM, Role.CHECKER, has="DFSP-Admin", fsp_from="dfsp_id")
    reader = Rule(REALM, Role.READER, has="DFSP-Admin", fsp_from="dfsp_id")
    claims = describe({"realm_access": {"roles": ["DFSP-Admin"]}, "dfsp_id": value})
    assert choose(claims, rule, reader) is None


def test_fsps_come_from_a_text_or_a_list() -> None:
    rule = Rule(REALM, Role.CHECKER, has="DFSP-Admin", fsp_from="dfsp_id")
    for value, expected in (("green", fsps("green")), (["green", "red", ".."], fsps("green", "red"))):
        found = choose(describe({"realm_access": {"roles": ["DFSP-Admin"]}, "dfsp_id": value}), rule)
        assert found is not None
        assert found.fsp_ids == expected


def test_too_many_fsps_give_nothing() -> None:
    rule = Rule("roles", Role.MAKER, pattern="dfsp:(?P<fsp>.+)")
    assert choose(describe({"roles": [f"dfsp:{number}" for number in range(1_001)]}), rule) is None


def test_only_a_program_fits_a_rule_for_programs() -> None:
    rule = Rule("sub", Role.MAKER, machine=True, fsp_from="sub")
    found = choose(describe(subject="green", client_id="green"), rule)
    assert found == Identity("oidc:hub:green", Role.MAKER, fsps("green"), "oidc", None)
    assert choose(describe(subject="green", client_id="portal"), rule) is None
    assert choose(describe(subject="green", client_id=""), rule) is None


def test_a_rule_can_be_for_one_issuer() -> None:
    """Otherwise the issuer of a DFSP could make operators."""
    rule = Rule(REALM, Role.OPERATOR, has="admin", issuer="hub")
    values = {"realm_access": {"roles": ["admin"]}}
    assert choose(describe(values, "hub"), rule) is not None
    assert choose(describe(values, "green"), rule) is None


@pytest.mark.parametrize(
    ("name", "values", "role", "fsp_ids"),
    [
        ("thitsaworks", {"realm_access": {"roles": ["HUB-Admin"]}}, Role.OPERATOR, None),
        ("thitsaworks", {"realm_access": {"roles": ["HUB-Manager"]}}, Role.OPERATOR, None),
        ("thitsaworks", {"roles": ["HUB-Operator"]}, Role.OPERATOR, None),
        ("thitsaworks", {"roles": ["HUB-User"]}, Role.READER, None),
        ("thitsaworks", {"roles": ["DFSP-Admin"], "dfsp_id": "green"}, Role.CHECKER, fsps("green")),
        ("thitsaworks", {"roles": ["DFSP-Operation"], "dfsp_id": "green"}, Role.MAKER, fsps("green")),
        ("thitsaworks", {"roles": ["DFSP-Admin"]}, None, None),
        ("keycloak", {"realm_access": {"roles": ["offline_access", "oracle-operator"]}}, Role.OPERATOR, None),
        ("keycloak", {"realm_access": {"roles": ["oracle-auditor"]}}, Role.AUDITOR, None),
        ("keycloak", {"realm_access": {"roles": ["oracle-reader"]}}, Role.READER, None),
        ("keycloak", {"realm_access": {"roles": ["oracle-maker"]}, "dfsp_id": "green"}, Role.MAKER, fsps("green")),
        ("keycloak", {"realm_access": {"roles": ["oracle-checker"]}, "dfsp_id": "green"}, Role.CHECKER, fsps("green")),
        ("keycloak", {"realm_access": {"roles": ["operator", "admin"]}}, None, None),
        ("hydra", {"roles": ["dfsp:green"]}, Role.MAKER, fsps("green")),
        ("hydra", {"ext": {"roles": ["dfsp:green"]}}, Role.MAKER, fsps("green")),
        ("hydra", {"roles": ["audit"]}, Role.AUDITOR, None),
        ("hydra", {"ext": {"roles": ["audit"]}}, Role.AUDITOR, None),
        ("hydra", {"roles": ["user"]}, None, None),
    ],
)
def test_ready_made_rules_give_the_roles_of_their_providers(
    name: str, values: dict[str, Any], role: Role | None, fsp_ids: frozenset[str] | None
) -> None:
    found = choose(describe(values), *PRESETS[name])
    assert (found.role if found else None, found.fsp_ids if found else None) == (role, fsp_ids)


def test_a_client_of_hydra_is_a_maker_of_the_fsp_with_its_name() -> None:
    found = choose(describe(subject="green", client_id="green"), *PRESETS["hydra"])
    assert found is not None
    assert (found.role, found.fsp_ids, found.person) == (Role.MAKER, fsps("green"), None)


def test_the_setting_lists_the_rules_that_exist() -> None:
    assert tuple(PRESETS) == RULE_SETS


@pytest.mark.parametrize(
    "text", ["a", "blue.bank", "!~", "a" * 32, "", ".", "..", "...", "a" * 33, "a b", "a\n", "\na", "é", "a\x7f"]
)
def test_the_rule_for_fsp_ids_is_that_of_the_contract(text: str) -> None:
    assert is_fsp_id(text) == (re.search(FSP_ID, text) is not None)
