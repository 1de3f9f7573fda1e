"""How one deployment reads identifiers: one frozen object, made from its settings and passed to all code that reads.

A deployment chooses:
home_countries      Numbers of these countries must be valid, and their kinds of documents exist.  Away from Myanmar an
                    NRC is read as any other PERSONAL_ID.
account_id_format   "any", or the one kind of every ACCOUNT_ID: "clabe".
msisdn_national     "refuse" national numbers of home countries without their country, or "accept" them as foreign ones.
nrc_townships       Townships beside those of the lists, for the Latin spellings of an NRC.

Two voices.  A hub names no country: `read_hub_key`.  People at the desk (a file, a command, the admin API) can leave
things out that a hub must not, so `read_key` and `choose_reader` refuse more, and read national forms where a country
is named.  A stored key is read again by the voice of the hub alone.

The canonical form does not depend on these choices: an identifier that is canonical in one deployment is canonical, or
refused, in another.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from phonenumbers import SUPPORTED_REGIONS

from oracle.identifiers.errors import BadIdentifier
from oracle.identifiers.opaque import check_sub_id
from oracle.identifiers.prefix import RoutePrefix
from oracle.identifiers.registry import SCHEMES
from oracle.identifiers.scheme import DEFAULTS, Choices, PartyIdType, PartyKey, Read, Scheme
from oracle.identifiers.townships import Township, TownshipsError, read_own
from oracle.settings import PREFIX, SettingsError

if TYPE_CHECKING:
    from oracle.settings import Settings


AnyRead = Callable[[object], str]  # of text that was not checked


class _Type(NamedTuple):
    """How identifiers of one PartyIdType are read."""

    name: str  # a key contains plain text, not an enum member
    read: Read  # under no SubId, or under one that names no kind
    read_named: dict[str | None, Read]  # by the SubIds that are not part of the key; None among them
    find_cut: Callable[[str, str], bool] | None  # whether text and SubId are one identifier, cut in two


@dataclass(frozen=True, slots=True)
class Reading:
    home_countries: tuple[str, ...] = DEFAULTS.home_countries
    account_id_format: str = "any"
    msisdn_national: str = DEFAULTS.msisdn_national
    nrc_townships: tuple[Township, ...] = DEFAULTS.nrc_townships

    _schemes: dict[str, Scheme] = field(init=False, repr=False, compare=False)  # by kind
    _types: dict[str, _Type] = field(init=False, repr=False, compare=False)
    _narrower: dict[str, list[Scheme]] = field(init=False, repr=False, compare=False)  # by PartyIdType
    _only: dict[str, Scheme] = field(init=False, repr=False, compare=False)  # by PartyIdType: the only kind it allows
    _read_msisdn: Read = field(init=False, repr=False, compare=False)

    @classmethod
    def of(cls, settings: Settings) -> Reading:
        """Raises SettingsError with every problem of a file that the settings name."""
        townships: tuple[Township, ...] = ()
        if settings.nrc_townships is not None:
            try:
                townships = read_own(settings.nrc_townships)
            except TownshipsError as exc:
                raise SettingsError([f"{PREFIX}NRC_TOWNSHIPS: {problem}" for problem in exc.problems]) from None
        return cls(tuple(settings.home_countries), settings.account_id_format, settings.msisdn_national, townships)

    def __post_init__(self) -> None:
        choices = Choices(self.home_countries, self.msisdn_national, self.nrc_townships)
        schemes = {scheme.kind: scheme.with_choices(choices) for scheme in SCHEMES}
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

    def read_hub_key(self, party_id_type: str, text: str, sub_id: object) -> PartyKey:
        """Read an identifier as a hub sends it: in international form, without a country.

        Raises BadIdentifier.  A SubId that names no kind is part of the key exactly as sent, case and all.
        """
        if sub_id is None or isinstance(sub_id, str):
            return PartyKey(*self.read_asked_key(party_id_type, text, sub_id))
        raise BadIdentifier("sub_id_not_text", "SubId")

    def read_asked_key(self, party_id_type: str, text: str, sub_id: str | None) -> tuple[str, str, str]:
        """Do the same for a lookup, without making a PartyKey: that takes as long as to read a number."""
        if party_id_type == "MSISDN" and sub_id is None:  # most lookups
            return "MSISDN", self._read_msisdn(text), ""
        found = self._types.get(party_id_type)
        if found is None:
            raise BadIdentifier("unknown_kind")
        name, read, read_named, find_cut = found
        named = read_named.get(sub_id)
        if named is not None:
            return name, named(text), ""
        if find_cut is not None and isinstance(sub_id, str) and find_cut(text, sub_id):
            raise BadIdentifier("cut_at_slash", name)
        return name, read(text), check_sub_id(sub_id)

    def read_key(
        self,
        kind: str,
        text: str,
        *,
        sub_id: str | None = None,
        country: str | None = None,
        default_country: str | None = None,
    ) -> PartyKey:
        """Read what a person wrote in a file, a command or the admin API; the key is the one the hub asks for.

        `kind` and the countries (ISO 3166 alpha-2) in any case.  A country lets an MSISDN be written in its national
        form; with a kind that this country does not have, it is refused.  A default country, of a file or an FSP, does
        the first alone.  An identifier that is named a CLABE is checked as one, in every deployment and beside any
        SubId.  Raises BadIdentifier.
        """
        scheme = self._find_scheme(kind.upper())
        country, default_country = (name.upper() if name else None for name in (country, default_country))
        identifier = self.choose_reader(scheme.kind, sub_id, country, default_country)(text)
        return PartyKey(scheme.party_id_type.value, identifier, self.fold_sub_id(scheme.party_id_type, sub_id))

    def canonicalise(self, kind: str, text: str, country: str | None = None) -> str:
        """Return the canonical form of an identifier without a SubId, read as at the desk.  Raises BadIdentifier."""
        return self.choose_reader(kind, None, country)(text)

    def choose_reader(
        self, kind: str, sub_id: str | None, country: str | None = None, default_country: str | None = None
    ) -> Read:
        """Return the function that reads identifiers of this kind, for many that share SubId and countries.

        Raises BadIdentifier for an unknown kind or country.
        """
        scheme = self._find_scheme(kind)
        for name in filter(None, (country, default_country)):
            if name not in SUPPORTED_REGIONS:
                raise BadIdentifier("unknown_country", scheme.kind)
        if scheme.takes_country:
            return scheme.choose_written_reader(country or None, default_country or None)
        read = self._choose_named_reader(scheme, sub_id)
        return self._add_country(read, scheme, sub_id, country) if country else read

    def _choose_named_reader(self, scheme: Scheme, sub_id: str | None) -> Read:
        as_type = self._types[scheme.party_id_type]
        if scheme.is_plain:
            if sub_id in as_type.read_named:
                return as_type.read_named[sub_id]
            return _add_cut(as_type, sub_id)
        if sub_id is None or sub_id not in as_type.read_named:
            return scheme.canonicalise
        as_named = as_type.read_named[sub_id]
        return lambda text: as_named(scheme.canonicalise(text))

    def _add_country(self, read: Read, scheme: Scheme, sub_id: str | None, country: str) -> Read:
        """Refuse an identifier of a kind that this country does not have, also of one that is not named."""
        named = self.choose_scheme(scheme.kind, sub_id)
        recognised = [narrower for narrower in self._narrower[scheme.party_id_type] if narrower.is_recognised]

        def read_in_country(text: str) -> str:
            identifier = read(text)
            named.check_country(identifier, country)
            for narrower in recognised:
                if narrower.is_canonical(identifier):
                    narrower.check_country(identifier, country)
            return identifier

        return read_in_country

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

    def find_narrower(self, prefix: RoutePrefix) -> str | None:
        """Find the narrower kind that a prefix for a whole PartyIdType was perhaps meant for."""
        if prefix.kind != prefix.party_id_type:
            return None
        narrower = self._narrower[prefix.party_id_type]
        return next((scheme.kind for scheme in narrower if scheme.claims_prefix(prefix.prefix)), None)

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
    read: AnyRead = plain.canonicalise if only is None else only.canonicalise
    if recognisers:
        read = _add_recognition(recognisers, read)
    read_named: dict[str | None, Read] = {None: read}
    for scheme in SCHEMES:
        if scheme.party_id_type == plain.party_id_type and not scheme.is_plain:
            read_named.update(dict.fromkeys(scheme.sub_ids, read))
    for scheme in narrower:
        read_named[scheme.kind] = scheme.canonicalise
    cutters = [scheme.find_cut for scheme in narrower if type(scheme).find_cut is not Scheme.find_cut]
    return _Type(plain.party_id_type.value, read, read_named, cutters[0] if cutters else None)


def _add_cut(as_type: _Type, sub_id: str | None) -> Read:
    """Refuse an identifier that is cut in two, as in `read_hub_key`."""
    name, read, _, find_cut = as_type
    if find_cut is None or not isinstance(sub_id, str):
        return read

    def read_whole(text: str) -> str:
        if isinstance(text, str) and find_cut(text, sub_id):
            raise BadIdentifier("cut_at_slash", name)
        return read(text)

    return read_whole


def _add_recognition(recognisers: tuple[Callable[[object], str | None], ...], read: AnyRead) -> AnyRead:
    def read_recognising(text: object) -> str:
        for recognise in recognisers:
            found = recognise(text)
            if found is not None:
                return found
        return read(text)

    return read_recognising
