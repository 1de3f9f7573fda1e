"""Identifiers without a grammar of their own: accounts, businesses, devices, aliases, passports; and
SubIds.

Canonical form.  Unicode normalisation form C, otherwise as sent: case and zeros stay.  1..128 code points
and no refused character before normalisation *and* after it: U+1FEF becomes a backtick, U+FB2C becomes three
code points, and "<" with U+0338 becomes one harmless letter that nobody typed.

`.` and `..` are refused: HTTP clients, the hub's included, take them for steps in a path and request another one.

SubId.  An answer must repeat it exactly as it was sent, so it is never rewritten.  A SubId that is not in
form C is refused: it would be a second key that looks the same.
"""

import re
import unicodedata
from typing import Final

from oracle.identifiers.characters import DESTROYED, LENGTH_MAX, describe_refused, is_allowed
from oracle.identifiers.errors import BadIdentifier, Reason
from oracle.identifiers.scheme import FORMULA_MARKS, PartyIdType, Sample, Scheme

# Printable ASCII without the space and without DESTROYED: nearly all traffic, and already in form C.
_plain: Final = re.compile(r"[!$()*+,\-.0-9:;@A-Z\[\]^_a-z|~]{1,128}").fullmatch
_STEPS: Final = frozenset({".", ".."})


class Opaque(Scheme):
    def __init__(self, party_id_type: PartyIdType, *samples: Sample, formula_marks: str = FORMULA_MARKS) -> None:
        self.kind = party_id_type.value
        self.party_id_type = party_id_type
        self.samples = samples
        self.formula_marks = formula_marks
        self._prefix = f"{self.kind} prefix"

    def canonicalise(self, text: object) -> str:
        if isinstance(text, str) and text.isalnum() and text.isascii() and len(text) <= LENGTH_MAX:  # most lookups
            return text
        found = _compose(text, self.kind)
        if found in _STEPS:
            raise BadIdentifier("bad_structure", self.kind)
        return found

    def describe_fault(self, text: str, reason: Reason, country: str = "") -> str:
        if reason == "bad_structure":
            return "it is nothing but a dot or two"
        return super().describe_fault(text, reason, country)

    def canonicalise_prefix(self, text: str) -> str:
        """Return the prefix in form C.  A prefix can be `.` or `..`; a whole identifier cannot."""
        return _compose(text, self._prefix)


def _compose(text: object, subject: str) -> str:
    if not isinstance(text, str):
        raise BadIdentifier("not_text", subject)
    if _plain(text):
        return text
    _check(text, subject)
    composed = unicodedata.normalize("NFC", text)
    _check(composed, subject)
    return composed


def _check(text: str, subject: str) -> None:
    if not text:
        raise BadIdentifier("empty", subject)
    if len(text) > LENGTH_MAX:
        raise BadIdentifier("input_too_long", subject)
    if not _is_transportable(text):
        raise BadIdentifier("forbidden_character", subject)


def _is_transportable(text: str) -> bool:
    return " " not in text and DESTROYED.isdisjoint(text) and is_allowed(text)


def describe_sub_id_fault(sub_id: str, reason: Reason) -> str:
    """Say what was found in a refused SubId, as `Scheme.describe_fault`."""
    if reason == "sub_id_too_long":
        return f"it has {len(sub_id):,} characters, and at most {LENGTH_MAX} are allowed"
    return describe_refused(sub_id) if reason == "sub_id_forbidden_character" else ""


def check_sub_id(sub_id: object) -> str:
    """Return the SubId unchanged, or raise BadIdentifier."""
    if not isinstance(sub_id, str):
        raise BadIdentifier("sub_id_not_text", "SubId")
    if _plain(sub_id):
        return sub_id
    if not sub_id:
        raise BadIdentifier("sub_id_empty", "SubId")
    if len(sub_id) > LENGTH_MAX:
        raise BadIdentifier("sub_id_too_long", "SubId")
    if not _is_transportable(sub_id):
        raise BadIdentifier("sub_id_forbidden_character", "SubId")
    if not unicodedata.is_normalized("NFC", sub_id):
        raise BadIdentifier("sub_id_not_nfc", "SubId")
    return sub_id
