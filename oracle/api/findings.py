"""What a verification found, in the language of a person.

`oracle.audit.verify` and `oracle.audit.directory` write it in English, and it is kept so.

These texts hold values of the database, which somebody may have written to deceive.  So they have forms of their own
and are matched whole: a value is put in as it is, and no text of the API is looked for in it.
Places.   {event} and the like are numbers.  {batch}, {fault}, {place}, {found} and {past} can have forms of their own.
Events.   `split_events` finds the events that a text names, in any language: they become links.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Final, NamedTuple

from oracle.api.languages import SOURCE, Lazy, _, language, lazy
from oracle.api.texts import fill

LENGTH_MAX: Final = 4_096  # a longer text stays English
EVENT: Final = lazy("event {event}")
FORMS: Final[tuple[Lazy, ...]] = (
    # The history.
    lazy("{table} differs from the migrations: others may see other events"),
    lazy("the log has {leaves} leaves and no key"),
    lazy("number {number} is not introduced by a trusted key"),
    lazy("number {number} is a duplicate, or has another spelling than it was given"),
    lazy("number {number} does not begin where the era before it ends"),
    lazy("leaves {first} to {last} are in no batch"),
    lazy("{batch} is longer than any batch that a sealer makes"),
    lazy("{batch} belongs to an unknown era"),
    lazy("{batch} overlaps the batch before it"),
    lazy("{batch} ends before the batch before it"),
    lazy("{batch}, names {event_id} as its largest event, which is wrong"),
    lazy("{count} more events were not sealed, {batch}"),
    lazy("{count} more events were not sealed with their era"),
    lazy("some of the leaves before {leaf} are missing"),
    lazy("the leaves before {leaf} do not lead to the root that was signed for them"),
    lazy("leaves up to {last} do not lead to the signed root, those up to {right} do: {batch}"),
    lazy("of {leaves} leaves is missing: {batch}"),
    lazy("of {leaves} leaves: {batch} does not end there"),
    lazy("of {leaves} leaves: the note differs from the stored size or root: {batch}"),
    lazy("of {leaves} leaves: {fault}: {batch}"),
    lazy("of {leaves} leaves: the log ends with {size} leaves"),
    lazy("of leaf {leaf} differs from what was sealed, {batch}"),
    lazy("of tile level {level}, place {number} does not follow from its leaves"),
    lazy("of tile level {level}, place {number}: the log ends with {size} leaves"),
    lazy("event {event} differs from what was sealed as leaf {leaf}, {batch}"),
    lazy("the event of leaf {leaf} is missing, {batch}"),
    lazy("the event of leaf {leaf} is missing (after event {event}), {batch}"),
    lazy("the event of leaf {leaf} is missing (before event {event}), {batch}"),
    lazy("the event of leaf {leaf} is missing (after event {event}, before event {event_2}), {batch}"),
    lazy("event {event} was not sealed, {batch}"),
    lazy("event {event} was sealed as leaf {leaf}, but is now in another place, {batch}"),
    lazy("event {event} was not sealed with its era"),
    lazy("event {event} belongs to a transaction that never ran"),
    lazy("event {event} is in the table, but the order of sealing does not reach it"),
    lazy("events has {count} rows, but the order of sealing reaches {size}"),
    lazy("the oldest unsealed event has waited {seconds} s: see the log of the jobs process"),
    lazy("the one that you kept: {fault}"),
    lazy("{count} leaves were signed, but this log has only {size}"),
    lazy("the log does not extend the checkpoint of {leaves} leaves"),
    # The directory.
    lazy("{table} differs from the migrations: others may see other rows"),
    lazy("{table} has a trigger that no migration made: {trigger}"),
    lazy("{table} has no trigger that writes its events ({trigger}), or it is switched off"),
    lazy("{place}: the directory has {found}, but no event registered it"),
    lazy("{place}: the directory has {found}, but its events have nothing (the last is event {event})"),
    lazy("{place}: the directory has {found}, but its events have {past} (event {event})"),
    lazy("{place}: the directory has {found}, but its events have {past} (no event changed it)"),
    lazy("{place}: the directory has nothing, but its events have {past} (event {event})"),
    lazy("{place}: the directory has nothing, but its events have {past} (no event changed it)"),
    lazy("{place}: the directory has {found}, but its events have nothing (event {event})"),
    lazy("{place}: the directory has {found}, but its events have nothing (no event changed it)"),
    lazy("{place}: its events do not describe entries"),
    lazy("{place}: event {event} does not describe an entry"),
    lazy("{place}: event {event} does not describe a {entity}"),
    lazy("{place}: it is in the directory, but no event made it"),
    lazy("{place}: it is not in the directory, but event {event} made it"),
)
BATCHES: Final = (lazy("batch {first} to {last}, sealed {time}"),)
# What is wrong with a key, a note or a checkpoint: `oracle.verifier.checkpoint`.
FAULTS: Final = (
    lazy("the key does not match its id"),
    lazy("not a public key"),
    lazy("not base64"),
    lazy("not a signed note"),
    lazy("a note cannot have control characters"),
    lazy("a note cannot have more than {count} signatures"),
    lazy("the signature does not match the key that it names"),
    lazy("not a signature line"),
    lazy("not a checkpoint"),
    lazy("the log has none of the keys that you trust"),
    lazy("this checkpoint belongs to another log"),
    lazy("the key that must sign at this size is not trusted"),
    lazy("not signed by the key that must sign at this size"),
    lazy("no key of the log signs at this size"),
)
# A place of the directory, if it is more than a key and the name of a column, which stay as they are.
PLACES: Final = (
    lazy("{alias}, SubId {sub_id}, further currency {currency}"),
    lazy("{alias}, SubId {sub_id}"),
    lazy("{alias}, further currency {currency}"),
    lazy("{number}, prefix {prefix}"),
    lazy("{key}, made at {time}, ends never"),
    lazy("{key}, made at {time}, ends {end}"),
)
# What the directory has for an alias, which a place of the others could look like.
ENTRIES: Final = (lazy("{fsp} for {currency} as a hint"), lazy("{fsp} for {currency}"), lazy("{fsp} as a hint"))
_PLACE: Final = re.compile(r"\{(\w+)\}")
_NUMBER: Final = r"-?\d+"
_ALIAS: Final = re.compile(r"[A-Z][A-Z_]* ")
_PATTERNS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("count", "event", "event_2", "event_id", "first", "last", "leaf", "leaves", "level", "number",
                     "right", "seconds", "size"), _NUMBER),
    "alias": rf"{_ALIAS.pattern}.+?",
    "batch": rf"batch {_NUMBER} to {_NUMBER}, sealed \S+",
    "currency": r"[A-Z]{3}",
    "fsp": r"[^\s,]+",
    "place": r"(?:(?!: ).)*",  # what follows can be a text that somebody wrote to look like ours
    "table": r"[\w.\"]+",
    "time": r"\S+",
}  # fmt: skip


class _Form(NamedTuple):
    message: str
    pattern: re.Pattern[str]
    pieces: tuple[str, ...]  # its own words, in turn: most texts lack one


@cache
def _compile(forms: tuple[Lazy, ...]) -> list[_Form]:
    """Compile the forms, those with the most words of their own first."""
    found = []
    for message in sorted((each.message for each in forms), key=lambda text: -len(_PLACE.sub("", text))):
        parts = _PLACE.split(message)  # in turn: words, the name of a place
        pattern = "".join(f"(?P<{part}>{_PATTERNS.get(part, '.*?')})" if at % 2 else re.escape(part)
                          for at, part in enumerate(parts))  # fmt: skip
        found.append(_Form(message, re.compile(pattern, re.DOTALL), tuple(filter(None, parts[::2]))))
    return found


def translate_finding(text: str) -> str:
    """Return what was found in the language of the person; its English, if it is not known."""
    if language.get() == SOURCE or len(text) > LENGTH_MAX:
        return text
    return _translate(text, (*FORMS, *FAULTS)) or text


def _translate(text: str, forms: tuple[Lazy, ...]) -> str | None:
    for form in _compile(forms):
        if all(piece in text for piece in form.pieces) and (found := form.pattern.fullmatch(text)):
            values = found.groupdict()
            is_alias = _ALIAS.match(values.get("place", "")) is not None
            of_place = {"batch": BATCHES, "fault": FAULTS, "place": PLACES}
            of_place |= {"found": ENTRIES, "past": ENTRIES} if is_alias else {}
            inner = {name: _translate(values[name], forms) for name, forms in of_place.items() if name in values}
            return fill(_(form.message), {**values, **{name: text for name, text in inner.items() if text is not None}})
    return None


def split_events(text: str, numbers: Sequence[int]) -> list[tuple[str, int | None]]:
    """Split a text in the language of the person into its parts, each with the number of the event that it names."""
    words = re.escape(str(EVENT)).replace(re.escape("{event}"), r"\d{1,18}")
    parts = re.split(f"({words})(?!\\d)", text, flags=re.IGNORECASE)
    found = ((part, int(re.sub(r"\D", "", part)) if at % 2 else None) for at, part in enumerate(parts) if part)
    return [(part, number if number in numbers else None) for part, number in found]
