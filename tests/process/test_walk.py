"""The check of the walk through the first day of an oracle (walks/walk.sh), which `make faults` runs."""

from __future__ import annotations

import csv
from pathlib import Path

from walks.walk import BAD, Walk, check, make


def test_its_check_finds_each_wrong_result(tmp_path: Path) -> None:
    walk = Walk(rows=200, bad=20)
    make(tmp_path, walk)
    with (tmp_path / "ours.csv").open(newline="") as text:
        assert len(list(csv.reader(text))) == 201
    good = [
        [str(index + 2), status, code, "why" if code else "", "", identifier]
        for index in range(200)
        for status, code, identifier in [walk.expect(index)]
    ]
    assert sum(bool(line[2]) for line in good) == 2 * len(BAD)
    results = tmp_path / "results.csv"

    def is_right(lines: list[list[str]]) -> bool:
        with results.open("w", newline="") as text:
            csv.writer(text).writerows([["line", "status", "code", "message", "kind", "canonical"], *lines])
        return check(results, walk)

    assert is_right(good)
    bad_at = next(index for index, line in enumerate(good) if line[2])
    for column, value in ((0, "9"), (1, "added"), (2, "too_long"), (3, "")):
        assert not is_right([*good[:bad_at], [*good[bad_at][:column], value, *good[bad_at][column + 1 :]],
                             *good[bad_at + 1 :]]), column  # fmt: skip
    assert not is_right([*good[:-1]])
    assert not is_right([*good, good[-1]])
    assert not is_right([[*good[0][:5], "525500000000"], *good[1:]])
    assert not is_right([good[1], good[0], *good[2:]])
