"""The published description of the admin listener is that of its handlers."""

from __future__ import annotations

from importlib.resources import files

from oracle.api.admin.app import description


def test_it_is_made_from_the_handlers() -> None:
    """When this fails: `python -m oracle.api.admin.app > schemas/admin.openapi.json`."""
    assert files("oracle.schemas").joinpath("admin.openapi.json").read_bytes() == description()
