"""Call the admin API: one call with its retries, a list page by page, an upload or download in constant memory.

Key.         In the Authorization header and nowhere else: no error and no repr holds it, and no redirect is followed.
Retries.     A broken connection and status 503, with the pauses of RETRY_PAUSES_S; every other status is an answer.
             Each POST that changes something carries an Idempotency-Key, the same in every retry, so that the change
             happens once.  PUT, PATCH and DELETE are retried only if the server cannot have begun: a second answer
             could differ.
Proxies.     Those of the environment, but never for an address of this machine.
"""

from __future__ import annotations

import ipaddress
import re
import ssl
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, NamedTuple, Self
from urllib.parse import quote, urlsplit

import httpx
import msgspec

from oracle.backoff import Backoff
from oracle.commands import foreign_answers
from oracle.commands.failures import MISUSED, UNREACHABLE
from oracle.commands.words import find_argument, translate

ROOT: Final = "/admin/v1"
CONNECT_TIMEOUT_S: Final = 5.0
# The slowest answer waits for a change that waits for others: above its timeout (20 s at most, see settings).
ANSWER_TIMEOUT_S: Final = 60.0
RETRY_PAUSES_S: Final = (0.25, 0.5, 1.0)  # together as long as the restart of a worker
PAGE: Final = 1_000

_NOT_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class ClientError(Exception):
    """The server refused the call or did not answer; one line for people."""

    def __init__(
        self, message: str, code: str = "", hint: str = "", status: int = 0, *, exit_code: int | None = None
    ) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # None: that of the status
        self.message = message
        self.code = code
        self.hint = hint
        self.status = status

    @property
    def is_final(self) -> bool:
        """Whether a retry cannot help."""
        return 400 <= self.status < 500  # noqa: PLR2004 - the server refused the call

    def __str__(self) -> str:
        text = f"{self.message} ({self.code})" if self.code else self.message
        return f"{text}. {self.hint}" if self.hint else text


class Reply(NamedTuple):
    """A successful answer."""

    body: Any  # decoded JSON; bytes of another type; None when it is empty
    etag: str | None
    raw: bytes


class Upload(NamedTuple):
    """A body that is read again for each retry."""

    open: Callable[[], Iterator[bytes]]
    media_type: str
    size: int | None = None  # None when it is unknown before the end
    is_repeatable: bool = True  # False: it can be read only once, as a pipe


class Pages:
    """The items of a list, page by page: at most `limit` of them, all if that is 0.

    Afterwards `has_more` tells whether the list goes on.
    """

    def __init__(self, fetch: Callable[[int, str | None], Any], limit: int) -> None:
        """`fetch` gets the size of a page and its cursor, and returns the page."""
        self._fetch = fetch
        self.limit = limit
        self.has_more = False

    def __iter__(self) -> Iterator[list[Any]]:
        cursor, left = None, self.limit
        while True:
            # One item more than is shown: it tells whether there are more.
            page = self._fetch(min(left + 1, PAGE) if self.limit else PAGE, cursor)
            items, first, cursor = page["items"], cursor is None, page["next"]
            if not self.limit:
                yield items
            else:
                self.has_more = len(items) > left or (not left and cursor is not None)
                if first or left:
                    yield items[:left]
                left -= min(len(items), left)
            if cursor is None or self.has_more:
                return


class Pieces(Iterator[bytes]):
    """A large answer, piece by piece.  Raises ClientError if it ends before it is complete."""

    def __init__(self, pieces: Iterator[bytes], headers: Mapping[str, str]) -> None:
        self._pieces = pieces
        self.headers = headers

    def __next__(self) -> bytes:
        try:
            return next(self._pieces)
        except httpx.TransportError as exc:
            raise ClientError(
                "The answer ended before it was complete", "incomplete", "Try again", exit_code=UNREACHABLE
            ) from exc


class Client:
    """A client of one admin listener with one key.  Paths are those of the published contract, below /admin/v1."""

    def __init__(
        self,
        url: str,
        key: str,
        *,
        key_source: str = "",
        tls: ssl.SSLContext | None = None,
        retry_pauses_s: Sequence[float] = RETRY_PAUSES_S,
        given: Mapping[str, object] | None = None,
    ) -> None:
        """`key_source` says where the key was found, `given` what was typed: errors are in those words (see `words`).

        `tls`: whose certificates are accepted; None: those of the system's authorities.
        Raises ClientError for a URL that is not valid.
        """
        self._given = given or {}
        self.url = url.rstrip("/")
        self.key_source = key_source
        self._retry_pauses_s = retry_pauses_s
        self._me: Any = None
        self._server = _describe_server(self.url)
        self._http = httpx.Client(
            base_url=self.url + ROOT,
            headers={"Authorization": f"Bearer {key}", "User-Agent": "oracle"},
            timeout=httpx.Timeout(ANSWER_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            trust_env=not _is_loopback(self.url),
            verify=True if tls is None else tls,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    @property
    def me(self) -> Any:
        """The credential of the key: credentialId, role, fspId."""
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
        """Make one call.  Raises ClientError.

        `names` fill the braces of the path.  `reads` marks a POST that changes nothing.
        """
        headers = _make_headers(body, upload, if_match)
        if method == "POST" and not reads:
            headers["Idempotency-Key"] = uuid.uuid4().hex
        with self._open_response(method, path, query, body, upload, headers, names) as response:
            return _read_reply(response)

    def fetch_pages(
        self, path: str, *, query: Mapping[str, object] | None = None, limit: int = 0, **names: Any
    ) -> Pages:
        """Fetch the items of a list while they are read; at most `limit` items, unless that is 0."""

        def fetch(size: int, cursor: str | None) -> Any:
            return self.call("GET", path, query={**(query or {}), "limit": size, "cursor": cursor}, **names).body

        return Pages(fetch, limit)

    @contextmanager
    def download(self, path: str, *, query: Mapping[str, object] | None = None, **names: Any) -> Iterator[Pieces]:
        """Yield the pieces of a large answer.  Raises ClientError, also between two pieces."""
        with self._open_response("GET", path, query, None, None, {}, names) as response:
            yield Pieces(response.iter_bytes(), response.headers)

    # -- one call ---------------------------------------------------------------------------------------------------

    @contextmanager
    def _open_response(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None,
        body: Any,
        upload: Upload | None,
        headers: Mapping[str, str],
        names: Mapping[str, object],
    ) -> Iterator[httpx.Response]:
        target = _fill_path(path, names)
        parameters = {name: _format_value(value) for name, value in (query or {}).items() if value is not None}
        backoff = Backoff(self._retry_pauses_s)
        for retries_left in reversed(range(len(self._retry_pauses_s) + 1)):
            content = upload.open() if upload else None if body is None else msgspec.json.encode(body)
            request = self._http.build_request(method, target, params=parameters, headers=headers, content=content)
            begun = True
            try:
                response = self._http.send(request, stream=True)
            except httpx.TransportError as exc:
                failure = self._explain(exc, uploads=upload is not None)
                begun = not isinstance(exc, _NOT_SENT)
                is_temporary = not isinstance(exc, httpx.UnsupportedProtocol)
            else:
                try:
                    size = upload.size if upload else len(content) if isinstance(content, bytes) else 0
                    refusal = _read_failure(response, self._given, self._server, size)
                    if refusal is None:
                        yield response
                        return
                finally:
                    response.close()
                failure = refusal
                is_temporary = failure.status == httpx.codes.SERVICE_UNAVAILABLE
            if not (retries_left and is_temporary and _can_repeat(method, upload, begun=begun)):
                raise failure
            time.sleep(backoff.fail())

    def _explain(self, exc: Exception, *, uploads: bool = False) -> ClientError:
        if isinstance(exc, httpx.TimeoutException):
            text = f"{self._server} did not answer in time"
            return ClientError(text, "timeout", "Try again in a minute", exit_code=UNREACHABLE)
        reason = re.sub(r"^\[Errno -?\d+\] ", "", str(exc)) or type(exc).__name__
        hint = "Is `oracle serve` running there? ORACLE_ADMIN_URL sets the address"
        if "WRONG_VERSION_NUMBER" in reason or "UNKNOWN_PROTOCOL" in reason:
            reason, hint = "it does not use TLS", "Write http in place of https in ORACLE_ADMIN_URL"
        elif "CERTIFICATE_VERIFY_FAILED" in reason:
            reason = f"its certificate is not accepted: {reason.partition('verify failed: ')[2].partition(' (_ssl')[0]}"
            hint = (
                "Write a name that is in the certificate into ORACLE_ADMIN_URL"
                if "certificate is not valid for" in reason
                else "Set ORACLE_COMMAND_CA_FILE to the file with the certificate of your authority"
            )
        elif "ALERT_CERTIFICATE_REQUIRED" in reason:
            reason, hint = "it asks for a client certificate", "Set ORACLE_COMMAND_CERT_FILE to your certificate"
        elif "ALERT_UNKNOWN_CA" in reason or ("_ALERT_" in reason and "CERT" in reason):
            reason, hint = "it does not accept your client certificate", "Check ORACLE_COMMAND_CERT_FILE"
        elif isinstance(exc, httpx.RemoteProtocolError) and "illegal" in reason:
            reason, hint = "it does not speak HTTP", "Check the port, and whether it is https, in ORACLE_ADMIN_URL"
        elif uploads and not isinstance(exc, _NOT_SENT):
            reason = f"the connection broke during the upload: {reason}"
            hint = "A proxy can refuse so large a body (nginx: client_max_body_size). Or is the oracle stopped?"
        text = f"{self._server} cannot be reached: {reason}"
        return ClientError(text, "unreachable", hint, exit_code=UNREACHABLE)


def _describe_server(url: str) -> str:
    """Scheme, host and port of the URL, and nothing else of it.  Raises ClientError."""
    try:
        parsed = httpx.URL(url)
        port = urlsplit(url).port
    except (httpx.InvalidURL, ValueError):
        parsed, port = httpx.URL(""), None
    if not parsed.host:
        raise ClientError(
            "ORACLE_ADMIN_URL is not a valid URL", "invalid", "Set it to a URL such as http://127.0.0.1:3001"
        )
    host = f"[{parsed.host}]" if ":" in parsed.host else parsed.host
    return f"{parsed.scheme}://{host}" + (f":{port}" if port else "")


def _make_headers(body: Any, upload: Upload | None, if_match: str | None) -> dict[str, str]:
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


def _fill_path(path: str, names: Mapping[str, object]) -> str:
    """Fill the braces; a value fills exactly one segment, also if it contains a slash or a dot."""
    quoted = {name: quote(str(value), safe="") for name, value in names.items()}
    for name, value in quoted.items():
        if value in ("", ".", ".."):  # httpx would resolve them, and call another path
            argument = find_argument(name, {}) or "a name"
            raise ClientError(f"{value!r} cannot be used as {argument}", hint="Write an id", exit_code=MISUSED)
    return path.format_map(quoted)


def _format_value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _can_repeat(method: str, upload: Upload | None, *, begun: bool) -> bool:
    """Whether a retry is safe: a change can have happened even if its answer was 503."""
    return (upload is None or upload.is_repeatable) and (method in ("GET", "POST") or not begun)


def _read_failure(
    response: httpx.Response, given: Mapping[str, object], server: str, body_bytes: int | None
) -> ClientError | None:
    """Return the refusal, or what another program has answered; None for a success."""
    status = response.status_code
    if response.is_success and not _is_page(response):
        return None
    try:
        error = msgspec.json.decode(response.read())
        code = error["code"]
        words = translate(error["detail"], code, error.get("hint", ""), error.get("field", ""), given=given)
        return ClientError(words.message, code, words.hint, status)
    except (httpx.TransportError, msgspec.DecodeError, KeyError, TypeError, AttributeError):
        message, hint = foreign_answers.explain(response, server, body_bytes)
        return ClientError(message, f"status {status}", hint, status, exit_code=UNREACHABLE)


def _is_page(response: httpx.Response) -> bool:
    """Whether a program for people has answered: no answer of the admin API to a command is HTML."""
    return bool(response.headers.get("content-type", "").startswith("text/html"))


def _read_reply(response: httpx.Response) -> Reply:
    try:
        raw = response.read()
    except httpx.TransportError as exc:
        raise ClientError(
            "The connection broke during the answer",
            "unreachable",
            "The request may have been carried out: check before you repeat it",
            exit_code=UNREACHABLE,
        ) from exc
    etag = response.headers.get("etag")
    body: Any = raw
    if not raw:
        body = None
    elif response.headers.get("content-type", "").startswith("application/json"):
        try:
            body = msgspec.json.decode(raw)
        except msgspec.DecodeError as exc:
            text = "The answer is damaged: it is not JSON"
            hint = "Check what is between this command and the oracle, then try again"
            raise ClientError(text, "unreachable", hint, exit_code=UNREACHABLE) from exc
    return Reply(body, etag.strip('"') if etag else None, raw)


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
