"""Reads the numbers that people give to the programs; a wrong one is refused in words, before a server starts."""

from __future__ import annotations

import argparse


def parse_count(text: str) -> int:
    """Read a number of at least 1, also with separators as the reports show it: 200,000 or 200_000."""
    digits = text.replace(",", "").replace("_", "")
    if not (digits.isascii() and digits.isdecimal()) or int(digits) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1, without a unit")
    return int(digits)


def parse_whole(text: str) -> int:
    """Read a number that can also be 0."""
    try:
        return 0 if text == "0" else parse_count(text)
    except argparse.ArgumentTypeError as exc:
        raise argparse.ArgumentTypeError(f"{exc}; or 0") from None


def parse_numbers(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    found = [int(part) for part in parts if part.isascii() and part.isdecimal()]
    if len(found) < len(parts) or min(found) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of positive numbers; write 1,2 for example")
    return found
