"""The catalogues follow `oracle/api/translations/glossary.md`, and are written as computers and readers expect it."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from oracle.api.languages import FOLDERS, LANGUAGES, list_strings, read_catalogs

if TYPE_CHECKING:
    from collections.abc import Iterator

WITHOUT_HUB = True
FILE: Final = FOLDERS[0] / "glossary.md"
_WORD: Final = r"(?<![\w-])(?:{})(?![\w-])"
_CODE: Final = re.compile(  # names for programs, and places for values
    r"%\(\w+\)s|\{\w*\}|`[^`]*`|oracle-verify \w+ FILE --key log\.vkey|oracle key issue|@FILE|ALIAS:SUB|fsps=\S+"
    r"|only kind, identifier, sub_id, currency, country and action|Only kind and identifier|(?:, [A-Z_]+)+"
    r"|prefix,fspId\S*|prefix and fspId, and if you like kind|column (?:prefix|country)|add, replace or remove"
)
_KEYBOARD: Final = "a key of the keyboard"
# Messages without the word of the glossary, and why.
REASONS: Final[dict[str, str]] = {
    "Key: /": _KEYBOARD,
    "The key / leads to the search, on each page.": _KEYBOARD,
    "Its aliases are answered already, and stay so.": "the translations say that lookups find them",
    "it contains the prefix for calls within the country; identifiers are written without it": "national calls",
    "PostgreSQL has no socket in the directory of the URL: it does not run there": "a directory of files",
    "Role in the answer": "the part of an alias or a route, not a role of a person",
    "Expected oidc:ALIAS:SUB, with the alias of the issuer and the `sub` of its tokens": "the short name of an issuer",
}


class Term(NamedTuple):
    english: re.Pattern[str]
    words: dict[str, re.Pattern[str]]


class Message(NamedTuple):
    module: str
    english: str
    texts: tuple[str, ...]


def read_glossary() -> list[Term]:
    rows = [line.strip("|").split("|") for line in FILE.read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
    return [
        Term(_make_pattern(english), {"es": _make_pattern(spanish), "my": _make_pattern(burmese, whole=False)})
        for english, spanish, burmese, _meaning in rows[2:]
    ]


def _make_pattern(cell: str, *, whole: bool = True) -> re.Pattern[str]:
    words = [re.escape(_drop_accents(word.strip())).replace("…", r"\w*") for word in cell.split(",")]
    return re.compile(_WORD.format("|".join(words)) if whole else "|".join(words), re.IGNORECASE)


def list_all(code: str) -> Iterator[Message]:
    for module, catalog in read_catalogs(code).items():
        for message in catalog:
            if message.id:
                english = message.id if isinstance(message.id, str) else message.id[-1]
                yield Message(module, english, tuple(list_strings(message)))


@pytest.mark.parametrize("code", LANGUAGES[1:])
def test_each_message_uses_the_words_of_the_glossary(code: str) -> None:
    glossary, wrong = read_glossary(), list[str]()
    assert len(glossary) > 40
    for message in list_all(code):
        for term in glossary:
            found = term.english.search(_CODE.sub(" ", message.english))
            has_words = found is None or all(term.words[code].search(_drop_accents(text)) for text in message.texts)
            if found is not None and not has_words and message.english not in REASONS:
                wrong.append(f"{message.module}.po: {found[0]}: {message.english!r}: {message.texts}")
    assert wrong == [], "\n".join(["", *wrong])


def _drop_accents(text: str) -> str:
    """`elimínelo` begins as `elimin…`.  Burmese marks stay."""
    return re.sub("[\u0300-\u036f]", "", unicodedata.normalize("NFD", text))


def test_each_reason_is_of_a_message() -> None:
    assert REASONS.keys() <= {message.english for message in list_all("es")}


@pytest.mark.parametrize("code", LANGUAGES[1:])
def test_a_message_has_one_translation(code: str) -> None:
    """The first catalogue with a message counts, so another translation of it is never seen: give it a context."""
    found: dict[tuple[str | None, str], set[tuple[str, ...]]] = {}
    for catalog in read_catalogs(code).values():
        for message in catalog:
            if message.id:
                key = message.context, message.id if isinstance(message.id, str) else message.id[0]
                found.setdefault(key, set()).add(tuple(list_strings(message)))
    assert {key: texts for key, texts in found.items() if len(texts) > 1} == {}


# A syllable, as Unicode orders its signs (UTN 11): kinzi, letter, stacked letters, medials, vowel signs, tones.  Zawgyi
# uses the same code points in the order of its shapes, so its texts do not fit.
_LETTER: Final = "[\u1000-\u102a\u103f\u104c-\u104f]"
_SYLLABLE: Final = re.compile(
    f"(?:\u1004\u103a\u1039)?{_LETTER}(?:\u1039[\u1000-\u1021])*(?:\u103a(?=[\u102f]))?\u103b?\u103c?\u103d?\u103e?"
    "\u1031?[\u102d\u102e\u1032]?[\u102f\u1030]?[\u102b\u102c]?\u1036?\u1037?\u103a?\u1038?"
)
_BURMESE: Final = re.compile("[\u1000-\u103f\u104c-\u109f\uaa60-\uaa7f]+")  # without digits, and the signs of sentences


def test_burmese_is_in_the_order_of_unicode() -> None:
    assert _SYLLABLE.sub("", "\u1031\u1000") == "\u1031"  # Zawgyi: the vowel before its letter
    wrong = [
        (message.module, run)
        for message in list_all("my")
        for text in message.texts
        for run in _BURMESE.findall(text)
        if _SYLLABLE.sub("", run) or unicodedata.normalize("NFC", run) != run
    ]
    assert wrong == []


@pytest.mark.parametrize("code", LANGUAGES[1:])
def test_a_sentence_stays_a_sentence(code: str) -> None:
    """A text ends with a dot, a question mark or a colon where the English one does."""
    ends = {".": "။" if code == "my" else ".", "?": "။" if code == "my" else "?", ":": "-" if code == "my" else ":"}
    wrong = [
        (message.module, message.english, text)
        for message in list_all(code)
        for text in message.texts
        if message.english[-1] in ends and text[-1] != ends[message.english[-1]]
    ]
    assert wrong == []


def test_spanish_is_formal() -> None:
    """It speaks to a person as *usted*."""
    informal = re.compile(r"\b(?:tú|tu|tus|te|ti|contigo|puedes|tienes|debes|eres|has|haz|elige|intenta|espera tu)\b")
    assert [text for message in list_all("es") for text in message.texts if informal.search(text.lower())] == []


def test_sentences_in_burmese_are_polite() -> None:
    plain = re.compile("(?<!ပါ)(?<!သေး)(?:သည်|(?<!အ)မည်)(?=။)")
    assert [text for message in list_all("my") for text in message.texts if plain.search(text)] == []
