"""Times, numbers and spans as people of a language write them (CLDR), in the time zone of the person who reads.

Kept.  Babel takes some 30 µs for a number and 60 µs for a time, and a page has hundreds of them, often the same ones.
       So a process keeps those that it wrote last.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo, available_timezones

from babel.core import Locale
from babel.dates import format_date, format_datetime, format_timedelta, get_datetime_format
from babel.dates import format_time as format_clock_time
from babel.numbers import format_decimal, format_percent
from babel.units import format_unit

from oracle.api.console.languages import language
from oracle.api.languages import write_digits

# The time zone of the person whose request is being answered.
time_zone: ContextVar[str] = ContextVar("time_zone", default="UTC")

DASH: Final = "–"
_KEPT: Final = 8_192  # texts of each kind: about 2 MB
# Our Spanish is that of Mexico.  In the CLDR's plain `es`, which is that of Spain, 1.000 is a thousand.
_LOCALES: Final = {"es": "es_MX"}


def _name_locale() -> str:
    return _LOCALES.get(language.get(), language.get())


@cache
def list_time_zones() -> list[str]:
    return sorted(name for name in available_timezones() if "/" in name and not name.startswith(("Etc/", "SystemV/")))


def name_time_zones(zones: Iterable[str]) -> list[tuple[str, str]]:
    """Name time zones, for ui.select."""
    return [(zone, zone.replace("_", " ")) for zone in zones]


def is_time_zone(name: str) -> bool:
    return name == "UTC" or name in list_time_zones()


def read_time(value: datetime | str) -> datetime:
    """Read a time as the API writes it."""
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def read_local(text: str, zone: str) -> datetime | None:
    """Read a time as a form has it (2026-11-29T10:00), which is in a zone unless it names its own; None: it is none."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(zone))


def write_for_api(text: str, zone: str | None = None) -> str | None:
    """Write a time of a form as the API reads it; None: the field is empty.

    The time is in `zone`, or in that of the person.  The API gets a text that is not a time as it is, and refuses it.
    """
    moment = read_local(text, zone or time_zone.get())
    return moment.isoformat() if moment is not None else text or None


def write_local(moment: datetime) -> str:
    """Write a time as a form has it, in the zone of the person.  Raises OverflowError for one beyond all years."""
    return moment.astimezone(ZoneInfo(time_zone.get())).strftime("%Y-%m-%dT%H:%M:%S").removesuffix(":00")


def now_here() -> datetime:
    return datetime.now(ZoneInfo(time_zone.get()))


def format_time(value: datetime | str | None, style: str = "medium") -> str:
    """Write a time with its zone."""
    if value is None:
        return DASH
    return _write_time(read_time(value).replace(microsecond=0), style, _name_locale(), time_zone.get())


@lru_cache(_KEPT)
def _write_time(value: datetime, style: str, locale: str, zone_name: str) -> str:
    """Write a time.  `locale` and `zone_name` are those of the request: a text that is kept belongs to both."""
    zone = ZoneInfo(zone_name)
    moment = value.astimezone(zone)
    if (
        style == "short"
    ):  # the medium form without its seconds: a short date of the CLDR has another order in each country
        clock = format_clock_time(moment, "short", tzinfo=zone, locale=locale)
        joined = str(get_datetime_format("medium", locale=locale))
        text = joined.replace("{1}", format_date(moment.date(), "medium", locale=locale)).replace("{0}", clock)
    else:
        text = format_datetime(moment, style, tzinfo=zone, locale=locale)
    return f"{write_digits(text)} {_name_zone(moment)}"


def _name_zone(moment: datetime) -> str:
    """Name a zone by its difference from UTC: short names such as CST mean several zones."""
    if time_zone.get() == "UTC":
        return "UTC"
    offset = moment.strftime("%z")
    minutes = "" if offset[3:5] == "00" else f":{offset[3:5]}"
    return write_digits(f"UTC{offset[0]}{int(offset[1:3])}{minutes}")


def format_clock(value: datetime | str) -> str:
    """Write the time of the day alone: for the axis of a plot."""
    moment = read_time(value).astimezone(ZoneInfo(time_zone.get()))
    return write_digits(format_clock_time(moment, "short", tzinfo=ZoneInfo(time_zone.get()), locale=_name_locale()))


def format_ago(value: datetime | str | None, now: datetime | None = None) -> str:
    """Write how long ago a time was, or how soon it will be."""
    if value is None:
        return DASH
    span = read_time(value) - (now or datetime.now(UTC))
    return write_digits(format_timedelta(span, add_direction=True, locale=_name_locale()))


def format_span(seconds: float) -> str:
    return write_digits(format_timedelta(timedelta(seconds=seconds), locale=_name_locale()))


def format_number(value: float | None) -> str:
    return DASH if value is None else _write_number(value, _name_locale())


@lru_cache(_KEPT)
def _write_number(value: float, locale: str) -> str:
    return write_digits(format_decimal(value, locale=locale))


_SIZES: Final = ((1_000_000_000, "gigabyte"), (1_000_000, "megabyte"), (1_000, "kilobyte"), (0, "byte"))


def format_bytes(count: int | None) -> str:
    """Write the size of a file: 1.2 MB."""
    if count is None:
        return DASH
    least, unit = next(one for one in _SIZES if count >= one[0])
    value = round(count / (least or 1), 1)
    length: Any = "short" if least else "long"
    return write_digits(format_unit(value, f"digital-{unit}", length=length, locale=_name_locale()))


def format_seconds(value: float | None) -> str:
    """Write a short time as precisely as it matters: 0.42 ms, 12 ms, 3.1 s."""
    if value is None:
        return DASH
    unit, shown = ("second", value) if value >= 1 or value == 0 else ("millisecond", value * 1_000)
    length: Literal["short", "long"] = "long" if language.get() == "my" else "short"  # whose short one is English
    return write_digits(format_unit(round_figures(shown), f"duration-{unit}", length=length, locale=_name_locale()))


_WHOLE: Final = 10  # from here on, two figures are a whole number


def round_figures(value: float) -> float:
    """Round to two figures, and whole numbers above 10."""
    return round(value) if value >= _WHOLE else round(value, 1 if value >= 1 else 2)


def format_share(value: float | None) -> str:
    """Write a share as a percentage: 0.985 is 98.5 %."""
    return DASH if value is None else _write_share(value, _name_locale())


@lru_cache(_KEPT)
def _write_share(value: float, locale: str) -> str:
    return write_digits(format_percent(value, locale=locale, decimal_quantization=False))


def name_country(code: str) -> str:
    """Name a country (ISO 3166 alpha-2); one that is not known stays as it is."""
    return str(Locale.parse(_name_locale()).territories.get(code, code))


def machine_time(value: datetime | str) -> str:
    """Write a time for programs: the attribute `datetime` of <time>."""
    return read_time(value).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


_ISOLATES: Final = str.maketrans("", "", "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029")


def isolate(text: str) -> str:
    """Write what a person gave inside a sentence that is no HTML, for example a message for the next page.

    Its direction ends with it (FSI … PDI).  Signs in it that would end the isolation are left out: they are not seen.
    """
    return f"\u2068{straighten(text)}\u2069"


def straighten(text: str) -> str:
    """Leave out the signs that turn the direction of a text, or end a line of it.  Nobody sees them."""
    return text.translate(_ISOLATES)
