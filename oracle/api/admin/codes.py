"""Every error code of the admin listener: its status, its title, what causes it, and what to do.

A code is a short name that stays the same between versions.  Three things are made from this one list: the type `Code`
that each refusal is checked against, the page /docs/errors, and docs/errors.md (`python -m oracle.api.admin.codes >
docs/errors.md`; a test holds the file and this list equal).
"""

from __future__ import annotations

import sys
from typing import Final, Literal, NamedTuple

from oracle.identifiers.errors import EXPLANATIONS
from oracle.imports.refusals import REFUSALS

Code = Literal[
    "already_ended",
    "already_running",
    "already_waiting",
    "als_failed",
    "als_not_set",
    "ambiguous",
    "ambiguous_person",
    "answer_lost",
    "bad_identifier",
    "bad_image",
    "bad_key",
    "bad_prefix",
    "bad_request",
    "bad_url",
    "broken_off",
    "damaged_value",
    "duplicate_column",
    "ends_earlier",
    "exists",
    "forbidden",
    "file_deleted",
    "foreign",
    "fsp_closed",
    "fsp_not_active",
    "held_elsewhere",
    "idempotency_key_reused",
    "in_the_past",
    "internal_error",
    "invalid",
    "issuer_unknown",
    "key_exists",
    "keys_unavailable",
    "log_damaged",
    "method_not_allowed",
    "missing_column",
    "no_header",
    "no_key",
    "no_role",
    "not_allowed",
    "not_found",
    "not_sealed",
    "not_text",
    "not_waiting",
    "not_yours",
    "oracle_exists",
    "over_budget",
    "person_unknown",
    "refused",
    "revoked",
    "route_begun",
    "route_ended",
    "route_overlap",
    "rows_refused",
    "same_person",
    "token_expired",
    "token_invalid",
    "too_large",
    "too_many_at_once",
    "too_many_bytes",
    "too_many_failures",
    "too_many_kept",
    "too_many_keys",
    "too_many_open",
    "too_many_oracles",
    "too_many_questions",
    "too_many_rotations",
    "too_many_rows",
    "too_many_streams",
    "unauthorized",
    "unavailable",
    "unknown_column",
    "unknown_country",
    "unknown_currency",
    "unknown_parameter",
    "unknown_person",
    "unsupported_media_type",
    "version_mismatch",
]


class Meaning(NamedTuple):
    statuses: tuple[int, ...]
    title: str  # of the code, the same each time: RFC 9457
    cause: str
    remedy: str


MEANINGS: Final[dict[Code, Meaning]] = {
    "already_ended": Meaning(
        (409,),
        "The batch has ended",
        "You tried to cancel a batch that is done, rejected, cancelled or failed.",
        "Nothing. Read the batch to see its final state.",
    ),
    "already_running": Meaning(
        (409,),
        "A verification runs already",
        "You started a verification of the history while another one waits or runs.",
        "Wait for its end, or stop it.",
    ),
    "already_waiting": Meaning(
        (409,),
        "The change waits already",
        "You asked for the same change of the same alias before, and it still waits for a second person.",
        "Nothing: a second person must approve the batch that `detail` and `Location` name. Or cancel that batch.",
    ),
    "als_failed": Meaning(
        (502,),
        "The ALS of the hub failed",
        "The admin API of the ALS cannot be reached, or gave an answer that is not as expected. `detail` says which.",
        "Check that the ALS runs, and `ORACLE_ALS_ADMIN_URL`. Read the registration before you register again.",
    ),
    "als_not_set": Meaning(
        (409,),
        "The service knows no ALS of the hub",
        "Nobody has set the address of the ALS at which this service is to be registered.",
        "Set `ORACLE_ALS_ADMIN_URL` and `ORACLE_ALS_ENDPOINT`.",
    ),
    "ambiguous": Meaning(
        (409,),
        "Several entries match",
        "The FSP has several entries under this identifier, and the request does not say which one it means. Or the"
        " text is the stored form of one alias and a national form of another.",
        "Send `subId` to select one entry. For a text with two meanings: send `asStored=true` for the alias that is"
        " stored exactly so, or write `+` and the calling code.",
    ),
    "ambiguous_person": Meaning(
        (400,),
        "Several people have this name",
        "`by` is the label of several keys, or a part of it, and these keys have different names.",
        "Use one of the names in the answer as a whole, for example `Ana (maker of bluebank)`, or the id of a key.",
    ),
    "answer_lost": Meaning(
        (409,),
        "The answer can no longer be read",
        "An earlier call with this Idempotency-Key was answered. The answer was encrypted with a secret that you have"
        " since replaced, or it was too long to keep.",
        "`detail` says whether the call succeeded. If it did, the change is made: read the resource. If it was refused,"
        " send the call again with a new Idempotency-Key.",
    ),
    "bad_identifier": Meaning(
        (400,),
        "The identifier is not valid",
        "The identifier does not follow the rules of its kind. `hint` names the reason; see the list below.",
        "Correct the identifier, its kind, `subId` or `country`, then send the request again.",
    ),
    "bad_image": Meaning(
        (400,),
        "The logo is not valid",
        "The logo is not a PNG, JPEG or GIF, or it is larger than 16 KiB.",
        "Convert the image, or make it smaller: 128 × 128 pixels are enough.",
    ),
    "bad_key": Meaning(
        (400,),
        "The public key cannot be used",
        "The text is not one RSA public key or certificate in PEM, or the key has too few or too many bits.",
        "Send the public key of the FSP: `openssl rsa -in PRIVATE.pem -pubout` writes it.",
    ),
    "bad_prefix": Meaning(
        (400,),
        "The prefix is not valid",
        "No identifier of this kind can begin with this prefix.",
        "Write the prefix in the form that `hint` shows.",
    ),
    "bad_request": Meaning(
        (400,),
        "The request is not valid",
        "A part of the request cannot be read or is not allowed.",
        "Correct the part that `detail` names.",
    ),
    "bad_url": Meaning(
        (400,),
        "The URL cannot be called",
        "A URL of an endpoint is not http or https, has a password, a character that must be percent-encoded, or a"
        " placeholder that its type of endpoint does not have.",
        "Correct the URL as `hint` says.",
    ),
    "broken_off": Meaning(
        (400,),
        "The request ended too early",
        "The connection ended before the whole body arrived.",
        "Send the request again.",
    ),
    "damaged_value": Meaning(
        (400,),
        "The value is damaged",
        "The identifier or `subId` is a mark of a missing value (nan, NULL, N/A), or it or the prefix of a route is a"
        " number that a spreadsheet or a program has rounded or formatted (1.23457e17, 525512345678.0, 1,234,567)."
        " `hint` names the reason; see the codes of rows below.",
        "Take the value from its source, and send it as text. Leave out what has no value.",
    ),
    "duplicate_column": Meaning(
        (400,),
        "A column is repeated",
        "The first line of the list names the same column twice.",
        "Keep each column once.",
    ),
    "ends_earlier": Meaning(
        (409,),
        "The route already ends earlier",
        "You asked to end the route at a time after its `validTo`.",
        "To keep the route longer, change its `validTo` (PATCH, or `oracle route update --to`).",
    ),
    "exists": Meaning(
        (409,),
        "The FSP already exists",
        "An FSP with this id is registered.",
        "Change that FSP (PATCH, or `oracle fsp update`), or choose another id.",
    ),
    "forbidden": Meaning(
        (403,),
        "This role may not do that",
        "Your key or token is valid, but its role is not in the list of roles for this operation.",
        "Use a key with one of the roles that the operation's description lists, or ask the operator of the hub.",
    ),
    "file_deleted": Meaning(
        (410,),
        "The file was deleted",
        "The file of the batch and the results of its rows are older than the hub keeps them.",
        "Read the batch for its counts, or ask history what it changed. Keep a copy of each file that you upload.",
    ),
    "foreign": Meaning(
        (403,),
        "You can only act for your own FSP",
        "Your key, your token or your gateway limits you to some FSPs, and the path names another one, or none.",
        "Use the path of one of your own FSPs, which `hint` names.",
    ),
    "fsp_closed": Meaning(
        (409,),
        "The FSP is closed",
        "A route cannot lead to a closed FSP.",
        "An operator can set the FSP to active first (`oracle fsp activate`).",
    ),
    "fsp_not_active": Meaning(
        (409,),
        "The FSP cannot register aliases",
        "The FSP is unknown, suspended or closed.",
        "An operator can create the FSP or set it to active.",
    ),
    "held_elsewhere": Meaning(
        (409,),
        "Already registered by another FSP",
        "Another FSP has registered this identifier. The answer does not say which one.",
        "The customer must ask that FSP to remove it. Then register it.",
    ),
    "idempotency_key_reused": Meaning(
        (409,),
        "The Idempotency-Key belongs to another call",
        "The same Idempotency-Key was sent with another method, path, query or body.",
        "Use a new Idempotency-Key for each new call.",
    ),
    "in_the_past": Meaning(
        (400,),
        "The time is in the past",
        "Past routing cannot be changed: a route cannot begin or end before now.",
        "Leave the time out for now, or send a later one.",
    ),
    "internal_error": Meaning(
        (500,),
        "Internal error",
        "The service has a defect, or met a condition that it does not know.",
        "Give the `X-Request-ID` of the answer to the operator of the service, who finds the cause in its log.",
    ),
    "invalid": Meaning(
        (400,),
        "The request is not valid",
        "A member of the body, a parameter or a header is missing, has the wrong form or is out of range. `field` names"
        " it where there is only one.",
        "Correct it as `detail` and `hint` explain. The page /docs describes each request.",
    ),
    "issuer_unknown": Meaning(
        (401,),
        "The issuer of the token is not known here",
        "The token names an identity provider (`iss`) that the operator of this service has not listed.",
        "Use a token of an identity provider that is listed, or ask the operator to list this one.",
    ),
    "key_exists": Meaning(
        (409,),
        "The FSP has this key already",
        "You tried to add a JWS key that the FSP has.",
        "Nothing. List its keys to see it.",
    ),
    "keys_unavailable": Meaning(
        (503,),
        "The keys of the identity provider cannot be fetched",
        "To check a token, the service needs the keys of the identity provider, which does not answer.",
        "Try again in a minute. Keys of this service (`aok_…`) work meanwhile.",
    ),
    "log_damaged": Meaning(
        (409,),
        "The audit log is damaged",
        "Stored events or hashes of the audit log do not fit together.",
        "Run `oracle audit verify` and report what it finds. Keep your copies of earlier checkpoints.",
    ),
    "method_not_allowed": Meaning(
        (405,),
        "This resource does not support that method",
        "The path exists, but not with this HTTP method.",
        "Use one of the methods in the `Allow` header.",
    ),
    "missing_column": Meaning(
        (400,),
        "A column is missing",
        "The first line of the list does not name a required column.",
        "Add the column that `detail` names.",
    ),
    "no_header": Meaning(
        (400,),
        "The list has no header line",
        "The first line of the list does not name the columns.",
        "Write the names of the columns in the first line.",
    ),
    "no_key": Meaning(
        (403,),
        "You came in without a key",
        "You asked for a new secret of your own key, but you came in with a token or through a gateway.",
        "Nothing: your identity provider renews your token. If a program needs a key, an operator can issue one.",
    ),
    "no_role": Meaning(
        (403,),
        "You have no role here",
        "Your token or your gateway says who you are, but nothing in it gives you a role or an open FSP here.",
        "Ask the operator of the hub to give you a role at the identity provider, or to map the role that you have.",
    ),
    "not_allowed": Meaning(
        (409,),
        "The FSP may not register this",
        "The FSP's settings do not include this kind of identifier or this currency.",
        "An operator can add it to `kinds` or `currencies` of the FSP.",
    ),
    "not_found": Meaning(
        (404,),
        "Not found",
        "The path or the thing that it names does not exist, or it is not visible to this key.",
        "Check the spelling of the id and of the path. `hint` tells you which list shows the ids.",
    ),
    "not_sealed": Meaning(
        (404,),
        "The event is not in the audit log yet",
        "New events enter the audit log about a second after they are written.",
        "Wait a second and ask again. `oracle audit status` (GET /audit/v1/log/status) shows what is sealed.",
    ),
    "not_text": Meaning(
        (400,),
        "The list is not text",
        "The file is not UTF-8, or it is a spreadsheet file and not CSV.",
        "Save it as CSV UTF-8.",
    ),
    "not_waiting": Meaning(
        (409,),
        "The batch is not waiting for approval",
        "The batch is still being checked, needs no approval, or somebody decided about it already.",
        "Read the batch to see its state.",
    ),
    "not_yours": Meaning(
        (403,),
        "Only the auditor can rotate this key",
        "An operator cannot get a second secret of an auditor.",
        "The auditor must rotate it with the key itself: `oracle key rotate`, or POST /admin/v1/me/rotate.",
    ),
    "oracle_exists": Meaning(
        (409,),
        "Another oracle is registered there",
        "An oracle with this party id type and currency is registered already.",
        "List the oracles. Remove that oracle first, or name another currency.",
    ),
    "over_budget": Meaning(
        (429,),
        "The budget of the FSP is used up",
        "Each alias that another FSP holds takes tokens of the budget of your FSP, and lookups of your FSP do, too. The"
        " budget is empty; or you send a file, and less than half of the budget is left.",
        "Wait as long as `Retry-After` says. `GET /budgets` shows how much is left. If your FSP needs more, ask an"
        " operator for another class.",
    ),
    "person_unknown": Meaning(
        (403,),
        "Nobody can tell whether you are a second person",
        "The sender came in by one way (key, identity provider, gateway) and you by another, and for one of you nobody"
        " knows the person.",
        "Come in the same way as the person who sent it. Or ask an operator to note the person of the key:"
        " `oracle key update ID --person oidc:ALIAS:SUB`.",
    ),
    "refused": Meaning(
        (409,),
        "Refused by the rules of the directory",
        "The request is valid, but the directory does not allow the change.",
        "Read `detail`: it names the rule.",
    ),
    "revoked": Meaning(
        (409,),
        "The credential is revoked",
        "A revoked credential cannot get a new secret.",
        "Issue a new credential.",
    ),
    "route_begun": Meaning(
        (409,),
        "The route has begun",
        "The start of a route cannot change after it has begun.",
        "End this route and create another one.",
    ),
    "route_ended": Meaning(
        (409,),
        "The route has ended",
        "An ended route cannot change.",
        "Create another route.",
    ),
    "route_overlap": Meaning(
        (409,),
        "Another route has this prefix at that time",
        "Two routes with the same prefix cannot be valid at the same time.",
        "End the other route first, or choose another time.",
    ),
    "rows_refused": Meaning(
        (400, 409),
        "Rows of the list are refused",
        "At least one row of the list is not valid (400), or the directory does not allow it (409). Nothing was"
        " imported.",
        "Correct the rows that `rows` lists, then import the whole list again.",
    ),
    "same_person": Meaning(
        (403,),
        "You cannot approve or reject your own file or change",
        "You sent the file or change yourself, perhaps with another key or in another way. Keys with the same label or"
        " the same person count as one person's.",
        "A second person must approve or reject it with another key. If two people have the same label, an operator can"
        " change the label of one key.",
    ),
    "token_expired": Meaning(
        (401,),
        "The token has expired",
        "The time in the token (`exp`) has passed.",
        "Get a new token from your identity provider.",
    ),
    "token_invalid": Meaning(
        (401,),
        "The token cannot be trusted",
        "The token is damaged, its signature is wrong, it is for another service, or its algorithm is not allowed.",
        "Get a new token for this service from your identity provider. An operator finds the reason in the log.",
    ),
    "too_large": Meaning(
        (413,),
        "The body is too large",
        "The body is larger than this operation allows.",
        "Send less, or divide it into parts.",
    ),
    "too_many_at_once": Meaning(
        (429,),
        "Too many uploads at once",
        "The FSP is uploading too many files at the same time.",
        "Wait until one upload ends.",
    ),
    "too_many_bytes": Meaning(
        (429,),
        "The upload quota is used up",
        "The FSP has uploaded as many bytes as it may within 24 hours.",
        "Try again tomorrow, or ask the operator of the hub for a larger quota.",
    ),
    "too_many_failures": Meaning(
        (429,),
        "Too many calls without a valid key",
        "Too many calls from your address had no valid key.",
        "Send a valid key: it works at once, also from this address.",
    ),
    "too_many_kept": Meaning(
        (429,),
        "Too many kept answers",
        "For each call with an Idempotency-Key the oracle keeps the answer. Your credential has as many answers, or as"
        " many bytes, as it may keep.",
        "Send the call without an Idempotency-Key, or try again later.",
    ),
    "too_many_keys": Meaning(
        (409,),
        "The FSP has too many keys",
        "An FSP can have 8 JWS keys.",
        "Remove a key that the FSP no longer signs with, then add the new one.",
    ),
    "too_many_open": Meaning(
        (429,),
        "Too many unfinished files or changes",
        "The FSP has as many unfinished files as it can have, or as many changes of one alias wait for a second person"
        " as can wait.",
        "Approve, reject or cancel some of them, or wait until they are applied.",
    ),
    "too_many_oracles": Meaning(
        (409,),
        "Too many oracles",
        "500 oracles are registered, which is the limit.",
        "Remove some first.",
    ),
    "too_many_questions": Meaning(
        (429,),
        "Too many recorded questions",
        "Each question to the history is recorded. Your credential has written as many bytes of records as it can"
        " within 24 hours.",
        "Wait as long as `Retry-After` says. For many identifiers, use an export: it is one question.",
    ),
    "too_many_rotations": Meaning(
        (429,),
        "Too many new secrets",
        "The credential got as many new secrets as it can get within 24 hours.",
        "Keep the newest secret, and try again tomorrow.",
    ),
    "too_many_rows": Meaning(
        (400,),
        "The list has too many rows",
        "The list has more rows than one import may have.",
        "Divide the list into parts.",
    ),
    "too_many_streams": Meaning(
        (429,),
        "Too many long answers at once",
        "This key already reads several exports, comparisons, downloads or event streams at the same time.",
        "Read one of them to its end, or close it. Then try again; `Retry-After` says when.",
    ),
    "unauthorized": Meaning(
        (401,),
        "A valid key is required",
        "The request has no key, or the key is unknown, expired or revoked. Or it came through a gateway that did not"
        " prove who it is.",
        "Send `Authorization: Bearer aok_…` with a valid key. An operator can issue a new one.",
    ),
    "unavailable": Meaning(
        (503,),
        "Temporarily unavailable",
        "The directory does not answer in time, or too many requests are waiting.",
        "Try again in a moment. `Retry-After` says when.",
    ),
    "unknown_column": Meaning(
        (400,),
        "A column is unknown",
        "The first line of the list names a column that the import does not know.",
        "Use the column names that `hint` lists.",
    ),
    "unknown_country": Meaning(
        (400,),
        "No such country",
        "The country of a file or of an FSP is not a two-letter code of ISO 3166 with phone numbers.",
        "Write a code such as MX or GB (not UK).",
    ),
    "unknown_currency": Meaning(
        (400,),
        "No such currency",
        "The currency is not an active code of ISO 4217. Only `currencies` of an FSP and what-if questions can have a"
        " retired code that the Account Lookup Service still lets through, for example HRK.",
        "Write an active ISO 4217 code such as MXN.",
    ),
    "unknown_parameter": Meaning(
        (400,),
        "A query parameter is unknown",
        "The query has a parameter that this operation does not know, perhaps a misspelled one. Nothing was done.",
        "Use the parameters that `hint` lists.",
    ),
    "unknown_person": Meaning(
        (400,),
        "No key has this name",
        "`by` names nobody: no key has this id, and no label contains this text. A label that was changed is found by"
        " its present text only.",
        "Use a name as lists show it, a part of its label, or the id of a key.",
    ),
    "unsupported_media_type": Meaning(
        (415,),
        "This media type is not supported",
        "The Content-Type of the body is not the one that this operation reads.",
        "Send application/json, or the type that the page /docs names for this operation.",
    ),
    "version_mismatch": Meaning(
        (412,),
        "The resource has changed since you read it",
        "The resource has another version than your `If-Match` header.",
        "Read it again, check what changed, and send the change with its new version (`ETag`).",
    ),
}

# Codes of single rows of a list of routes; those of REFUSALS can come, too.
ROUTE_ROWS: Final[dict[str, str]] = {
    "bad_fsp_id": "The FSP id is not 1 to 32 visible ASCII characters.",
    "bad_prefix": "No identifier of this kind can begin with the prefix.",
    "bad_time": "The time is not valid. Write 2027-01-01T00:00:00-06:00, for example.",
    "fsp_closed": "The FSP is closed.",
    "in_the_past": "The route would begin or end in the past.",
    "invalid": "The route would end before it begins, or a time is out of range.",
    "route_overlap": "Another route, or another row, has this prefix at that time.",
    "unknown_fsp": "The FSP does not exist.",
}

INTRODUCTION: Final = (
    "The admin and audit API answers each error with `application/problem+json` (RFC 9457): `type` (a link to this"
    " page), `title`, `status`, `detail`, `code`, and where they help `hint` and `field` (the member, parameter or"
    " header that is wrong). Programs should look at `code`: it stays the same between versions. No error contains an"
    " identifier of a person."
)
_ROWS: Final = "An uploaded file or a list of routes is refused row by row. Each refused row has one of these codes."
_REASONS: Final = "The reasons of `bad_identifier`, in `hint` and in the results of a batch."


def anchor(code: Code) -> str:
    """Return the `type` of a problem: it works at any address of the listener."""
    return f"/docs/errors#{code}"


def markdown() -> str:
    """Write docs/errors.md."""
    parts = ["# Error codes", _wrap(INTRODUCTION)]
    for code, meaning in MEANINGS.items():
        statuses = " or ".join(map(str, meaning.statuses))
        parts += [
            f"## {code}",
            f"**{meaning.title}.** Status {statuses}.",
            _wrap(f"Cause: {meaning.cause}"),
            _wrap(f"Remedy: {meaning.remedy}"),
        ]
    for title, text, rows in TABLES:
        parts += [f"## {title}", _wrap(text), "\n".join(_wrap(f"- `{code}`: {said}", "  ") for code, said in rows)]
    return "\n\n".join(parts) + "\n"


TABLES: Final[tuple[tuple[str, str, list[tuple[str, str]]], ...]] = (
    (
        "Codes of rows",
        _ROWS,
        sorted([*REFUSALS.items(), *((code, text) for code, text in ROUTE_ROWS.items() if code not in REFUSALS)]),
    ),
    ("Reasons for a bad identifier", _REASONS, sorted(EXPLANATIONS.items())),
)


def _wrap(text: str, indent: str = "") -> str:
    import textwrap  # noqa: PLC0415 - only to write the document

    return textwrap.fill(text, 100, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


if __name__ == "__main__":
    sys.stdout.write(markdown())
