"""Texts in the languages of people, for tests of what writes them in English."""

from __future__ import annotations

from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from oracle.api.findings import translate_finding
from oracle.api.languages import LANGUAGES, language

if TYPE_CHECKING:
    from collections.abc import Callable


def speak(code: str, work: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function for a person who reads this language."""

    def run() -> Any:
        language.set(code)
        return work(*arguments)

    return copy_context().run(run)


def require_translations(found: str) -> None:
    """Require that what a verification found is known in each language."""
    for code in LANGUAGES[1:]:
        assert speak(code, translate_finding, found) != found, f"{code}: no form of `oracle.api.findings` fits: {found}"
