"""The township letters on a Myanmar registration card: three Burmese letters, and the ways people write
them in Latin.

Latin is no key.  One letter has several spellings (ဆ is SA or HSA) and one spelling several letters (SA is
စ or ဆ), so a Latin township is looked up among the codes of its state, and must fit exactly one; three
spellings of Shan State fit two and are refused.  Only codes that at least two independent lists carry take
part; a code in one list only is most often a misprint of another.

Two Latin forms are shown to people: the *popular* one from the lists, and a *lossless* one where every
letter has its own spelling (စ is CA, ဆ is HSA).  Both are made of attested spellings, with CA and the
rarest letters added.  Other schemes exist where SA is သ and THA is ထ; they cannot be told apart from this
one and are not read.
"""

import csv
from functools import cache
from itertools import product
from pathlib import Path
from typing import Final, NamedTuple

# Lossless spelling first, then the others in use.  U+1009 is missing: where it is written, U+1025 is meant,
# which looks like it.
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

# Where the popular spelling is another than the lossless one.
_POPULAR: Final = {"ဃ": "GA", "စ": "SA", "ဆ": "SA", "ဏ": "NA", "ဓ": "DA", "ဗ": "BA", "ရ": "YA"}


class Townships(NamedTuple):
    by_spelling: dict[tuple[str, str], frozenset[str]]  # (state, Latin) to the codes it may mean
    popular: dict[tuple[str, str], str]  # (state, code) to the spelling the lists prefer


@cache
def table() -> Townships:
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
    return table().by_spelling.get((state, spelling), frozenset())


def popular_latin(state: str, code: str) -> str:
    return table().popular.get((state, code)) or "".join(_POPULAR.get(letter, SPELLINGS[letter][0]) for letter in code)


def lossless_latin(code: str) -> str:
    return "".join(SPELLINGS[letter][0] for letter in code)
