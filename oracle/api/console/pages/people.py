"""People and their keys: issue, change, rotate and revoke keys; the calls that were refused.

Secret.  It is in the answer of the form that made it, and nowhere else: that page is not stored, and no address leads
         back to it.  The same form sent again makes nothing, and says that its answer is gone.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from oracle.api.admin.codes import MEANINGS
from oracle.api.console import formats
from oracle.api.console.api_texts import translate
from oracle.api.console.bodies import Form
from oracle.api.console.declarations import PAGE_ITEMS, page
from oracle.api.console.languages import Lazy, _, lazy
from oracle.api.console.visits import Errors
from oracle.api.naming import ROLES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from oracle.api.console.answers import Answer
    from oracle.api.console.visits import Visit

_REVOCABLE: Final = ("revokeCredential", "getCredential")
LABELS: Final[Mapping[str, Lazy]] = {
    "label": lazy("Name of the key"),
    "role": lazy("Role"),
    "fspId": lazy("FSP"),
    "expiresAt": lazy("Valid until"),
    "person": lazy("Person"),
    "graceS": lazy("The present secret"),
    "reason": lazy("Reason"),
}
# How long the present secret stays valid after a new one was made.
_GRACE: Final[tuple[tuple[int, Lazy], ...]] = (
    (86_400, lazy("stays valid for a day")),
    (3_600, lazy("stays valid for an hour")),
    (604_800, lazy("stays valid for a week")),
    (0, lazy("ends now")),
)


@page("keys", "GET", "/keys", lazy("People and keys"), needs=("listCredentials",), menu=80)
async def show_keys(visit: Visit) -> Answer:
    query = {"role": visit.query["role"], "fspId": visit.query.text("fsp"), "cursor": visit.query["cursor"]}
    reply = await visit.ask("listCredentials", query={**query, "limit": PAGE_ITEMS})
    keys = reply.listing
    return visit.show(
        "people/keys.html", block="list", keys=keys["items"], next=keys["next"], role=query["role"], fsp=query["fspId"],
        roles=list(ROLES.items()), errors=visit.errors_of(reply), labels=LABELS,
    )  # fmt: skip


# A new key ----------------------------------------------------------------------------------------------------------


@page("new_key", "GET", "/new-key", lazy("New key"), needs=("createCredential",), under="keys")
async def show_new_key(visit: Visit) -> Answer:
    """`?like=`: with the permissions of another key."""
    values = {"role": visit.query["role"], "fspId": visit.query.text("fsp")}
    like = None
    if visit.query["like"]:
        like = await visit.get("getCredential", path={"credential_id": visit.query["like"]})
        values = {"role": like["role"], "fspId": like["fspId"] or ""}
    return _show_new(visit, Form.of(values), like=like)


@page("create_key", "POST", "/new-key", lazy("New key"), needs=("createCredential",), under="keys")
async def create_key(visit: Visit) -> Answer:
    body, errors = _read_form(visit)
    body |= {"role": visit.form["role"], "fspId": visit.form.text("fspId") or None}
    if errors is None and not body["role"]:
        errors = Errors.of_field("role", _("Choose the role of the key."))
    if errors is None:
        reply = await visit.ask("createCredential", body=body, once=True)
        if reply.ok:
            return _show_secret(visit, reply.json, None)
        errors = visit.errors_of(reply)
    return _show_new(visit, visit.form, errors)


def _show_new(visit: Visit, values: Form, errors: Errors | None = None, like: Any = None) -> Answer:
    return visit.show(
        "people/new.html", errors=errors, labels=LABELS, values=values,
        roles=list(ROLES.items()), like=like,
    )  # fmt: skip


def _read_form(visit: Visit) -> tuple[dict[str, Any], Errors | None]:
    """Read what the forms of a new and of a changed key have in common; and what is wrong with the day."""
    body: dict[str, Any] = {"label": visit.form.text("label"), "person": visit.form.text("person") or None}
    day = visit.form.text("expiresAt")
    moment = _read_day(visit, day) if day else None
    body["expiresAt"] = moment.isoformat() if moment else None
    if day and moment is None:
        return body, Errors.of_field("expiresAt", _("This is not a day. Write it as 2026-12-31."))
    return body, None


def _read_day(visit: Visit, day: str) -> datetime | None:
    """Return the end of a day in the time zone of the person: the whole day counts.  None: this is no day."""
    try:
        moment = formats.read_local(f"{day}T00:00", visit.time_zone)
        return None if moment is None else moment + timedelta(days=1)
    except OverflowError:  # the last day of all years
        return None


def _write_day(expires_at: str | None) -> str:
    """Write the last day on which a key is valid, as a form has it."""
    return formats.write_local(formats.read_time(expires_at) - timedelta(seconds=1))[:10] if expires_at else ""


# One key ------------------------------------------------------------------------------------------------------------


@page("key", "GET", "/keys/{credential_id}", lazy("Key"), needs=("getCredential",), under="keys")
async def show_key(visit: Visit, credential_id: str) -> Answer:
    found = await visit.fetch("getCredential", path={"credential_id": credential_id})
    return _show_key(visit, found.json, found.etag)


@page("change_key", "POST", "/keys/{credential_id}", lazy("Key"), needs=("changeCredential",), under="keys")
async def change_key(visit: Visit, credential_id: str) -> Answer:
    path = {"credential_id": credential_id}
    body, errors = _read_form(visit)
    reply = None
    if errors is None:
        if visit.form["expiresAt"] == visit.form["expiresBefore"]:
            del body["expiresAt"]  # it can end within a day
        reply = await visit.ask("changeCredential", path=path, body=body, if_match=visit.form["version"])
        if reply.ok:
            return visit.lead("key", _("The changes are saved."), credential_id=credential_id)
        errors = visit.errors_of(reply)
    found = await visit.fetch("getCredential", path=path)
    return _show_key(visit, found.json, found.etag, errors, reply is not None and reply.is_outdated)


def _show_key(visit: Visit, key: Any, version: str, errors: Errors | None = None, is_changed: bool = False) -> Answer:
    day = _write_day(key["expiresAt"])
    values = {"label": key["label"], "person": key["person"] or "", "expiresAt": day}
    if errors is not None and not is_changed:
        values |= {name: visit.form[name] for name in values}
    return visit.show(
        "people/key.html", key=key, version=version, labels=LABELS,
        values=Form.of(values), before=day, errors=None if is_changed else errors, is_changed=is_changed,
        is_own=key["credentialId"] == visit.caller.actor,
    )  # fmt: skip


# Another secret, and the end ----------------------------------------------------------------------------------------


@page(
    "rotate_key", "GET", "/keys/{credential_id}/rotate", lazy("New secret"), needs=("rotateCredential",), under="keys"
)
async def show_rotate(visit: Visit, credential_id: str) -> Answer:
    key = await visit.get("getCredential", path={"credential_id": credential_id})
    return _show_rotate(visit, key)


@page("make_secret", "POST", "/keys/{credential_id}/rotate", lazy("New secret"), needs=("rotateCredential",),
      under="keys")  # fmt: skip
async def make_secret(visit: Visit, credential_id: str) -> Answer:
    path = {"credential_id": credential_id}
    grace_s = _read_grace(visit)
    reply = await visit.ask("rotateCredential", path=path, body={"graceS": grace_s}, once=True)
    if reply.ok:
        return _show_secret(visit, reply.json, grace_s)
    key = await visit.get("getCredential", path=path)
    return _show_rotate(visit, key, visit.errors_of(reply))


# Of one's own key: each person with a key can do that.
@page("rotate_own_key", "GET", "/account/key", lazy("New secret for my key"), needs=("rotateOwnCredential",),
      under="account")  # fmt: skip
async def show_rotate_own(visit: Visit) -> Answer:
    return _show_rotate(visit, None)


@page("make_own_secret", "POST", "/account/key", lazy("New secret for my key"), needs=("rotateOwnCredential",),
      under="account")  # fmt: skip
async def make_own_secret(visit: Visit) -> Answer:
    grace_s = _read_grace(visit)
    reply = await visit.ask("rotateOwnCredential", body={"graceS": grace_s}, once=True)
    if reply.ok:
        return _show_secret(visit, reply.json, grace_s)
    return _show_rotate(visit, None, visit.errors_of(reply))


def _read_grace(visit: Visit) -> int:
    """Read how long the present secret stays valid; for anything that the form does not offer, the first choice."""
    return next((seconds for seconds, _text in _GRACE if str(seconds) == visit.form["graceS"]), _GRACE[0][0])


def _show_rotate(visit: Visit, key: Any, errors: Errors | None = None) -> Answer:
    return visit.show(
        "people/rotate.html", key=key, errors=errors, labels=LABELS,
        choices=[(str(seconds), text) for seconds, text in _GRACE], way=visit.caller.way,
    )  # fmt: skip


def _show_secret(visit: Visit, issued: Any, grace_s: int | None) -> Answer:
    """Show a secret, once.  `grace_s`: how long the one before it stays valid; None: there is none."""
    ends = next((text for seconds, text in _GRACE if seconds == grace_s), None)
    return visit.show(
        "people/secret.html", has_secret=True, key=issued["key"], credential=issued["credential"], ends=ends
    )


@page("revoke_key", "GET", "/keys/{credential_id}/revoke", lazy("Revoke the key"), needs=_REVOCABLE, under="keys")
async def show_revoke(visit: Visit, credential_id: str) -> Answer:
    key = await visit.get("getCredential", path={"credential_id": credential_id})
    return _show_revoke(visit, key)


@page("do_revoke_key", "POST", "/keys/{credential_id}/revoke", lazy("Revoke the key"), needs=_REVOCABLE, under="keys")
async def revoke_key(visit: Visit, credential_id: str) -> Answer:
    path = {"credential_id": credential_id}
    reply, key = await asyncio.gather(
        visit.ask("revokeCredential", path=path, body={"reason": visit.form.text("reason")}, once=True),
        visit.ask("getCredential", path=path),
    )  # fmt: skip
    if reply.ok:
        return visit.lead("key", _("The key is revoked. Nobody can use it any more."), credential_id=credential_id)
    if key.problem is not None:
        return visit.show_problem(key.problem)
    return _show_revoke(visit, key.json, visit.errors_of(reply))


def _show_revoke(visit: Visit, key: Any, errors: Errors | None = None) -> Answer:
    return visit.show(
        "people/revoke.html", key=key, errors=errors, labels=LABELS,
        reason=visit.form["reason"], is_own=key["credentialId"] == visit.caller.actor,
    )  # fmt: skip


# Who was refused ----------------------------------------------------------------------------------------------------


@page("refused_calls", "GET", "/refused-calls", lazy("Refused calls"), needs=("listRefusedCalls",), under="keys")
async def show_refused(visit: Visit) -> Answer:
    found = await visit.get("listRefusedCalls", query={"cursor": visit.query["cursor"], "limit": PAGE_ITEMS})
    calls = [{**one, "reason": _name_code(one["reason"])} for one in found["items"]]
    return visit.show("people/refused.html", block="list", calls=calls, next=found["next"])


def _name_code(code: str) -> str:
    """Say what an error code means; one that is not known here stays as it is."""
    return translate(MEANINGS[code].title) if code in MEANINGS else code
