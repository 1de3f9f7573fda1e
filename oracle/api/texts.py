"""Texts of the API, and of `oracle.identifiers`, in the language of a caller: what is wrong with what they sent, and
why something is as it is.

Those texts are English sentences with values in them.  A catalogue has each as a message, with a {place} for each
value; a text is matched against them, and its values are put into the translation once, as they are.  A text that is
in no catalogue stays English.

    TEXTS          of identifiers and of rows of files, and of all that is made of parts
    problems.po    of problems and of answers: `problem_texts` finds them in the sources

Only those places take a value that is a text itself (`_PLACES_OF_TEXTS`): an FSP whose id is `text` keeps its name.
Nothing is stored in a language: what is kept (results of files, answers of an Idempotency-Key) is translated when it
is read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache, lru_cache
from typing import Any, Final, NamedTuple

from oracle.api.languages import SOURCE, Lazy, _, language, lazy, read_catalogs, write_digits
from oracle.api.naming import BATCH_STATES, DECISIONS, join_label, name_person, name_roles
from oracle.api.reasons import REASONS

LENGTH_MAX: Final = 1024  # of a text that is matched against forms
TEXTS: Final[tuple[Lazy, ...]] = (
    # The rules of identifiers: `oracle.identifiers.errors.EXPLANATIONS`.
    lazy("these digits can be two numbers, with this country too; write + and the calling code"),
    lazy("these digits are a number at home and another one abroad; write + and the calling code, or name the country"),
    lazy("several townships have this Latin spelling; use Burmese letters"),
    lazy("the check digit is wrong"),
    lazy("the check digits are wrong"),
    lazy("the number of characters is wrong"),
    lazy("the number must have exactly six digits"),
    lazy("the state must be 1 to 14, without a leading zero"),
    lazy("it does not have the form of this kind of identifier"),
    lazy("the township must be three letters that townships have"),
    lazy("the citizenship type must be one of N E P T Y S"),
    lazy("no bank has the code 000"),
    lazy("no identifier begins with it"),
    lazy("the check digits must be 02 to 98"),
    lazy("this country has no identifiers of this kind; correct the country or leave it out"),
    lazy("this country has no such account numbers"),
    lazy("a slash has cut one registration card in two: its state, and a SubId; write it with hyphens"),
    lazy("it ends like a decimal number; write its digits alone"),
    lazy("00 is dialled for calls abroad and is no part of the number; write + in its place"),
    lazy("it is empty"),
    lazy("it contains a character that is not allowed"),
    lazy("it is longer than 128 characters"),
    lazy("it is not a valid number in its country"),
    lazy("it starts with 0, but no calling code does"),
    lazy("the citizenship type is missing"),
    lazy("it mixes Burmese digits with the digits 0 to 9"),
    lazy("it contains the prefix for calls within the country; identifiers are written without it"),
    lazy("it looks like a national number; write + and the calling code, or name its country and write no +"),
    lazy("only the digits 0 to 9 are allowed"),
    lazy("it must be text"),
    lazy("only one plus sign is allowed, at the beginning"),
    lazy("it has a separator too many; write 12/OUKAMA(N)123456 or 12-OUKAMA-N-123456"),
    lazy("it is empty; leave it out instead"),
    lazy("it must be in Unicode normalisation form C"),
    lazy("write the number without tel in front of it"),
    lazy("it is too long for this kind of identifier"),
    lazy("it is too short for this kind of identifier"),
    lazy("the country is not a two-letter ISO 3166 code such as MX or GB (not UK)"),
    lazy("this kind of identifier is not known"),
    lazy("no township of this state has this Latin spelling; use Burmese letters"),
    # What was found in an identifier: `Scheme.describe_fault`.
    lazy("character {n} is {found}, and a digit is needed"),
    lazy("character {n} is {found}, and a letter is needed"),
    lazy("character {n} is {found}, and a letter or a digit is needed"),
    lazy("character {n} is {found}, and only letters and digits are allowed"),
    lazy("character {n} is {found}, and it is not allowed"),
    lazy("character {n} is {found}, and it is not allowed before the @"),
    lazy("character {n} is {found}, and it is not allowed after the @"),
    lazy("character {n} is {found}, and it is allowed at the beginning only"),
    lazy("a space"),
    lazy("a tab"),
    lazy("a line break"),
    lazy("an apostrophe"),
    lazy("it has {n} characters, and at most {most} are allowed"),
    lazy("it has {n} characters, and one of {country} has {needed}"),
    lazy("it has {n} digit, and {needed} are needed"),
    lazy("it has {n} digits, and {needed} are needed"),
    lazy("it has {n} digit, and {needed} are needed with the calling code"),
    lazy("it has {n} digits, and {needed} are needed with the calling code"),
    lazy("it has {n} digits, and numbers of {country} have {needed}"),
    lazy("{n} digits follow the calling code {code}, and numbers of {country} have {needed}"),
    lazy("the number of digits is right, but no number of {country} begins like this one"),
    lazy(
        "it has {n} digits and looks like a national number; write + and the calling code, or name its country and"
        " write no +"
    ),
    lazy("the last digit is the check digit: it is {found}, and {needed} is needed for the other 17"),
    lazy("the check digits, characters 3 and 4, are {found}, and {needed} is needed for the rest"),
    lazy("the check digits, characters 3 and 4, are {found}, and they must be 02 to 98"),
    lazy("it begins with {found}, and no country with this code has such account numbers"),
    lazy("it must begin with the two letters of a country, such as GB"),
    lazy("the country is {country}, and the IBAN is of {found}"),
    lazy("the country is {country}, and every {kind} is of {issuer}"),
    lazy("it has {n} signs @, and one is needed"),
    lazy("it has no @"),
    lazy("something is missing before the @"),
    lazy("something is missing after the @"),
    lazy("it must end with a dot and at least two letters, such as .mx"),
    lazy("it is nothing but a dot or two"),
    lazy("the state is {found}, and it must be 1 to 14, without a leading zero"),
    lazy("the number has {n} digit, and six are needed"),
    lazy("the number has {n} digits, and six are needed"),
    lazy("the citizenship type is {found}, and it must be one of N E P T Y S"),
    lazy("no township of state {state} has the Latin spelling that is written here; use Burmese letters"),
    lazy("more than one township of state {state} has the Latin spelling that is written here; use Burmese letters"),
    lazy("it must have a state, a township, a type and six digits, as 12-OUKAMA-N-123456 has"),
    # What to do about a row of a file: `oracle.imports.refusals`.
    lazy("The country belongs in the column country"),
    lazy("Check the digits; one can be wrong or missing"),
    lazy("Check the digits: one is wrong, or two are swapped"),
    lazy("Check the account number: at least one character is wrong"),
    # What is wrong with a row of a file, and what to do, sentence by sentence: `oracle.imports.refusals`.
    lazy("The kind has {n} character and is not known"),
    lazy("The kind has {n} characters and is not known"),
    lazy("{word} is not a kind"),
    lazy("(did you mean {word}?)"),
    lazy("The action has {n} character and is not known"),
    lazy("The action has {n} characters and is not known"),
    lazy("No currency has the code {code}"),
    lazy("No country has the code {code}"),
    lazy("The currency has {n} character, and three letters are needed"),
    lazy("The currency has {n} characters, and three letters are needed"),
    lazy("The country has {n} character, and two letters are needed"),
    lazy("The country has {n} characters, and two letters are needed"),
    lazy("Character {n} of the {column} is {found}, and a letter from A to Z is needed"),
    lazy("This FSP cannot register {kind}, only {kinds}"),
    lazy("The column {column} has a mark of a missing value (such as nan, NULL or N/A)"),
    lazy("The {column} begins with {found}, as a formula does"),
    lazy("The last {n} digits are 0: spreadsheets keep only 15 digits of a number"),
    lazy("The CLABE has {n} digits, and 18 are needed: a zero is lost in front"),
    lazy("The CLABE has {n} digits, and 18 are needed: two zeros are lost in front"),
    lazy("A spreadsheet changed the value into a decimal number: character {n} of the {column} is {found}"),
    lazy(
        "A spreadsheet changed the value into a rounded number, so digits are lost: character {n} of the"
        " {column} is {found}"
    ),
    lazy("The value is written with thousands separators: character {n} of the {column} is {found}"),
    lazy("The row ends after {n} cell, and the column {column} is number {number}"),
    lazy("The row ends after {n} cells, and the column {column} is number {number}"),
    lazy("Format the column as text, enter the values again, and save the file"),
    lazy("Write the value itself"),
    lazy("The identifier is missing"),
    lazy("The kind is missing"),
    lazy("Fill it in, or delete the row"),
    lazy("Write MSISDN, for example"),
    lazy("Leave the field empty"),
    lazy("If the identifier or the kind is missing, fill it in or delete the row"),
    lazy("Save the file as CSV UTF-8"),
    lazy("Write one of {kinds}"),
    lazy("Write add, replace or remove, or leave it empty for add"),
    lazy("Write an ISO 4217 code such as MXN, or leave it empty"),
    lazy("Write MXN, for example, or leave it empty"),
    lazy("Write MX or GB (not UK), for example, or leave it empty"),
    lazy("Ask the operator of the hub to allow it"),
    lazy("Check the digits; one can be wrong or missing"),
    lazy("Check the digits: one is wrong, or two are swapped"),
    lazy("Check the account number: at least one character is wrong"),
    lazy("The country belongs in the column country"),
    lazy("Another FSP has registered the identifier"),
    lazy("The customer must first ask that FSP to remove it"),
    lazy("This FSP has not registered this identifier with this sub_id and currency"),
    lazy("The row ends after {n} cell, and this last row has no line break at its end, so all {number} are needed"),
    lazy("The row ends after {n} cells, and this last row has no line break at its end, so all {number} are needed"),
    lazy("The name {name} in the object is not known"),
    lazy("The name in the object is not known"),
    lazy("The {column} has {n} characters, and at most {most} are allowed"),
    lazy("The {column} is {found}, and text is needed"),
    lazy("The line is {found}, and a JSON object is needed"),
    lazy("Character {n} of the line is a NUL character"),
    lazy("Character {n} of cell {cell} is a NUL character"),
    lazy("Character {n} of the line was lost in an earlier conversion"),
    lazy("Character {n} of cell {cell} was lost in an earlier conversion"),
    lazy("Character {n} of the line is not UTF-8"),
    lazy("Character {n} of cell {cell} is not UTF-8"),
    lazy("Column {n} ({name}) is not known"),
    lazy("Column {n} (without a known name) is not known"),
    lazy("A spreadsheet changed the value into a decimal number"),
    lazy("(did you mean {word} or {other}?)"),
    lazy("nothing"),
    # Why ALS cannot be reached: `oracle.registration.als_admin`.
    lazy("ALS answered with status {status}"),
    lazy("ALS answered with status {status} and error {code}"),
    lazy("its URL cannot be called"),
    lazy("too many calls to it failed a moment ago"),
    lazy("no connection can be made"),
    lazy("it did not answer in time"),
    lazy("the connection ended, or the answer is not HTTP"),
    # Who takes over from whom: `oracle.api.admin.routes`.
    lazy("Identifiers that begin with {prefix} stay with {fsp}: the longest prefix wins"),
    lazy("{kind} identifiers that begin with {prefix} stay with {fsp}: the longest prefix wins"),
    lazy("Identifiers that begin with {prefix} stay with {fsp}: the narrower kind wins"),
    lazy("{kind} identifiers that begin with {prefix} stay with {fsp}: the narrower kind wins"),
    lazy(
        "Identifiers that begin with {prefix} go to {fsp} instead of {other}; the other identifiers of {shorter} stay"
    ),
    lazy(
        "{kind} identifiers that begin with {prefix} go to {fsp} instead of {other}; the other identifiers of"
        " {shorter} stay"
    ),
    # Why an FSP does not answer: values of other texts.
    lazy("suspended"),
    lazy("closed"),
    lazy("unknown"),
    # What is wrong with a public key: `oracle.api.dfsp.signatures`.
    lazy("It is not a public key in PEM"),
    lazy("It has {n} keys: an FSP can have {most}"),
    lazy("It holds a private key: only its FSP can have it; write the public key here"),
    lazy("It is not an RSA key, and {algorithm} needs one"),
    lazy("The key has {n} bits: use one of at least {least}"),
    # Which part of the sealed log can be exported: `oracle.audit.export`.
    lazy("No event is sealed yet: try again in a second, while `oracle serve` runs"),
    lazy("The log has {size} leaves: choose a range within them"),
    lazy("The older checkpoint has {since} leaves, the log only {size}: run `oracle audit verify`"),
    # Where a client is refused that has too much open: `oracle.api.admin.early_refusals`.
    lazy("Too many connections or requests are open"),
    lazy("Close some of them, or try again in a moment"),
    lazy("Sign in again"),
    # What is wrong with the URL of an endpoint: `oracle.scheme.urls`.
    lazy("The URL has a space or a character that is not ASCII; percent-encode it"),
    lazy("The URL has a fragment (#)"),
    lazy("The URL must begin with http:// or https://"),
    lazy("The URL is longer than {n} characters"),
    lazy("The base URL has a query (?); give the URL without it"),
    lazy("The base URL ends with a slash; give it without"),
    lazy("The URL has a user or a password; give it without"),
    lazy("The host of the URL has a placeholder; only its path and query can have one"),
    lazy("The host of the URL is not an address or a host name"),
    lazy("The port of the URL must be between 1 and 65535"),
    lazy("The URL has a placeholder that is not known here; allowed: {allowed}"),
    lazy("The URL has a character that is not allowed, or a % that is not followed by two hex digits"),
    lazy("The path of the URL has a segment . or ..; give the URL without it"),
    # What is wrong with any field.
    lazy("Not a valid time; use RFC 3339, for example 2026-11-28T10:00:00Z"),
    lazy("Use a year from {first} to {last}"),
    lazy("Expected 3 letters A to Z"),
    lazy("Expected 2 letters A to Z"),
    lazy("Expected text of at most {n} characters"),
    lazy("Expected text of at least {n} character"),
    lazy("It is missing: add it"),
    lazy("Write an ISO 4217 code such as MXN"),
    lazy("No such currency"),
    lazy("Expected one of {allowed}"),
    lazy("Its value is not one of those allowed"),
    lazy("It is missing: send an object in JSON, at least {}"),
    lazy("It has a member that is not known: remove it, or correct its name"),
    lazy("Expected {needed}, got {found}"),
    lazy("Expected {needed} of at most {n}"),
    lazy("Expected {needed} of at least {n}"),
    lazy("Expected text of at least {n} characters"),
    lazy("Expected a list of at most {n} items"),
    lazy("Expected a list of at least {n} item"),
    lazy("a list"),
    lazy("true or false"),
    lazy("a number"),
    lazy("a whole number"),
    lazy("an object"),
    lazy("text"),
    lazy("text or null"),
    lazy("unfinished files"),
    lazy("waiting changes"),
    lazy("its answer held a key, which is kept for nobody who came in without a key"),
    lazy("its answer was too long to keep"),
    lazy("its answer is not kept any more"),
    lazy("its answer can no longer be decrypted"),
)
_PLACE: Final = re.compile(r"\{(\w+)\}")
# Numbers of digits, as values: "7 to 15", "7, 8 or 10".
_FROM_TO: Final = re.compile(r"(?P<least>\d+) to (?P<most>\d+)")
_ONE_OF: Final = re.compile(r"(?P<some>\d+(?:, \d+)*) or (?P<last>\d+)")
_COUNTS: Final = ((_FROM_TO, lazy("{least} to {most}")), (_ONE_OF, lazy("{some} or {last}")))
# The members that are wrong, in a hint: `fspId: It is missing: add it; kinds: …`.
_ITEM: Final = re.compile(
    r"(?:^|(?<=; ))(the body|[A-Za-z][\w.\[\]…-]*): (.+?)(?=; (?:the body|[A-Za-z][\w.\[\]…-]*): |$)", re.DOTALL
)
_OF_IDENTIFIER: Final = re.compile(r"([A-Z][A-Z_]+|SubId)( prefix)?: (.+)", re.DOTALL)
_ENDS: Final = {"my": "\u104b"}  # of sentences; a dot elsewhere
_SENTENCES: Final = re.compile(r"\. (?=[A-Z])")
_REASON: Final = re.compile(r" \([a-z_0-9]+\)$")  # for programs, behind what was found in an identifier
_SUGGESTION: Final = re.compile(r"(.+) (\(did you mean .+\?\))", re.DOTALL)
_PLACES_OF_TEXTS: Final = frozenset({
    "needed", "found", "of", "why", "reason", "damage", "form", "meant", "status_hint", "kinds", "status", "remedy",
    "program",
})  # fmt: skip
# Places whose codes have names, in the texts that have these places.
_NAMED: Final[Mapping[str, Callable[[str], str]]] = {
    "role": name_roles,
    "able": name_roles,
    "state": lambda code: str(BATCH_STATES.get(code, code)),
    "state_2": lambda code: str(DECISIONS.get(code, code)),
    "servers": lambda text: "; ".join(_translate_whole(part) or part for part in text.split("; ")),
}


_COUNTED: Final = frozenset({"n", "most", "needed", "number"})


class _Form(NamedTuple):
    message: str
    pattern: re.Pattern[str]


@cache
def _list_forms() -> tuple[frozenset[str], list[_Form]]:
    """List the texts without values, and the forms of the others: those with the most words of their own first."""
    problems = read_catalogs("es").get("problems", ())
    messages = {each.message for each in (*TEXTS, *REASONS)} | {str(each.id) for each in problems if each.id}
    forms = sorted(filter(_PLACE.search, messages), key=lambda message: (-len(_PLACE.sub("", message)), message))
    return frozenset(messages) - frozenset(forms), [_Form(each, _make_pattern(each)) for each in forms]


def _make_pattern(message: str) -> re.Pattern[str]:
    words = _PLACE.split(message)  # in turn: words, the name of a place
    return re.compile(
        "".join(f"(?P<{part}>.+?)" if at % 2 else re.escape(part) for at, part in enumerate(words)), re.DOTALL
    )


def find_message(text: str) -> str | None:
    """Find the message that a text was made of; None: it is not known."""
    whole, forms = _list_forms()
    if text in whole:
        return text
    return next((form.message for form in forms if form.pattern.fullmatch(text)), None)


def translate(text: str) -> str:
    """Return a text of the API in the language of the person; its English, if it is not known."""
    if language.get() == SOURCE or not text or len(text) > LENGTH_MAX:
        return text
    return _translate_in(language.get(), text)


@lru_cache(4_096)  # ten million rows of a file share few texts; a text holds no identifier
def _translate_in(_language: str, text: str) -> str:
    if text in _list_forms()[0]:
        return _(text)
    if sentences := _translate_sentences(text):
        return sentences
    if items := _ITEM.findall(text):
        return "; ".join(join_label(name, _translate_whole(reason) or reason) for name, reason in items)
    return _translate_whole(text) or text


def join_sentences(parts: Iterable[str]) -> str:
    end = _ENDS.get(language.get(), ".")
    return f"{end} ".join(part.removesuffix(end) for part in parts) + end


def _translate_whole(text: str) -> str | None:
    whole, forms = _list_forms()
    if text in whole:
        return _(text)
    for form in forms:
        if found := form.pattern.fullmatch(text):
            values = {name: _translate_value(name, value, whole) for name, value in found.groupdict().items()}
            if (
                "n" in values
            ):  # beside it, what is needed is a number as well; elsewhere it can be a digit of an identifier
                values |= {name: write_digits(values[name]) for name in _COUNTED & values.keys()}
            if "state_2" in values:
                values["name"] = name_person(values["name"])
            return fill(_(form.message), values)
    return None


def _translate_value(place: str, value: str, whole: frozenset[str]) -> str:
    """Translate a value that can be a text, says how many, or is a code with a name; others stay as they are."""
    if place in _NAMED:
        return _NAMED[place](value)
    if place not in _PLACES_OF_TEXTS:
        return value
    for pattern, message in _COUNTS:
        if found := pattern.fullmatch(value):
            return fill(str(message), {name: write_digits(text) for name, text in found.groupdict().items()})
    return _(value) if value in whole else value


def fill(text: str, values: Mapping[str, str]) -> str:
    return _PLACE.sub(lambda place: values[place[1]], text)


def _translate_sentences(text: str) -> str | None:
    """Translate a text sentence by sentence; None: one of them is not known.

    A place at the end of a form would take all sentences behind its own.
    """
    sentences = [_translate_sentence(each) for each in _SENTENCES.split(text.removesuffix("."))]
    if None in sentences:
        return None
    whole = join_sentences(map(str, sentences))
    return whole if text.endswith(".") else whole.removesuffix(_ENDS.get(language.get(), "."))


def _translate_sentence(text: str) -> str | None:
    """Translate a sentence, perhaps about an identifier, or with the reason for programs, or with a suggestion."""
    if named := _OF_IDENTIFIER.fullmatch(text):
        kind, is_prefix, reason = named.groups()
        subject = _PLACE.sub(lambda _place: kind, _("{kind} prefix")) if is_prefix else kind
        translated = _translate_sentence(reason)
        return None if translated is None else join_label(subject, translated)
    plain = _REASON.sub("", text)
    if suggestion := _SUGGESTION.fullmatch(plain):
        parts = [_translate_whole(part) for part in suggestion.groups()]
        return None if None in parts else " ".join(map(str, parts))
    return _translate_whole(plain)


def translate_problem(problem: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members of a problem with the texts in the language of the caller."""
    return {
        name: translate(value) if name in ("title", "detail", "hint") and isinstance(value, str) else value
        for name, value in problem.items()
    }
