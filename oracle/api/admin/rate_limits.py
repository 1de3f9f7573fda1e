"""The fields RateLimit-Policy and RateLimit (draft-ietf-httpapi-ratelimit-headers-11).

    RateLimit-Policy: "bank";q=8000;qu="tokens";w=240     8,000 tokens, given again within 240 s
    RateLimit: "bank";r=5120;t=87                         5,120 are left; all are there again in 87 s

Each answer with 429 has them, and so has a read of something that has a budget.
"""

from __future__ import annotations

import math
from typing import Final, Literal

INTEGER_MAX: Final = 999_999_999_999_999  # of a structured field (RFC 9651)

# `requests` is what counts where none is named.  The last two are our own.
Unit = Literal["requests", "content-bytes", "concurrent-requests", "tokens", "stored-bytes"]


def describe_limit(
    name: str,
    quota: int,
    *,
    left: float = 0,
    unit: Unit = "requests",
    window_s: float | None = None,
    wait_s: float | None = None,
) -> dict[str, str]:
    """Describe one limit.  `window_s`: in which time it is given again; `wait_s`: until more of it is there."""
    named = '"' + "".join(f"\\{letter}" if letter in '\\"' else letter for letter in name) + '"'
    policy, now = f"{named};q={min(quota, INTEGER_MAX)}", f"{named};r={max(0, math.floor(left))}"
    if unit != "requests":
        policy += f';qu="{unit}"'
    if window_s is not None:
        policy += f";w={math.ceil(window_s)}"
    if wait_s is not None:
        now += f";t={math.ceil(wait_s)}"
    return {"RateLimit-Policy": policy, "RateLimit": now}
