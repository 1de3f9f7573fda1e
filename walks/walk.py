"""Make the files of walk.sh, and check the result of each of their rows.

    python -m walks.walk make DIR --rows N --bad B       write ours.csv and theirs.csv
    python -m walks.walk check RESULTS --rows N --bad B  exit 1 unless every row has the expected result
    python -m walks.walk samples --rows N --bad B        print lookups for the hub: FSP and target, one a line
    python -m walks.walk figures < BATCH.json            print rows a second

The good rows are of all kinds of aliases.  The bad rows are of ten sorts in turn, spread evenly among the good ones.
Seven sorts are found when the file is read.  Only the directory can find the other three: a currency that the FSP
cannot register, an alias that another FSP holds, a removal of an alias that is not registered.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from loadtests.keys import Alias, Keys, add_check_digit, make_path

HEADER: Final = ("kind", "identifier", "sub_id", "currency", "country", "action")
FIRST_LINE: Final = 2
OURS, THEIRS = "greenbank", "redbank"
SAMPLES: Final = 50


def _make_row(alias: Alias, currency: str = "", action: str = "add") -> list[str]:
    return [alias.party_id_type, alias.identifier, alias.sub_id, currency, "", action]


class Bad(NamedTuple):
    """A sort of bad row; `row(n, unused)` makes the n-th one, with an alias that no other row uses."""

    code: str
    status: str
    row: Callable[[int, Alias], list[str]]


BAD: Final = (
    Bad("bad_identifier", "invalid", lambda n, _: ["MSISDN", f"52{n:05d}", "", "", "", "add"]),
    Bad("unknown_kind", "invalid", lambda _, unused: ["PHONE", *_make_row(unused)[1:]]),
    Bad("bad_currency", "invalid", lambda _, unused: _make_row(unused, currency="PESOS")),
    Bad("scientific_notation", "invalid", lambda n, _: ["MSISDN", f"5.2551{n:05d}E+11", "", "", "", "add"]),
    Bad("leading_zero_lost", "invalid",
        lambda n, _: ["CLABE", add_check_digit(f"032180{n:011d}")[1:], "", "", "", "add"]),
    Bad("missing_identifier", "invalid", lambda *_: ["MSISDN", "", "", "MXN", "", "add"]),
    Bad("too_few_fields", "invalid", lambda _, unused: _make_row(unused)[:1]),
    Bad("currency_not_allowed", "invalid", lambda _, unused: _make_row(unused, currency="USD")),
    Bad("held_elsewhere", "refused", lambda _, theirs: _make_row(theirs)),
    Bad("not_registered", "refused", lambda _, unused: _make_row(unused, action="remove")),
)  # fmt: skip
_HELD: Final = [bad.code for bad in BAD].index("held_elsewhere")


class Walk:
    """Makes the rows of both files, and knows the expected result of each."""

    def __init__(self, rows: int, bad: int) -> None:
        assert 0 < bad <= rows, "at least one row must be bad, and at most all of them"
        assert bad % len(BAD) == 0, f"the number of bad rows must be a multiple of {len(BAD)}, the number of sorts"
        self.rows = rows
        self.bad = bad
        self._keys = Keys()
        self._every = rows // bad

    def find_bad(self, index: int) -> int | None:
        """Return the number of the bad row at this place; None for a good row."""
        number, within = divmod(index, self._every)
        return number if within == self._every // 2 and number < self.bad else None

    def make_row(self, index: int) -> list[str]:
        number = self.find_bad(index)
        if number is None:
            return _make_row(self._keys.make_alias(index))
        return BAD[number % len(BAD)].row(number, self._make_unused(number))

    def list_theirs(self) -> Iterator[list[str]]:
        return (_make_row(self._make_unused(number)) for number in range(_HELD, self.bad, len(BAD)))

    def expect(self, index: int) -> tuple[str, str, str]:
        """Return status, code and canonical identifier ('': not checked)."""
        number = self.find_bad(index)
        if number is None:
            return "added", "", self._keys.make_alias(index).identifier
        bad = BAD[number % len(BAD)]
        return bad.status, bad.code, ""

    def list_samples(self) -> Iterator[tuple[str, str]]:
        """Yield the expected FSP ('' for none) and the target of each lookup."""
        step = max(1, self.rows // SAMPLES)
        for index in range(0, self.rows, step):
            if self.find_bad(index) is None:
                yield OURS, make_path(self._keys.make_alias(index))
        for number in range(min(self.bad, SAMPLES)):
            if BAD[number % len(BAD)].code in ("held_elsewhere", "not_registered", "currency_not_allowed"):
                yield THEIRS if number % len(BAD) == _HELD else "", make_path(self._make_unused(number))

    def _make_unused(self, number: int) -> Alias:
        return self._keys.make_alias(self.rows + number)


def make(directory: Path, walk: Walk) -> None:
    _write(directory / "ours.csv", (walk.make_row(index) for index in range(walk.rows)))
    _write(directory / "theirs.csv", walk.list_theirs())


def _write(file: Path, rows: Iterator[list[str]]) -> None:
    with file.open("w", encoding="utf-8", newline="") as text:
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(HEADER)
        writer.writerows(rows)


def check(results: Path, walk: Walk) -> bool:
    """Whether every row has its line, in order, with the expected result; the line of a bad row explains it."""
    wrong: list[str] = []
    codes: Counter[str] = Counter()
    messages: dict[str, tuple[str, str]] = {}
    count = 0
    with results.open(encoding="utf-8", newline="") as text:
        for index, line in enumerate(csv.DictReader(text)):
            count += 1
            if index >= walk.rows:
                continue
            status, code, identifier = walk.expect(index)
            found = (line["line"], line["status"], line["code"], bool(line["message"]))
            if found != (str(index + FIRST_LINE), status, code, bool(code)):
                wrong.append(f"line {index + FIRST_LINE}: {status} {code} expected, not {found}")
            elif identifier and line["canonical"] != identifier:
                wrong.append(f"line {index + FIRST_LINE}: unexpected canonical form")
            if code:
                codes[line["code"]] += 1
                messages.setdefault(code, (line["line"], line["message"]))
    if count != walk.rows:
        wrong.append(f"{count:,} lines for {walk.rows:,} rows")
    for code, (number, message) in messages.items():
        print(f"{codes[code]:>6,} x {code:21} as line {number}: {message}")
    if set(codes.values()) != {walk.bad // len(BAD)} or len(codes) != len(BAD):
        wrong.append(f"not every sort of bad row was found {walk.bad // len(BAD)} times")
    print(f"{count - sum(codes.values()):>6,} rows added, {sum(codes.values()):,} explained")
    print(*wrong[:20], sep="\n", file=sys.stderr)
    return not wrong


def print_figures(batch: dict[str, Any]) -> None:
    """Print the rates, by the clock of the service."""

    def count_seconds(begin: str, end: str) -> float:
        return (datetime.fromisoformat(batch[end]) - datetime.fromisoformat(batch[begin])).total_seconds()

    rows = batch["rows"]
    checked_s, applied_s = count_seconds("uploadedAt", "validatedAt"), count_seconds("startedAt", "finishedAt")
    print(f"checked  {rows['read']:>10,} rows in {checked_s:6.1f} s: {rows['read'] / checked_s:>8,.0f} rows/s")
    print(f"applied  {rows['applied']:>10,} rows in {applied_s:6.1f} s: {rows['applied'] / applied_s:>8,.0f} rows/s")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=("make", "check", "samples", "figures"), help="what to do")
    parser.add_argument("path", type=Path, nargs="?", help="make: a directory; check: the file of results")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of ours.csv (default: 1000000)")
    parser.add_argument("--bad", type=int, default=1_000, help="bad rows among them (default: 1000)")
    given = parser.parse_args()
    if given.what == "figures":
        print_figures(json.load(sys.stdin))
        return 0
    walk = Walk(given.rows, given.bad)
    if given.what == "samples":
        for fsp_id, target in walk.list_samples():
            print(fsp_id or "-", target)
        return 0
    if given.path is None:
        parser.error(f"{given.what} needs a path")
    if given.what == "check":
        return 0 if check(given.path, walk) else 1
    make(given.path, walk)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
