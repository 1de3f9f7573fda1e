"""Makes the alias of an index: the whole directory of a load test, without storing its keys.

For.        The dataset maker writes the aliases 0..count-1.  A load generator that knows count and seed makes any of
            them again, with its FSP, so it can check every answer.  Indexes from `count` on give keys that are valid
            and unregistered.
Unique.     Each kind counts its own aliases and spreads the count over its whole range by n -> (n * a + b) mod range,
            a and range without a common factor: that is one to one.  At the end of a range it raises IndexError.
Canonical.  Every identifier is spelled as the directory stores it (a test checks all kinds).
Mixes.      `realistic`: all kinds in fixed shares, interleaved, so that any range of indexes has the same shares.
            `consecutive`: only MSISDNs 525500000000 + index, for generators that can only count (wrk); the same
            aliases as `oracle seed --fsps 300` makes.
FSPs.       300, with sizes by Zipf's law: the largest has 16 %, the smallest 0.05 %.  They do not follow bank codes.
            In the consecutive mix they take turns.  `one_fsp`: the first FSP has all aliases.
Cost.       About 2 µs an alias: making 100 million takes one core some minutes.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from math import gcd
from pathlib import Path
from typing import Final, Literal, NamedTuple

import oracle.identifiers
from oracle.identifiers import clabe, find_scheme

Mix = Literal["realistic", "consecutive"]
MIXES: Final[tuple[Mix, ...]] = ("realistic", "consecutive")

SEED: Final = 20261
FSPS: Final = 300
_SLOTS: Final = 4096

# Aliases of each kind among any hundred.
SHARES: Final = {
    "msisdn_mx": 46,
    "msisdn_mm": 12,
    "msisdn_other": 2,
    "clabe": 14,
    "account": 8,
    "nrc": 8,
    "email": 4,
    "iban": 2,
    "alias": 2,
    "business": 2,
}
_HUNDRED: Final = sum(SHARES.values())

# Each followed by eight digits: the area codes of Mexico's largest cities, valid with any digits.
_MEXICAN: Final = ("5255", "5233", "5281", "5256")
# Each followed by seven digits; all valid by the numbering plans.
_BURMESE: Final = tuple(
    f"959{code}"
    for code in ["25", "26", "42", "44", "45", "66", "67", "68", "69", "76", "77", "78", "79", "96", "97", "98"]
)
_OTHERS: Final = ("26097", "25471", "63917", "63918")
_PLAZAS: Final = tuple(f"{plaza:03d}" for plaza in range(1, 1000, 7))
_GIVEN: Final = ("ana", "luis", "maria", "aung", "thida", "jose", "khin", "rosa")
_FAMILY: Final = ("lopez", "garcia", "myint", "soto", "hlaing", "perez", "cruz")
_DOMAINS: Final = ("example.com", "example.org", "correo.example.net", "mail.example.com")
_CLABE_WEIGHTS: Final = (3, 7, 1) * 6


class Alias(NamedTuple):
    party_id_type: str
    identifier: str
    sub_id: str  # '' for none
    fsp_id: str


Parts = tuple[str, str, str]  # party_id_type, identifier, sub_id


class Kind(NamedTuple):
    """Makes aliases of a kind: `make(x, n)` is the n-th one, where x is n spread over the range."""

    range: int
    make: Callable[[int, int], Parts]


def _make_numbers(prefixes: tuple[str, ...], digits: int) -> Kind:
    each = 10**digits

    def make(x: int, _: int) -> Parts:
        return "MSISDN", f"{prefixes[x // each]}{x % each:0{digits}d}", ""

    return Kind(len(prefixes) * each, make)


def add_check_digit(head: str) -> str:
    """Complete the first 17 digits of a CLABE."""
    weighted = sum(int(digit) * weight for digit, weight in zip(head, _CLABE_WEIGHTS, strict=False))
    return f"{head}{-weighted % 10}"


def _make_clabe_kind() -> Kind:
    banks = tuple(code for code in clabe.load_institutions() if code != "000")
    places = tuple(bank + plaza for bank in banks for plaza in _PLAZAS)

    def make(x: int, _: int) -> Parts:
        place, account = divmod(x, 10**11)
        return "ACCOUNT_ID", add_check_digit(f"{places[place]}{account:011d}"), ""

    return Kind(len(places) * 10**11, make)


def _make_account(x: int, _: int) -> Parts:
    return "ACCOUNT_ID", f"{x:012d}", ""


def _make_nrc_kind() -> Kind:
    file = Path(oracle.identifiers.__file__).parent / "data" / "nrc_townships.csv"
    with file.open(encoding="utf-8", newline="") as table:
        rows = [(row["state"], row["township_mm"]) for row in csv.DictReader(table)]
    hexed = [f"{state}-{''.join(f'{ord(letter) & 0xFF:02X}' for letter in town)}" for state, town in rows]
    places = tuple(place for place in dict.fromkeys(hexed) if find_scheme("NRC").is_canonical(f"{place}-N-123456"))

    def make(x: int, _: int) -> Parts:
        place, number = divmod(x, 10**6)
        return "PERSONAL_ID", f"{places[place]}-{'PE'[x % 2] if x % 23 == 0 else 'N'}-{number:06d}", ""

    return Kind(len(places) * 10**6, make)


def _make_email(x: int, _: int) -> Parts:
    name = f"{_GIVEN[x % len(_GIVEN)]}.{_FAMILY[x % len(_FAMILY)]}{x}"
    return "EMAIL", f"{name}@{_DOMAINS[x % len(_DOMAINS)]}", ""


def _make_iban(x: int, _: int) -> Parts:
    # DE as a number is 1314, and 00 takes the place of the check digits.
    bban = f"{x:018d}"
    return "IBAN", f"DE{98 - int(bban + '131400') % 97:02d}{bban}", ""


def _make_alias(_: int, n: int) -> Parts:
    """Make two tills of one shop: one identifier, two SubIds."""
    return "ALIAS", f"tienda-{n // 2 * 7_919 % 10**9:09d}", f"caja-{n % 2 + 1}"


def _make_business(x: int, n: int) -> Parts:
    return "BUSINESS", f"NEG{x:010d}", f"sucursal-{n % 9 + 1}"


def _make_kinds() -> dict[str, Kind]:
    return {
        "msisdn_mx": _make_numbers(_MEXICAN, 8),
        "msisdn_mm": _make_numbers(_BURMESE, 7),
        "msisdn_other": _make_numbers(_OTHERS, 7),
        "clabe": _make_clabe_kind(),
        "account": Kind(10**12, _make_account),
        "nrc": _make_nrc_kind(),
        "email": Kind(10**9, _make_email),
        "iban": Kind(10**18, _make_iban),
        "alias": Kind(2 * 10**9, _make_alias),
        "business": Kind(10**10, _make_business),
    }


class _Place(NamedTuple):
    """One position of every hundred: a kind, how it is spread, and its number among those of the kind."""

    name: str
    kind: Kind
    share: int
    ordinal: int
    factor: int
    offset: int


class Keys:
    """Makes the aliases of one seed and mix."""

    def __init__(self, seed: int = SEED, mix: Mix = "realistic", *, one_fsp: bool = False) -> None:
        self.seed = seed
        self.mix = mix
        self.one_fsp = one_fsp
        source = random.Random(seed)
        self._fsp_slots = _make_fsp_slots(source)
        self._places = _make_places(source)
        self.capacity = 2 * 10**8 if mix == "consecutive" else _compute_capacity(self._places)

    def make_alias(self, index: int) -> Alias:
        if not 0 <= index < self.capacity:
            raise IndexError(f"index {index}: the {self.mix} mix has {self.capacity} keys")
        alias = self._make_alias(index)
        return alias._replace(fsp_id=list_fsp_ids()[0]) if self.one_fsp else alias

    def _make_alias(self, index: int) -> Alias:
        if self.mix == "consecutive":
            return Alias("MSISDN", f"{525_500_000_000 + index}", "", list_fsp_ids()[index % FSPS])
        fsp_id = self._fsp_slots[(index * 0x9E3779B1 >> 10) % _SLOTS]
        hundred, position = divmod(index, _HUNDRED)
        _, kind, share, ordinal, factor, offset = self._places[position]
        n = hundred * share + ordinal
        return Alias(*kind.make((n * factor + offset) % kind.range, n), fsp_id)

    def name_kind(self, index: int) -> str:
        return "msisdn_mx" if self.mix == "consecutive" else self._places[index % _HUNDRED].name

    def find_positions(self, kinds: Iterable[str]) -> list[int]:
        """Return the positions of these kinds in every hundred."""
        wanted = set(kinds)
        return [position for position, place in enumerate(self._places) if place.name in wanted]

    def make_copy_lines(self, start: int, stop: int) -> bytes:
        """Make lines for PostgreSQL's COPY in text format: identifier, type, SubId, FSP.  None needs escaping."""
        return "".join(self._make_lines(start, stop)).encode()

    def _make_lines(self, start: int, stop: int) -> Iterator[str]:
        for index in range(start, stop):
            party_id_type, identifier, sub_id, fsp_id = self.make_alias(index)
            yield f"{identifier}\t{party_id_type}\t{sub_id}\t{fsp_id}\n"


@cache
def list_fsp_ids() -> tuple[str, ...]:
    return tuple(f"fsp-{number:03d}" for number in range(1, FSPS + 1))


def _make_fsp_slots(source: random.Random) -> list[str]:
    """List each FSP as often as its size requires by Zipf's law, at least once."""
    weights = [1 / rank for rank in range(1, FSPS + 1)]
    slots = [
        fsp_id
        for fsp_id, weight in zip(list_fsp_ids(), weights, strict=True)
        for _ in range(max(1, round(weight / sum(weights) * _SLOTS)))
    ]
    slots += [list_fsp_ids()[0]] * (_SLOTS - len(slots))
    source.shuffle(slots)
    return slots[:_SLOTS]


def _make_places(source: random.Random) -> list[_Place]:
    places = []
    for name, kind in _make_kinds().items():
        factor, offset = _find_coprime(source, kind.range), source.randrange(kind.range)
        share = SHARES[name]
        places += [_Place(name, kind, share, ordinal, factor, offset) for ordinal in range(share)]
    source.shuffle(places)
    return places


def _find_coprime(source: random.Random, modulus: int) -> int:
    """Find a factor near the golden section of the range, so that neighbours in the count are far apart."""
    factor = int(modulus * 0.618) + source.randrange(1_000)
    while gcd(factor, modulus) != 1:
        factor += 1
    return factor


def _compute_capacity(places: list[_Place]) -> int:
    return min(place.kind.range // place.share for place in places) * _HUNDRED


def make_path(alias: Alias, sub_id: str | None = None) -> str:
    """Return the target that a hub asks; `sub_id` replaces the alias's own.  Nothing needs percent-encoding."""
    asked = alias.sub_id if sub_id is None else sub_id
    query = f"?partySubIdOrType={asked}" if asked else ""
    return f"/participants/{alias.party_id_type}/{alias.identifier}{query}"
