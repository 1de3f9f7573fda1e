"""Reads from the settings which identity providers are trusted, and which role each of their claims gives.

    [[oidc.issuer]]
    alias = "hub"                                        # in history: oidc:hub:SUBJECT.  Never change it.
    issuer = "https://keycloak.example.com/realms/hub"   # as tokens have it in `iss`, letter for letter
    audience = "alias-oracle"                            # what tokens must have in `aud`
    client_ids = ["portal"]                              # only tokens of these clients
    jwks = "http://keycloak:8080/…/certs"                # where the keys are; not set: the issuer's discovery says it
    plain_http = true                                    # http:// is allowed, also to other machines
    console_client = "oracle-console"                    # the console's client there: people can sign in with it
    console_secret = "…"                                 # its secret; not set: a public client, with PKCE alone
    name = "Staff of the hub"                            # what people read where they sign in; not set: the alias
    rules = ["keycloak"]                                 # ready-made rules for its tokens (see `presets`)

    [[oidc.map]]                                         # see `rules`
    claim = "realm_access.roles"
    has = "HUB-Admin"
    role = "operator"

File.    The table is in the file that ORACLE_OIDC_FILE names, or in the one of --config.  ORACLE_OIDC_ISSUER and its
         neighbours are one issuer more, so that a simple deployment needs no file.
Aud.     Without an audience, any token of the issuer would open this service, also one for another service.  So an
         issuer has an audience, or a list of client ids, or both.  Then both must fit.
TLS.     Keys and tokens go over https.  http:// is allowed to this machine, and where `plain_http` is set.
Rules.   The rules of the file, or all ready-made ones (`presets`) if nothing else names a rule.  Ready-made ones that
         an issuer or ORACLE_OIDC_RULES names come after those of the file.
Several. With several issuers, each rule is for one of them.  Else the provider of one FSP could make operators, or
         makers of another FSP.
Problems are collected, each with its place.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeVar
from urllib.parse import SplitResult, urlsplit

import msgspec
from msgspec.structs import replace

from oracle.identity.presets import PRESETS
from oracle.identity.rules import Rule, find_fault
from oracle.settings import OIDC, PREFIX, Settings, SettingsError

GATEWAY: Final = "gateway"  # what rules name as the issuer of the headers of a gateway (see `gateway`)
ISSUERS_MAX: Final = 20
RULES_MAX: Final = 500
_ALIAS: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")  # no colon: it ends the alias in oidc:ALIAS:SUBJECT
_URL: Final = re.compile(r"https?://[!-~]{1,1000}")

_Entry = TypeVar("_Entry", bound=msgspec.Struct)


class Issuer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An identity provider whose tokens are accepted."""

    alias: str
    issuer: str
    audience: str = ""
    client_ids: tuple[str, ...] = ()
    jwks: str | None = None
    plain_http: bool = False
    console_client: str = ""
    console_secret: str = ""
    name: str = ""
    rules: tuple[Literal["keycloak", "hydra", "thitsaworks"], ...] = ()


class Trust(NamedTuple):
    """Whose tokens are accepted, and what they give."""

    issuers: Sequence[Issuer]
    rules: Sequence[Rule]


def read_trust(settings: Settings, *, for_gateway: bool = False) -> Trust:
    """Read issuers and rules.  Raises SettingsError with all problems; to have no issuer is one.

    `for_gateway`: only a gateway uses the rules, so there need be no issuer.
    """
    problems: list[str] = []
    issuers: list[Issuer] = []
    rules: list[Rule] = []
    if settings.oidc_file is not None:
        table = _read_file(settings.oidc_file, problems)
        issuers += _read_entries(settings.oidc_file, table, "issuer", Issuer, problems)
        rules += _read_entries(settings.oidc_file, table, "map", Rule, problems)
    if settings.oidc_issuer is not None:
        issuers.append(
            Issuer(
                settings.oidc_alias,
                settings.oidc_issuer,
                settings.oidc_audience,
                settings.oidc_client_ids,
                console_client=settings.oidc_console_client,
                console_secret=settings.oidc_console_secret or "",
            )
        )
    rules += [replace(rule, issuer=one.alias) for one in issuers for name in one.rules for rule in PRESETS[name]]
    names = settings.oidc_rules or (() if rules else tuple(PRESETS))
    rules += [rule for name in names for rule in PRESETS[name]]
    problems += _find_faults(issuers, rules, for_gateway=for_gateway)
    if problems:
        raise SettingsError(problems)
    return Trust(issuers, rules)


def _read_file(file: Path, problems: list[str]) -> dict[str, Any]:
    try:
        table = tomllib.loads(file.read_bytes().decode()).get(OIDC, {})
    except OSError as exc:
        problems.append(f"{PREFIX}OIDC_FILE: {file}: cannot be read: {exc.strerror}")
    except UnicodeDecodeError:
        problems.append(f"{PREFIX}OIDC_FILE: {file}: is not UTF-8")
    except tomllib.TOMLDecodeError as exc:
        problems.append(f"{PREFIX}OIDC_FILE: {file}: is not valid TOML: {exc}")
    else:
        if isinstance(table, dict) and table and not table.keys() - {"issuer", "map"}:
            return table
        problems.append(
            f"{PREFIX}OIDC_FILE: {file}: it must have [[oidc.issuer]] or [[oidc.map]], and nothing else in oidc"
        )
    return {}


def _read_entries(
    file: Path, table: dict[str, Any], name: str, kind: type[_Entry], problems: list[str]
) -> Iterator[_Entry]:
    entries = table.get(name, [])
    if not isinstance(entries, list):
        problems.append(f"{file}: write [[oidc.{name}]] with two brackets")
        return
    for number, entry in enumerate(entries, 1):
        try:
            yield msgspec.convert(entry, kind)
        except msgspec.ValidationError as exc:
            problems.append(f"{file}: [[oidc.{name}]], number {number}: {exc}")


def _find_faults(issuers: Sequence[Issuer], rules: Sequence[Rule], *, for_gateway: bool) -> Iterator[str]:
    if not issuers and not for_gateway:
        yield f"there is no issuer of tokens: set {PREFIX}OIDC_ISSUER, or add [[oidc.issuer]] to {PREFIX}OIDC_FILE"
    if len(issuers) > ISSUERS_MAX or len(rules) > RULES_MAX:
        yield f"at most {ISSUERS_MAX} issuers and {RULES_MAX} rules are possible"
    for what, names in (("alias", [one.alias for one in issuers]), ("issuer", [one.issuer for one in issuers])):
        yield from (f"two issuers have the {what} {name}" for name, count in Counter(names).items() if count > 1)
    for issuer in issuers:
        yield from (f"the issuer {issuer.alias!r}: {fault}" for fault in _find_faults_of(issuer))
    aliases = {one.alias for one in issuers} | {GATEWAY}
    for number, rule in enumerate(rules, 1):
        fault = find_fault(rule)
        if fault:
            yield f"[[oidc.map]], number {number}: {fault}"
        if rule.issuer is None and len(issuers) > 1:
            yield (
                "there are several issuers, so each rule must name its issuer. For ready-made rules, write"
                ' rules = ["keycloak"] beside the issuer'
            )
            return
        if rule.issuer is not None and rule.issuer not in aliases:
            yield f"[[oidc.map]], number {number}: there is no issuer with the alias {rule.issuer!r}"


def _find_faults_of(issuer: Issuer) -> Iterator[str]:
    if not _ALIAS.fullmatch(issuer.alias):
        yield "its alias must be 1 to 32 small letters, digits and hyphens"
    if issuer.alias == GATEWAY:
        yield f"its alias cannot be {GATEWAY}: in rules, this names the gateway"
    if not issuer.audience and not issuer.client_ids:
        yield (
            "every token of this issuer would be accepted, also one for another service."
            " Set the audience, or the client ids that are allowed"
        )
    for url in filter(None, (issuer.issuer, issuer.jwks)):
        parts = split_url(url)
        if parts is None:
            yield f"{url!r} is not a URL without a user"
        elif parts.scheme == "http" and not issuer.plain_http and not is_loopback(parts.hostname or ""):
            yield (
                f"{url} is not https, so keys and tokens could be replaced on their way."
                " Use https, or write plain_http = true beside it in the file"
            )
    if "?" in issuer.issuer:
        yield f"{issuer.issuer} has a question mark, which an issuer cannot have"


def split_url(url: str) -> SplitResult | None:
    """Split a URL that can be called; None for another one."""
    try:
        parts = urlsplit(url)
        usable = bool(_URL.fullmatch(url) and parts.hostname) and parts.port != 0
    except ValueError:
        return None
    return parts if usable and "#" not in url and "@" not in parts.netloc else None


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
