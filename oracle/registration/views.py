"""A registration as people and programs see it: what the admin API answers and `oracle als` prints."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from oracle.registration.registration import Outcome, Registration
from oracle.registration.rows import MEANINGS, Act, Code, Finding, Row, State
from oracle.sentences import Sentence
from oracle.settings import mask_url

_STATE: Final = (
    "registered: ALS asks this oracle. missing: there is no such row. different: the row differs. refused: other rows"
    " of the type are in the way"
)


class AlsRow(msgspec.Struct, kw_only=True, rename="camel"):
    oracle_id: Annotated[int | None, Meta(description="The number of ALS; null: ALS has not given one yet")]
    party_id_type: str
    currency: str | None
    endpoint: Annotated[str, Meta(description="What ALS calls, without a password")]
    is_default: bool


class AlsItem(msgspec.Struct, kw_only=True, rename="camel"):
    party_id_type: str
    currency: Annotated[str | None, Meta(description="null: a row without a currency")]
    endpoint: Annotated[str, Meta(description="The base URL that ALS must have")]
    state: Annotated[State, Meta(description=_STATE)]
    code: Annotated[Code, Meta(description="The reason; it stays the same between versions")]
    reason: Sentence
    hint: Sentence
    row: Annotated[AlsRow | None, Meta(description="The row of ALS that the reason is about")]


class AlsAct(msgspec.Struct, kw_only=True, rename="camel"):
    action: Literal["registered", "removed"]
    row: AlsRow


class AlsRegistration(msgspec.Struct, kw_only=True, rename="camel"):
    als_admin_url: str
    is_registered: Annotated[bool, Meta(description="Whether every item is registered")]
    items: Annotated[list[AlsItem], Meta(description="The rows that the settings ask for")]
    acts: Annotated[list[AlsAct], Meta(description="What this call changed at ALS, in order; each is an event")]


def describe(registration: Registration, outcome: Outcome) -> AlsRegistration:
    return AlsRegistration(
        als_admin_url=registration.als.url, is_registered=outcome.is_registered,
        items=[_describe_finding(each) for each in outcome.findings],
        acts=[_describe_act(each) for each in outcome.acts],
    )  # fmt: skip


def _describe_finding(finding: Finding) -> AlsItem:
    reason, hint = MEANINGS[finding.code]
    return AlsItem(
        party_id_type=finding.wanted.party_id_type, currency=finding.wanted.currency or None,
        endpoint=finding.wanted.url, state=finding.state, code=finding.code, reason=reason, hint=hint,
        row=None if finding.row is None else _describe_row(finding.row),
    )  # fmt: skip


def _describe_act(act: Act) -> AlsAct:
    return AlsAct(action=act.action, row=_describe_row(act.row))


def _describe_row(row: Row) -> AlsRow:
    return AlsRow(
        oracle_id=row.oracle_id or None, party_id_type=row.party_id_type, currency=row.currency or None,
        endpoint=mask_url(row.url), is_default=row.is_default,
    )  # fmt: skip
