"""Every change of an alias, once: who may register, and the statements that add, replace and remove entries.

The hub, the administration and imports change aliases through this module only.  All functions run in a transaction
that the caller has opened by the cache protocol (`changes`).

    for one FSP, as a caller asks for it     admit · register · update · remove · foresee
    for several FSPs in one transaction      register_together
    for the hub's ALS itself                 put_hint · forget_hints
    for thousands of keys at a time          add_entries · replace_entries · remove_entries

The first group checks the request and raises what is wrong with it; it does its work with the second group.  The
statements of the second group are set-based: their number does not grow with the number of keys.  Ownership is enforced
by the triggers of the database (migrations/0001), also against changes by hand; here it becomes an answer.

Under the policy `per-currency` several FSPs can share a key.  One of them owns the default entry of the key, the
others own further currencies of it.

A hint is what the hub's ALS has found in another scheme (docs/als-contract.md section 5).  It answers like an entry,
and is the only entry of its key.  It is no registration: `put_hint` stores it where the key is free or has another
hint, `forget_hints` removes it for any caller, and the registration of any FSP replaces it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from itertools import compress
from typing import Any, Final, Literal, NamedTuple

import msgspec

from oracle import errors
from oracle.identifiers import PARTY_ID_TYPES, PartyKey
from oracle.store.base import OwnRegistration, Registration
from oracle.store.postgres import Transaction
from oracle.store.rows import AllowanceRow, ExaminedRow, KeyRow, OwnEntryRow, RegistrationRow

# Lookups are answered with FSPs of these statuses, and only such an FSP can register aliases.
ANSWERED_STATUSES: Final = frozenset({"active", "provisional"})

TRIES_MAX: Final = 4  # for entries that others remove between two statements

Effect = Literal[
    "added",
    "changed",
    "unchanged",
    "removed",
    "held_elsewhere",  # another FSP is registered there
    "not_owner",  # others are registered under the key, and this FSP is not
    "not_registered",  # there is no such entry of this FSP
]


class Columns(NamedTuple):
    """Keys and what is wanted for each of them, as the statements take them: lists of equal length."""

    party_id_types: list[str]
    identifiers: list[str]
    sub_ids: list[str]  # '' for none
    currencies: list[Any]  # '' for an entry that answers for every currency; for None see each function

    @property
    def keys(self) -> tuple[list[str], list[str], list[str]]:
        return self.party_id_types, self.identifiers, self.sub_ids

    def pick(self, positions: Sequence[int]) -> Columns:
        return Columns(*([column[at] for at in positions] for column in self))


# For one FSP ------------------------------------------------------------------------------------------------------


class Allowance(msgspec.Struct, frozen=True):
    """What an FSP may register; None is everything."""

    party_id_types: frozenset[str] | None = None
    currencies: frozenset[str] | None = None

    @classmethod
    def of(cls, row: AllowanceRow | ExaminedRow) -> Allowance:
        kinds, currencies = row["kinds"], row["currencies"]
        return cls(
            None if kinds is None else frozenset(PARTY_ID_TYPES.get(kind, kind) for kind in kinds),
            None if currencies is None else frozenset(currencies),
        )

    def includes(self, party_id_type: str, currency: str) -> bool:
        """An entry without a currency is always allowed."""
        return (self.party_id_types is None or party_id_type in self.party_id_types) and (
            self.currencies is None or not currency or currency in self.currencies
        )


class ChangeResult(msgspec.Struct, frozen=True):
    """The result of one registration: `refused` says why not; else `changed` says whether the entry is new."""

    changed: bool = False
    refused: errors.OracleError | None = None


class _KeyContext(msgspec.Struct, frozen=True, omit_defaults=True):
    """The context of one new entry, as the triggers read it (migrations/0018)."""

    party_id_type: str
    identifier: str
    sub_id: str
    channel: str
    actor: str
    role: str = ""
    fsp_id: str = ""
    reason: str = ""
    request_id: str = ""
    trace_id: str = ""

    @classmethod
    def of(cls, wanted: OwnRegistration) -> _KeyContext:
        return cls(*wanted.registration.key, *msgspec.structs.astuple(wanted.context))


async def admit(
    transaction: Transaction, fsp_id: str, *, admits_unknown: bool, day_max: int, by_hub: bool = False
) -> Allowance:
    """Return what the FSP may register.

    With `admits_unknown` (registration `auto`) an unknown FSP becomes provisional, `day_max` of them in 24 hours: the
    hub listener has no authentication, and anybody there can invent names.  Raises UnknownFsp if it is unknown,
    suspended or closed, TooManyUnknownFsps; with `by_hub` HubChangesOff.
    """
    rows = await transaction.rows("fsp_status", fsp_id)
    if not rows and admits_unknown:
        if await transaction.rows("fsp_admit", fsp_id, day_max):
            return Allowance()
        rows = await transaction.rows("fsp_status", fsp_id)  # another call can have admitted it meanwhile
        if not rows:
            raise errors.TooManyUnknownFsps
    return _read_allowance(rows[0] if rows else None, by_hub=by_hub)


def _read_allowance(row: AllowanceRow | ExaminedRow | None, *, by_hub: bool) -> Allowance:
    """Raises UnknownFsp, HubChangesOff."""
    if row is None or row["status"] is None:
        raise errors.UnknownFsp("The FSP is not known to the directory")
    if row["status"] not in ANSWERED_STATUSES:
        raise errors.UnknownFsp("The FSP is not active")
    if by_hub and not row["hub_changes"]:
        raise errors.HubChangesOff
    return Allowance.of(row)


async def register(
    transaction: Transaction, fsp_id: str, registrations: Sequence[Registration], allowance: Allowance
) -> list[ChangeResult]:
    """Register entries for one FSP; one result each, in their order.  A refused one does not affect the others.

    Raises DirectoryUnavailable.
    """
    included = [allowance.includes(r.key.party_id_type, r.currency) for r in registrations]
    some = list(compress(registrations, included))
    wanted = Columns(
        [r.key.party_id_type for r in some],
        [r.key.identifier for r in some],
        [r.key.sub_id for r in some],
        [r.currency for r in some],
    )
    results = {  # made for each call: an exception that is raised again and again would collect tracebacks
        "added": ChangeResult(changed=True),
        "unchanged": ChangeResult(),
        "held_elsewhere": ChangeResult(refused=errors.AlreadyRegistered()),
    }
    effects = iter(await add_entries(transaction, fsp_id, wanted))
    not_allowed = ChangeResult(refused=errors.NotAllowed())
    return [results[next(effects)] if may else not_allowed for may in included]


async def register_together(
    transaction: Transaction, wanted: Sequence[OwnRegistration], *, admits_unknown: bool
) -> list[ChangeResult | None]:
    """Register entries of several FSPs, as the hub asks for them; one result each, in their order.

    The keys are distinct, and the transaction has no context of its own: each new entry gets the context of its
    registration.  None: this one needs more than a new entry under a free key, or somebody took its key meanwhile.
    `register` does it, in a transaction of its own.
    """
    keys = [each.registration.key for each in wanted]
    columns = Columns(
        [key.party_id_type for key in keys],
        [key.identifier for key in keys],
        [key.sub_id for key in keys],
        [each.registration.currency for each in wanted],
    )
    fsp_ids = [each.context.fsp_id for each in wanted]
    contexts = msgspec.json.encode([_KeyContext.of(each) for each in wanted])
    rows: list[ExaminedRow] = await transaction.rows(
        "registrations_begin", contexts.decode(), transaction.cache, *columns, fsp_ids
    )
    results: list[ChangeResult | None] = [None] * len(wanted)
    free: list[int] = []
    for row in rows:
        at = row["ord"] - 1
        try:
            results[at] = _foresee_registration(row, wanted[at].registration, admits_unknown=admits_unknown)
        except errors.OracleError as refused:
            results[at] = ChangeResult(refused=refused)
        else:
            if row["is_free"] and results[at] is not None:
                free.append(at)
    for at in await _take_free(transaction, columns, fsp_ids, free):
        results[at] = None
    return results


def _foresee_registration(row: ExaminedRow, registration: Registration, *, admits_unknown: bool) -> ChangeResult | None:
    """Return what the registration comes to if its key stays as it is; None if it needs more than a new entry.

    Raises UnknownFsp, HubChangesOff, NotAllowed, AlreadyRegistered.
    """
    if row["status"] is None and admits_unknown:
        return None
    allowance = _read_allowance(row, by_hub=True)
    if not allowance.includes(registration.key.party_id_type, registration.currency):
        raise errors.NotAllowed
    if row["is_free"]:
        return ChangeResult(changed=True)
    if row["is_registered"]:
        return ChangeResult()
    if row["is_hint"] or row["may_add"]:
        return None
    raise errors.AlreadyRegistered


async def _take_free(
    transaction: Transaction, columns: Columns, fsp_ids: Sequence[str], free: Sequence[int]
) -> Sequence[int]:
    """Add the entries at these positions; return those whose keys are not free any more."""
    if not free:
        return []
    some = columns.pick(free)
    if await transaction.run("registrations_add", *some, [fsp_ids[at] for at in free]) == len(free):
        return []
    added = {row["ord"] - 1 for row in await transaction.rows("registrations_added", *some.keys)}
    return [at for position, at in enumerate(free) if position not in added]


async def update(
    transaction: Transaction, fsp_id: str, key: PartyKey, currency: str | None, *, by_hub: bool = False
) -> bool:
    """Make the FSP's entries under the key one entry with this currency; None keeps the currency of its first one.

    Returns whether that changed anything.  Raises PartyNotFound, NotOwner, AlreadyRegistered (another FSP has the
    currency), NotAllowed; with `by_hub` HubChangesOff.
    """
    wanted = Columns([key.party_id_type], [key.identifier], [key.sub_id], [currency])
    (effect,) = await replace_entries(transaction, fsp_id, wanted, registers=False, by_hub=by_hub)
    if effect == "not_registered":
        raise errors.PartyNotFound
    if effect == "not_owner":
        raise errors.NotOwner
    if effect == "held_elsewhere":
        raise errors.AlreadyRegistered
    if effect == "changed" and currency is not None:
        rows = await transaction.rows("fsp_status", fsp_id)
        if not Allowance.of(rows[0]).includes(key.party_id_type, currency):
            raise errors.NotAllowed
    return effect == "changed"


async def remove(
    transaction: Transaction,
    fsp_id: str,
    party_id_type: str,
    identifier: str,
    sub_id: str | None,
    currency: str | None,
    *,
    by_hub: bool = False,
) -> None:
    """Remove the FSP's entry in this currency; None removes its entries in all currencies.

    A `sub_id` of None is the hub's: it leaves the SubId out when it forwards a removal (docs/als-contract.md).  That
    means the entry without SubId, else the only SubId that the FSP has.

    Raises PartyNotFound, ForeignRemoval, AmbiguousRemoval; with `by_hub` HubRemovalsOff.
    """
    rows = await transaction.rows("identifier_lock", party_id_type, identifier)
    rows += await transaction.rows("identifier_currencies", party_id_type, identifier)
    if sub_id is not None:
        rows = [row for row in rows if row["sub_id"] == sub_id]
    if not rows:
        raise errors.PartyNotFound
    own = {row["sub_id"] for row in rows if row["fsp_id"] == fsp_id and not row["is_hint"]}
    if not own:  # hints of its own only where it has registered nothing
        own = {row["sub_id"] for row in rows if row["fsp_id"] == fsp_id}
    if not own:
        raise errors.ForeignRemoval
    if by_hub and not all(row["hub_changes"] for row in rows if row["fsp_id"] == fsp_id):
        raise errors.HubRemovalsOff
    if "" not in own and len(own) > 1:
        raise errors.AmbiguousRemoval
    named = Columns([party_id_type], [identifier], ["" if "" in own else own.pop()], [currency])
    (effect,) = await remove_entries(transaction, fsp_id, named, locked=True)
    if effect != "removed":
        raise errors.PartyNotFound


async def foresee(
    transaction: Transaction,
    fsp_id: str,
    action: Literal["add", "update", "remove"],
    key: PartyKey,
    currency: str | None,
) -> Effect:
    """Say what `register`, `update` or `remove` of one entry would do now.  Locks and changes nothing."""
    wanted = Columns([key.party_id_type], [key.identifier], [key.sub_id], [currency])
    if action == "remove":
        found = await transaction.rows("alias_entries", fsp_id, *wanted.keys)
        return "removed" if any(currency in (None, row["currency"]) for row in found) else "not_registered"
    if action == "update":
        rows = await transaction.rows("entries_compare", *wanted.keys, fsp_id)
        return _compare(rows[0] if rows else None, currency, registers=False).effect
    rows = await transaction.rows("registrations_compare", *wanted, fsp_id)
    if not rows or rows[0]["may_add"] or rows[0]["is_hint"]:
        return "added"
    return "unchanged" if rows[0]["is_registered"] else "held_elsewhere"


def compute_version(entries: Sequence[tuple[str | None, bool, datetime]], status: str) -> str:
    """Compute the version of an alias, its ETag: of everything in an answer, so that a 304 never hides a change.

    `entries`: currency (None: every one), whether it is the default, and the time of its change.  `status`: of the FSP.
    """
    return hashlib.sha256(msgspec.msgpack.encode((entries, status))).hexdigest()[:32]


def compute_version_of(rows: Sequence[OwnEntryRow]) -> str:
    """Compute it from the rows of `alias_entries` of one key."""
    entries = [(row["currency"] or None, row["is_default"], row["changed_at"]) for row in rows]
    return compute_version(entries, rows[0]["status"])


async def lock_entries(transaction: Transaction, fsp_id: str, key: PartyKey) -> list[OwnEntryRow]:
    """Lock the FSP's entries under the key until the transaction ends, and read them; none if it has none.

    Raises DirectoryUnavailable.  A default entry that was removed while we waited for it may have a successor, which is
    not locked yet: try again.
    """
    for _ in range(TRIES_MAX):
        held = {row["sub_id"] for row in await transaction.rows("alias_lock", fsp_id, *key)}
        found: list[OwnEntryRow] = await transaction.rows(
            "alias_entries", fsp_id, [key.party_id_type], [key.identifier], [key.sub_id]
        )
        if not found or key.sub_id in held:
            return found
    raise errors.DirectoryUnavailable


# For the hub's ALS itself -----------------------------------------------------------------------------------------


async def put_hint(transaction: Transaction, fsp_id: str, registration: Registration, allowance: Allowance) -> bool:
    """Store a hint; return whether that changed anything.

    Another FSP's hint is replaced.  An entry that this FSP has registered stays as it is.  Raises AlreadyRegistered for
    one of another FSP, NotAllowed.
    """
    key, currency = registration.key, registration.currency
    if not allowance.includes(key.party_id_type, currency):
        raise errors.NotAllowed
    if await transaction.run("hint_put", *key, currency, fsp_id):
        return True
    holders = await transaction.rows("key_holder", *key)
    if any(row["fsp_id"] != fsp_id for row in holders):
        raise errors.AlreadyRegistered
    return False


class ForgottenHints(NamedTuple):
    """Whether there were hints, and whether registrations stay that the removal named."""

    removed: bool
    registered: bool


async def forget_hints(
    transaction: Transaction, party_id_type: str, identifier: str, sub_id: str | None
) -> ForgottenHints:
    """Remove the hints of an identifier, of any FSP; with a `sub_id` that one only.  Registrations stay."""
    rows = await transaction.rows("identifier_lock", party_id_type, identifier)
    hints = [row["is_hint"] for row in rows if sub_id is None or row["sub_id"] == sub_id]
    if any(hints):
        await transaction.run("hints_remove", party_id_type, identifier, sub_id)
    return ForgottenHints(any(hints), not all(hints))


# For thousands of keys --------------------------------------------------------------------------------------------


async def add_entries(transaction: Transaction, fsp_id: str, wanted: Columns, *, touched: bool = False) -> list[Effect]:
    """Register the keys in their currencies: added, unchanged or held_elsewhere.

    A key of the FSP in another currency gets a further currency; so does a key of others under `per-currency`.  A hint
    is replaced, and counts as nothing: the entry is added.
    An entry counts as added if this transaction has made it.  `touched` says that the transaction has changed these
    keys before this call: then entries that exist at the beginning of the call are unchanged.

    Raises DirectoryUnavailable if others remove and register the same keys all the time.
    """
    if not touched:
        return await _add_entries(transaction, fsp_id, wanted)
    found = await transaction.rows("registrations_compare", *wanted, fsp_id)
    present = {row["ord"] - 1 for row in found if row["is_registered"]}
    absent = [at for at in range(len(wanted.identifiers)) if at not in present]
    effects: list[Effect] = ["unchanged"] * len(wanted.identifiers)
    for at, effect in zip(absent, await _add_entries(transaction, fsp_id, wanted.pick(absent)), strict=True):
        effects[at] = effect
    return effects


async def _add_entries(transaction: Transaction, fsp_id: str, wanted: Columns) -> list[Effect]:
    count = len(wanted.identifiers)
    if not count:
        return []
    for _ in range(TRIES_MAX):
        if await transaction.run("aliases_add", *wanted, fsp_id) == count:
            return ["added"] * count
        found = await transaction.rows("registrations_compare", *wanted, fsp_id)
        if any(row["is_hint"] for row in found):
            await transaction.run("hints_replace", *wanted, fsp_id)
            found = await transaction.rows("registrations_compare", *wanted, fsp_id)
        if any(row["may_add"] for row in found):
            await transaction.run("currencies_add", *wanted, fsp_id)
            found = await transaction.rows("registrations_compare", *wanted, fsp_id)
        # Else somebody has removed an entry between these statements: then once more.
        if len(found) == count and not any(row["may_add"] or row["is_hint"] for row in found):
            by_position = {row["ord"] - 1: row for row in found}
            return [_describe_added(by_position[at]) for at in range(count)]
    raise errors.DirectoryUnavailable


def _describe_added(row: RegistrationRow) -> Effect:
    if not row["is_registered"]:
        return "held_elsewhere"
    return "added" if row["is_new"] else "unchanged"


async def replace_entries(
    transaction: Transaction,
    fsp_id: str,
    wanted: Columns,
    *,
    registers: bool = True,
    touched: bool = False,
    by_hub: bool = False,
) -> list[Effect]:
    """Make the FSP's entries under each key one entry in the wanted currency (None: that of its first entry).

    A key where the FSP has no entry is registered, or with `registers=False` not_registered or not_owner.  The keys are
    distinct; `touched` as in `add_entries`, which raises DirectoryUnavailable.  With `by_hub`: raises HubChangesOff.
    """
    rows = await _lock_entries(transaction, fsp_id, wanted)
    if by_hub and any(row["hub_changes"] is False for row in rows.values()):
        raise errors.HubChangesOff
    steps = [_compare(rows.get(at), currency, registers=registers) for at, currency in enumerate(wanted.currencies)]
    effects = [step.effect for step in steps]

    default = [at for at, step in enumerate(steps) if step.target == "default"]
    if default:
        keys = wanted.pick(default).keys
        # The further currencies first: the wanted currency may be one of them.
        await transaction.run("currencies_drop", *keys, [None] * len(default), fsp_id)
        await transaction.run("defaults_change", *keys, [steps[at].currency for at in default], fsp_id)
    further = [at for at, step in enumerate(steps) if step.target == "further"]
    if further:
        keys = wanted.pick(further).keys
        await transaction.run("currencies_drop", *keys, [steps[at].currency for at in further], fsp_id)
    new = [at for at, step in enumerate(steps) if step.target in ("further", "new")]
    columns = wanted.pick(new)._replace(currencies=[steps[at].currency for at in new])
    added = await add_entries(transaction, fsp_id, columns, touched=touched) if new else []
    for at, effect in zip(new, added, strict=True):
        if steps[at].target == "new" or effect == "held_elsewhere":
            effects[at] = effect
    return effects


async def _lock_entries(transaction: Transaction, fsp_id: str, wanted: Columns) -> dict[int, KeyRow]:
    """Lock the default entries of the keys until the transaction ends, and read them, by position.

    An entry that comes after the lock is read but not locked.  If it is a hint of the FSP, the next call of the hub can
    take it away: the change would be acknowledged, and nothing stored.  So lock again.  Raises DirectoryUnavailable.
    """
    for _ in range(TRIES_MAX):
        locked = await transaction.run("entries_lock", *wanted.keys)
        found = await transaction.rows("entries_compare", *wanted.keys, fsp_id)
        if len(found) <= locked:
            return {row["ord"] - 1: row for row in found}
    raise errors.DirectoryUnavailable


class _Step(NamedTuple):
    effect: Effect
    # Change the FSP's default entry, its further currencies, register it, or do nothing.
    target: Literal["default", "further", "new", "nothing"] = "nothing"
    currency: str = ""


def _compare(row: KeyRow | None, currency: str | None, *, registers: bool) -> _Step:
    """Decide what a replacement comes to.  `row` says what is registered under the key; None for nothing."""
    if row is None or (row["is_hint"] and not row["is_own"]):
        return _Step("added", "new", currency or "") if registers else _Step("not_registered")
    if row["is_hint"]:
        currency = row["currency"] if currency is None else currency
        return _Step("added", "new", currency) if registers else _Step("changed", "default", currency)
    is_own, own, others = row["is_own"], row["own"] or (), row["others"] or ()
    if not is_own and not own and not (registers and row["is_shared"]):
        return _Step("not_owner")
    if currency is None:
        currency = row["currency"] if is_own else min(own, default="")
    if currency in others or (not is_own and currency == row["currency"]):
        return _Step("held_elsewhere")
    if is_own:
        unchanged = currency == row["currency"] and not own
        return _Step("unchanged") if unchanged else _Step("changed", "default", currency)
    # The default entry is another FSP's: this FSP has further currencies, or none yet.
    if not row["is_shared"] and currency not in own:  # the policy was changed
        return _Step("held_elsewhere")
    if not own:
        return _Step("added", "new", currency)
    return _Step("unchanged") if list(own) == [currency] else _Step("changed", "further", currency)


async def remove_entries(
    transaction: Transaction, fsp_id: str, named: Columns, *, locked: bool = False
) -> list[Effect]:
    """Remove the FSP's entries in the named currencies (None: in all): removed or not_registered.

    The keys are distinct.  `locked` says that this transaction has locked them already.
    """
    if not locked:
        await transaction.run("entries_lock", *named.keys)
    # The further currencies first: else one of them would become the default entry in between.
    rows = await transaction.rows("currencies_remove", *named, fsp_id)
    rows += await transaction.rows("defaults_remove", *named, fsp_id)
    removed = {row["ord"] - 1 for row in rows}
    return ["removed" if at in removed else "not_registered" for at in range(len(named.identifiers))]
