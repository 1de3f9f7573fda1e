"""What the admin listener has, for tests that have one case for each endpoint.

Every process of a run collects every test, so what a module makes while it is collected is made many times.  Making
the description takes a second of CPU: test_description.py alone makes it, and compares it with the published one.
"""

from __future__ import annotations

import json
import re
from functools import cache
from importlib.resources import files
from typing import Any, Final, cast

from oracle.api.admin.app import AdminServices, admin_app

PUBLISHED: Final = files("oracle.schemas").joinpath("admin.openapi.json").read_bytes()
DESCRIPTION: Final[dict[str, Any]] = json.loads(PUBLISHED)


@cache
def list_endpoints() -> list[tuple[str, str]]:
    """List the method and the path of each endpoint, in the order of their declaration; without OPTIONS."""
    app = admin_app(AdminServices(*[cast("Any", None)] * 4))
    return [
        (method, re.sub(r":\w+\}", "}", route.path))
        for route in app.routes
        for method in sorted(route.methods)
        if method != "OPTIONS"
    ]
