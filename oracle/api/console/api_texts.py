"""Texts of the API in the language of the person, with the names that people read for kinds: see `oracle.api.texts`."""

from __future__ import annotations

import re
from typing import Final

from oracle.api import texts
from oracle.api.console.languages import SOURCE, language
from oracle.api.console.words import KIND_NAMES, name_kind
from oracle.api.naming import ROLES, join_label, name_roles
from oracle.api.texts import find_message
from oracle.identifiers import describe_fault

_CODES: Final = "|".join(ROLES)
_LISTED: Final = rf"(?:{_CODES})(?:, (?:{_CODES}))*(?: or (?:{_CODES}))?"
_ROLE: Final = re.compile(rf"(\bYour role is |; the role )({_LISTED})\b")


def translate(text: str) -> str:
    """Return a text of the API in the language of the person; its English, if it is not known."""
    subject, colon, rest = text.partition(": ")
    if colon and (subject in KIND_NAMES or subject == "SubId"):
        return join_label(name_kind(subject), translate(rest))
    if language.get() == SOURCE:  # in English, only the names of roles are other than in the API
        return _ROLE.sub(lambda found: found[1] + name_roles(found[2]), text)
    return texts.translate(text)


def explain_identifier(message: str, hint: str, text: str, sub_id: str = "", country: str = "") -> str:
    """Say what is wrong in an identifier that the API refused, to the person who wrote it: it must not repeat it."""
    return translate(describe_fault(message, hint.removeprefix("Reason: "), text, sub_id, country))


_SENTENCES: Final = re.compile(r"(?<=\.) (?=[A-Z])")
_REASON: Final = re.compile(r" \([a-z_]+\)$")  # for programs
_SUGGESTION: Final = re.compile(r"(.+) (\(did you mean .+\?\))")


def translate_sentences(text: str) -> list[tuple[str, bool]]:
    """Translate what is wrong with a row, sentence by sentence; each with whether it is in the person's language."""
    end = "။" if language.get() == "my" else "."
    found = []
    for sentence in _SENTENCES.split(text):
        plain = _REASON.sub("", sentence.removesuffix("."))
        suggestion = _SUGGESTION.fullmatch(plain)
        parts = suggestion.groups() if suggestion else (plain,)
        translated = " ".join(map(translate, parts))
        is_known = language.get() == SOURCE or all(find_message(part.partition(": ")[2] if _names_kind(part) else part)
                                                   for part in parts)  # fmt: skip
        found.append((translated + (end if is_known else "."), is_known))
    return found


def _names_kind(text: str) -> bool:
    return text.partition(": ")[0] in (*KIND_NAMES, "SubId") and ": " in text
