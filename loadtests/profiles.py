"""What a hub might ask: one profile is a way to choose the next lookup, and what happens beside the lookups.

hot         by Zipf's law: a few parties get most payments
uniform     any party as likely as any other: the worst that a cache can be asked
misses      valid identifiers that nobody has registered, none twice: each is a read of the directory
unknown     the same hundred unregistered identifiers again and again
mixed       MSISDN, CLABE with and without its SubId, NRC under each of its names, and the rest; hot within each
writes      mixed; two calls in a hundred register a party and look it up at once, and one user sends bulks
cold        uniform, while all copies in the cache are made unreachable at the start and every few seconds
redis-down  hot, while the cache is away for half of the time

`cold` and `redis-down` are ordinary lookups here; load.py does the rest of them to servers that it has started.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import Any, Final, NamedTuple

from loadtests.keys import Alias, Keys, path

PROFILES: Final = ("hot", "uniform", "misses", "unknown", "mixed", "writes", "cold", "redis-down")

UNKNOWN: Final = 100
WRITES_SHARE: Final = 0.02
# More locust processes than this would share keys that are to be asked once.
PROCESSES_MAX: Final = 64

_CLABE_SUB_IDS: Final = (None, "CLABE")
_NRC_SUB_IDS: Final = (None, "NATIONAL_REGISTRATION", "NATIONAL_ID_CARD", "NRC")


class Lookup(NamedTuple):
    name: str  # the row of the report
    target: str
    answer: Mapping[str, Any]


def answer_of(fsp_id: str | None, sub_id: str | None) -> Mapping[str, Any]:
    """The SubId comes back exactly as asked, or not at all; no other member is expected."""
    if fsp_id is None:
        return {"partyList": []}
    return {"partyList": [{"fspId": fsp_id, **({"partySubIdOrType": sub_id} if sub_id else {})}]}


def lookup_of(alias: Alias, *, registered: bool = True, sub_id: str | None = None) -> Lookup:
    asked = sub_id or alias.sub_id or None
    name = f"{alias.party_id_type}/{_shown(asked)}" if asked else alias.party_id_type
    return Lookup(name, path(alias, asked), answer_of(alias.fsp_id if registered else None, asked))


def _shown(sub_id: str) -> str:
    """Names of rows: SubIds that name a kind as they are, all others as one."""
    return sub_id if sub_id.isupper() else "SubId"


class Sampler:
    """Everything one process of the load generator chooses from; `index` tells the processes apart."""

    def __init__(self, profile: str, keys: Keys, aliases: int, index: int = 0, seed: int | None = None) -> None:
        self._keys = keys
        self._aliases = aliases
        self._random = random.Random(seed)
        # Beyond the registered: half a range for what stays unregistered, the end for what is registered meanwhile.
        border = aliases + (keys.capacity - aliases) * 3 // 4
        self._first_unknown = border - UNKNOWN
        self._misses = _fresh(aliases, self._first_unknown, index)
        self._free = _fresh(border, keys.capacity, index)
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

    def free(self) -> Alias:
        """An alias that is not registered, to be registered."""
        return self._keys.alias(next(self._free))

    def writes(self) -> bool:
        return self._random.random() < WRITES_SHARE

    def _hot(self) -> Lookup:
        return lookup_of(self._keys.alias(self._rank(self._aliases)))

    def _uniform(self) -> Lookup:
        return lookup_of(self._keys.alias(self._random.randrange(self._aliases)))

    def _miss(self) -> Lookup:
        return lookup_of(self._keys.alias(next(self._misses)), registered=False)

    def _unknown(self) -> Lookup:
        index = self._first_unknown + self._random.randrange(UNKNOWN)
        return lookup_of(self._keys.alias(index), registered=False)

    def _mixed(self) -> Lookup:
        positions, sub_ids = self._random.choice(self._by_kind)
        hundred = self._rank(self._aliases // 100)
        alias = self._keys.alias(hundred * 100 + self._random.choice(positions))
        return lookup_of(alias, sub_id=self._random.choice(sub_ids))

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
        return [(self._keys.positions([kind]), sub_ids) for kind, sub_ids in kinds.items()]

    def _rank(self, size: int) -> int:
        """Zipf's law with exponent 1, continuous: rank r is chosen about 1/r as often as rank 1."""
        return min(size - 1, int(size ** self._random.random()) - 1)


def _fresh(first: int, end: int, index: int) -> Iterator[int]:
    """Indexes that no other process uses, nor (most likely) a run before: they begin at a place the clock chooses."""
    size = (end - first) // PROCESSES_MAX
    begin = int(time.time() * 50_000) % size
    return (first + (begin + n) % size * PROCESSES_MAX + index % PROCESSES_MAX for n in count())


def hub_headers(source: str, *, accept: bool = True) -> dict[str, str]:
    """Header for header what an ALS sends: content-type on a GET, too; date, source and accept are the DFSP's."""
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


def bulk_body(request_id: str, source: str, aliases: list[Alias]) -> dict[str, Any]:
    """As ALS makes it of a DFSP's POST /participants: one party id type a call, currency within each item."""
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
