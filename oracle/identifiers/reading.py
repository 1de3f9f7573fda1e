"""How one deployment reads identifiers: one frozen object, made from its settings and passed to all code that reads.

A deployment chooses:
home_countries      Numbers of these countries must be valid, and their kinds of documents exist.  Away from Myanmar an
                    NRC is read as any other PERSONAL_ID.
account_id_format   "any", or the one kind of every ACCOUNT_ID: "clabe".

The canonical form does not depend on these choices: an identifier that is canonical in one deployment is canonical, or
refused, in another.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from oracle.identifiers.errors import BadIdentifier
from oracle.identifiers.opaque import check_sub_id
from oracle.identifiers.prefix import RoutePrefix
from oracle.identifiers.registry import SCHEMES
from oracle.identifiers.scheme import HOME_COUNTRIES, PartyIdType, PartyKey, Scheme

if TYPE_CHECKING:
    from oracle.settings import Settings

Read = Callable[[str], str]  # text to canonical form; raises BadIdentifier


class _Type(NamedTuple):
    """How identifiers of one PartyIdType are read."""

    name: str  # a key contains plain text, not an enum member
    read: Read  # under no SubId, or under one that names no kind
    read_named: dict[str | None, Read]  # by the SubIds that are not part of the key; None among them


@dataclass(frozen=True, slots=True)
class Reading:
    home_countries: tuple[str, ...] = HOME_COUNTRIES
    account_id_format: str = "any"

    _schemes: dict[str, Scheme] = field(init=False, repr=False, compare=False)  # by kind
    _types: dict[str, _Type] = field(init=False, repr=False, compare=False)
    _narrower: dict[str, list[Scheme]] = field(init=False, repr=False, compare=False)  # by PartyIdType
    _only: dict[str, Scheme] = field(init=False, repr=False, compare=False)  # by PartyIdType: the only kind it allows
    _read_msisdn: Read = field(init=False, repr=False, compare=False)

    @classmethod
    def of(cls, settings: Settings) -> Reading:
        return cls(tuple(settings.home_countries), settings.account_id_format)

    def __post_init__(self) -> None:
        schemes = {scheme.kind: scheme.with_home(self.home_countries) for scheme in SCHEMES}
        narrower: dict[str, list[Scheme]] = {member.value: [] for member in PartyIdType}
        for kind, scheme in schemes.items():
            if scheme.country is not None and scheme.country not in self.home_countries:
                schemes[kind] = schemes[scheme.party_id_type]
            elif not scheme.is_plain:
                narrower[scheme.party_id_type].append(scheme)
        format_kind = self.account_id_format.upper()
        only = {s.party_id_type.value: s for s in narrower[PartyIdType.ACCOUNT_ID] if s.kind == format_kind}

        frozen = object.__setattr__
        frozen(self, "_schemes", schemes)
        frozen(self, "_narrower", narrower)
        frozen(self, "_only", only)
        frozen(self, "_types", {name: _make_type(schemes[name], narrower[name], only.get(name)) for name in narrower})
        frozen(self, "_read_msisdn", schemes["MSISDN"].canonicalise)

    def preload(self) -> None:
        """Load every table now, so that the first lookups are as fast as the rest."""
        for scheme in self._schemes.values():
            scheme.preload()

    def read_hub_key(self, party_id_type: str, text: str, sub_id: str | None) -> PartyKey:
        """Read an identifier as a hub sends it: in international form, without a country.

        Raises BadIdentifier.  A SubId that names no kind is part of the key exactly as sent, case and all.
        """
        if party_id_type == "MSISDN" and sub_id is None:  # most lookups
            return PartyKey("MSISDN", self._read_msisdn(text), "")
        found = self._types.get(party_id_type)
        if found is None:
            raise BadIdentifier("unknown_kind")
        name, read, read_named = found
        named = read_named.get(sub_id)
        if named is not None:
            return PartyKey(name, named(text), "")
        return PartyKey(name, read(text), check_sub_id(sub_id))

    def read_key(self, kind: str, text: str, *, sub_id: str | None = None, country: str | None = None) -> PartyKey:
        """Read what a person wrote in a file, a command or the admin API; the key is the one the hub asks for.

        `kind` and `country` (ISO 3166 alpha-2) in any case.  A country lets an MSISDN be written in its national form;
        other kinds ignore it.  An identifier that is named a CLABE is checked as one, in every deployment and beside
        any SubId.  Raises BadIdentifier.
        """
        scheme = self._find_scheme(kind.upper())
        identifier = self.choose_reader(scheme.kind, sub_id, country.upper() if country else None)(text)
        return PartyKey(scheme.party_id_type.value, identifier, self.fold_sub_id(scheme.party_id_type, sub_id))

    def canonicalise(self, kind: str, text: str, country: str | None = None) -> str:
        """Return the canonical form of an identifier without a SubId.  Raises BadIdentifier."""
        return self.choose_reader(kind, None, country)(text)

    def choose_reader(self, kind: str, sub_id: str | None, country: str | None = None) -> Read:
        """Return the function that reads identifiers of this kind, for many that share SubId and country.

        Raises BadIdentifier for an unknown kind.
        """
        scheme = self._find_scheme(kind)
        if scheme.takes_country and country:
            return lambda text: scheme.canonicalise_national(text, country)
        as_type = self._types[scheme.party_id_type]
        as_named = as_type.read_named.get(sub_id, as_type.read)
        if scheme.is_plain:
            return as_named
        if sub_id is None or sub_id not in as_type.read_named:
            return scheme.canonicalise
        return lambda text: as_named(scheme.canonicalise(text))

    def choose_scheme(self, kind: str, sub_id: str | None) -> Scheme:
        """Return the scheme that identifiers of this kind must fit, beside this SubId.  Raises BadIdentifier."""
        scheme = self._find_scheme(kind)
        if not scheme.is_plain:
            return scheme
        named = (narrower for narrower in self._narrower[scheme.party_id_type] if narrower.kind == sub_id)
        return next(named, self._only.get(scheme.party_id_type, scheme))

    def fold_sub_id(self, party_id_type: str, sub_id: str | None) -> str:
        """Return the SubId as it is part of the key: '' for one that only names the kind.  Raises BadIdentifier."""
        return "" if sub_id in self._types[party_id_type].read_named else check_sub_id(sub_id)

    def read_kind(self, key: PartyKey) -> str:
        """Return the narrowest kind that the identifier of a key is."""
        for scheme in self._narrower.get(key.party_id_type, ()):
            if scheme.is_canonical(key.identifier):
                return scheme.kind
        return key.party_id_type

    def read_prefix(self, kind: str, text: str) -> RoutePrefix:
        """Read the prefix of a route for this kind.  Raises BadIdentifier."""
        scheme = self._find_scheme(kind)
        prefix = self._only.get(kind, scheme).canonicalise_prefix(text)
        return RoutePrefix(scheme.party_id_type.value, scheme.kind, prefix)

    def is_permitted(self, kind: str, kinds: Collection[str]) -> bool:
        """Whether an FSP that can register `kinds` can register this one: by its own name or by its PartyIdType."""
        scheme = next((scheme for scheme in SCHEMES if scheme.kind == kind), None)
        if scheme is None:
            return False
        only = self._only.get(kind)
        return kind in kinds or scheme.party_id_type in kinds or (only is not None and only.kind in kinds)

    def _find_scheme(self, kind: str) -> Scheme:
        scheme = self._schemes.get(kind)
        if scheme is None:
            raise BadIdentifier("unknown_kind")
        return scheme


def _make_type(plain: Scheme, narrower: list[Scheme], only: Scheme | None) -> _Type:
    recognisers = tuple(scheme.recognise for scheme in narrower if scheme.is_recognised)
    read: Read = plain.canonicalise if only is None else only.canonicalise
    if recognisers:
        read = _add_recognition(recognisers, read)
    read_named: dict[str | None, Read] = {None: read}
    for scheme in SCHEMES:
        if scheme.party_id_type == plain.party_id_type and not scheme.is_plain:
            read_named.update(dict.fromkeys(scheme.sub_ids, read))
    for scheme in narrower:
        read_named[scheme.kind] = scheme.canonicalise
    return _Type(plain.party_id_type.value, read, read_named)


def _add_recognition(recognisers: tuple[Callable[[str], str | None], ...], read: Read) -> Read:
    def read_recognising(text: str) -> str:
        for recognise in recognisers:
            found = recognise(text)
            if found is not None:
                return found
        return read(text)

    return read_recognising
