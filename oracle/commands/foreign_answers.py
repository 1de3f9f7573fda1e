"""Explains an answer that another program gave in place of the admin API: a proxy in front of it, a web page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import httpx

MB: Final = 1_000_000
_LOGIN: Final = ("login", "signin", "sign-in", "oauth", "auth", "sso", "saml")
_ADDRESS: Final = "Check ORACLE_ADMIN_URL: it must be the address of the admin listener of an oracle"
_LET_IN: Final = "Let the proxy pass requests with an Authorization header on: the oracle checks the key itself"


class Explanation(NamedTuple):
    """What happened, and what to do."""

    message: str
    hint: str


def explain(response: httpx.Response, server: str, body_bytes: int | None) -> Explanation:
    """Explain an answer without a body of ours.  `body_bytes`: of the request; None if unknown."""
    status = response.status_code
    proxy = f"The proxy in front of {server}"
    if response.is_redirect:
        return _explain_redirect(response, server)
    if response.is_success:
        return Explanation(f"{server} answers with a web page, perhaps a login page, and not as an admin API", _LET_IN)
    if status == 413:  # noqa: PLR2004 - as the table below
        size = f"a body of {_format_size(body_bytes)}" if body_bytes else "so large a body"
        limit = "Raise its limit (nginx: client_max_body_size; Apache: LimitRequestBody), or send smaller files"
        return Explanation(f"{proxy} refuses {size}", limit)
    said, hint = _BY_STATUS.get(status, ("", ""))
    if said:
        return Explanation(f"{proxy} {said}", hint)
    if status in {401, 403, 407}:
        return Explanation(f"{proxy} refuses the request before the oracle sees it", _LET_IN)
    if b'"errorInformation"' in response.content:
        return Explanation(f"{server} is the hub listener of an oracle, not its admin listener", _ADDRESS)
    return Explanation("The answer did not come from an admin API", _ADDRESS)


_BY_STATUS: Final = {
    408: ("waited too long for the request", "Raise its time-out for bodies (nginx: client_body_timeout)"),
    411: ("takes no body of unknown size", "Give a file, not stdin"),
    414: ("refuses so long an address", "Raise its limit (nginx: large_client_header_buffers)"),
    429: ("limits the number of requests", "Wait, then try again; or raise its limit (nginx: limit_req)"),
    431: ("refuses such long headers", "Raise its limit (nginx: large_client_header_buffers)"),
    502: (
        "cannot reach the oracle",
        "Check that `oracle serve` runs, and that the proxy has the address of its admin listener",
    ),
    503: ("does not pass requests on now", "Check that `oracle serve` runs, and what the proxy checks: use /ready"),
    504: (
        "did not wait for the answer of the oracle",
        "Raise its time-out to 60 s (nginx: proxy_read_timeout). Check what was changed before you try again",
    ),
}


def _explain_redirect(response: httpx.Response, server: str) -> Explanation:
    try:
        target = urlsplit(response.headers.get("location", ""))
        place = f"{target.scheme}://{target.netloc.rpartition('@')[2]}" if target.netloc else server
    except ValueError:
        return Explanation(f"{server} redirects", _ADDRESS)
    if any(word in f"{target.netloc}{target.path}".lower() for word in _LOGIN):
        return Explanation(f"{server} redirects to a login page at {place}", _LET_IN)
    return Explanation(f"{server} redirects to {place}", f"Set ORACLE_ADMIN_URL to {place}, if that is your oracle")


def _format_size(size: int) -> str:
    return f"{size / MB:.1f} MB" if size >= MB else f"{size:,} bytes"
