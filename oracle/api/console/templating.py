"""The templates: Jinja2 with autoescape, all compiled when the process starts.

    url("fsp", fsp_id=…)   the address of a page; what its path does not name goes into the query
    may("createFsp")       whether this person can call an operation: show a button only then
    asset("console.css")   the address of a style or a script
    csrf_field()           the hidden field that each form with method="post" needs
    ui                     the macros of macros.html, in every block, without an import
    visit                  the request: caller, language, menu … (see `visits`)
    time, ago, span, number, share, bytes, clock   filters: {{ fsp.createdAt | time }}
    role, kind, status, action, channel, reason, change, currency, browser, person   filters that name such a
                           thing: {{ caller.role | role }}
    batch_state, batch_kind   filters for ui.badge: the state of a batch, and the kind of its badge
    api_text               filter: a text of the API in the language of the person; see ui.message
    pair                   {{ pair(_("Reason"), text) }}: a name and its value, with what the language has between them
    sentences              filter: {{ [errors.detail, errors.hint] | sentences }}, each with the dot of the language
    words                  filter for a short text in a narrow place: a line of Burmese ends at spaces only
    bdi                    filter for each text that a person gave: {{ key.label | bdi }}

A block can be rendered alone, as a part of a page.  So everything it uses comes from these names or from the values
that the page gives: not from {% set %} or {% import %} outside of the block.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from oracle.api import naming
from oracle.api.console import api_texts, formats, languages, words
from oracle.api.console.assets import Asset
from oracle.api.texts import join_sentences

_KEPT: Final = 8_192  # times that a process wrote last: a page has up to a hundred, often the same ones


class Templates:
    def __init__(self, assets: dict[str, Asset], helpers: dict[str, Any]) -> None:
        folder = Path(str(files("oracle.api.console"))) / "templates"
        self._environment = Environment(
            loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined, auto_reload=False,
            cache_size=-1, trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.i18n", "jinja2.ext.do"],
        )  # fmt: skip
        environment: Any = self._environment
        environment.install_gettext_callables(
            languages._, languages.ngettext, newstyle=True, pgettext=languages.pgettext
        )
        environment.policies["ext.i18n.trimmed"] = True
        environment.globals.update(helpers, asset=lambda name: assets[name].url, languages=languages.NAMES, pair=_pair)
        environment.filters.update(
            time=_show_time, ago=_show_ago, span=formats.format_span, number=formats.format_number,
            share=formats.format_share, bytes=formats.format_bytes, clock=formats.format_clock,
            role=naming.name_role, kind=words.name_kind, status=words.name_status, action=words.name_action,
            channel=words.name_channel, reason=words.name_reason, change=words.name_change,
            currency=words.name_currency, browser=words.name_browser, batch_state=words.name_batch_state,
            batch_kind=words.rate_batch_state, person=naming.name_person, api_text=api_texts.translate,
            sentences=_join_sentences, words=_keep_words, bdi=_isolate,
        )  # fmt: skip
        environment.globals["ui"] = environment.get_template("macros.html").module
        for name in environment.list_templates():
            environment.get_template(name)

    def render(self, name: str, block: str | None, values: dict[str, Any]) -> bytes:
        """Render a page, or one block of it."""
        template = self._environment.get_template(name)
        if block is None:
            return template.render(values).encode()
        context = template.new_context(values)
        return "".join(template.blocks[block](context)).encode()


def _join_sentences(parts: Iterable[Any]) -> str:
    """Write texts one after another, each as a sentence with the dot of the language."""
    return join_sentences(str(part) for part in parts if part)


def _pair(label: Any, value: Any) -> Markup:
    return escape(naming.join_label("{}", "{}")).format(label, value)


def _keep_words(text: Any) -> Markup:
    """Keep each word on one line.  It is for Burmese: browsers break its lines inside words, too."""
    written = escape(text)
    if languages.language.get() != "my" or "<" in written:
        return written
    return Markup(" ").join(Markup('<span class="word">{}</span>').format(word) for word in written.split())


def _isolate(value: Any) -> Markup:
    """Write what a person gave so that its direction, and signs in it that turn text round, end with it."""
    if value is None or value == "":
        return escape(formats.DASH)
    return Markup("<bdi>{}</bdi>").format(value)


def _show_time(value: Any, style: str = "medium") -> Markup:
    if value is None:
        return escape(formats.DASH)
    moment = formats.read_time(value).replace(microsecond=0)
    return _tag_time(moment, style, languages.language.get(), formats.time_zone.get())


@lru_cache(_KEPT)
def _tag_time(moment: datetime, style: str, _language: str, _zone: str) -> Markup:
    """Write a time as an element.  Language and zone are those of the request; what is kept belongs to them."""
    text, _, zone = formats.format_time(moment, style).rpartition(" ")  # a line does not end inside of a zone
    return Markup('<time datetime="{}">{} <span class="zone">{}</span></time>').format(
        formats.machine_time(moment), text, zone
    )


def _show_ago(value: Any) -> Markup:
    if value is None:
        return escape(formats.DASH)
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        formats.machine_time(value), formats.format_time(value), formats.format_ago(value)
    )
