"""The registered oracles as the directory holds them (migrations/0020): which there are, and their changes.

Each change is one transaction with one event.  It affects no alias, so it needs no fences.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import asyncpg
import msgspec

from oracle.store.base import Context

if TYPE_CHECKING:
    from oracle.store.lanes import Lane
    from oracle.store.postgres import Postgres, Transaction
    from oracle.store.rows import RegisteredOracleRow

# Those of the FSPIOP API, and those of third-party hubs.  The directory holds no aliases of the last two.
TYPES: Final = (
    *("MSISDN", "EMAIL", "PERSONAL_ID", "BUSINESS", "DEVICE", "ACCOUNT_ID", "IBAN", "ALIAS"),
    *("CONSENT", "THIRD_PARTY_LINK"),
)
ORACLES_MAX: Final = 500


class RegisteredOracle(msgspec.Struct, frozen=True, gc=False):
    oracle_id: int  # 0: it is not stored yet
    party_id_type: str  # one of TYPES
    currency: str  # '' for one without
    url: str  # as it was registered
    is_default: bool = False


class OracleExists(Exception):
    """Another oracle has this type and currency."""


class TooManyOracles(Exception):
    """There are ORACLES_MAX already."""


class NoSuchOracle(Exception):
    """No oracle has this number."""


async def fetch_oracles(lane: Lane) -> list[RegisteredOracle]:
    """Fetch all, the oldest first.  Raises DirectoryUnavailable."""
    return _read(await lane.rows("oracles_all"))


async def add_oracle(transaction: Transaction, oracle: RegisteredOracle) -> None:
    """Raises OracleExists and TooManyOracles."""
    rows = await _fetch(transaction)
    if _find_same(rows, oracle):
        raise OracleExists
    if len(rows) >= ORACLES_MAX:
        raise TooManyOracles
    if not await transaction.run("oracle_add", *_list_values(oracle)):
        raise OracleExists


class OracleChanges:
    """Changes the registered oracles.  All methods raise DirectoryUnavailable."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres

    async def add(self, context: Context, oracle: RegisteredOracle) -> None:
        """Raises OracleExists and TooManyOracles."""
        async with self._postgres.transaction(context, fenced=True) as transaction:
            await add_oracle(transaction, oracle)
            await transaction.commit()

    async def change(
        self,
        context: Context,
        oracle_id: int,
        *,
        party_id_type: str,
        url: str,
        currency: str | None,
        is_default: bool | None,
    ) -> None:
        """Change an oracle; what is None stays as it is.  Raises NoSuchOracle and OracleExists."""
        async with self._postgres.transaction(context, fenced=True) as transaction:
            rows = await _fetch(transaction)
            old = next((row for row in rows if row.oracle_id == oracle_id), None)
            if old is None:
                raise NoSuchOracle
            new = RegisteredOracle(
                oracle_id,
                party_id_type,
                old.currency if currency is None else currency,
                url,
                old.is_default if is_default is None else is_default,
            )
            if _find_same(rows, new):
                raise OracleExists
            try:
                await transaction.run("oracle_change", oracle_id, *_list_values(new))
            except asyncpg.UniqueViolationError:  # another process has added it meanwhile
                raise OracleExists from None
            await transaction.commit()

    async def remove(self, context: Context, oracle_id: int) -> None:
        """Remove an oracle; one that does not exist changes nothing."""
        async with self._postgres.transaction(context, fenced=True) as transaction:
            await transaction.run("oracle_remove", oracle_id)
            await transaction.commit()


def _read(rows: list[RegisteredOracleRow]) -> list[RegisteredOracle]:
    return [RegisteredOracle(**row) for row in rows]


async def _fetch(transaction: Transaction) -> list[RegisteredOracle]:
    return _read(await transaction.rows("oracles_all"))


def _find_same(rows: list[RegisteredOracle], wanted: RegisteredOracle) -> bool:
    """Return whether another oracle has this type and currency."""
    key = wanted.party_id_type, wanted.currency
    return any((row.party_id_type, row.currency) == key and row.oracle_id != wanted.oracle_id for row in rows)


def _list_values(oracle: RegisteredOracle) -> tuple[str, str, str, bool]:
    return oracle.party_id_type, oracle.currency, oracle.url, oracle.is_default
