"""Values for the parameters of pages, for tests that open every page."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from oracle.api.console.declarations import Page

# A value that is not there gives a page about that, which is a page as well.
PARAMETERS: Final[Mapping[str, str]] = {
    "fsp_id": "greenbank",
    "batch_id": "1",
    "route_id": "1",
    "credential_id": "aaaaaaaaaaaa",
    "session_id": "11111111-1111-1111-1111-111111111111",
    "alias": "nowhere",
    "sealed": "bm90aGluZw",
    "kind": "MSISDN",
    "event_id": "1",
    "verification_id": "1",
    "size": "1",
    "file": "events.csv",
    "status": "suspended",
    "key_id": "1",
    "template": "import.csv",
}
PAGES: Final[Mapping[str, Mapping[str, str]]] = {}


def fill(page: Page, values: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return an address of a page, with these values before those of the examples.

    A parameter without an example is an error of the test: add one above.
    """
    path = page.url
    for name in page.parameters:
        path = path.replace(f"{{{name}}}", values.get(name) or PAGES.get(page.name, {}).get(name) or PARAMETERS[name])
    return path
