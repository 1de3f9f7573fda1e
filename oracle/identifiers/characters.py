"""The characters that an identifier can contain.

`screen` is the first check of every scheme: text of 1..128 code points, without control, format, surrogate,
private-use and unassigned characters, and without white space except U+0020.  U+0020 passes because people
and files group digits with it; each scheme decides whether to remove it.

DESTROYED are the characters that an Account Lookup Service destroys.  It HTML-escapes an ID into a URL and
never percent-encodes it, so the ID arrives cut, escaped or decoded twice.  As a key it would never be found
again.

"Unassigned" follows the Unicode tables of this Python: a newer Python accepts a few more characters, never
fewer.
"""

import unicodedata
from typing import Final

from oracle.identifiers.errors import BadIdentifier

_NAMES: Final = {" ": "a space", "\t": "a tab", "\n": "a line break", "\r": "a line break", "'": "an apostrophe"}

LENGTH_MAX: Final = 128  # PartyIdentifier and PartySubIdOrType, FSPIOP API Definition 7.3

DESTROYED: Final = frozenset("&<>\"'/=?#%{}\\`")

# Zs is here for the spaces that are not U+0020; every other white space is Cc, Zl or Zp.
_REFUSED_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"})


def is_allowed(text: str) -> bool:
    """Whether the text contains only characters that identifiers can contain, including U+0020."""
    if text.isascii():
        return text.isprintable()
    category = unicodedata.category
    return all(character == " " or category(character) not in _REFUSED_CATEGORIES for character in text)


def name_character(character: str) -> str:
    """Return how a message names one character: `'O'`, `a space`, `U+200B`."""
    if character in _NAMES:
        return _NAMES[character]
    return f"'{character}'" if character.isprintable() else f"U+{ord(character):04X}"


def describe_character(text: str, at: int, needed: str) -> str:
    """Return what is wrong with the character at this position, counted from 0.  `needed`: "a digit is needed"."""
    return f"character {at + 1} is {name_character(text[at])}, and {needed}"


def describe_other(text: str, allowed: str, needed: str) -> str:
    """Name the first character that is none of the allowed ones; '' if there is none."""
    found = next((at for at, character in enumerate(text) if character not in allowed), None)
    return "" if found is None else describe_character(text, found, needed)


def describe_refused(text: str) -> str:
    """Name the first character that no identifier can contain; '' if there is none, as before a normalisation."""
    for at, character in enumerate(text):
        if character == " " or character in DESTROYED or not is_allowed(character):
            return describe_character(text, at, "it is not allowed")
    return ""


def screen(text: object, subject: str) -> str:
    """Return the text unchanged, or raise BadIdentifier about the subject."""
    if not isinstance(text, str):
        raise BadIdentifier("not_text", subject)
    if len(text) > LENGTH_MAX:
        raise BadIdentifier("input_too_long", subject)
    if not text:
        raise BadIdentifier("empty", subject)
    if not is_allowed(text):
        raise BadIdentifier("forbidden_character", subject)
    return text
