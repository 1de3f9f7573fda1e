"""The languages of the console: English in the sources, the others in catalogues (gettext's .po files).

    _("Approve")                       in Python, while a request is answered: the text in the language of the person
    lazy("Approve")                    in Python, at import: becomes text when a page shows it
    ngettext("{n} row", "{n} rows", n) the form for this number; both texts are formatted by who asks
    {% trans %}…{% endtrans %}, _("…") in templates

Files.    translations/{language}/{module}.po: one for each module of `pages` and its templates (templates/{module}/…),
          and console.po for all else.  They are read when the process starts: there is no compiled form, and no build.
Tool.     `make translations` adds what is missing to the files, with an empty translation.  A test fails until it is
          filled in.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from functools import cache
from gettext import c2py
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import Any, Final, NamedTuple

from babel.core import negotiate_locale
from babel.messages.catalog import Catalog
from babel.messages.extract import extract
from babel.messages.pofile import read_po, write_po

SOURCE: Final = "en"
NAMES: Final[Mapping[str, str]] = {"en": "English", "es": "Español", "my": "မြန်မာ"}  # as their speakers write them
LANGUAGES: Final = tuple(NAMES)
FOLDER: Final = Path(str(files("oracle.api.console")))
_KEYWORDS: Final[Any] = {
    "_": None, "gettext": None, "lazy": None, "ngettext": (1, 2), "pgettext": ((1, "c"), 2),
}  # fmt: skip
_COMMON: Final = "console"

# The language of the request that is being answered.
language: ContextVar[str] = ContextVar("language", default=SOURCE)


class Lazy:
    """A text that is declared before anybody's language is known."""

    __slots__ = ("message",)

    def __init__(self, message: str) -> None:
        self.message = message

    def __str__(self) -> str:
        return _(self.message)

    def __repr__(self) -> str:
        return f"lazy({self.message!r})"


lazy = Lazy
Text = str | Lazy


class Messages:
    """The translations of one language."""

    def __init__(self, catalogs: Mapping[str, Catalog]) -> None:
        self._texts: dict[tuple[str, str], tuple[str, ...]] = {}
        self._choose: Callable[[int], int] = lambda n: int(n != 1)
        for catalog in catalogs.values():
            self._choose = c2py(catalog.plural_expr)
            for message in catalog:
                if message.id and all(_list_strings(message)) and not message.fuzzy:
                    key = (message.context or "", message.id if isinstance(message.id, str) else message.id[0])
                    self._texts.setdefault(key, tuple(_list_strings(message)))

    def find(self, message: str, context: str = "") -> str:
        found = self._texts.get((context, message))
        return message if found is None else found[0]

    def find_plural(self, one: str, many: str, count: int) -> str:
        found = self._texts.get(("", one))
        if found is None:
            return one if count == 1 else many
        return found[min(self._choose(count), len(found) - 1)]


def _list_strings(message: Any) -> list[str]:
    return [message.string] if isinstance(message.string, str) else list(message.string)


@cache
def load(code: str) -> Messages:
    """Read the catalogues of a language, console.po first: of two translations of a message, the first counts."""
    return Messages({} if code == SOURCE else read_catalogs(code))


def read_catalogs(code: str) -> dict[str, Catalog]:
    """Read the catalogues of a language, by module."""
    found = sorted((FOLDER / "translations" / code).glob("*.po"), key=lambda file: (file.stem != _COMMON, file.stem))
    return {file.stem: _read(file, code) for file in found}


def _read(file: Path, code: str) -> Catalog:
    with file.open("rb") as opened:
        return read_po(opened, locale=code, abort_invalid=True)


def _(message: str) -> str:
    return load(language.get()).find(message)


def ngettext(one: str, many: str, n: int) -> str:
    return load(language.get()).find_plural(one, many, n)


def pgettext(context: str, message: str) -> str:
    return load(language.get()).find(message, context)


def choose(*wishes: str | None) -> str:
    """Choose the first language that we have: of an account, a cookie, or the header Accept-Language."""
    for wish in wishes:
        if not wish:
            continue
        found = negotiate_locale(_read_wishes(wish), LANGUAGES, sep="-")
        if found is not None:
            return found
    return SOURCE


def _read_wishes(header: str) -> list[str]:
    """Read the languages of Accept-Language, the most wanted one first."""
    weighed: list[tuple[float, str]] = []
    for part in header[:500].split(","):
        name, _semicolon, weight = part.strip().partition(";")
        quality = weight.strip().removeprefix("q=")
        try:
            weighed.append((float(quality) if quality else 1.0, name.strip().replace("_", "-")))
        except ValueError:
            continue
    weighed.sort(key=lambda one: -one[0])
    return [name for quality, name in weighed if quality > 0 and name]


# What is in the sources -----------------------------------------------------------------------------------------


class Found(NamedTuple):
    """A message of the sources."""

    module: str  # the .po file where its translation belongs
    message: str | tuple[str, ...]
    context: str | None
    place: str
    comments: tuple[str, ...]


def list_messages() -> Iterator[Found]:
    """List the messages of the modules and of the templates."""
    for file in sorted(FOLDER.rglob("*")):
        method = {".py": "python", ".html": "jinja2.ext:babel_extract"}.get(file.suffix)
        if method is None:
            continue
        place = file.relative_to(FOLDER)
        with file.open("rb") as opened:
            options = {"silent": "false", "trimmed": "true"}
            for line, message, comments, context in extract(method, opened, _KEYWORDS, ["Translators:"], options):
                if message and message != "":
                    yield Found(find_module(place), message, context, f"{place}:{line}", tuple(comments))


def find_module(place: Path) -> str:
    """Find the .po file of a source, by its path below the console."""
    if place.parts[0] == "pages":
        return place.stem if place.stem != "__init__" else _COMMON
    return place.parts[1] if place.parts[0] == "templates" and len(place.parts) > 2 else _COMMON  # noqa: PLR2004 - a folder within


def add_missing() -> int:
    """Add the messages that no catalogue has to that of their module; return how many there were."""
    count = 0
    sources = list(list_messages())
    for code in LANGUAGES[1:]:
        catalogs, changed = read_catalogs(code), set[str]()
        for found in sources:
            message: Any = found.message
            if any(catalog.get(_find_id(message), found.context) for catalog in catalogs.values()):
                continue
            catalog = catalogs.setdefault(found.module, _make_catalog(code))
            catalog.add(message, context=found.context, auto_comments=found.comments)
            changed.add(found.module)
            count += 1
        for module in changed:
            _write(FOLDER / "translations" / code / f"{module}.po", catalogs[module])
    return count


def _find_id(message: str | tuple[str, ...]) -> str:
    return message if isinstance(message, str) else message[0]


def _make_catalog(code: str) -> Any:
    catalog: Any = Catalog(locale=code, fuzzy=False, header_comment="")
    if code == "es":  # the CLDR has a third form, for whole millions, which no text here has
        catalog._num_plurals, catalog._plural_expr = 2, "(n != 1)"  # noqa: SLF001 - there is no other way to say it
    return catalog


def _write(file: Path, catalog: Catalog) -> None:
    """Write a catalogue without the dates and names of a usual head: two people who add to it would get a conflict."""
    written = BytesIO()
    write_po(written, catalog, width=120, no_location=True)
    kept = ('"Language:', '"Plural-Forms:', '"MIME', '"Content-')
    lines = written.getvalue().decode().strip("\n").split("\n")
    first = lines.index("") if "" in lines else len(lines)
    head = [line for line in lines[:first] if line.startswith(("msgid", "msgstr", *kept))]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join([*head, *lines[first:]]).rstrip("\n") + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.stdout.write(f"{add_missing()} messages need a translation\n")
