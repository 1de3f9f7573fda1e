"""One way to declare a page: name, method, path, title, and the operations that it needs.

    @page("fsps", "GET", "/fsps", lazy("FSPs"), needs=("listFsps",), menu=60)
    async def show_fsps(visit: Visit) -> Answer: ...

Who.      A person can open a page if they may call every operation that it needs.  The guards of the operations say so,
          and nothing else does.
Found.    Each module of `pages` is imported, and every Page in it belongs to the console.  The routes, the menu and the
          tests are made from this list.
"""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from importlib import import_module
from typing import Any, Final, Literal
from urllib.parse import quote

import msgspec

from oracle.api.console.answers import Answer
from oracle.api.console.languages import Text

ROOT: Final = "/console"
PAGE_ITEMS: Final = 50  # of a list, on one page of it
Method = Literal["GET", "POST"]
Show = Callable[..., Awaitable[Answer]]
_PARAMETER: Final = re.compile(r"\{(\w+)\}")


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """A page, or what one of its forms does."""

    name: str
    method: Method
    path: str  # below /console, with {fsp_id}
    title: Text
    show: Show
    needs: tuple[str, ...] = ()  # operationIds
    menu: int | None = None  # the place in the menu; None: it is in none
    under: str = ""  # the page of the menu that leads here
    is_open: bool = False  # also for people who are not signed in
    uploads: bool = False  # `visit.upload` has a file, in place of `visit.form`
    is_part: bool = False  # no page of its own: a part, a file or a stream of events, which tests of pages leave out
    is_automatic: bool = False  # asked for by a page, not by a person: it does not keep the session from resting

    @property
    def parameters(self) -> list[str]:
        return _PARAMETER.findall(self.path)

    @property
    def url(self) -> str:
        return ROOT + (self.path if self.path != "/" else "")

    def fill(self, values: Mapping[str, Any]) -> str:
        """Return the path with these values.  Raises KeyError."""
        return _PARAMETER.sub(lambda found: quote(str(values[found[1]]), safe=""), self.url)


def page(
    name: str,
    method: Method,
    path: str,
    title: Text,
    *,
    needs: tuple[str, ...] = (),
    menu: int | None = None,
    under: str = "",
    is_open: bool = False,
    uploads: bool = False,
    is_part: bool = False,
    is_automatic: bool = False,
) -> Callable[[Show], Page]:
    """Make a page of a function that takes `visit: Visit` and the parameters of the path, each a str, by name.

    `name` names the page in links: url("fsp", fsp_id=…).  Pages that change something are POST, and lead to a page
    afterwards.
    """
    return lambda show: Page(
        name=name, method=method, path=path, title=title, show=show, needs=needs, menu=menu, under=under,
        is_open=is_open, uploads=uploads, is_part=is_part, is_automatic=is_automatic,
    )  # fmt: skip


@cache
def list_pages() -> dict[str, Page]:
    """List the pages by name.  Raises RuntimeError for two with the same name, or the same method and path."""
    from oracle.api.console import pages  # noqa: PLC0415 - the pages import this module

    found: dict[str, Page] = {}
    places: set[tuple[str, str]] = set()
    for module in sorted(one.name for one in pkgutil.iter_modules(pages.__path__)):
        members: Any = vars(import_module(f"{pages.__name__}.{module}"))
        for one in members.values():
            if not isinstance(one, Page) or found.get(one.name) is one:
                continue
            place = (one.method, _PARAMETER.sub("{}", one.path))
            if one.name in found or place in places:
                raise RuntimeError(f"{module}: there is another page with the name {one.name} or the path {one.path}")
            found[one.name] = one
            places.add(place)
    return found
