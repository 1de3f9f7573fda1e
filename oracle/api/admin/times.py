"""Times that callers send: RFC 3339 with an offset, and within a range that Python and PostgreSQL both have."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final, overload

from msgspec import Meta

from oracle.api.admin.problems import NOT_A_TIME, Refusal

YEAR_MIN: Final = 1900
YEAR_MAX: Final = 9998

Time = Annotated[datetime, Meta(tz=True)]


@overload
def read_time(field: str, at: datetime) -> datetime: ...
@overload
def read_time(field: str, at: datetime | None) -> datetime | None: ...
def read_time(field: str, at: datetime | None) -> datetime | None:
    """Return the same instant in UTC.  Raises Refusal for a time without an offset, or out of range."""
    if at is None:
        return None
    if at.tzinfo is None:
        raise Refusal(400, "invalid", NOT_A_TIME, "The time needs an offset: Z, or -06:00", field=field)
    try:
        found = at.astimezone(UTC)
    except (OverflowError, ValueError):
        found = None
    if found is None or not YEAR_MIN <= found.year <= YEAR_MAX:
        raise Refusal(400, "invalid", NOT_A_TIME, f"Use a year from {YEAR_MIN} to {YEAR_MAX}", field=field)
    return found


def read_future(field: str, at: datetime | None, hint: str) -> datetime | None:
    """Do as `read_time`.  Raises Refusal for a time in the past, too."""
    found = read_time(field, at)
    if found is not None and found < datetime.now(UTC):
        raise Refusal(400, "in_the_past", f"{field} is in the past", hint, field=field)
    return found
