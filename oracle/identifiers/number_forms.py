"""Reads the patterns of a numbering plan into beginnings: the digits after which every number of a length is valid.

`phonenumbers` describes the numbers of a country by regular expressions, and to match one is the dearest part of
reading a number.  For nearly all numbers the first digits decide, so a dictionary of beginnings gives the same answer.

A number has at most 15 digits, so a pattern without `*` and `+` is a list of *forms*: for each place the digits that
are allowed there.  A beginning is certain if a form allows every digit at each place after it.  That misses some
beginnings and adds none: numbers with a beginning that is not certain are read by the pattern.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import product
from typing import Final

ANY: Final = "0123456789"
FORMS_MAX: Final = 5_000  # of one pattern; the longest of today has 761 (China)

Form = tuple[str, ...]

_token: Final = re.compile(r"(?P<any>\\d)|(?P<digit>[0-9])|\[(?P<choice>[0-9-]+)\]|(?P<group>\(\?:)").match
_repeat: Final = re.compile(r"\{(?P<least>[0-9]+)(?:,(?P<most>[0-9]+))?\}|(?P<optional>\?)").match


class UnknownPattern(ValueError):
    """A pattern with something else than digits, choices of digits, groups and counts."""


def list_forms(pattern: str) -> list[Form]:
    """Return the forms of all texts that a pattern matches as a whole.  Raises UnknownPattern."""
    forms, end = _read_alternatives(pattern, 0)
    if end != len(pattern):
        raise UnknownPattern
    return forms


def find_certain(forms: Iterable[Form], digits: int) -> dict[str, int]:
    """Return the beginnings of this many digits that are certain: a bit is set for each length, from the lowest on."""
    certain: dict[str, int] = {}
    for form in forms:
        if len(form) >= digits and all(allowed == ANY for allowed in form[digits:]):
            for places in product(*form[:digits]):
                beginning = "".join(places)
                certain[beginning] = certain.get(beginning, 0) | 1 << len(form)
    return certain


def _read_alternatives(pattern: str, at: int) -> tuple[list[Form], int]:
    """Read up to the end of the pattern or of a group; return the forms and where that is."""
    forms: list[Form] = []
    branch: list[Form] = [()]
    while at < len(pattern) and pattern[at] != ")":
        if pattern[at] == "|":
            forms += branch
            branch = [()]
            at += 1
            continue
        atoms, at = _read_atom(pattern, at)
        counts, at = _read_counts(pattern, at)
        branch = [sum(chosen, form) for form in branch for count in counts for chosen in product(atoms, repeat=count)]
        if len(forms) + len(branch) > FORMS_MAX:
            raise UnknownPattern
    return forms + branch, at


def _read_atom(pattern: str, at: int) -> tuple[list[Form], int]:
    token = _token(pattern, at)
    if token is None:
        raise UnknownPattern
    if token["group"]:
        forms, end = _read_alternatives(pattern, token.end())
        if pattern[end : end + 1] != ")":
            raise UnknownPattern
        return forms, end + 1
    if token["any"]:
        return [(ANY,)], token.end()
    return [(token["digit"] or _list_choice(token["choice"]),)], token.end()


def _list_choice(choice: str) -> str:
    """Return the digits of a choice, as `[1-35-8]`, in their order."""
    digits = re.sub(r"([0-9])-([0-9])", lambda ends: ANY[int(ends[1]) : int(ends[2]) + 1], choice)
    if "-" in digits:
        raise UnknownPattern
    return "".join(sorted(set(digits)))


def _read_counts(pattern: str, at: int) -> tuple[range, int]:
    """Read how often an atom is repeated: once, if the pattern gives no count."""
    counts = _repeat(pattern, at)
    if counts is None:
        return range(1, 2), at
    if counts["optional"]:
        return range(2), counts.end()
    least = int(counts["least"])
    return range(least, int(counts["most"] or least) + 1), counts.end()
