"""A text for people in an answer of the admin API.  It leaves in the language of the caller: `api.admin.speaking`."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

Sentence = Annotated[str, Meta(extra={"sentence": True})]
