"""The answers of the admin API in the words of the command: `--from` for `validFrom`, a command for a path.

The service speaks to programs: it names members, headers and paths.  A person at the command line sees options,
arguments and commands.  Here are the tables of both, and nothing else decides.  A test goes over every error code,
every text of the service, and every member that a command can send, so that a new one without words fails.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

# A member, parameter or part of a path, and the options or arguments that carry it: of these the command has one.
ARGUMENTS: Final[dict[str, tuple[str, ...]]] = {
    "action": ("--action",),
    "actor": ("--actor",),
    "additionalInfo": ("--info",),
    "asStored": ("--as-stored",),
    "at": ("--at",),
    "baseUrl": ("--base-url",),
    "batch_id": ("BATCH",),
    "begin": ("--from",),
    "by": ("--by",),
    "changedFrom": ("--changed-from",),
    "changedTo": ("--changed-to",),
    "channel": ("--channel",),
    "contact": ("--contact-name",),
    "contact.email": ("--contact-email",),
    "contact.name": ("--contact-name",),
    "contact.phone": ("--contact-phone",),
    "country": ("--country",),
    "credentialId": ("--credential", "ID"),
    "credential_id": ("ID",),
    "currencies": ("--currencies",),
    "currency": ("--currency",),
    "defaultCountry": ("--country",),
    "dfspType": ("--type",),
    "dryRun": ("--dry-run",),
    "end": ("--to",),
    "entity": ("--entity",),
    "directory": ("--log-only",),
    "event_id": ("EVENT",),
    "expiresAt": ("--expires",),
    "fileName": ("FILE",),
    "format": ("--format",),
    "from": ("--from",),
    "fspId": ("--fsp", "FSP"),
    "fsp_id": ("--fsp", "FSP"),
    "graceS": ("--grace-s",),
    "hubChanges": ("--hub-changes",),
    "identifier": ("--identifier", "IDENTIFIER"),
    "If-Match": ("--if-match",),
    "isDefault": ("--default",),
    "isProxy": ("--proxy",),
    "key_id": ("KEY",),
    "kind": ("--kind", "KIND"),
    "kinds": ("--kinds",),
    "label": ("--label",),
    "person": ("--person",),
    "limit": ("--limit",),
    "localeName": ("--locale-name",),
    "name": ("--name", "FORMAT"),
    "note": ("--note",),
    "only": ("--failed",),
    "oracle_id": ("ORACLE",),
    "partyIdType": ("TYPE",),
    "pem": ("FILE",),
    "prefix": ("--prefix", "PREFIX"),
    "reason": ("--reason",),
    "replace": ("--replace",),
    "requestId": ("--request",),
    "role": ("--role",),
    "route_id": ("ROUTE",),
    "session_id": ("SESSION",),
    "sinceSize": ("--since",),
    "size": ("--checkpoint",),
    "state": ("--state",),
    "status": ("--status",),
    "subId": ("--sub",),
    "to": ("--to",),
    "traceId": ("--trace",),
    "twoPersons": ("--two-persons",),
    "unknownFsps": ("--unknown-fsps",),
    "uploadedBy": ("--uploaded-by",),
    "url": ("URL",),
    "urls": ("--set",),
    "useCase": ("--use-case",),
    "useCases": ("--use-cases",),
    "validAt": ("--at",),
    "validFrom": ("--from",),
    "validTo": ("--to",),
    "verification_id": ("NUMBER",),
}
# The commands send these themselves, so no person can correct them.
SENT_BY_COMMANDS: Final = frozenset({"cursor", "Idempotency-Key", "isPart", "items", "use_case"})

# What to do, for each code: shown where the service gives no hint, or one for programs.
HINTS: Final[dict[str, str]] = {
    "already_ended": "`oracle batch show BATCH` shows its final state",
    "already_running": "`oracle audit verifications` shows it; `oracle audit stop-verification NUMBER` stops it",
    "already_waiting": "A second person must approve it. To withdraw it: oracle batch cancel BATCH",
    "als_failed": "Check that the ALS of the hub runs, and ORACLE_ALS_ADMIN_URL of the service",
    "als_not_set": "Set ORACLE_ALS_ADMIN_URL and ORACLE_ALS_ENDPOINT of the service, or add --als-admin",
    "ambiguous": "Add --sub to select one entry, or --as-stored, or write + and the calling code",
    "ambiguous_person": "Write more of the name, or the id: `oracle key list` shows both",
    "answer_lost": "Look whether the change is made, for example with the verb show, before you try again",
    "bad_identifier": "Correct the identifier, its kind, --sub or --country",
    "bad_image": "Convert the picture, or make it smaller: 128 × 128 pixels are enough",
    "bad_key": "Give the public key of the FSP: `openssl rsa -in PRIVATE.pem -pubout` writes it",
    "bad_prefix": "Correct the prefix",
    "bad_request": "Correct the command: --help explains it",
    "bad_url": "Use http or https and no password; `oracle fsp endpoints --help` lists the placeholders",
    "broken_off": "Try again",
    "damaged_value": "Take the value from its source and write it as text. Leave out what has no value",
    "duplicate_column": "Keep each column of the file once",
    "ends_earlier": "To keep the route longer: oracle route update ROUTE --to TIME",
    "exists": "To change that FSP: oracle fsp update. Or choose another id",
    "file_deleted": "`oracle batch show BATCH` shows the counts, and `oracle audit events` what it changed",
    "forbidden": "`oracle key me` shows your role. Use a key with another role, or ask the operator of the hub",
    "foreign": "Leave --fsp out, or name the FSP of your key: `oracle key me` shows it",
    "fsp_closed": "An operator can open the FSP again: oracle fsp activate FSP",
    "fsp_not_active": "An operator can create the FSP (oracle fsp create) or open it (oracle fsp activate)",
    "held_elsewhere": "The customer must first ask the other FSP to remove it",
    "idempotency_key_reused": "Try again",
    "in_the_past": "Leave the time out for now, or write a later one",
    "internal_error": "Ask the operator of the service to look for the cause in its log",
    "invalid": "Correct the command: --help explains it",
    "issuer_unknown": "Use a key, or a token of an identity provider that the service knows",
    "key_exists": "Nothing to do: `oracle fsp jws-key list FSP` shows it",
    "keys_unavailable": "Try again in a minute, or use a key",
    "log_damaged": "Run `oracle audit verify` and report what it finds",
    "method_not_allowed": "Update the command line and the service to the same version",
    "missing_column": "Add the column to the first line of the file",
    "no_header": "Write the names of the columns in the first line of the file",
    "no_key": "You came in without a key: there is nothing to rotate",
    "no_role": "Ask the operator of the hub for a role",
    "not_allowed": "An operator can allow it: oracle fsp update FSP --kinds … --currencies …",
    "not_found": "Check its spelling. Your key may also not see it: `oracle key me` shows your role and FSP",
    "not_sealed": "Try again in a second. `oracle audit status` shows what is sealed",
    "not_text": "Save the file as CSV UTF-8",
    "not_waiting": "`oracle batch show BATCH` shows its state",
    "not_yours": "The auditor must rotate it with the key itself: oracle key rotate",
    "over_budget": "Try again later: `oracle budgets` shows how much is left",
    "person_unknown": "Ask an operator to note the person of the key: oracle key update ID --person oidc:ALIAS:SUB",
    "oracle_exists": "To see it: oracle oracles list. To remove it: oracle oracles remove ORACLE",
    "refused": "Change what the message names",
    "revoked": "Issue a new key: oracle key issue",
    "route_begun": "End this route (oracle route end) and add another one (oracle route add)",
    "route_ended": "Add another route: oracle route add",
    "route_overlap": "End the other route first (oracle route end), or choose another time with --from or --to",
    "rows_refused": "Correct the rows, then import the whole file again",
    "same_person": "A second person must approve or reject it with another key. If that is you, an operator can change"
    " the label of your key: oracle key update ID --label TEXT",
    "token_expired": "Get a new token from your identity provider, or use a key",
    "token_invalid": "Get a new token from your identity provider, or use a key",
    "too_large": "Send less, or divide it into parts",
    "too_many_at_once": "Wait until another upload of this FSP ends",
    "too_many_bytes": "Try again tomorrow, or ask the operator of the hub for a larger quota",
    "too_many_failures": "Save a valid key with `oracle key save`, then try again",
    "too_many_kept": "Try again later",
    "too_many_keys": "To remove one: oracle fsp jws-key remove FSP KEY",
    "too_many_open": "Approve, reject or cancel some files first: `oracle batch list` shows them",
    "too_many_oracles": "To remove one: oracle oracles remove ORACLE",
    "too_many_questions": "Try again tomorrow. For many identifiers use `oracle audit fetch`: it is one question",
    "too_many_rotations": "Keep the newest key, and try again tomorrow",
    "too_many_rows": "Divide the file into parts",
    "too_many_streams": "Wait until another download with this key ends, then try again",
    "unauthorized": "Ask an operator for a new key, then save it: oracle key save",
    "unavailable": "Try again in a moment",
    "unknown_column": "Correct the names of the columns in the first line of the file",
    "unknown_country": "Write a code of two letters such as MX or GB (not UK)",
    "unknown_currency": "Write a code of three letters such as MXN",
    "unknown_person": "Check its spelling: `oracle key list` shows the names",
    "unknown_parameter": "Update the command line and the service to the same version",
    "unsupported_media_type": "Update the command line and the service to the same version",
    "version_mismatch": "Read it again with the verb show, check what changed, and use its new version for --if-match",
}
# Where the words of the service are for programs; a code alone is too general.
TEXTS: Final[dict[str, str]] = {
    "A query parameter is unknown": "The service does not know an option of this command",
    "In a URL write + as %2B": "Or write a date such as 2026-11-28",
    'Send the ETag of an answer, with its quotes: "…"': "Write the version as the verb show prints it",
    "Search the events to see their numbers": "To see the numbers: oracle audit events",
    "Set a logo first": "To set one: oracle fsp logo FSP FILE",
    "Check the program that sent it": "Update the command line and the service to the same version",
    "This FSP has no such alias": "This FSP has no such alias. `oracle alias list` shows those that it has",
    "The body must be the file itself": "The service does not read files in this form",
    "The body must not be encoded": "The service does not read files in this form",
    "The body is not valid JSON": "The service cannot read the command",
    "The request is not valid HTTP/1.1": "The service cannot read the command",
    "The head of the request is too large": "The command is too long",
    "fileName or note is not valid": "The name of the file or --note is not valid",
    "A text holds a character that cannot be stored": "A text holds a character that cannot be stored (U+0000)",
    "Begin with prefix,fspId,…": "Begin the file with the line prefix,fspId or prefix,fspId,validFrom,validTo,note",
    "A second person must approve it. To withdraw it, cancel the batch": (
        "A second person must approve it. To see it: oracle batch show BATCH. To withdraw it: oracle batch cancel BATCH"
    ),
    "List the FSPs to see their ids": "`oracle fsp list` shows the FSPs",
    "List the FSPs to see their use cases": "`oracle fsp list --json` shows the use cases",
    "List the batches of this FSP to see their numbers": "`oracle batch list` shows the batches and their FSPs",
    "List the credentials to see their ids": "`oracle key list` shows the ids",
    "List the oracles to see their numbers": "`oracle oracles list` shows the oracles",
    "List the routes to see their numbers": "`oracle route list` shows the routes",
    "Set the FSP to active first": "Open the FSP first: oracle fsp activate FSP",
    "Issue a new credential": "Issue a new key: oracle key issue",
    "The resource has changed since you read it": "It has changed since you read it",
    "The request is not valid": "The command cannot be carried out as it is written",
    "The request ended before the body was complete": "The connection broke before all was sent",
    "The body is too large": "It is too large",
    "This media type is not supported": "The service does not read this type of file",
    "This resource does not support that method": "The service does not know this command",
    "No such resource": "The service does not know this command",
    "The Idempotency-Key is not valid": "The service does not know this form of the command",
    "This Idempotency-Key was used for another call": "The command was mistaken for an earlier one",
    "Too many bodies are being received": "The service is receiving too much at the moment",
    "The status of the log shows how many events are sealed": "`oracle audit status` shows how many events are sealed",
    "The only transfer coding allowed is chunked": "The service does not read files in this form",
}
REASON_HINTS: Final[dict[str, str]] = {
    "bad_check_digit": "Check the digits: one is wrong, or two are swapped",
    "bad_check_digits": "Check the account number: at least one character is wrong",
    "invalid_for_country": "Check the digits; one can be wrong or missing",
    "national_without_country": "For example +525512345678, or add --country MX",
    "ambiguous_national_or_international": "For example +525512345678, or add --country MX",
    "unknown_country": "Write --country MX, for example",
    "country_contradicts_kind": "Correct --country, or leave it out",
    "sub_id_empty": "Leave --sub out",
}

_MEMBER: Final = "|".join(
    sorted((name for name in ARGUMENTS if re.search("[a-z][A-Z]|-", name)), key=len, reverse=True)
)
_UNMISTAKABLE: Final = re.compile(rf"`?(?<![\w-])({_MEMBER})(?![\w-])`?")
_QUOTED: Final = re.compile(r"`([A-Za-z.]+)`")
_LIST: Final = re.compile(r"(?:^|(?<=; ))([A-Za-z.]+)(\[[^\]]*\])?: ")  # `currencies[0]: Expected …; limit: …`
_CHOICES: Final = re.compile(r"(?:Expected one of|The kinds are) (.*)")
_INDEX: Final = re.compile(r"\[[^\]]*\]")
# What a person at the command line does not need to know.
API_WORDS: Final = re.compile(
    r"\b(?!SubId|GiB|MiB|KiB)[a-z]+[A-Z]\w*|/docs|/admin|/audit/|\b(?:GET|POST|PATCH|PUT|DELETE)\b|[Hh]eaders?\b|ETag"
    r"|\bcurl\b|Transfer-Encoding|visible ASCII"
    r"|Idempotency|Content-\w|Authorization|\b[Bb]ody\b|[Pp]arameter\b|\b[Mm]embers?\b|\b[Rr]esources?\b|\bquery\b"
    r"|Retry-After|X-Request-ID|transfer coding|In a URL|regex|\^\[|enum|`\$|HTTP"
)


class Words(NamedTuple):
    message: str
    hint: str


def translate(
    message: str, code: str = "", hint: str = "", field: str = "", *, given: Mapping[str, object] | None = None
) -> Words:
    """Write an answer of the service for a person.

    `given`: the options and arguments that the command has, by name, and what the person typed for each.
    """
    given = given or {}
    if code == "bad_identifier":
        reason = hint.removeprefix("Reason: ")
        typed = {name: find_argument_of(name, given) for name in ("identifier", "subId", "country")}
        text = _translate_text(explain_fault(message, reason, typed), given)
        return Words(text, explain_reason(reason, find_argument_of("kind", given)))
    if code == "damaged_value":
        message, hint = message.partition(". ")[0], ""  # the rest is for people who correct a file
    name = find_argument(field, given) if field else ""
    if code == "invalid" and message == "The request is not valid":
        hint = _LIST.sub(lambda found: f"{find_argument(found[1], given) or found[1]}: ", hint)
        if name and hint.startswith(f"{name}: "):
            message, hint = f"{name} is not valid", _add_suggestion(hint.removeprefix(f"{name}: "), given.get(name))
    text, advice = _translate_text(message, given), _translate_text(hint, given)
    if API_WORDS.search(text):
        text = "The service refused the command"
    if not advice or API_WORDS.search(advice):
        advice = HINTS.get(code, "Correct the command: --help explains it")
    if name and name not in text and name not in advice and code != "not_found":
        text = f"{name}: {text}"
    return Words(text, advice)


def explain_fault(message: str, reason: str, typed: Mapping[str, object]) -> str:
    """Say what was found in a refused identifier and what is needed; the service names only the rule.

    `typed`: what the person wrote as `identifier`, `subId` and `country`.
    """
    from oracle.identifiers import describe_fault  # noqa: PLC0415 - imports as in cli

    text, sub_id, country = (str(typed.get(name) or "") for name in ("identifier", "subId", "country"))
    return describe_fault(message, reason, text, sub_id, country)


def explain_reason(reason: str, kind: object = None) -> str:
    """Return what to do about an identifier that is refused; `kind` is what the person typed for it."""
    if reason == "unknown_kind":
        from oracle.identifiers import KINDS  # noqa: PLC0415 - imports as in cli

        return _add_suggestion(f"The kinds are {', '.join(KINDS)}", kind)
    return REASON_HINTS.get(reason, HINTS["bad_identifier"])


def find_argument(member: str, given: Mapping[str, object]) -> str:
    """Return the option or argument of the command that carries a member; '' for none."""
    names = ARGUMENTS.get(_INDEX.sub("", member)) or ARGUMENTS.get(member.partition(".")[0]) or ()
    return next((name for name in names if not given or name in given), "")


def find_argument_of(member: str, given: Mapping[str, object]) -> object:
    """Return what the person typed for a member."""
    return given.get(find_argument(member, given))


def _add_suggestion(hint: str, typed: object) -> str:
    """Add the value that was probably meant to `Expected one of A, B` or `The kinds are A, B`."""
    found = _CHOICES.match(hint)
    if found is None or not typed:
        return hint
    from oracle.commands.suggestions import suggest  # noqa: PLC0415 - imports as in cli

    known = found[1].split(", ")
    values = typed if isinstance(typed, (list, tuple)) else [typed]
    meant = "".join(suggest(str(value), known) for value in values if value not in known)
    return f"{meant.strip()} {hint}".lstrip()


def _translate_text(text: str, given: Mapping[str, object]) -> str:
    if text in TEXTS:
        return TEXTS[text]
    for sentence, words in TEXTS.items():
        text = text.replace(sentence, words)
    text = _UNMISTAKABLE.sub(lambda found: find_argument(found[1], given) or found[0], text)
    return _QUOTED.sub(lambda found: find_argument(found[1], given) or found[0], text).replace("=true", "")
