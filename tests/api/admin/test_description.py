"""The published description of the admin listener is that of its handlers."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from typing import TYPE_CHECKING

from oracle.api.admin.app import description

if TYPE_CHECKING:
    from admin_service import Service


def test_it_is_made_from_the_handlers() -> None:
    """When this fails: `python -m oracle.api.admin.app > schemas/admin.openapi.json`."""
    assert files("oracle.schemas").joinpath("admin.openapi.json").read_bytes() == description()


def test_it_is_served_with_a_page_to_read_it(service: Service) -> None:
    anybody = service.as_key(None)
    page = anybody.get(f"{service.oracle.admin_url}/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    described = anybody.get(f"{service.oracle.admin_url}/openapi.json")
    assert (described.headers["content-type"], described.content) == ("application/json", description())


def test_the_page_has_a_place_for_every_operation() -> None:
    """Its script groups operations by the tags of the document, and knows these methods."""
    page = files("oracle.api").joinpath("docs.html").read_text(encoding="utf-8")
    methods = set(re.findall('"([a-z]+)"', re.findall(r"const METHODS = \[(.*)\]", page)[0]))
    for name in ("admin", "hub"):
        document = json.loads(files("oracle.schemas").joinpath(f"{name}.openapi.json").read_bytes())
        tags = {tag["name"] for tag in document["tags"]}
        for path, item in document["paths"].items():
            assert item.keys() <= methods | {"parameters"}, path
            operations = [operation for method, operation in item.items() if method in methods]
            assert operations, path
            assert all(tags.issuperset(operation["tags"]) for operation in operations), path
