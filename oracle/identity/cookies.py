"""Cookies of a browser that signs in.

`__Host-` makes the browser refuse such a cookie from another host, also from a neighbour below the same domain, or
without TLS.  Lax: a page of somebody else can only make the browser open a page with it, not send a form.
"""

from __future__ import annotations

from typing import Final

LOGIN: Final = "__Host-oracle-login"  # while somebody signs in
SESSION: Final = "__Host-oracle-session"


def write_cookie(name: str, value: str, max_age_s: int) -> str:
    """Write the value of a Set-Cookie header.  The value must be of letters, digits, hyphens and underscores."""
    return f"{name}={value}; Path=/; Max-Age={max_age_s}; Secure; HttpOnly; SameSite=Lax"


def remove_cookie(name: str) -> str:
    return write_cookie(name, "", 0)


def read_cookie(header: str, name: str) -> str:
    """Read a cookie from the header Cookie.  '': it is not there, or twice: somebody else may have added one."""
    found = [value for key, _, value in (part.strip().partition("=") for part in header.split(";")) if key == name]
    return found[0] if len(found) == 1 else ""
