"""The admin API, called: one call with its repetitions, a list page by page, a file up or down in constant memory.

Key.         In the Authorization header and nowhere else: no error and no repr has it, and no redirect is followed.
Repeated.    What broke off, and 503, at most RETRIES times; everything else is an answer.  Each POST that changes
             anything has an Idempotency-Key, the same in its repetitions, so that it is done once.  PUT, PATCH and
             DELETE are repeated only where the server has not begun: the second time, its answer could be another.
Proxies.     Those of the environment, but never to this machine.
"""

from __future__ import annotations

import ipaddress
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, NamedTuple, Self
from urllib.parse import quote, urlsplit

import httpx
import msgspec

ROOT: Final = "/admin/v1"
CONNECT_TIMEOUT_S: Final = 5.0
# The slowest answer waits for a change that waits for others: above its timeout (20 s at most, see settings).
ANSWER_TIMEOUT_S: Final = 60.0
RETRIES: Final = 3
RETRY_FIRST_S: Final = 0.25  # then twice as long each time: 1.75 s in all, a restart of a worker
PAGE: Final = 1_000

_NOT_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)

Sleep = Callable[[float], object]


class ClientError(Exception):
    """The call was refused, or nobody answered: one line for people."""

    def __init__(self, message: str, code: str = "", hint: str = "", status: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.hint = hint
        self.status = status

    @property
    def is_final(self) -> bool:
        """Whether asking again is of no use."""
        return 400 <= self.status < 500  # noqa: PLR2004 - what the server refuses

    def __str__(self) -> str:
        named = f"{self.message} ({self.code})" if self.code else self.message
        return f"{named}. {self.hint}" if self.hint else named


class Reply(NamedTuple):
    """An answer that is no error."""

    body: Any  # decoded JSON; bytes where it is something else; None where there is none
    etag: str | None
    raw: bytes


class Upload(NamedTuple):
    """A body that is read again for each repetition."""

    open: Callable[[], Iterator[bytes]]
    media_type: str
    size: int | None = None  # None where nobody knows before the end
    again: bool = True  # False: it can be read once, as a pipe


class Client:
    """Calls one admin listener with one key.  Paths are those of the published description, below /admin/v1."""

    def __init__(self, url: str, key: str, *, sleep: Sleep = time.sleep) -> None:
        """Raises ClientError for a URL that is none."""
        self.url = url.rstrip("/")
        self._sleep = sleep
        self._me: Any = None
        self._named = _named(self.url)
        self._http = httpx.Client(
            base_url=self.url + ROOT,
            headers={"Authorization": f"Bearer {key}", "User-Agent": "oracle"},
            timeout=httpx.Timeout(ANSWER_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            trust_env=not _is_here(self.url),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    @property
    def me(self) -> Any:
        """Whose key it is: credentialId, role, fspId."""
        if self._me is None:
            self._me = self.call("GET", "/me").body
        return self._me

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: Any = None,
        upload: Upload | None = None,
        if_match: str | None = None,
        reads: bool = False,
        **names: Any,
    ) -> Reply:
        """`names` fill the braces of the path; `reads`: a POST that changes nothing.  Raises ClientError."""
        headers = _headers(body, upload, if_match)
        if method == "POST" and not reads:
            headers["Idempotency-Key"] = uuid.uuid4().hex
        with self._answered(method, path, query, body, upload, headers, names) as response:
            return _reply(response)

    def pages(
        self, path: str, *, query: Mapping[str, object] | None = None, limit: int = 0, **names: Any
    ) -> Iterator[list[Any]]:
        """The items of a list, page by page; at most `limit` of them, unless that is 0."""
        asked = dict(query or {})
        left = limit
        while True:
            asked["limit"] = min(left, PAGE) if limit else PAGE
            page = self.call("GET", path, query=asked, **names).body
            yield page["items"]
            left -= len(page["items"])
            if page.get("next") is None or (limit and left <= 0):
                return
            asked["cursor"] = page["next"]

    @contextmanager
    def download(
        self, path: str, *, query: Mapping[str, object] | None = None, **names: Any
    ) -> Iterator[Iterator[bytes]]:
        """A large answer, in pieces.  Raises ClientError, also in the middle."""
        with self._answered("GET", path, query, None, None, {}, names) as response:
            yield self._pieces(response)

    # -- one call ---------------------------------------------------------------------------------------------------

    @contextmanager
    def _answered(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None,
        body: Any,
        upload: Upload | None,
        headers: Mapping[str, str],
        names: Mapping[str, object],
    ) -> Iterator[httpx.Response]:
        target = _filled(path, names)
        asked = {name: _spelled(value) for name, value in (query or {}).items() if value is not None}
        failure: ClientError | None = None
        for attempt in range(RETRIES + 1):
            if attempt:
                self._sleep(RETRY_FIRST_S * 2 ** (attempt - 1))
            content = upload.open() if upload else None if body is None else msgspec.json.encode(body)
            request = self._http.build_request(method, target, params=asked, headers=headers, content=content)
            try:
                response = self._http.send(request, stream=True)
            except httpx.TransportError as exc:
                failure = self._unreachable(exc)
                begun = not isinstance(exc, _NOT_SENT)
                if isinstance(exc, httpx.UnsupportedProtocol) or not _may_repeat(method, upload, begun=begun):
                    break
                continue
            try:
                failure = _failure(response)
                if failure is None:
                    yield response
                    return
            finally:
                response.close()
            if failure.status != httpx.codes.SERVICE_UNAVAILABLE or not _may_repeat(method, upload, begun=True):
                break
        assert failure is not None  # noqa: S101 - the loop ends by an answer or with a reason
        raise failure

    def _pieces(self, response: httpx.Response) -> Iterator[bytes]:
        try:
            yield from response.iter_bytes()
        except httpx.TransportError as exc:
            raise self._unreachable(exc) from exc

    def _unreachable(self, exc: Exception) -> ClientError:
        if isinstance(exc, httpx.TimeoutException):
            return ClientError(f"{self._named} does not answer in time", "timeout", "Try again in a moment")
        said = str(exc) or type(exc).__name__
        return ClientError(f"{self._named} cannot be reached: {said}", "unreachable", "Does `oracle serve` run there?")


def _named(url: str) -> str:
    """Who is called, without what else stands in the URL."""
    try:
        parsed = httpx.URL(url)
        port = urlsplit(url).port
    except (httpx.InvalidURL, ValueError):
        parsed, port = httpx.URL(""), None
    if not parsed.host:
        raise ClientError("The URL of the admin listener cannot be read", "invalid", "See ORACLE_ADMIN_URL")
    host = f"[{parsed.host}]" if ":" in parsed.host else parsed.host
    return f"{parsed.scheme}://{host}" + (f":{port}" if port else "")


def _headers(body: Any, upload: Upload | None, if_match: str | None) -> dict[str, str]:
    headers = {}
    if body is not None:
        headers["Content-Type"] = "application/json"
    if upload is not None:
        headers["Content-Type"] = upload.media_type
        if upload.size is not None:
            headers["Content-Length"] = str(upload.size)
    if if_match is not None:
        headers["If-Match"] = if_match if if_match == "*" else f'"{if_match.strip(chr(34))}"'
    return headers


def _filled(path: str, names: Mapping[str, object]) -> str:
    """A value fills one segment, whatever it holds."""
    quoted = {name: quote(str(value), safe="") for name, value in names.items()}
    for name, value in quoted.items():
        if value in ("", ".", ".."):  # the client would resolve them, and call something else
            raise ClientError(f"{value!r} is no {name}", "invalid")
    return path.format_map(quoted)


def _spelled(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _may_repeat(method: str, upload: Upload | None, *, begun: bool) -> bool:
    """A change that was answered by 503 may stand all the same."""
    return (upload is None or upload.again) and (method in ("GET", "POST") or not begun)


def _failure(response: httpx.Response) -> ClientError | None:
    if response.is_success:
        return None
    try:
        error = msgspec.json.decode(response.read())["error"]
        return ClientError(error["message"], error["code"], error.get("hint", ""), response.status_code)
    except (httpx.TransportError, msgspec.DecodeError, KeyError, TypeError):
        hint = "Is it the admin listener of an oracle?"
        return ClientError("The answer is none of the admin API", f"status {response.status_code}", hint,
                           response.status_code)  # fmt: skip


def _reply(response: httpx.Response) -> Reply:
    try:
        raw = response.read()
    except httpx.TransportError as exc:
        raise ClientError("The answer broke off", "unreachable", "What was asked for may have been done") from exc
    etag = response.headers.get("etag")
    body: Any = raw
    if not raw:
        body = None
    elif response.headers.get("content-type", "").startswith("application/json"):
        body = msgspec.json.decode(raw)
    return Reply(body, etag.strip('"') if etag else None, raw)


def _is_here(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
