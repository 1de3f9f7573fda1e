"""Texts for people in an answer of the admin API.  They leave in the language of the caller: `api.admin.speaking`."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

Sentence = Annotated[str, Meta(extra={"sentence": "text"})]
FindingText = Annotated[str, Meta(extra={"sentence": "finding"})]  # what a verification found
