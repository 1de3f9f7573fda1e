"""The languages of the API and of the console: English in the sources, the others in catalogues (gettext's .po files).

    _("Approve")                       while a request is answered: the text in the language of the person
    lazy("Approve")                    at import: becomes text when it is shown
    ngettext("{n} row", "{n} rows", n) the form for this number; both texts are formatted by who asks

Files.    translations/{language}/*.po of this package (errors) and of the console.  They are read at the first
          call that needs them: there is no compiled form, and no build.
Tool.     `make translations` adds what is missing to the files (`oracle.api.console.languages`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from functools import cache
from gettext import c2py
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from babel.core import negotiate_locale
from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po

SOURCE: Final = "en"
NAMES: Final[Mapping[str, str]] = {"en": "English", "es": "Español", "my": "မြန်မာ"}  # as their speakers write them
LANGUAGES: Final = tuple(NAMES)
FOLDERS: Final = tuple(Path(str(files(package))) / "translations" for package in ("oracle.api", "oracle.api.console"))
_COMMON: Final = "console"

# The language of the request that is being answered.
language: ContextVar[str] = ContextVar("language", default=SOURCE)


_BURMESE: Final = str.maketrans("0123456789", "၀၁၂၃၄၅၆၇၈၉")


def write_digits(text: str) -> str:
    """Write digits as the language does; the CLDR names those of Burmese, Babel writes 0 to 9."""
    return text.translate(_BURMESE) if language.get() == "my" else text


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
                if message.id and all(list_strings(message)) and not message.fuzzy:
                    key = (message.context or "", message.id if isinstance(message.id, str) else message.id[0])
                    self._texts.setdefault(key, tuple(list_strings(message)))

    def find(self, message: str, context: str = "") -> str:
        found = self._texts.get((context, message))
        return message if found is None else found[0]

    def find_plural(self, one: str, many: str, count: int) -> str:
        found = self._texts.get(("", one))
        if found is None:
            return one if count == 1 else many
        return found[min(self._choose(count), len(found) - 1)]


def list_strings(message: Any) -> list[str]:
    """List the translations of a message: one, or one for each plural form."""
    return [message.string] if isinstance(message.string, str) else list(message.string)


@cache
def load(code: str) -> Messages:
    """Read the catalogues of a language, console.po first: of two translations of a message, the first counts."""
    return Messages({} if code == SOURCE else read_catalogs(code))


def read_catalogs(code: str) -> dict[str, Catalog]:
    """Read the catalogues of a language, by module."""
    found = [file for folder in FOLDERS for file in (folder / code).glob("*.po")]
    found.sort(key=lambda file: (file.stem != _COMMON, file.stem))
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
            weighed.append((float(quality) if quality else 1.0, name.strip().lower().replace("_", "-")))
        except ValueError:
            continue
    weighed.sort(key=lambda one: -one[0])
    return [name for quality, name in weighed if quality > 0 and name]
