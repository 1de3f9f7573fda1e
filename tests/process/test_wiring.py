"""Each process loads only what its role needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

COSTLY = ("litestar", "uvicorn", "cryptography", "redis", "opentelemetry", "rich", "httpx")


@pytest.mark.parametrize(
    ("role", "expected"),
    [
        ("hub", []),
        ("account-lookup", []),
        ("oracles", []),
        ("jobs", ["cryptography"]),
        ("admin", ["litestar", "uvicorn", "cryptography"]),
    ],
)
def test_a_role_loads_the_libraries_that_it_needs_and_no_others(role: str, expected: list[str]) -> None:
    listing = (
        f"import sys; from oracle.run.wiring import load; load({role!r});"
        f" print(*(name for name in {COSTLY} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True)
    assert done.stdout.split() == expected
