"""The registered oracles: which oracle answers for a party id type and a currency.

Rows.     They are in the directory (migrations/0020).  ALS's admin API /oracles changes them (oracle/api/oracles).
Choice.   With a currency, the oracle of exactly that currency.  Else the newest default one, else the one without a
          currency, else the oldest one.  ALS refuses every lookup if there are several and none is the default; here
          the oracle that answered before the others were added goes on.
Own.      A type without a row is answered by our own directory, and so is a row whose URL is one of our own.  Own URLs
          are those of our hub listener, which a hub's provisioning registers as the oracle.
Follow.   Each process reads the rows again every few seconds.  While PostgreSQL is away, the last ones count.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import Final
from urllib.parse import urlsplit

from oracle.backoff import pause
from oracle.errors import DirectoryUnavailable
from oracle.store.oracles import RegisteredOracle
from oracle.telemetry import logs

FOLLOW_S: Final = 2.0
URL_MAX: Final = 1024
_PORTS: Final = {"http": 80, "https": 443}
_URL_SIGNS: Final = frozenset(map(chr, range(0x21, 0x7F))) - frozenset('"<>\\^`{|}')

log = logs.Log(__name__)


def check_url(text: str) -> None:
    """Check that the text is the base URL of an oracle.  Raises ValueError with a sentence that does not repeat it."""
    if len(text) > URL_MAX:
        raise ValueError(f"must NOT have more than {URL_MAX} characters")
    if not _URL_SIGNS.issuperset(text):
        raise ValueError("must not have spaces, control characters or signs that a URL cannot have")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError("must be a URL with a valid host and port") from None
    if parts.scheme not in _PORTS or not text.startswith(f"{parts.scheme}://"):
        raise ValueError("must start with http:// or https://")
    if "@" in parts.netloc:
        raise ValueError("must not have a user name or password")
    if "?" in text or "#" in text:
        raise ValueError("must not have a query or a fragment")
    if not parts.hostname or port == 0:
        raise ValueError("must be a URL with a valid host and port")


def normalize_url(url: str) -> str:
    """Return the one spelling of a checked base URL: the host in lower case, no usual port, no slash at the end."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    port = "" if parts.port in (None, _PORTS[parts.scheme]) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}{parts.path.rstrip('/')}"


class Choice:
    """The oracles of one party id type, by currency: base URLs, and None for our own directory."""

    def __init__(self, rows: Sequence[RegisteredOracle], own_urls: Collection[str]) -> None:
        """`rows`: at least one, the oldest first."""

        def find_url(row: RegisteredOracle) -> str | None:
            url = normalize_url(row.url)
            return None if url in own_urls else url

        defaults = [row for row in rows if row.is_default]
        plain = [row for row in rows if not row.currency]
        self._by_currency = {row.currency: find_url(row) for row in rows if row.currency}
        self._usual = find_url(defaults[-1] if defaults else plain[0] if plain else rows[0])

    def find(self, currency: str | None) -> str | None:
        return self._by_currency.get(currency, self._usual) if currency else self._usual


class Registry:
    """The rows as this process knows them."""

    def __init__(
        self,
        fetch: Callable[[], Awaitable[Sequence[RegisteredOracle]]],
        own_urls: Iterable[str] = (),
        *,
        known: Sequence[RegisteredOracle] | None = None,
        keep: Callable[[Sequence[RegisteredOracle]], None] = lambda _rows: None,
        every_s: float = FOLLOW_S,
    ) -> None:
        """`fetch` reads all rows, the oldest first, and raises DirectoryUnavailable.

        `known`: what an earlier process read, for a start while PostgreSQL is away.  `keep` gets the rows that are new.
        """
        self._fetch = fetch
        self._own_urls = frozenset(map(normalize_url, own_urls))
        self._keep = keep
        self._every_s = every_s
        self._stop = asyncio.Event()
        self._following: asyncio.Task[None] | None = None
        self._rows: tuple[RegisteredOracle, ...] | None = None
        self._choices: dict[str, Choice] = {}
        if known is not None:
            self._use(known)

    async def open(self) -> None:
        """Read the rows once, if PostgreSQL answers, and follow their changes from now on."""
        await self._read()
        self._following = asyncio.create_task(self._follow())

    async def close(self) -> None:
        self._stop.set()
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)

    def choose(self, party_id_type: str, currency: str | None) -> str | None:
        """Return the base URL of the oracle that answers for the type; None: our own directory does.

        Raises DirectoryUnavailable before the rows were read for the first time.
        """
        if self._rows is None:
            raise DirectoryUnavailable
        choice = self._choices.get(party_id_type)
        return None if choice is None else choice.find(currency)

    async def _follow(self) -> None:
        while not await pause(self._every_s, self._stop):
            await self._read()

    async def _read(self) -> None:
        try:
            rows = tuple(await self._fetch())
        except DirectoryUnavailable:
            return  # the last rows count
        except Exception as exc:  # noqa: BLE001 - a defect must not end the following
            log.error("The registered oracles cannot be read; the last ones count", exc=exc)
            return
        if rows == self._rows:
            return
        if rows or self._rows:  # most hubs have none
            log.info("The registered oracles have changed", oracles=len(rows))
        self._use(rows)
        self._keep(rows)

    def _use(self, rows: Sequence[RegisteredOracle]) -> None:
        by_type: dict[str, list[RegisteredOracle]] = {}
        for row in rows:
            by_type.setdefault(row.party_id_type, []).append(row)
        self._choices = {party_id_type: Choice(some, self._own_urls) for party_id_type, some in by_type.items()}
        self._rows = tuple(rows)
