"""The classes of FSPs: how large the bucket of each is, and how fast it fills again.

The table is ours.  The model is the directory of Pix in Brazil, whose participants have classes as well
(docs/operate.md, "Budgets against scans").
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from oracle.settings import BUDGET_SIZES, Settings

UNKNOWN: Final = "unknown"
# With a space, which no FSP id has: the bucket that all sources share that the directory does not know.
UNKNOWN_FSPS: Final = "unknown FSPs"
MINUTE_S: Final = 60.0


class Size(NamedTuple):
    tokens: int  # of a full bucket
    refill: int  # tokens a minute

    @property
    def refill_s(self) -> float:
        """Tokens a second."""
        return self.refill / MINUTE_S

    @property
    def full_s(self) -> float:
        """How long an empty bucket takes until it is full, in seconds."""
        return self.tokens / self.refill_s


class Costs(NamedTuple):
    """Tokens that a question takes, by what its answer says."""

    found: float = 1.0
    nobody: float = 3.0
    conflict: float = 10.0  # another FSP holds the alias

    @classmethod
    def of(cls, settings: Settings) -> Costs:
        return cls(settings.budget_cost_found, settings.budget_cost_nobody, settings.budget_cost_conflict)


class Classes:
    """The class of each FSP, and the size of each class."""

    def __init__(self, sizes: Mapping[str, Size], of_fsps: Mapping[str, str], default: str) -> None:
        self.sizes = MappingProxyType(dict(sizes))
        self._of_fsps = of_fsps
        self._default = default

    @classmethod
    def of(cls, settings: Settings) -> Classes:
        sizes = {name: Size(tokens, refill) for name, tokens, refill in settings.budget_sizes}
        return cls(sizes, dict(settings.budget_fsps), settings.budget_class)

    @classmethod
    def of_defaults(cls) -> Classes:
        return cls({name: Size(tokens, refill) for name, tokens, refill in BUDGET_SIZES}, {}, "C")

    def find(self, fsp_id: str) -> str:
        if fsp_id == UNKNOWN_FSPS:
            return UNKNOWN
        return self._of_fsps.get(fsp_id, self._default)

    def size_of(self, fsp_id: str) -> Size:
        return self.sizes[self.find(fsp_id)]
