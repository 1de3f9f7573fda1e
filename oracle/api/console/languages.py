"""The messages of the console, and those of the API's errors: in its modules and templates, and in catalogues.

    {% trans %}…{% endtrans %}, _("…") in templates; in Python see `oracle.api.languages`, whose names are here, too.

Files.    translations/{language}/{module}.po: one for each module of `pages` and its templates (templates/{module}/…),
          and console.po for all else.  Those of the API are beside it: texts.po,
          problems.po, reasons.po, findings.po.
Tool.     `make translations` adds what is missing to the files, with an empty translation.  A test fails until it is
          filled in.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import Any, Final, NamedTuple

from babel.messages.catalog import Catalog
from babel.messages.extract import extract
from babel.messages.pofile import write_po

from oracle.api import findings, naming, problem_texts, reasons, texts
from oracle.api.languages import (
    LANGUAGES,
    NAMES,
    SOURCE,
    Lazy,
    Text,
    _,
    choose,
    language,
    lazy,
    load,
    ngettext,
    pgettext,
    read_catalogs,
)

__all__ = [
    "LANGUAGES", "NAMES", "SOURCE", "Lazy", "Text", "_", "choose", "language", "lazy", "list_messages", "load",
    "ngettext", "pgettext", "read_catalogs",
]  # fmt: skip

FOLDER: Final = Path(str(files("oracle.api.console")))
_OF_API: Final = ("texts", "problems", "findings", "reasons")  # the catalogues beside the API
_KEYWORDS: Final[Any] = {
    "_": None, "gettext": None, "lazy": None, "ngettext": (1, 2), "pgettext": ((1, "c"), 2),
}  # fmt: skip
_COMMON: Final = "console"


# What is in the sources -----------------------------------------------------------------------------------------


class Found(NamedTuple):
    """A message of the sources."""

    module: str  # the .po file where its translation belongs
    message: str | tuple[str, ...]
    context: str | None
    place: str
    comments: tuple[str, ...]


def list_messages() -> Iterator[Found]:
    """List the messages of the modules and of the templates, and the texts of problems."""
    for text, where in problem_texts.list_texts().items():
        yield Found("problems", text, None, where, ())
    shared = [Path(str(module.__file__)) for module in (texts, reasons, findings, naming)]
    for file in [*shared, *sorted(FOLDER.rglob("*"))]:
        method = {".py": "python", ".html": "jinja2.ext:babel_extract"}.get(file.suffix)
        if method is None:
            continue
        place = file.relative_to(FOLDER if file.is_relative_to(FOLDER) else FOLDER.parent)
        with file.open("rb") as opened:
            options = {"silent": "false", "trimmed": "true"}
            for line, message, comments, context in extract(method, opened, _KEYWORDS, ["Translators:"], options):
                if message and message != "":
                    yield Found(find_module(place), message, context, f"{place}:{line}", tuple(comments))


def find_module(place: Path) -> str:
    """Find the .po file of a source, by its path below the console."""
    if place.stem in _OF_API:
        return place.stem
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
            places = [catalogs[each] for each in catalogs if found.module != "problems" or each == found.module]
            if any(catalog.get(_find_id(message), found.context) for catalog in places):
                continue
            catalog = catalogs.setdefault(found.module, _make_catalog(code))
            catalog.add(message, context=found.context, auto_comments=found.comments)
            changed.add(found.module)
            count += 1
        for module in changed:
            _write(find_folder(module) / "translations" / code / f"{module}.po", catalogs[module])
    return count


def find_folder(module: str) -> Path:
    return FOLDER.parent if module in _OF_API else FOLDER


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
