"""What every question to history shares: who may ask it, how it is read, and the record that it leaves.

Structs.    A question is one struct, whether it comes in a URL (GET) or in a body (POST).  `from_query` reads its
            fields from the query; names, types, limits and errors are the same in both.
In URLs.    An identifier is personal data, and many systems write URLs down.  Every question about an identifier can
            be asked by POST.
Instants.   store/history defines what an answer about an instant means, and when it is final.
DFSPs.      Below /fsps/{its own} a DFSP asks about its own aliases.  It never sees what others had of an identifier.
Records.    `record` writes down every question before it is answered: who asked, when, about which identifier.
            Auditors can read these records; nobody can change them.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime
from typing import Annotated, Any, Final, get_args, get_type_hints

import msgspec
from litestar import Response
from litestar.params import QueryParameter
from msgspec import Meta, field

from oracle.api.admin.access import allow
from oracle.api.admin.calls import Body, Call
from oracle.api.admin.fsps import fetch_rules
from oracle.api.admin.pages import PAGE, PAGE_MAX
from oracle.api.admin.people import ACTOR_MAX
from oracle.api.admin.problems import Refusal
from oracle.api.admin.stored import AsStored, read_stored_key
from oracle.api.admin.values import Country, Identifier, KindName
from oracle.identifiers import PartyKey, Reading
from oracle.identity.identity import Role

AUDIT: Final = allow(Role.AUDITOR, Role.OPERATOR)
OWN: Final = allow(Role.AUDITOR, Role.OPERATOR, Role.MAKER, Role.CHECKER)
AUDITORS: Final = allow(Role.AUDITOR)

_NUMBER_MAX: Final = (1 << 63) - 1
_PREFIX: Final = "asked_"  # a path may have a parameter of the same name: /fsps/{fsp_id}/events
# What a limit of a field is called, in msgspec as in Litestar.
_LIMITS: Final = ("description", "ge", "le", "min_length", "max_length", "pattern")

Text = Annotated[str, Meta(min_length=1, max_length=256)]
Actor = Annotated[str, Meta(min_length=1, max_length=ACTOR_MAX)]
LeafNumber = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
Limit = Annotated[int, Meta(ge=1, le=PAGE_MAX)]
Cursor = Annotated[str, Meta(description="`next` of the page before")]
Handler = Callable[..., Awaitable[Response[Any]]]


# What questions are made of -----------------------------------------------------------------------------------------


class Party(Body, kw_only=True):
    """An identifier, in any spelling that people use."""

    kind: KindName
    identifier: Identifier
    sub_id: str | None = None
    country: Country | None = None
    as_stored: AsStored = False


class Search(Body, kw_only=True):
    """What every list can be limited to: an identifier, a time."""

    kind: Annotated[str | None, Meta(description="Required with `identifier`")] = None
    identifier: Identifier | None = None
    country: Country | None = None
    as_stored: AsStored = False
    since: Annotated[datetime | None, Meta(description="From this instant on")] = field(default=None, name="from")
    until: Annotated[datetime | None, Meta(description="Before this instant")] = field(default=None, name="to")
    limit: Limit = PAGE
    cursor: Cursor | None = None


def from_query(question: type[Body]) -> Callable[[Handler], Handler]:
    """Let the handler of a GET take a question as `data`, as the handler of a POST does.

    Litestar sees each field of the struct as a parameter of the query: it describes it, validates it by the type and
    the limits of the field, and names it in errors as the body does.
    """
    hints = get_type_hints(question, include_extras=True)
    parameters = [
        inspect.Parameter(
            _PREFIX + each.name, inspect.Parameter.KEYWORD_ONLY,
            default=None if each.required else each.default,  # validated as null, which names the field
            annotation=Annotated[hints[each.name], _parameter(each, hints[each.name])],
        )
        for each in msgspec.structs.fields(question)
    ]  # fmt: skip

    def decorate(handler: Handler) -> Handler:
        @functools.wraps(handler)
        async def handle(**arguments: Any) -> Response[Any]:
            asked = {each.name.removeprefix(_PREFIX): arguments.pop(each.name) for each in parameters}
            return await handler(data=question(**asked), **arguments)

        written = inspect.signature(handler, eval_str=True)
        others = [
            each.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for each in written.parameters.values()
            if each.name != "data"
        ]
        handle.__signature__ = written.replace(parameters=[*others, *parameters])  # type: ignore[attr-defined]
        handle.__annotations__ = {each.name: each.annotation for each in (*others, *parameters)}
        handle.__annotations__["return"] = written.return_annotation
        del handle.__wrapped__  # Litestar would read the types of the handler as it is written
        return handle

    return decorate


def _parameter(of: msgspec.structs.FieldInfo, annotation: Any) -> Any:
    limits = {
        limit: value for meta in _metas(annotation) for limit in _LIMITS if (value := getattr(meta, limit)) is not None
    }
    return QueryParameter(name=of.encode_name, required=of.required, **limits)


def _metas(annotation: Any) -> Iterator[Meta]:
    """List the `Meta`s of a type, and of the members of a union."""
    yield from (each for each in getattr(annotation, "__metadata__", ()) if isinstance(each, Meta))
    for member in get_args(annotation):
        yield from _metas(member)


# Values in a question -----------------------------------------------------------------------------------------------


def read_key(reading: Reading, party: Party) -> PartyKey:
    """Raises BadIdentifier, and Refusal for an identifier of impossible length."""
    if party.as_stored:
        return read_stored_key(party.kind, party.identifier, party.sub_id)
    return reading.read_key(party.kind, party.identifier, sub_id=party.sub_id, country=party.country)


def read_filter_key(reading: Reading, search: Search) -> PartyKey | None:
    """Read the key that the question is about, None for any.  Raises as `read_key`, and Refusal without a kind."""
    if search.identifier is None:
        return None
    if search.kind is None:
        raise Refusal(400, "invalid", "`identifier` needs `kind`", "Add `kind`", field="kind")
    if search.as_stored:
        return read_stored_key(search.kind, search.identifier, None)
    return reading.read_key(search.kind, search.identifier, sub_id=None, country=search.country)


async def fetch_event(call: Call, event_id: int) -> Any:
    """Fetch the row of an event.  Raises DirectoryUnavailable, and Refusal 404."""
    row = await call.postgres.row("event_by_id", event_id) if abs(event_id) <= _NUMBER_MAX else None
    if row is None:
        raise no_such_event()
    return row


def no_such_event() -> Refusal:
    return Refusal(404, "not_found", "No such event", "Search the events to see their numbers")


# Who asked ----------------------------------------------------------------------------------------------------------


async def record(
    call: Call, asked: str, key: PartyKey | None, fsp_id: str | None, details: dict[str, Any] | None = None
) -> None:
    """Write down who asks what.  Call it before the answer: a question that cannot be recorded gets no answer.

    Raises DirectoryUnavailable, and Refusal: 404 for an unknown FSP, 429 beyond the quota.
    An empty list of events would look like a clean answer to a caller who mistyped the name.  No FSP disappears: FSPs
    are closed, not deleted.
    """
    if fsp_id is not None:
        await fetch_rules(call.postgres.rows, fsp_id)
    given = {name: value for name, value in (details or {}).items() if value is not None}
    party = (None, None, None) if key is None else tuple(key)
    caller = call.caller
    texts = (*party, fsp_id, msgspec.json.encode(given).decode(), call.request_id, call.trace_id or None)
    own = None if call.fsp_ids is None else ",".join(sorted(call.fsp_ids))
    call.reads_quota.take(caller.actor, sum(len(text.encode()) for text in texts if text))
    await call.postgres.note("read_record", caller.actor, caller.role, own, asked, *texts)
