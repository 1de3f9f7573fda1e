"""The registration at the ALS of the hub: what it has now, and registering at once (`oracle/registration`).

The jobs process does the same again and again.  Both read the settings of the service: what ALS must have is chosen
there, and never by a caller, so that no key can make this service call another address.

A POST here keeps nothing for a repetition: a second one finds that nothing is missing.
"""

from __future__ import annotations

from typing import Annotated, Final

from litestar import Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody
from msgspec import Meta

from oracle.api.admin.access import OPERATOR, allow
from oracle.api.admin.calls import Body, Call, answer
from oracle.api.admin.operations import operation
from oracle.api.admin.problems import Refusal
from oracle.identity.identity import Role
from oracle.registration.als_admin import AlsFailed
from oracle.registration.registration import Outcome, Registration, Unfinished
from oracle.registration.views import AlsRegistration, describe

READERS: Final = allow(Role.OPERATOR, Role.AUDITOR, Role.READER)


class AlsOrder(Body):
    replace: Annotated[
        bool,
        Meta(
            description="Also replace rows that differ. Between the removal and the creation of a row, lookups of its"
            " type fail"
        ),
    ] = False


def handlers() -> list[HTTPRouteHandler]:
    return [read_registration, register]


@operation(
    "getAlsRegistration",
    "GET",
    "/als/registration",
    READERS,
    "Ask the ALS of the hub whether this oracle is registered",
    answers=AlsRegistration,
    upstream=True,
)
async def read_registration(
    call: NamedDependency[Call], registration: NamedDependency[Registration | None]
) -> Response[bytes]:
    known = _require(registration)
    try:
        findings = await known.examine()
    except AlsFailed as exc:
        raise _make_failure(exc) from None
    return call.read(describe(known, Outcome(findings)))


@operation(
    "registerAtAls",
    "POST",
    "/als/registration",
    OPERATOR,
    "Register this oracle at the ALS of the hub, where rows are missing",
    answers=AlsRegistration,
    reads=True,
    upstream=True,
)
async def register(
    call: NamedDependency[Call], registration: NamedDependency[Registration | None], data: JSONBody[AlsOrder]
) -> Response[bytes]:
    known = _require(registration)
    try:
        outcome = await known.register(call.context(), replace=data.replace)
    except AlsFailed as exc:
        raise _make_failure(exc) from None
    return answer(describe(known, outcome)).response()


def _require(registration: Registration | None) -> Registration:
    if registration is None:
        hint = "Set ORACLE_ALS_ADMIN_URL and ORACLE_ALS_ENDPOINT"
        raise Refusal(409, "als_not_set", "The service knows no ALS of the hub", hint)
    return registration


def _make_failure(error: AlsFailed) -> Refusal:
    done = len(error.acts) if isinstance(error, Unfinished) else 0
    hint = "Check that ALS runs, and the URL of its admin API"
    if done:
        hint = f"{done} changes were made before: history has them. Read the registration, then register again"
    return Refusal(502, "als_failed", str(error), hint)
