"""What the embedded servers need of the machine; a test passes a machine that lacks it."""

from __future__ import annotations

from dataclasses import dataclass

from oracle.run.embedded.account import ListAccounts, list_accounts
from oracle.run.embedded.binaries import FindPackage, find_package


@dataclass(frozen=True)
class Machine:
    """Where packages are, which accounts can run PostgreSQL, and whether servers end with us."""

    find_package: FindPackage = find_package
    list_accounts: ListAccounts = list_accounts
    ends_servers: bool = True
