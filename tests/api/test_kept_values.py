"""What anybody can ask for costs a tenth of the time at most."""

from __future__ import annotations

import pytest

from oracle.api.kept import Kept


@pytest.mark.parametrize(("took_s", "expected"), [(0.008, 125), (0.5, 10), (0.0, 1_000)])
def test_a_value_is_made_a_tenth_of_the_time_at_most_and_once_a_second_at_least(took_s: float, expected: int) -> None:
    now, made = [100.0], [0]

    def make() -> int:
        now[0] += took_s
        made[0] += 1
        return made[0]

    kept, end = Kept(make, lambda: now[0]), now[0] + 10.0
    while now[0] < end:
        kept.get()
        now[0] += 0.01
    assert made[0] <= expected
    now[0] += 1.0
    assert kept.get() == made[0] > 1
