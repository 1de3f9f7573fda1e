"""The rows that named queries return: one type for each shape, named in the signature of the query.

    -- name: fsp_status(text) -> AllowanceRow

A test prepares every query on the migrated schema, and compares its parameters and columns with the signature.  The
order of the columns counts, too: some rows are read by place.  Where a column can be NULL, its type says None;
PostgreSQL does not report that, so no test holds it.  These types are for the type checker: the driver returns records.
"""

from __future__ import annotations

from datetime import datetime
from typing import TypedDict
from uuid import UUID


class LookupRow(TypedDict):
    """One entry that answers a lookup: `ord` counts the keys from 1; `fsp_id` is '' for an FSP that answers nobody."""

    ord: int
    fsp_id: str
    currency: str
    sub_id: str


class GenerationRow(TypedDict):
    """The generation of the cache, and the Redis servers whose copies count."""

    directory_id: UUID
    generation: int
    run_ids: list[str]
    routes_version: int
    run_ids_age_s: float
    now_s: float  # seconds since 1970


class TurnRow(TypedDict):
    """How long a change without fences waits for its turn."""

    wait_s: float


class ServerRow(TypedDict):
    """What a PostgreSQL server says of itself; `timeline` is 0 on a standby, and where the role cannot read it."""

    in_recovery: bool
    can_write: bool
    started_at: datetime
    timeline: int
    system_identifier: str
    backend_pid: int
    settings: list[str]  # each as name=value


class SizesRow(TypedDict):
    """How much a PostgreSQL server holds."""

    database_bytes: int
    connections_used: int
    connections_max: int
    aliases: int  # estimated


class ConnectionsRow(TypedDict):
    """How many connections a PostgreSQL server has; -1: the role or the database has no limit of its own."""

    connections_max: int
    reserved: int  # for superusers and other roles
    role_max: int
    database_max: int
    used: int


class BackendRow(TypedDict):
    """A server process that is not gone yet; `wait_event` is '' for one that waits for nothing."""

    pid: int
    wait_event: str
    is_told: bool


class CompiledRouteRow(TypedDict):
    """A routing rule as processes compile it: times in seconds since 1970, or infinite; `fsp_id` '' as in LookupRow."""

    party_id_type: str
    kind: str
    prefix: str
    fsp_id: str
    valid_from_s: float
    valid_to_s: float


class AdmittedRow(TypedDict):
    """An unknown FSP that became provisional."""

    fsp_id: str


class FspIdRow(TypedDict):
    """An FSP."""

    fsp_id: str


class AllowanceRow(TypedDict):
    """Whether an FSP may register, what (None: everything), and whether through the hub."""

    status: str
    kinds: list[str] | None
    currencies: list[str] | None
    hub_changes: bool


class RegistrationRow(TypedDict):
    """What became of one registration: `ord` counts from 1."""

    ord: int
    is_registered: bool | None
    is_new: bool
    may_add: bool
    is_hint: bool


class ExaminedRow(TypedDict):
    """What the FSP of one registration may do, and what is registered under its key: `ord` counts from 1."""

    ord: int
    status: str | None  # None: nobody knows the FSP
    kinds: list[str] | None
    currencies: list[str] | None
    hub_changes: bool | None
    is_free: bool
    is_hint: bool | None
    is_registered: bool | None
    may_add: bool | None


class OwnerRow(TypedDict):
    """The owner of an entry of an identifier, which is locked until the transaction ends."""

    sub_id: str
    fsp_id: str
    is_hint: bool


class LockedOwnerRow(TypedDict):
    """The owner of an entry of an identifier, and whether the hub can change the aliases of that FSP."""

    sub_id: str
    fsp_id: str
    is_hint: bool
    hub_changes: bool


class SessionRow(TypedDict):
    """A session of a browser that has not ended; `rests_s`: since it was last seen."""

    actor: str
    role: str
    fsp_ids: list[str] | None  # None: every FSP
    person: str | None
    rests_s: float
    secret_sha256: bytes | None  # of the key that signed in
    ends_at: datetime
    language: str | None  # None: as the browser says
    time_zone: str | None


class OwnSessionRow(TypedDict):
    """A session, for the person who has it."""

    session_id: str
    browser: str
    address: str
    started_at: datetime
    seen_at: datetime
    ends_at: datetime
    is_this: bool


class OpenSessionRow(TypedDict):
    """A session of anybody, for an operator."""

    session_id: str
    actor: str
    is_of_key: bool  # False: an identity provider signed them in
    person: str | None
    role: str
    fsp_ids: list[str] | None  # None: every FSP
    browser: str
    address: str
    started_at: datetime
    seen_at: datetime
    ends_at: datetime


class CredentialCheckRow(TypedDict):
    """A credential as each call of the admin listener checks it: the hashes of the secrets that are valid now."""

    role: str
    fsp_id: str | None
    person: str | None
    valid: bool | None
    hashes: list[bytes]


class CredentialRow(TypedDict):
    """A credential with the number of its valid secrets; None: it does not expire, is not revoked, was never used."""

    credential_id: str
    role: str
    fsp_id: str | None
    label: str
    person: str | None
    created_at: datetime
    created_by: str
    version: int
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    secrets: int


class LockedCredentialRow(TypedDict):
    """A credential, held until the transaction ends."""

    version: int
    revoked: bool
    role: str


class RefusalRow(TypedDict):
    """A refused call of the admin listener."""

    at: datetime
    credential_id: str | None
    address: str | None
    method: str
    route: str
    status: int
    reason: str


class StoredAnswerRow(TypedDict):
    """The answer to a call with an idempotency key; None while the call runs."""

    call_sha256: bytes
    answer: bytes | None


class SecretsMadeRow(TypedDict):
    """How many secrets a credential got lately."""

    secrets: int


class KeptRow(TypedDict):
    """What a credential keeps for repeated calls."""

    answers: int
    bytes: int


class FspImpactRow(TypedDict):
    """What follows the status of an FSP; `aliases` are counted up to a limit."""

    aliases: int
    aliases_estimated: int | None
    routes: int
    open_files: int
    keys: int


class FspRow(TypedDict):
    """An FSP; `contact` is JSON."""

    fsp_id: str
    status: str
    name: str | None
    locale_name: str | None
    dfsp_type: str | None
    additional_info: str | None
    kinds: list[str] | None
    currencies: list[str] | None
    use_cases: list[str]
    contact: str | None
    two_persons: bool
    hub_changes: bool
    default_country: str | None
    logo_data_type: str | None
    logo_sha256: str | None
    created_at: datetime
    changed_at: datetime
    version: int


class SchemeStateRow(TypedDict):
    """Changes when a worker must read again: the FSPs with their endpoints and keys; what a central ledger said."""

    participants: str
    forgotten: int


class SchemeFspRow(TypedDict):
    """An FSP and where it is called; `urls` is JSON."""

    fsp_id: str
    status: str
    base_url: str | None
    urls: str
    is_proxy: bool


class SchemeJwsKeyRow(TypedDict):
    fsp_id: str
    pem: str


class FspEndpointsRow(TypedDict):
    """Where an FSP is called; `urls` is JSON."""

    base_url: str | None
    urls: str
    is_proxy: bool
    changed_at: datetime | None
    version: int


class FspJwsKeyRow(TypedDict):
    key_id: int
    label: str
    pem: str
    sha256: str
    created_at: datetime


class SecretRow(TypedDict):
    """What encrypts that which is kept for callers without a key."""

    secret: bytes


class FspCountryRow(TypedDict):
    """The country of the phone numbers that an FSP writes without one."""

    default_country: str | None


class LogoRow(TypedDict):
    """The logo of an FSP."""

    logo_data_type: str | None
    data: bytes
    logo_sha256: str | None


class OwnEntryRow(TypedDict):
    """An entry of one FSP under a wanted key: `ord` counts the keys from 1."""

    ord: int
    currency: str
    is_default: bool
    is_hint: bool
    changed_at: datetime
    status: str


class SubIdRow(TypedDict):
    """The SubId of a default entry, held until the transaction ends."""

    sub_id: str


class ListedKeyRow(TypedDict):
    """A key of one type, and whether one of its entries is wanted."""

    identifier: str
    sub_id: str
    fits: bool


class SnapshotRow(TypedDict):
    """Everything that was committed before this time is in the snapshot."""

    at: datetime


class ExportedAliasRow(TypedDict):
    """An alias of one FSP with its entries.  No `currency` where another FSP has the default entry of the key."""

    identifier: str
    sub_id: str
    currency: str | None
    is_hint: bool | None
    changed_at: datetime | None
    further_currencies: list[str] | None
    further_changed_at: list[datetime] | None


class ListedAliasRow(TypedDict):
    """An entry in the list of one FSP, with the FSP's other entries under the same key."""

    changed_at: datetime
    identifier: str
    sub_id: str
    currency: str
    is_default: bool
    is_hint: bool
    default_currency: str | None
    default_changed_at: datetime | None
    further_currencies: list[str] | None
    further_changed_at: list[datetime] | None


class ScannedEntryRow(TypedDict):
    """An entry of one FSP, alone."""

    changed_at: datetime
    identifier: str
    sub_id: str
    currency: str
    is_default: bool


class HolderRow(TypedDict):
    """An entry under a wanted identifier, of any FSP: `ord` counts the identifiers from 1."""

    ord: int
    sub_id: str
    currency: str
    is_default: bool
    is_hint: bool
    fsp_id: str
    status: str


class RouteDecisionRow(TypedDict):
    """A rule that can decide about a wanted identifier: `ord` counts the identifiers from 1."""

    ord: int
    route_id: int
    kind: str
    prefix: str
    fsp_id: str
    status: str


class FspStatusRow(TypedDict):
    """The status of an FSP."""

    fsp_id: str
    status: str


class StoredRouteRow(TypedDict):
    """A routing rule; None: valid from or to any time."""

    route_id: int
    party_id_type: str
    kind: str
    prefix: str
    fsp_id: str
    valid_from: datetime | None
    valid_to: datetime | None
    note: str | None
    created_at: datetime
    changed_at: datetime
    version: int


class LockedRouteRow(TypedDict):
    """A routing rule, held until the transaction ends."""

    route_id: int
    party_id_type: str
    kind: str
    prefix: str
    fsp_id: str
    valid_from: datetime | None
    valid_to: datetime | None
    note: str | None
    created_at: datetime
    changed_at: datetime
    version: int
    has_begun: bool
    is_over: bool


class OverlapRow(TypedDict):
    """A rule that overlaps a wanted one; `total` counts all of them, also those that the limit leaves out."""

    route_id: int
    kind: str
    prefix: str
    fsp_id: str
    fsp_status: str
    valid_from: datetime | None
    valid_to: datetime | None
    total: int


class RouteIdRow(TypedDict):
    """The number of a new routing rule."""

    route_id: int


class SamePrefixRow(TypedDict):
    """A rule with the kind and the prefix of a wanted one: `ord` counts the wanted rules from 1."""

    ord: int
    route_id: int
    fsp_id: str
    covers: bool


class CutRow(TypedDict):
    """A rule with a shorter or longer prefix than a wanted one: `ord` counts the wanted rules from 1."""

    ord: int
    route_id: int
    kind: str
    prefix: str
    fsp_id: str
    total: int


class EntryNowRow(TypedDict):
    """An entry of an identifier as it is now."""

    sub_id: str
    currency: str
    fsp_id: str
    is_default: bool
    is_hint: bool
    since: datetime


class CoveringRouteRow(TypedDict):
    """A rule of any time whose prefix covers an identifier."""

    route_id: int
    kind: str
    prefix: str
    fsp_id: str
    valid_from: datetime | None
    valid_to: datetime | None
    has_begun: bool
    is_over: bool


class PrefixRow(TypedDict):
    """A rule for account numbers, as the list of prefixes shows it."""

    route_id: int
    prefix: int
    fsp_id: str
    created_at: datetime
    name: str
    locale_name: str
    dfsp_type: str
    additional_info: str
    logo_data_type: str
    use_cases: list[str]


class PrefixLogoRow(TypedDict):
    """The logo of an FSP in the list of prefixes."""

    fsp_id: str
    data: bytes


class UseCaseRow(TypedDict):
    """A use case that some FSP serves."""

    use_case: str


class BatchNumberRow(TypedDict):
    """The number of a new batch."""

    batch_id: int


class QuotaRow(TypedDict):
    """What an FSP uses of its quota: unfinished batches, and bytes."""

    open: int
    bytes: int


class BatchIdRow(TypedDict):
    """The number of a batch."""

    batch_id: int


class BatchRow(TypedDict):
    """A batch, with all its columns."""

    batch_id: int
    fsp_id: str
    state: str
    file_name: str
    file_format: str
    file_bytes: int
    file_sha256: bytes
    note: str | None
    uploaded_by: str
    uploaded_role: str
    uploaded_at: datetime
    needs_approval: bool
    decided_by: str | None
    decided_at: datetime | None
    decision_reason: str | None
    cancelled_by: str | None
    bytes_read: int
    rows_read: int
    rows_valid: int
    rows_applied: int
    rows_changed: int
    rows_failed: int
    chunks: int
    chunks_applied: int
    rows_per_s: float | None
    validated_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    error_code: str | None
    error_message: str | None
    changed_at: datetime
    version: int
    country: str | None
    file_deleted_at: datetime | None
    change_action: str | None
    change_version: str | None
    change_rows: bytes | None
    uploaded_person: str | None
    people: list[
        list[str]
    ]  # of each credential above that exists, and of the same persons: id, label, role, FSP, person


class WaitingRow(TypedDict):
    """Whether an FSP has two persons, and how many of its batches wait for the second one."""

    two_persons: bool
    waiting: int


class OnTurnRow(TypedDict):
    """A batch whose turn it is.  Each step of its work gives it the next version."""

    batch_id: int
    version: int


class StateCountRow(TypedDict):
    """How many batches are in a state."""

    state: str
    batches: int


class ChunkResultsRow(TypedDict):
    """A chunk of a batch with its results."""

    chunk: int
    rows: bytes
    results: bytes
    state: str


class ChunkMarksRow(TypedDict):
    """The results of a chunk of a batch, without its rows."""

    chunk: int
    results: bytes
    state: str


class PartRow(TypedDict):
    """A part of an uploaded file."""

    data: bytes


class ChunkRow(TypedDict):
    """The rows of a chunk, and the results so far."""

    rows: bytes
    results: bytes


class ChunkNumberRow(TypedDict):
    """The number of a chunk."""

    chunk: int


class BatchFspRow(TypedDict):
    """What the rows of a batch are checked against (None: everything is allowed)."""

    kinds: list[str] | None
    currencies: list[str] | None


class ChunkDigestRow(TypedDict):
    """The digest of a chunk that is stored already."""

    chunk: int
    digest: bytes


class ApplyingRow(TypedDict):
    """A batch that must be applied now."""

    batch_id: int
    fsp_id: str


class KeyRow(TypedDict):
    """What is registered under a key: its default entry, and the further currencies of an FSP and of others."""

    ord: int
    is_own: bool
    currency: str
    is_shared: bool
    is_hint: bool
    own: list[str] | None
    others: list[str] | None
    hub_changes: bool


class OrdRow(TypedDict):
    """The place of a key in the list of keys, from 1."""

    ord: int


class ProgressRow(TypedDict):
    """How many rows of a chunk have a result."""

    done: int


class WholeRow(TypedDict):
    """Whether all rows of a chunk have a result."""

    is_whole: bool


class EventRow(TypedDict):
    """An event; `before` and `after` are JSON.  `at` is None for a time that no calendar of Python has."""

    event_id: int
    xact: int
    at: datetime | None
    entity: str
    action: str
    channel: str
    actor: str
    role: str | None
    party_id_type: str | None
    party_identifier: str | None
    sub_id: str | None
    fsp_id: str | None
    before: str | None
    after: str | None
    reason: str | None
    request_id: str | None
    trace_id: str | None


class WantedEventRow(EventRow):
    """An event with its place in a portion of the log, and whether the caller wants it."""

    place: int
    is_wanted: bool


class FewBatchRow(TypedDict):
    """How many events there are, and a batch of the log that holds some of them, with the bound of the batch before."""

    events: int
    first_leaf: int | None
    leaves: int | None
    era: int | None
    xact: int | None
    event_id: int | None
    before_xact: int | None
    before_event_id: int | None


class PastEventRow(TypedDict):
    """An event that counts at an instant; `since`: when its transaction was complete."""

    event_id: int
    xact: int
    at: datetime
    entity: str
    action: str
    channel: str
    actor: str
    role: str | None
    party_id_type: str | None
    party_identifier: str | None
    sub_id: str | None
    fsp_id: str | None
    before: str | None
    after: str | None
    reason: str | None
    request_id: str | None
    trace_id: str | None
    since: datetime


class PartyEventRow(TypedDict):
    """An event of an identifier's history, with its era and the end of its transaction."""

    event_id: int
    xact: int
    at: datetime
    entity: str
    action: str
    channel: str
    actor: str
    role: str | None
    party_id_type: str | None
    party_identifier: str | None
    sub_id: str | None
    fsp_id: str | None
    before: str | None
    after: str | None
    reason: str | None
    request_id: str | None
    trace_id: str | None
    era: int
    since: datetime


class FinalRow(TypedDict):
    """The time now, and the time until which history is complete."""

    now: datetime
    final_before: datetime


class WalkedEventRow(TypedDict):
    """An event of a page, and how far the query walked; without an event, its columns are None."""

    walked: int
    walked_to: int | None
    event_id: int | None
    xact: int | None
    at: datetime | None
    entity: str | None
    action: str | None
    channel: str | None
    actor: str | None
    role: str | None
    party_id_type: str | None
    party_identifier: str | None
    sub_id: str | None
    fsp_id: str | None
    before: str | None
    after: str | None
    reason: str | None
    request_id: str | None
    trace_id: str | None


class SpanEventRow(TypedDict):
    """An event of a span of time, and how many the query walked; without an event, its columns are None."""

    walked: int
    event_id: int | None
    xact: int | None
    at: datetime | None
    entity: str | None
    action: str | None
    channel: str | None
    actor: str | None
    role: str | None
    party_id_type: str | None
    party_identifier: str | None
    sub_id: str | None
    fsp_id: str | None
    before: str | None
    after: str | None
    reason: str | None
    request_id: str | None
    trace_id: str | None


class FspEventRow(TypedDict):
    """An event of an alias of one FSP."""

    party_identifier: str
    party_id_type: str
    sub_id: str
    event_id: int
    xact: int
    at: datetime
    before: str | None
    after: str | None


class FirstKeyEventRow(TypedDict):
    """The last identifier of a walk, and an event of one FSP in it; one row without an event if it has none."""

    walked_to: str | None
    party_identifier: str | None
    party_id_type: str | None
    sub_id: str | None
    event_id: int | None
    xact: int | None
    at: datetime | None
    before: str | None
    after: str | None


class CredentialLabelRow(TypedDict):
    """What a page of history shows about a credential."""

    credential_id: str
    label: str
    role: str
    fsp_id: str | None
    person: str | None


class BatchOriginRow(TypedDict):
    """Who uploaded a batch and who approved it."""

    batch_id: int
    fsp_id: str
    file_name: str
    file_sha256: str
    uploaded_by: str
    uploaded_role: str
    uploaded_at: datetime
    decided_by: str | None
    decided_at: datetime | None
    decision_reason: str | None
    started_at: datetime | None
    finished_at: datetime | None


class ReadRow(TypedDict):
    """A question that somebody asked history; `details` is JSON."""

    read_id: int
    at: datetime
    credential_id: str
    role: str
    caller_fsp_id: str | None
    asked: str
    party_id_type: str | None
    party_identifier: str | None
    sub_id: str | None
    fsp_id: str | None
    details: str | None
    request_id: str | None
    trace_id: str | None


class CheckpointRow(TypedDict):
    """A signed checkpoint of the log."""

    size: int
    root: bytes
    note: str
    signed_at: datetime


class VerificationRow(TypedDict):
    """A verification that a person asked for; `listed` is JSON."""

    verification_id: int
    state: str
    directory: bool
    asked_by: str
    asked_at: datetime
    begun_at: datetime | None
    ended_at: datetime | None
    stopped_by: str | None
    leaves: int
    leaves_read: int
    rows_read: int
    findings: int
    listed: str


class VerificationBegunRow(TypedDict):
    """A verification that a process begins."""

    verification_id: int
    directory: bool


class CheckpointNoteRow(TypedDict):
    """The text of a checkpoint."""

    note: str


class LogEndRow(TypedDict):
    """Where the log ends."""

    size: int
    era: int
    xact: int
    event_id: int


class EraRow(TypedDict):
    """An era of the log; `until_event_id` is None for the present one."""

    era: int
    after_event_id: int
    until_event_id: int | None


class HashesRow(TypedDict):
    """A fragment of a tile: `wanted` counts the wanted ranges from 0."""

    wanted: int
    first: int
    hashes: bytes


class SignedSizeRow(TypedDict):
    """A checkpoint as verification reads it."""

    size: int
    root: bytes
    note: str


class BeyondRow(TypedDict):
    """Something that lies behind the end of the log."""

    kind: str
    place: str


class EventIdRow(TypedDict):
    """The number of an event."""

    event_id: int


class DisguisedRow(TypedDict):
    """A table of history that is not as it was made."""

    place: str
    is_other: bool


class DroppedReadsRow(TypedDict):
    """A partition of records of who asked that was dropped, and how many records it had."""

    dropped: str
    records: int


class SealedBatchRow(TypedDict):
    """A batch of the log."""

    first_leaf: int
    leaves: int
    era: int
    xact: int
    event_id: int
    event_id_max: int
    sealed_at: datetime


class BoundRow(TypedDict):
    """The last event of a batch of the log."""

    xact: int
    event_id: int


class EventPlaceRow(TypedDict):
    """The batch of the log that holds an event, and how many events precede it there."""

    first_leaf: int
    leaves: int
    before: int


class KeyStatementRow(TypedDict):
    """A key of the log, and the statement that introduces it."""

    number: int
    vkey: str
    from_size: int
    statement: str | None
    added_at: datetime


class AliasEventRow(TypedDict):
    """An event of an alias, to replay it.  `sub_id` is None in an event that no trigger wrote."""

    party_identifier: str
    party_id_type: str
    sub_id: str | None
    event_id: int
    entity: str
    action: str
    before: str | None
    after: str | None


class DirectoryEntryRow(TypedDict):
    """An entry of the directory: the default one of its key, or one for a further currency."""

    identifier: str
    party_id_type: str
    sub_id: str
    is_default: bool
    currency: str
    fsp_id: str
    is_hint: bool


class PlacedEventRow(TypedDict):
    """An event of an FSP, a route, a policy or a credential; `place` is which one."""

    place: str
    event_id: int
    before: str | None
    after: str | None


class PlacedStateRow(TypedDict):
    """A row of the directory as its events describe it (JSON); `place` as in PlacedEventRow."""

    place: str
    state: str


class AlteredTableRow(TypedDict):
    """A table of the directory that is not as the migrations made it, and how."""

    place: str
    complaint: str


class ListedOracleRow(TypedDict):
    """A registered oracle as the admin API shows it."""

    oracle_id: int
    party_id_type: str
    currency: str
    url: str
    is_default: bool
    version: int
    created_at: datetime
    changed_at: datetime


class RegisteredOracleRow(TypedDict):
    """A registered oracle; `currency` is '' for one without."""

    oracle_id: int
    party_id_type: str
    currency: str
    url: str
    is_default: bool
