"""What a page is made of, read by a parser: its forms with their fields, its links, its texts, and its elements.

read_page   the forms, links and texts of a page
Read.parts  each element with its attributes, in the element that it is in: without texts and numbers
"""

from __future__ import annotations

import re
from functools import cached_property
from html.parser import HTMLParser
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from oracle.api.console.declarations import ROOT, list_pages

VOID: Final = frozenset(
    ["area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"]
)
# Attributes whose value is a text, or a number of a picture.
TEXTS: Final = frozenset(
    [
        "value",
        "title",
        "aria-label",
        "content",
        "alt",
        "placeholder",
        "datetime",
        "d",
        "x",
        "y",
        "x1",
        "x2",
        "y1",
        "y2",
        "width",
        "height",
        "max",
        "min",
        "low",
        "optimum",
        "selected",
        "checked",
    ]
)
ADDRESSES: Final = frozenset(
    [
        "href",
        "src",
        "action",
        "formaction",
        "hx-get",
        "hx-post",
        "hx-sse:connect",
        "data-check",
        "xlink:href",
        "srcset",
        "poster",
        "data",
    ]
)
PAGER: Final = "nav class=pager aria-label"
FOLLOWED: Final = frozenset({"href", "src", "hx-get", "hx-sse:connect"})
_TYPED: Final = frozenset(
    ["text", "search", "email", "tel", "url", "password", "date", "datetime-local", "number", "textarea"]
)
_DIGITS: Final = re.compile(r"\d+")
_SPACES: Final = re.compile(r"\s+")


class Field(NamedTuple):
    name: str
    type: str  # that of the input; or select, textarea, button
    value: str

    @property
    def is_typed(self) -> bool:
        """Whether a person writes it, letter by letter."""
        return self.type in _TYPED


class Form(NamedTuple):
    page: str  # the name of the page that it is sent to
    method: str
    address: str
    uploads: bool
    fields: tuple[Field, ...]


class Element:
    def __init__(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tag = tag
        self.attributes = attributes
        self.inside: list[Element] = []


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("", [])
        self.open = [self.root]
        self.texts: list[tuple[str, bool]] = []  # and whether it is isolated from what is around it
        self.links: list[str] = []
        self.forms: list[Form] = []
        self.strange: list[str] = []  # what a page of ours never has

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        made = Element(tag, attrs)
        self.open[-1].inside.append(made)
        if tag not in VOID:
            self.open.append(made)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].inside.append(Element(tag, attrs))

    def handle_endtag(self, tag: str) -> None:
        at = next((at for at in range(len(self.open) - 1, 0, -1) if self.open[at].tag == tag), 0)
        if at:
            del self.open[at:]
        else:
            self.strange.append(f"</{tag}>")

    def handle_data(self, data: str) -> None:
        apart = any(one.tag in ("bdi", "textarea", "option", "title") or ("dir", "auto") in one.attributes
                    for one in self.open)  # fmt: skip
        self.texts.append((data, apart))

    def handle_comment(self, data: str) -> None:
        self.strange.append(f"<!--{data}")

    def handle_pi(self, data: str) -> None:
        self.strange.append(f"<?{data}")

    def unknown_decl(self, data: str) -> None:
        self.strange.append(f"<![{data}")


class Read:
    """What a page has."""

    def __init__(self, page: str) -> None:
        reader = Reader()
        reader.feed(page)
        reader.close()
        self.page = page
        self.parts: set[tuple[str, str]] = set()
        self.kinds: set[str] = set()  # the elements, each with the names of its attributes
        self.links: list[str] = []
        self.values: list[str] = []  # of attributes that are texts
        self.texts = reader.texts
        self.strange = reader.strange  # what a page of ours never has
        self._add(reader.root, "")

    @cached_property
    def forms(self) -> list[Form]:
        return _find_forms(self.page)

    def _add(self, element: Element, outer: str) -> None:
        written = [element.tag]
        for name, value in element.attributes:
            if name in TEXTS:
                self.values.append(value or "")
                written.append(name if name not in ("selected", "checked") else "")
            elif name in ADDRESSES:
                written.append(f"{name}={name_address(value or '', self.strange)}")
                if name in FOLLOWED:
                    self.links.append(value or "")
            else:
                written.append(f"{name}={_DIGITS.sub('0', value or '')}")
                if name.startswith("on") or name in ("style", "srcdoc"):
                    self.strange.append(f"{name}={value}")
        inner = " ".join(filter(None, written))
        self.kinds.add(" ".join([element.tag, *sorted(name for name, _ in element.attributes)]))
        if element.tag == "a" and outer == PAGER:
            inner = "a"  # to another page of the same list
        self.parts.add(("" if inner == PAGER else outer, inner))
        for one in element.inside:
            self._add(one, inner)


def name_address(address: str, strange: list[str]) -> str:
    """Name the page that an address leads to; one that leads elsewhere is strange."""
    if address.startswith("#") or not address:
        return "#"
    if not address.startswith(ROOT) or address[len(ROOT) : len(ROOT) + 1] not in ("", "/", "?"):
        strange.append(f"address {address}")
        return address
    return find_page_name(address) or "asset"


def find_page_name(address: str, method: str = "GET") -> str:
    path = urlsplit(address).path
    for place in ("GET", "POST") if method == "GET" else (method,):
        for name, method_of, pattern, _count in PATTERNS:
            if method_of == place and pattern.fullmatch(path):
                return name
    return ""


def _list_patterns() -> list[tuple[str, str, re.Pattern[str], int]]:
    made = [
        (page.name, page.method, re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(page.url))), len(page.parameters))
        for page in list_pages().values()
    ]
    return sorted(made, key=lambda one: one[3])  # a path without parameters wins, as in the listener


PATTERNS: Final = _list_patterns()


class _FormReader(HTMLParser):
    """Reads forms, as a browser sends them."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.forms: list[tuple[dict[str, str], list[Field]]] = []
        self.sends_to: list[tuple[int, str]] = []  # the form, and another address of one of its buttons
        self.present = -1
        self.select = self.area = ""
        self.options: list[tuple[str, bool]] = []
        self.written = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append((values, []))
            self.present = len(self.forms) - 1
            return
        at = self.present
        if "form" in values:
            at = next((at for at, (form, _) in enumerate(self.forms) if form.get("id") == values["form"]), at)
        if at < 0:
            return
        if "formaction" in values:
            self.sends_to.append((at, values["formaction"]))
        fields = self.forms[at][1]
        if tag == "input" and "name" in values:
            fields.append(Field(values["name"], values.get("type", "text"), values.get("value", "")))
        elif tag == "button" and "name" in values:
            fields.append(Field(values["name"], "button", values.get("value", "")))
        elif tag == "select":
            self.select, self.options = values.get("name", ""), []
        elif tag == "option":
            self.options.append((values.get("value", ""), "selected" in values))
        elif tag == "textarea":
            self.area, self.written = values.get("name", ""), ""

    def handle_data(self, data: str) -> None:
        if self.area:
            self.written += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "select" and self.select and self.present >= 0:
            chosen = next((value for value, is_chosen in self.options if is_chosen), "")
            first = self.options[0][0] if self.options else ""
            self.forms[self.present][1].append(Field(self.select, "select", chosen or first))
            self.select = ""
        elif tag == "textarea" and self.area and self.present >= 0:
            self.forms[self.present][1].append(Field(self.area, "textarea", self.written.removeprefix("\n")))
            self.area = ""
        elif tag == "form":
            self.present = -1


def _find_forms(text: str) -> list[Form]:
    reader = _FormReader()
    reader.feed(text)
    found = []
    for at, (form, fields) in enumerate(reader.forms):
        method = form.get("method", "get").upper()
        for address in [form.get("action", ""), *(address for of, address in reader.sends_to if of == at)]:
            page = find_page_name(address, method)
            found.append(Form(page, method, address, uploads="enctype" in form, fields=tuple(fields)))
    return found


def clean(text: str) -> str:
    """Write a text as it is after a browser has read it: without NUL, and without differences of white space."""
    return _SPACES.sub(" ", text.replace("\0", "\ufffd")).strip()
