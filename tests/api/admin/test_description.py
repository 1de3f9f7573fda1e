"""The published description of the admin listener is that of its handlers."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

import httpx

from oracle.api.admin import description

if TYPE_CHECKING:
    from admin_service import Service


def test_it_is_made_from_the_handlers() -> None:
    """When this fails: `python -m oracle.api.admin > schemas/admin.openapi.json`."""
    assert files("oracle.schemas").joinpath("admin.openapi.json").read_bytes() == description()


def test_it_is_served_with_a_page_to_read_it(service: Service) -> None:
    page = httpx.get(f"{service.oracle.admin_url}/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    described = httpx.get(f"{service.oracle.admin_url}/openapi.json")
    assert (described.headers["content-type"], described.content) == ("application/json", description())
