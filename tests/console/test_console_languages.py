"""Each message of the console is translated, and each language is written as its speakers write it."""

from __future__ import annotations

import re
from contextvars import copy_context
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import pytest

from oracle.api.console import formats, languages
from oracle.api.console.languages import LANGUAGES, choose, list_messages, read_catalogs
from oracle.api.texts import join_sentences, translate

if TYPE_CHECKING:
    from collections.abc import Callable

# Words that are the same in another language: names, and what the field calls by one word everywhere.
SAME: Final = frozenset({
    "FSP", "FSPs", "CLABE", "IBAN", "MSISDN", "NRC", "CSV", "JSON", "NDJSON", "URL", "ALS", "SubId", "UTC", "HTTP",
    "{name} ({role})", "No", "Total", "Error", "Alias", "Auditor", "Provisional", "Redis", "PostgreSQL", "Valkey",
    ", ",
})  # fmt: skip
_PLACE: Final = re.compile(r"%\((\w+)\)s|\{(\w+)\}")


@pytest.mark.parametrize("code", LANGUAGES[1:])
def test_each_message_is_translated(code: str) -> None:
    wrong: list[str] = []
    catalogs = read_catalogs(code)
    for found in list_messages():
        ids = (found.message,) if isinstance(found.message, str) else found.message
        entries: list[Any] = [entry for catalog in catalogs.values() if (entry := catalog.get(ids[0], found.context))]
        where = f"translations/{code}/{found.module}.po: {ids[0]!r} of {found.place}"
        if not entries:
            wrong.append(f"{where} is missing; run `make translations`")
            continue
        texts = [entries[0].string] if isinstance(entries[0].string, str) else list(entries[0].string)
        if entries[0].fuzzy or not all(texts):
            wrong.append(f"{where} is empty or fuzzy")
        elif texts[0] == ids[0] and ids[0] not in SAME:
            wrong.append(f"{where} is unchanged")
        elif any(set(_PLACE.findall(text)) != set(_PLACE.findall(ids[-1])) for text in texts):
            wrong.append(f"{where} has other places for values")
    assert wrong == [], "\n".join(["", *wrong])


@pytest.mark.parametrize("code", LANGUAGES[1:])
def test_no_translation_is_left_behind(code: str) -> None:
    used = {(found.context, found.message if isinstance(found.message, str) else found.message[0])
            for found in list_messages()}  # fmt: skip
    unused = [
        f"translations/{code}/{module}.po: {message.id!r}"
        for module, catalog in read_catalogs(code).items()
        for message in catalog
        if message.id and (message.context, message.id if isinstance(message.id, str) else message.id[0]) not in used
    ]
    assert unused == [], "\n".join(["", *unused])


def speak(code: str, zone: str, work: Callable[..., Any], *arguments: Any) -> Any:
    def run() -> Any:
        languages.language.set(code)
        formats.time_zone.set(zone)
        return work(*arguments)

    return copy_context().run(run)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("en", "The FSP is closed. Try again later."),
        ("es", "El FSP está cerrado. Inténtelo de nuevo más tarde."),
        ("my", "FSP ကို ပိတ်ထားပါသည်။ နောက်မှ ထပ်မံကြိုးစားပါ။"),
    ],
)
def test_sentences_end_as_in_the_language(code: str, expected: str) -> None:
    def run() -> str:
        return join_sentences(translate(text) for text in ("The FSP is closed", "Try again later"))

    assert speak(code, "UTC", run) == expected


NOON: Final = datetime(2026, 11, 29, 12, 5, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("code", "zone", "expected"),
    [
        ("en", "UTC", "Nov 29, 2026, 12:05:07\u202fPM UTC"),
        ("es", "America/Mexico_City", "29 nov 2026, 6:05:07\u202fa.m. UTC-6"),
        ("my", "Asia/Yangon", "၂၀၂၆ နို ၂၉ ၁၈:၃၅:၀၇ UTC+၆:၃၀"),
    ],
)
def test_a_time_is_shown_with_its_zone(code: str, zone: str, expected: str) -> None:
    assert speak(code, zone, formats.format_time, NOON) == expected


@pytest.mark.parametrize(("code", "expected"), [("en", "1,234,567"), ("es", "1,234,567"), ("my", "၁,၂၃၄,၅၆၇")])
def test_numbers_are_written_as_in_the_language(code: str, expected: str) -> None:
    assert speak(code, "UTC", formats.format_number, 1_234_567) == expected


@pytest.mark.parametrize(
    ("wishes", "expected"),
    [
        (("es", "my", "en"), "es"),
        ((None, "my", "en"), "my"),
        ((None, "", "fr;q=0.9, my;q=0.8, en;q=0.1"), "my"),
        ((None, None, "es-MX,es;q=0.9,en;q=0.8"), "es"),
        ((None, None, "xx"), "en"),
        ((None, None, ";;;q=x,,*"), "en"),
        ((None, "../../etc", None), "en"),
    ],
)
def test_the_language_is_of_the_account_the_cookie_or_the_browser(
    wishes: tuple[str | None, ...], expected: str
) -> None:
    assert choose(*wishes) == expected
