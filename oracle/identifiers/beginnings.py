"""Beginnings of telephone numbers: which numbers the prefix of a route means.

Numbers are stored without a national prefix after the calling code: +52 1 55… as 5255…, +95 0 9… as 959….  A route
with such a prefix could never answer, so `fold` treats it as a number is treated.

Kept.    Valid numbers begin with the digits as they are.  So Italy's 0 stays, and so does 8 in Russia, where the
         national prefix is also the beginning of area codes.
Folded.  No valid number begins with them, but what follows the national prefix is the beginning of valid numbers.
Refused. They end within the national prefix: 521 could mean all of Mexico, and nobody may route that by a slip.  So
         could 910, although some free numbers of India begin with zeros.  Or more digits would decide what the national
         prefix is (Argentina's 0 11 15, Colombia's 0 456).  At home also digits with which no valid number begins.
Kept.    All other digits, because numbers abroad need not be valid: the scheme's test data are none.

The patterns are made of the metadata of `phonenumbers`.  A pattern of its dialect (digits, classes, groups,
alternatives and bounded repetitions) is rewritten to match every beginning of the texts that it matches.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from functools import cache
from typing import Final, NamedTuple

from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, PhoneMetadata, PhoneNumberDesc

from oracle.identifiers.errors import BadPrefix
from oracle.identifiers.scheme import Matcher

_SUBJECT: Final = "MSISDN prefix"
_find_tokens: Final = re.compile(r"\\d|\[[^\]]*\]|[0-9]|\$|\(\?:|[()|]|\?|\{[0-9]+(?:,[0-9]+)?\}").findall


class _Plan(NamedTuple):
    """The numbers of one calling code, without it."""

    begins: Matcher  # a beginning of valid numbers
    trunk_zero: str  # '0' where that is the national prefix, else ''
    strip: Callable[[str], str]  # removes the national prefix, as `phonenumbers` does
    begins_prefix: Matcher  # a beginning of the national prefix, or all of it


def fold(digits: str, calling_code: str, *, is_home: bool) -> str:
    """Return the beginning of the stored form of the numbers that begin with these digits.

    `calling_code` is the one at their beginning, or ''.  Raises BadPrefix.
    """
    national = digits[len(calling_code) :]
    plan = _load_plan(calling_code) if calling_code and national else None
    if plan is None or (plan.begins(national) and national != plan.trunk_zero):
        return digits
    rest = plan.strip(national)
    if plan.begins_prefix(national):
        raise BadPrefix("national_prefix", _SUBJECT, calling_code + (rest if plan.begins(rest) else ""))
    if rest != national and plan.begins(rest):
        return calling_code + rest
    if is_home:
        raise BadPrefix("begins_nothing", _SUBJECT)
    return digits


@cache
def _load_plan(calling_code: str) -> _Plan | None:
    regions = COUNTRY_CODE_TO_REGION_CODE[int(calling_code)]
    found = [PhoneMetadata.metadata_for_region_or_calling_code(int(calling_code), region) for region in regions]
    plans = [plan for plan in found if plan is not None]
    if not plans:
        return None
    valid = "|".join(dict.fromkeys(_write_valid_beginnings(kind) for plan in plans for kind in list_kinds(plan)))
    # `phonenumbers` parses all numbers of a calling code with the rule of its first region.  It maps Mexico's
    # abolished 1 no more; `msisdn` does.
    rule = "1" if calling_code == "52" else plans[0].national_prefix_for_parsing
    if not rule:
        return _Plan(re.compile(valid).fullmatch, "", str, lambda _: None)
    strip = _make_stripper(rule, plans[0].national_prefix_transform_rule)
    trunk_zero = "0" if plans[0].national_prefix == "0" else ""
    return _Plan(re.compile(valid).fullmatch, trunk_zero, strip, re.compile(write_beginnings(rule)).fullmatch)


def _make_stripper(rule: str, transform: str | None) -> Callable[[str], str]:
    match_prefix = re.compile(rule).match

    def strip(national: str) -> str:
        found = match_prefix(national)
        if found is None:
            return national
        kept = found.expand(transform) if transform and found.groups()[-1] is not None else ""
        return kept + national[found.end() :]

    return strip


def list_kinds(plan: PhoneMetadata) -> list[PhoneNumberDesc]:
    """List the kinds of valid numbers.  Mobile first: it is what most numbers are."""
    kinds = (
        plan.mobile, plan.fixed_line, plan.toll_free, plan.premium_rate, plan.shared_cost, plan.voip,
        plan.personal_number, plan.pager, plan.uan, plan.voicemail,
    )  # fmt: skip
    return [kind for kind in kinds if kind is not None and kind.national_number_pattern]


def _write_valid_beginnings(kind: PhoneNumberDesc) -> str:
    longest = max(kind.possible_length, default=15)  # none listed means any
    return f"(?=[0-9]{{1,{longest}}}\\Z){write_beginnings(kind.national_number_pattern or '')}"


def write_beginnings(pattern: str) -> str:
    """Write a pattern of every text with which a text that this pattern matches can begin, itself included."""
    return _read_choice(deque(_find_tokens(pattern)))[1]


def _read_choice(tokens: deque[str]) -> tuple[str, str]:
    """Read alternatives up to `)` or the end: return their pattern, and the pattern of their beginnings."""
    choices = [_read_sequence(tokens)]
    while tokens and tokens[0] == "|":
        tokens.popleft()
        choices.append(_read_sequence(tokens))
    return f"(?:{'|'.join(c[0] for c in choices)})", f"(?:{'|'.join(c[1] for c in choices)})"


def _read_sequence(tokens: deque[str]) -> tuple[str, str]:
    parts: list[tuple[str, str]] = []
    while tokens and tokens[0] not in ("|", ")"):
        atom = tokens.popleft()
        if atom == "$":
            continue
        part = atom, f"{atom}?"
        if atom in ("(", "(?:"):
            part = _read_choice(tokens)
            tokens.popleft()
        parts.append(_repeat(*part, tokens.popleft()) if tokens and tokens[0][0] in "?{" else part)
    whole = beginnings = ""
    for each, begun in reversed(parts):
        whole, beginnings = each + whole, f"(?:{begun}|{each}{beginnings})"
    return whole, beginnings


def _repeat(part: str, begun: str, times: str) -> tuple[str, str]:
    bounds = (0, 1) if times == "?" else tuple(int(bound) for bound in times[1:-1].split(","))
    low, high = bounds[0], bounds[-1]
    return f"{part}{{{low},{high}}}", f"(?:{part}{{0,{high - 1}}}{begun})"
