"""The word that a person probably meant, for one that is not known."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

# Words that people try for one another: verbs, then kinds of identifiers, each with its other names.
_SYNONYMS: Final = (
    {"add", "create", "register", "issue", "new"},
    {"remove", "delete", "rm", "del", "revoke", "end", "close"},
    {"show", "get", "view", "info", "describe"},
    {"list", "ls", "all"},
    {"update", "change", "edit", "modify", "set"},
    {"lookup", "find", "search"},
    {"msisdn", "mobile", "mobile_number", "phone", "phone_number", "tel", "telephone", "cell", "cellphone", "celular",
     "movil", "telefono"},
    {"account_id", "account", "account_number", "bank_account", "acct", "cuenta"},
    {"nrc", "nric", "national_registration"},
    {"email", "e-mail", "mail", "correo"},
    {"personal_id", "passport", "national_id", "id_card", "driving_license", "curp", "ine", "rfc"},
    {"business", "company", "merchant", "shop", "empresa"},
    {"device", "imei", "terminal"},
    {"alias", "nickname", "handle"},
)  # fmt: skip
_KNOWN_WORDS: Final = frozenset().union(*_SYNONYMS)


def find_meant(word: str, known: Iterable[str]) -> list[str]:
    """Return the known words, as they are spelled there, that were probably meant; none if no word is like it."""
    from difflib import get_close_matches  # noqa: PLC0415 - 5 ms that only a misspelled word costs

    names = {each.lower(): each for each in known}
    asked = word.strip().lower()
    spelled = asked.replace(" ", "_")
    alike = [each for words in _SYNONYMS if spelled in words for each in names if each in words]
    close = get_close_matches(asked, names, n=1, cutoff=0.8) or alike or get_close_matches(asked, names, n=1)
    if not close and len(asked) > 1:
        close = [each for each in names if each.startswith(asked)]
    return [names[each] for each in close]


def is_synonym(word: str) -> bool:
    """Whether the word is one of the closed list of synonyms, so that a text can show it: it is no identifier."""
    return word.strip().lower().replace(" ", "_") in _KNOWN_WORDS
