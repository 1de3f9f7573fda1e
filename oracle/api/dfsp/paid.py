"""Directories for which FSPs pay from their budgets (`oracle.budgets`), whichever oracle answers.

Payer.     The source, which the listener has found among the participants; for a request from another scheme the proxy
           that brings it: only that is bound to its caller.
Refused.   With `enforce`, an empty bucket is 429 + 2005 before anything is accepted.  A bucket that became empty later
           is an error callback with 2005.
Hints.     They tell the FSP nothing, and cost nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from oracle.api.dfsp.asked import Asked, Party
from oracle.api.dfsp.directory import BulkItem, Directories, Directory, Entry
from oracle.api.dfsp.faults import Fault
from oracle.budgets.buckets import Bucket, Buckets
from oracle.budgets.changes import News, find_cost, reserve, settle

_TEXT: Final = "this FSP has asked about too many parties; ask fewer, and try again later"
_CONFLICT: Final = "3003"


class PaidDirectories:
    """Implements directory.Directories.  One per process."""

    def __init__(self, directories: Directories, budgets: Buckets | None) -> None:
        """`budgets`: None: nobody pays."""
        self._directories = directories
        self._budgets = budgets

    def choose(self, party_id_type: str, currency: str | None) -> Directory:
        directory = self._directories.choose(party_id_type, currency)
        return directory if self._budgets is None else PaidDirectory(directory, self._budgets)

    def check(self, asked: Asked) -> None:
        """Check that the payer has tokens, if the request needs some.  Raises Fault."""
        if self._budgets is None or asked.is_error:
            return
        # With a destination, the directory is not asked.
        asks = asked.resource == "participants" or (asked.method == "GET" and asked.destination is None)
        if asks and self._budgets.refuses(_find_payer(self._budgets, asked)):
            raise make_over_budget()


class PaidDirectory:
    """Implements directory.Directory."""

    def __init__(self, directory: Directory, budgets: Buckets) -> None:
        self._directory = directory
        self._budgets = budgets

    async def find(self, asked: Asked, party: Party, currency: str | None) -> Sequence[Entry]:
        budgets, bucket = self._budgets, _find_payer(self._budgets, asked)
        if budgets.refuses(bucket):
            raise make_over_budget()
        entries = await self._directory.find(asked, party, currency)
        if not budgets.take(bucket, budgets.found if entries else budgets.nobody):
            raise make_over_budget()
        return entries

    async def register(self, asked: Asked, party: Party, fsp_id: str, currency: str | None) -> None:
        with self._pay(asked):
            await self._directory.register(asked, party, fsp_id, currency)

    async def update(self, asked: Asked, party: Party, fsp_id: str, currency: str | None) -> None:
        with self._pay(asked):
            await self._directory.update(asked, party, fsp_id, currency)

    async def remove(self, asked: Asked, party: Party, currency: str | None) -> None:
        with self._pay(asked):
            await self._directory.remove(asked, party, currency)

    async def register_many(
        self, asked: Asked, request_id: str, items: Sequence[BulkItem], currency: str | None
    ) -> Sequence[Fault | None]:
        budgets, bucket = self._budgets, _find_payer(self._budgets, asked)
        faults: list[Fault | None] = []
        while len(faults) < len(items):
            if budgets.refuses(bucket):
                faults += [make_over_budget()] * (len(items) - len(faults))
                break
            reserved, tries = reserve(budgets, bucket, len(items) - len(faults))
            cost = 0.0
            try:
                part = items[len(faults) : len(faults) + tries]
                found = await self._directory.register_many(asked, request_id, part, currency)
                cost = sum(find_cost(budgets, _find_news(fault)) for fault in found)
            finally:
                settle(budgets, bucket, reserved, cost)
            faults += found
        return faults

    async def put_hint(self, asked: Asked, party: Party, fsp_id: str) -> None:
        await self._directory.put_hint(asked, party, fsp_id)

    async def forget_hints(self, asked: Asked, party: Party) -> None:
        await self._directory.forget_hints(asked, party)

    @contextmanager
    def _pay(self, asked: Asked) -> Iterator[None]:
        budgets, bucket = self._budgets, _find_payer(self._budgets, asked)
        if budgets.refuses(bucket):
            raise make_over_budget()
        reserved, _ = reserve(budgets, bucket, 1)
        cost = 0.0
        try:
            yield
        except Fault as fault:
            cost = find_cost(budgets, _find_news(fault))
            raise
        finally:
            settle(budgets, bucket, reserved, cost)


def make_over_budget() -> Fault:
    return Fault("2005", _TEXT, status=429)


def _find_payer(budgets: Buckets, asked: Asked) -> Bucket:
    payer = asked.proxy or asked.source
    budgets.know([payer])  # it is a participant: of a central ledger, perhaps, that the directory does not know
    return budgets.of(payer.encode("latin-1", "replace"))


def _find_news(fault: Fault | None) -> News:
    """Find what the refusal of a change tells; an oracle elsewhere tells it by the code alone."""
    if fault is None:
        return ""
    if fault.news is not None:
        return fault.news
    return "conflict" if fault.code == _CONFLICT else ""
