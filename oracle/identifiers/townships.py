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

from oracle.identifiers.tables import open_table

LETTERS: Final = 3
STATES: Final = frozenset(map(str, range(1, 15)))
COLUMNS: Final = ["state", "township_mm", "township_en"]
PROBLEMS_MAX: Final = 20  # that are reported of one file

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


class Township(NamedTuple):
    """A township that an operator adds to the lists."""

    state: str
    code: str  # three Burmese letters


class TownshipsError(ValueError):
    """An operator's file of townships has faults.  Each text is one line for people."""

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class Townships(NamedTuple):
    by_spelling: dict[tuple[str, str], frozenset[str]]  # (state, Latin) to the codes it can mean
    popular: dict[tuple[str, str], str]  # (state, code) to the spelling the lists prefer


@cache
def load_table(own: tuple[Township, ...] = ()) -> Townships:
    """Load the lists, and with them the operator's own townships."""
    usable: set[Township] = set(own)
    popular: dict[tuple[str, str], str] = {}
    with open_table("nrc_townships.csv") as rows:
        for row in csv.DictReader(rows):
            township = Township(row["state"], row["township_mm"])
            popular[township] = row["township_en"]
            if row["use_for_latin_resolution"] == "yes":
                usable.add(township)
    by_spelling: dict[tuple[str, str], frozenset[str]] = {}
    for state, code in usable:
        for spelling in _list_spellings(code):
            by_spelling[state, spelling] = by_spelling.get((state, spelling), frozenset()) | {code}
    return Townships(by_spelling, popular)


def _list_spellings(code: str) -> list[str]:
    return ["".join(letters) for letters in product(*(SPELLINGS[letter] for letter in code))]


def read_own(file: Path) -> tuple[Township, ...]:
    """Read an operator's CSV file with the columns state, township_mm, township_en.

    township_en can be empty.  It is compared with the letters, so that a slip in one of the two is found: it would read
    one person's card as another's.  Raises TownshipsError.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            rows = csv.reader(text)
            if next(rows, None) != COLUMNS:
                raise TownshipsError(f"{file}: line 1 must be {','.join(COLUMNS)}")
            townships: list[Township] = []
            problems: list[str] = []
            for row in rows:
                try:
                    if any(map(str.strip, row)):
                        townships.append(_read_township(row, f"{file}: line {rows.line_num}"))
                except TownshipsError as exc:
                    problems += exc.problems
    except OSError as exc:
        raise TownshipsError(f"{file}: cannot read the file: {exc.strerror}") from None
    except (UnicodeDecodeError, csv.Error):
        raise TownshipsError(f"{file}: the file is not CSV in UTF-8") from None
    if problems:
        raise TownshipsError(*problems[:PROBLEMS_MAX])
    return tuple(townships)


def _read_township(row: list[str], place: str) -> Township:
    if not len(COLUMNS) - 1 <= len(row) <= len(COLUMNS):  # Excel leaves out the separator of an empty last cell
        raise TownshipsError(f"{place}: {len(row)} cells instead of {len(COLUMNS)}")
    state, letters, spelling = (cell.strip() for cell in (*row, "")[: len(COLUMNS)])
    if state not in STATES:
        raise TownshipsError(f"{place}: the state must be 1 to 14, in ASCII digits")
    code = letters.replace("\u1009", "\u1025").replace("၀", "ဝ")
    if len(code) != LETTERS or not SPELLINGS.keys() >= set(code):
        raise TownshipsError(f"{place}: township_mm must be three Burmese letters")
    if spelling and spelling.upper() not in _list_spellings(code):
        raise TownshipsError(
            f"{place}: township_en is not a spelling of these letters; write {_write_popular(code)}, or leave it empty"
        )
    return Township(state, code)


def find_codes(state: str, spelling: str, own: tuple[Township, ...]) -> frozenset[str]:
    """Return every code of this state that can have this spelling, in upper-case Latin."""
    return load_table(own).by_spelling.get((state, spelling), frozenset())


def write_popular_latin(state: str, code: str) -> str:
    return load_table().popular.get((state, code)) or _write_popular(code)


def _write_popular(code: str) -> str:
    return "".join(_POPULAR.get(letter, SPELLINGS[letter][0]) for letter in code)


def write_lossless_latin(code: str) -> str:
    return "".join(SPELLINGS[letter][0] for letter in code)
