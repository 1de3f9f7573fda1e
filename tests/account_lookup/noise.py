"""Bodies that nobody should send: random JSON of given words, and JSON with broken bytes.  The same in each run."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from typing import Any

SCALARS: tuple[Any, ...] = (None, True, False, 0, 1, -5, 2**70, 1e308, float("nan"), "", "ñ\u0000", "\ud800", "x" * 200)


def make_bodies(words: Sequence[str], count: int) -> Iterator[bytes]:
    dice = random.Random(16)
    for _ in range(count):
        body = json.dumps(_make_value(dice, words, 5)).encode()
        if dice.random() < 0.1:
            at = dice.randrange(len(body))
            body = body[:at] + dice.randbytes(dice.randrange(3)) + body[at + 1 :]
        yield body


def _make_value(dice: random.Random, words: Sequence[str], depth: int) -> Any:
    shape = dice.random()
    if depth == 0 or shape < 0.2:
        return dice.choice(words) if dice.random() < 0.5 else dice.choice(SCALARS)
    if shape < 0.4:
        return [_make_value(dice, words, depth - 1) for _ in range(dice.randrange(3))]
    return {dice.choice(words): _make_value(dice, words, depth - 1) for _ in range(dice.randrange(5))}
