"""The township letters on a Myanmar registration card: three Burmese letters, and the ways people write
them in Latin.

Latin letters are no key.  One letter has several spellings (ဆ is SA or HSA) and one spelling several letters
(SA is စ or ဆ).  So a Latin township must fit exactly one code of its state; three spellings of Shan State
fit two and are refused.  Only codes in at least two independent lists count: a code in one list only is most
often a misprint of another.

People see two Latin forms: the *popular* one from the lists, and a *lossless* one in which every letter has
its own spelling (စ is CA, ဆ is HSA).  Both use attested spellings, and in addition CA and the rarest letters.
In other schemes SA is သ and THA is ထ.  They cannot be distinguished from this one, so they are not read.
"""

import csv
from functools import cache
from itertools import product
from pathlib import Path
from typing import Final, NamedTuple

# Lossless spelling first, then the others in use.  U+1009 is missing: people who write it mean U+1025, which
# looks like it.
SPELLINGS: Final[dict[str, tuple[str, ...]]] = {
    "က": ("KA",),
    "ခ": ("KHA",),
    "ဂ": ("GA",),
    "ဃ": ("GHA", "GA"),
    "င": ("NGA",),
    "စ": ("CA", "SA"),
    "ဆ": ("HSA", "SA"),
    "ဇ": ("ZA",),
    "ဈ": ("ZHA",),
    "ည": ("NYA",),
    "ဋ": ("TTA",),
    "ဌ": ("TTHA",),
    "ဍ": ("DDA",),
    "ဎ": ("DDHA",),
    "ဏ": ("NHA", "NA"),
    "တ": ("TA",),
    "ထ": ("HTA",),
    "ဒ": ("DA",),
    "ဓ": ("DHA", "DA"),
    "န": ("NA",),
    "ပ": ("PA",),
    "ဖ": ("PHA", "HPA"),
    "ဗ": ("BHA", "BA"),
    "ဘ": ("BA",),
    "မ": ("MA",),
    "ယ": ("YA",),
    "ရ": ("RA", "YA"),
    "လ": ("LA",),
    "ဝ": ("WA",),
    "သ": ("THA",),
    "ဟ": ("HA",),
    "ဠ": ("LLA",),
    "အ": ("AH", "A", "AA"),
    "ဥ": ("OU", "U", "AU", "OO"),
}

# The popular spellings that differ from the lossless ones.
_POPULAR: Final = {"ဃ": "GA", "စ": "SA", "ဆ": "SA", "ဏ": "NA", "ဓ": "DA", "ဗ": "BA", "ရ": "YA"}


class Townships(NamedTuple):
    by_spelling: dict[tuple[str, str], frozenset[str]]  # (state, Latin) to the codes it can mean
    popular: dict[tuple[str, str], str]  # (state, code) to the spelling the lists prefer


@cache
def load_table() -> Townships:
    by_spelling: dict[tuple[str, str], frozenset[str]] = {}
    popular: dict[tuple[str, str], str] = {}
    with (Path(__file__).parent / "data" / "nrc_townships.csv").open(encoding="utf-8", newline="") as rows:
        for row in csv.DictReader(rows):
            state, code = row["state"], row["township_mm"]
            popular[state, code] = row["township_en"]
            if row["use_for_latin_resolution"] != "yes":
                continue
            for letters in product(*(SPELLINGS[letter] for letter in code)):
                key = state, "".join(letters)
                by_spelling[key] = by_spelling.get(key, frozenset()) | {code}
    return Townships(by_spelling, popular)


def find_codes(state: str, spelling: str) -> frozenset[str]:
    """Return every code of this state that can have this spelling, in upper-case Latin."""
    return load_table().by_spelling.get((state, spelling), frozenset())


def write_popular_latin(state: str, code: str) -> str:
    return load_table().popular.get((state, code)) or "".join(
        _POPULAR.get(letter, SPELLINGS[letter][0]) for letter in code
    )


def write_lossless_latin(code: str) -> str:
    return "".join(SPELLINGS[letter][0] for letter in code)
