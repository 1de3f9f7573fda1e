"""The first page after signing in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oracle.api.console.declarations import page
from oracle.api.console.languages import lazy

if TYPE_CHECKING:
    from oracle.api.console.answers import Answer
    from oracle.api.console.visits import Visit


@page("home", "GET", "/", lazy("Home"), menu=10)
async def show_home(visit: Visit) -> Answer:
    return visit.show("home/home.html")
