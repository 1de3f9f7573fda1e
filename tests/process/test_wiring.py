"""Each process loads only what its role needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

COSTLY = ("litestar", "granian", "rich", "httpx")


@pytest.mark.parametrize(("role", "expected"), [("hub", []), ("jobs", []), ("admin", ["litestar", "granian"])])
def test_a_role_loads_the_web_framework_only_if_it_serves_people(role: str, expected: list[str]) -> None:
    listing = (
        f"import sys; from oracle.run.wiring import load; load({role!r});"
        f" print(*(name for name in {COSTLY} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True)
    assert done.stdout.split() == expected
