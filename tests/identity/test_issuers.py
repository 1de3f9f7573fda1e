"""Issuers and rules from the settings: what is read, and how each mistake is explained."""

from __future__ import annotations

from pathlib import Path

import pytest

from oracle.identity.claims import Claims
from oracle.identity.identity import Role
from oracle.identity.issuers import Issuer, Trust, read_trust
from oracle.identity.mapping import Mapping
from oracle.identity.presets import PRESETS
from oracle.settings import SettingsError, load

ISSUER = """
[[oidc.issuer]]
alias = "hub"
issuer = "https://id.example/realms/hub"
audience = "alias-oracle"
"""
RULE = """
[[oidc.map]]
claim = "roles"
has = "HUB-Admin"
role = "operator"
"""


def read(tmp_path: Path, text: str, **environ: str) -> Trust:
    file = tmp_path / "oidc.toml"
    file.write_text(text)
    return read_trust(load({"ORACLE_OIDC_FILE": str(file), **environ}).settings)


def find_problem(tmp_path: Path, text: str, **environ: str) -> str:
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, text, **environ)
    return caught.value.problems[0]


def test_issuers_and_rules_are_read_from_the_file(tmp_path: Path) -> None:
    trust = read(tmp_path, ISSUER + RULE)
    assert trust.issuers == [Issuer("hub", "https://id.example/realms/hub", "alias-oracle")]
    assert [(rule.claim, rule.has, rule.role) for rule in trust.rules] == [("roles", "HUB-Admin", Role.OPERATOR)]


def test_the_tables_can_be_in_the_file_of_the_settings(tmp_path: Path) -> None:
    file = tmp_path / "oracle.toml"
    file.write_text("hub_port = 3005\n" + ISSUER + RULE)
    configuration = load({}, file)
    assert configuration.settings.hub_port == 3005
    assert configuration.sources["oidc_file"] == "file"
    assert [one.alias for one in read_trust(configuration.settings).issuers] == ["hub"]


def test_a_simple_deployment_needs_no_file() -> None:
    environ = {
        "ORACLE_OIDC_ISSUER": "https://id.example/", "ORACLE_OIDC_AUDIENCE": "alias-oracle",
        "ORACLE_OIDC_CLIENT_IDS": "portal, cli", "ORACLE_OIDC_ALIAS": "sso",
    }  # fmt: skip
    trust = read_trust(load(environ).settings)
    assert trust.issuers == [Issuer("sso", "https://id.example/", "alias-oracle", ("portal", "cli"))]
    assert trust.rules == [rule for name in ("keycloak", "hydra", "thitsaworks") for rule in PRESETS[name]]


def test_ready_made_rules_come_after_those_of_the_file_and_only_if_named(tmp_path: Path) -> None:
    assert len(read(tmp_path, ISSUER + RULE).rules) == 1
    rules = read(tmp_path, ISSUER + RULE, ORACLE_OIDC_RULES="hydra").rules
    assert rules[1:] == list(PRESETS["hydra"])


def test_ready_made_rules_can_be_for_one_issuer(tmp_path: Path) -> None:
    bank = ISSUER.replace('"hub"', '"bank"').replace("https://id", "https://bank")
    trust = read(tmp_path, ISSUER + 'rules = ["thitsaworks"]\n' + bank + 'rules = ["hydra"]\n')
    mapping = Mapping(trust.rules)
    found = {
        alias: mapping.choose(Claims(alias, "ana", "portal", {"roles": ["HUB-Admin", "dfsp:green"]}))
        for alias in ("hub", "bank", "other")
    }
    assert {alias: one and one.role for alias, one in found.items()} == {
        "hub": Role.OPERATOR, "bank": Role.MAKER, "other": None,
    }  # fmt: skip


@pytest.mark.parametrize("rules", ["", RULE, RULE + 'issuer = "hub"\n' + RULE])
def test_with_several_issuers_each_rule_is_for_one(tmp_path: Path, rules: str) -> None:
    """Otherwise the provider of one FSP could make operators."""
    bank = ISSUER.replace('"hub"', '"bank"').replace("https://id", "https://bank")
    assert "each rule must name its issuer" in find_problem(tmp_path, ISSUER + bank + rules)


def test_plain_http_is_allowed_to_this_machine_or_where_it_says_so(tmp_path: Path) -> None:
    for text in (
        ISSUER.replace("https://id.example", "http://127.0.0.1:8080"),
        ISSUER.replace("https://id.example", "http://localhost"),
        ISSUER.replace("https://id.example", "http://keycloak:8080") + "plain_http = true\n",
        ISSUER + 'jwks = "http://keycloak:8080/certs"\nplain_http = true\n',
    ):
        assert len(read(tmp_path, text).issuers) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "it must have [[oidc.issuer]]"),
        ("[oidc]\nmaps = []\n", "it must have [[oidc.issuer]]"),
        ("[oidc.issuer]\nalias = 'x'\n" + RULE, "two brackets"),
        (RULE, "there is no issuer of tokens"),
        ("[[oidc.issuer]]\nalias = 3\n" + ISSUER, "[[oidc.issuer]], number 1: Expected `str`"),
        (ISSUER + "audiences = ['x']\n", "unknown field `audiences`"),
        (ISSUER.replace('"hub"', '"Hub:1"'), "alias must be"),
        (ISSUER.replace('audience = "alias-oracle"', ""), "Set the audience, or the client ids"),
        (ISSUER.replace("https", "http"), "is not https"),
        (ISSUER + 'jwks = "http://10.0.0.1/certs"\n', "is not https"),
        (ISSUER.replace("https", "ftp"), "is not a URL"),
        (ISSUER.replace("https://", "https://me:secret@"), "is not a URL"),
        (ISSUER.replace("realms/hub", "realms#hub"), "is not a URL"),
        (ISSUER.replace("id.example", "id.example:x"), "is not a URL"),
        (ISSUER.replace("realms/hub", "realms?hub"), "question mark"),
        (ISSUER + 'rules = ["okta"]\n', "Invalid enum value 'okta'"),
        (ISSUER + ISSUER.replace("https://id", "https://ie"), "two issuers have the alias hub"),
        (ISSUER + ISSUER.replace('"hub"', '"bank"'), "two issuers have the issuer"),
        (ISSUER + RULE.replace("operator", "boss"), "[[oidc.map]], number 1: Invalid enum value"),
        (ISSUER + RULE.replace('has = "HUB-Admin"', ""), "everybody would get this role"),
        (ISSUER + RULE + 'pattern = "x"\n', "`has` and `pattern`"),
        (ISSUER + RULE.replace('has = "HUB-Admin"', 'pattern = "("'), "not a regular expression"),
        (ISSUER + RULE.replace("operator", "dfsp-maker"), "needs an FSP"),
        (ISSUER + RULE + 'fsp_from = "dfsp_id"\n', "cannot be limited to an FSP"),
        (ISSUER + RULE + 'issuer = "bank"\n', "no issuer with the alias 'bank'"),
        (ISSUER + RULE.replace('"roles"', '"a..b"'), "must name a claim"),
        (ISSUER + RULE + "machines = true\n", "unknown field `machines`"),
        ("[[oidc", "is not valid TOML"),
        (ISSUER + RULE * 501, "at most 20 issuers and 500 rules"),
    ],
)
def test_a_mistake_is_explained(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in find_problem(tmp_path, text)


def test_all_mistakes_are_reported_together(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        read(
            tmp_path, ISSUER.replace("https", "http").replace("hub", "gateway") + RULE.replace("operator", "dfsp-maker")
        )
    assert len(caught.value.problems) == 3


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        read_trust(load({"ORACLE_OIDC_FILE": str(tmp_path / "absent.toml")}).settings)
    assert "absent.toml: cannot be read: No such file or directory" in caught.value.problems[0]


def test_an_unknown_rule_set_is_refused() -> None:
    with pytest.raises(SettingsError, match="'okta' is not allowed; use some of keycloak, hydra, thitsaworks"):
        load({"ORACLE_OIDC_RULES": "okta"})
