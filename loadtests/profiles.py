"""Profiles of hubs: how each chooses its next lookup, and what else happens at the same time.

hot         by Zipf's law: a few parties get most payments
uniform     every party is equally likely: the worst case for a cache
misses      valid unregistered identifiers, none twice: each is a read of the directory
unknown     the same hundred unregistered identifiers again and again
mixed       MSISDN, CLABE with and without its SubId, NRC under each of its names, and the rest; hot within each
writes      mixed; two calls in a hundred register a party and look it up at once, and one user sends bulks
cold        uniform, while all copies in the cache are made unreachable at the start and every few seconds
redis-down  hot, while the cache is away for half of the time

`cold` and `redis-down` are ordinary lookups here; load.py disturbs the servers that it has started.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import Any, Final, NamedTuple

from loadtests.keys import Alias, Keys, make_path

PROFILES: Final = ("hot", "uniform", "misses", "unknown", "mixed", "writes", "cold", "redis-down")

UNKNOWN: Final = 100
WRITES_SHARE: Final = 0.02
# More locust processes than this would share keys that must be asked only once.
PROCESSES_MAX: Final = 64

_CLABE_SUB_IDS: Final = (None, "CLABE")
_NRC_SUB_IDS: Final = (None, "NATIONAL_REGISTRATION", "NATIONAL_ID_CARD", "NRC")


class Lookup(NamedTuple):
    name: str  # the row of the report
    target: str
    answer: Mapping[str, Any]


def make_answer(fsp_id: str | None, sub_id: str | None) -> Mapping[str, Any]:
    """Make the expected answer: the SubId exactly as asked, or none, and no other member."""
    if fsp_id is None:
        return {"partyList": []}
    return {"partyList": [{"fspId": fsp_id, **({"partySubIdOrType": sub_id} if sub_id else {})}]}


def make_lookup(alias: Alias, *, registered: bool = True, sub_id: str | None = None) -> Lookup:
    asked = sub_id or alias.sub_id or None
    name = f"{alias.party_id_type}/{_name_row(asked)}" if asked else alias.party_id_type
    return Lookup(name, make_path(alias, asked), make_answer(alias.fsp_id if registered else None, asked))


def _name_row(sub_id: str) -> str:
    """Return the name of a row: a SubId that names a kind, or `SubId` for all others."""
    return sub_id if sub_id.isupper() else "SubId"


class Sampler:
    """Chooses lookups for one process of the load generator; each process has another `index`."""

    def __init__(self, profile: str, keys: Keys, aliases: int, index: int = 0, seed: int | None = None) -> None:
        self._keys = keys
        self._aliases = aliases
        self._random = random.Random(seed)
        # After the registered aliases: a range that stays unregistered, and the end for new registrations.
        border = aliases + (keys.capacity - aliases) * 3 // 4
        self._first_unknown = border - UNKNOWN
        self._misses = _choose_fresh(aliases, self._first_unknown, index)
        self._free = _choose_fresh(border, keys.capacity, index)
        self._by_kind = self._positions()
        self.lookup: Callable[[], Lookup] = {
            "hot": self._hot,
            "redis-down": self._hot,
            "uniform": self._uniform,
            "cold": self._uniform,
            "misses": self._miss,
            "unknown": self._unknown,
            "mixed": self._mixed,
            "writes": self._mixed,
        }[profile]

    def choose_free(self) -> Alias:
        """Return an unregistered alias that can be registered."""
        return self._keys.make_alias(next(self._free))

    def chooses_write(self) -> bool:
        return self._random.random() < WRITES_SHARE

    def _hot(self) -> Lookup:
        return make_lookup(self._keys.make_alias(self._rank(self._aliases)))

    def _uniform(self) -> Lookup:
        return make_lookup(self._keys.make_alias(self._random.randrange(self._aliases)))

    def _miss(self) -> Lookup:
        return make_lookup(self._keys.make_alias(next(self._misses)), registered=False)

    def _unknown(self) -> Lookup:
        index = self._first_unknown + self._random.randrange(UNKNOWN)
        return make_lookup(self._keys.make_alias(index), registered=False)

    def _mixed(self) -> Lookup:
        positions, sub_ids = self._random.choice(self._by_kind)
        hundred = self._rank(self._aliases // 100)
        alias = self._keys.make_alias(hundred * 100 + self._random.choice(positions))
        return make_lookup(alias, sub_id=self._random.choice(sub_ids))

    def _positions(self) -> list[tuple[list[int], tuple[str | None, ...]]]:
        kinds: dict[str, tuple[str | None, ...]] = {
            "msisdn_mx": (None,),
            "msisdn_mm": (None,),
            "clabe": _CLABE_SUB_IDS,
            "account": (None,),
            "nrc": _NRC_SUB_IDS,
            "email": (None,),
            "iban": (None,),
            "alias": (None,),
            "business": (None,),
        }
        return [(self._keys.find_positions([kind]), sub_ids) for kind, sub_ids in kinds.items()]

    def _rank(self, size: int) -> int:
        """Zipf's law with exponent 1, continuous: rank r is chosen about 1/r as often as rank 1."""
        return min(size - 1, int(size ** self._random.random()) - 1)


def _choose_fresh(first: int, end: int, index: int) -> Iterator[int]:
    """Yield indexes that no other process uses, nor (most likely) an earlier run: the clock chooses the first."""
    size = (end - first) // PROCESSES_MAX
    begin = int(time.time() * 50_000) % size
    return (first + (begin + n) % size * PROCESSES_MAX + index % PROCESSES_MAX for n in count())


def make_hub_headers(source: str, *, accept: bool = True) -> dict[str, str]:
    """Make the headers that an ALS sends: content-type on a GET, too; date, source and accept come from the DFSP."""
    media = "application/vnd.interoperability.participants+json;version=2"
    return {
        "content-type": f"{media}.0",
        "date": time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime()),
        "fspiop-source": source,
        **({"accept": media} if accept else {}),
        "fspiop-destination": "Hub",
        "User-Agent": "axios/1.18.1",
        "Accept-Encoding": "gzip, compress, deflate, br",
        "Connection": "keep-alive",
    }


def make_bulk_body(request_id: str, source: str, aliases: list[Alias]) -> dict[str, Any]:
    """Make the body as ALS does for a DFSP's POST /participants: one party id type a call, currency in each item."""
    return {
        "requestId": request_id,
        "partyList": [
            {
                "partyIdType": alias.party_id_type,
                "partyIdentifier": alias.identifier,
                **({"partySubIdOrType": alias.sub_id} if alias.sub_id else {}),
                "fspId": source,
            }
            for alias in aliases
        ],
    }
