"""The vocabulary of the admin API: every value that several operations read or answer, defined once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal

from litestar.params import QueryParameter
from msgspec import Meta

from oracle.api.admin import forms
from oracle.api.admin.problems import Refusal
from oracle.countries import explain_country, is_country
from oracle.identifiers import KINDS, list_current_currencies, list_hub_currencies
from oracle.imports.cells import find_damage
from oracle.imports.refusals import REFUSALS

FspId = Annotated[str, Meta(pattern=forms.FSP_ID, description="1 to 32 visible ASCII characters (FSPIOP FspId)")]
FspStatus = Literal["provisional", "active", "suspended", "closed"]
AliasState = Literal["answered", "unanswered"]
BatchState = Literal["validating", "waiting", "applying", "done", "rejected", "cancelled", "failed"]
RemovalReason = Literal["user_requested", "account_closed", "moved", "fraud", "correction", "other"]

# Any three letters: questions and removals name what is stored.  See `require_current`.
Currency = Annotated[str, Meta(pattern=forms.CURRENCY, max_length=3, description="ISO 4217, for example MXN")]
Country = Annotated[
    str,
    Meta(pattern=forms.COUNTRY, max_length=2, description="ISO 3166 alpha-2; lets you write an MSISDN without +"),
]
KindName = Annotated[str, Meta(description=f"In capitals or small letters: {', '.join(KINDS)}")]
Identifier = Annotated[str, Meta(description="In any spelling of its kind")]
UseCase = Annotated[str, Meta(pattern=forms.USE_CASE)]

LINE_PATTERN: Final = forms.LINE
NOTE_MAX: Final = 256
Reason = Annotated[
    str, Meta(min_length=1, max_length=NOTE_MAX, pattern=LINE_PATTERN, description="Why; kept in the history")
]
Note = Annotated[str, Meta(min_length=1, max_length=NOTE_MAX, description="A note for people")]
Name = Annotated[str, Meta(min_length=1, max_length=128)]
Label = Annotated[str, Meta(min_length=1, max_length=128, description="Who or what uses the key")]

# In the query.
FspIdQuery = Annotated[str | None, QueryParameter(name="fspId", min_length=1, max_length=256)]
SubIdQuery = Annotated[str | None, QueryParameter(name="subId")]
CurrencyQuery = Annotated[str | None, QueryParameter(name="currency", pattern=forms.CURRENCY, max_length=3)]
CountryQuery = Annotated[str | None, QueryParameter(name="country", pattern=forms.COUNTRY, max_length=2)]


def capitalise(currency: Any) -> Any:
    """Write a currency, or each of a list, as it is stored: in capitals.  Anything else stays as it is."""
    if isinstance(currency, list):
        return [capitalise(one) for one in currency]
    return currency.upper() if isinstance(currency, str) else currency


def require_current(currency: str | None) -> None:
    """Refuse a currency that an alias cannot get.  Raises Refusal."""
    if currency is not None and currency not in list_current_currencies():
        raise _make_no_such_currency("currency")


def require_country(country: str | None, field: str) -> None:
    """Refuse a country without phone numbers.  Raises Refusal."""
    if country is not None and not is_country(country):
        raise Refusal(400, "unknown_country", "No such country", explain_country(country), field=field)


def require_known(currencies: Iterable[str], field: str) -> None:
    """Refuse currencies that neither a person nor a hub can name.  Raises Refusal."""
    if not list_hub_currencies().issuperset(currencies):
        raise _make_no_such_currency(field)


def _make_no_such_currency(field: str) -> Refusal:
    return Refusal(400, "unknown_currency", "No such currency", "Write an ISO 4217 code such as MXN", field=field)


def refuse_damage(identifier: str, sub_id: str | None) -> None:
    """Refuse a new key that is a mark of a missing value, or a number that a program has spoiled.  Raises Refusal."""
    for field, text in (("identifier", identifier), ("subId", sub_id)):
        damage = find_damage(text) if text else None
        if damage:
            raise Refusal(400, "damaged_value", REFUSALS[damage], f"Reason: {damage}", field=field)
