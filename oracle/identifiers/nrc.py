"""Myanmar national registration card (NRC): state, township, citizenship type, number, as in
၁၂/ဥကမ(နိုင်)၁၂၃၄၅၆ or 12/OUKAMA(N)123456.

Grammar.  State 1..14 without leading zero, three Burmese letters (see `townships`), a type, exactly six
digits.  There is no check digit, and no government specification was found: this is what seven open-source
libraries agree on.
Types: N နိုင်, E ဧည့်, P ပြု, T သာသနာ, Y ယာယီ, S စ; C is read as N.

Canonical form.  `{state}-{letters}-{type}-{number}`, the letters as the low bytes of their code points in
upper-case hex: 12-250019-N-123456 is 12/ဥကမ(နိုင်)123456.  It needs no table, survives a URL, and always
holds a digit where a Latin spelling has none.

Read.  Canonical (any case), Latin or Burmese; fields separated by slash, backslash, hyphen, brackets or
nothing, spaces anywhere; Burmese or ASCII digits, not both in one field.
Folded.  U+1009 to U+1025; the letter ဝ and the digit ၀, which look alike, by position; a type with swapped
vowels or in Zawgyi, by a table.  Letters and digits have the same code points in Zawgyi and Unicode, so the
encoding of nothing else matters.  Burmese letters and hex can name a township in no list; Latin must name
exactly one in the lists.

Zambia has another document called NRC (123456/78/9): the country decides which parser to use, never that
word.
"""

import re
import string
import unicodedata
from itertools import product
from typing import Final, Self

from oracle.identifiers import townships
from oracle.identifiers.characters import LENGTH_MAX, is_allowed, name_character, screen
from oracle.identifiers.errors import BadIdentifier, Reason
from oracle.identifiers.scheme import Choices, Display, PartyIdType, Sample, Scheme
from oracle.identifiers.townships import Township

NUMBER_DIGITS: Final = 6
CUT_MAX: Final = LENGTH_MAX - len("14/")  # of what follows the state

TYPES: Final = {
    "N": "နိုင်",
    "E": "ဧည့်",
    "P": "ပြု",
    "T": "သာသနာ",
    "Y": "ယာယီ",
    "S": "စ",
}

# How the Burmese words are written, a set of characters for each place.  Zawgyi has other code points than Unicode for
# the asat, for a short na, for the dot below and for a long u, and writes the ra before its letter, in eight widths.
_ASAT: Final = "\u103a\u1039"
_NA: Final = "\u1014\u108f"
_U: Final = "\u102f\u1033"
_NNYA: Final = "\u100a\u106b\u1025"  # U+1025 is what `_FOLDED` makes of U+1009, which is often written here
_DOT: Final = "\u1037\u1094\u1095"
_AA: Final = "\u102c\u102b"
_ZAWGYI_RA: Final = "\u103b\u107e\u107f\u1080\u1081\u1082\u1083\u1084"
_WRITTEN_TYPES: Final = (
    ("N", (_NA, "\u102d", _U, "\u1004", _ASAT)),
    ("N", (_NA, _U, "\u102d", "\u1004", _ASAT)),  # i and u swapped: normalisation keeps the order of these two
    ("E", ("\u1027", _NNYA, _DOT, _ASAT)),
    ("E", ("\u1027", _NNYA, _ASAT, _DOT)),
    ("P", ("\u1015", "\u103c", _U)),
    ("P", ("\u1015", _U, "\u103c")),
    ("P", (_ZAWGYI_RA, "\u1015", _U)),
    ("T", ("\u101e", _AA, "\u101e", _NA, _AA)),
    ("T", ("\u101e", _AA)),
    ("Y", ("\u101a", _AA, "\u101a", "\u102e")),
    ("S", ("\u1005",)),
)
_TYPE_WORDS: Final = {
    **{letter: letter for letter in TYPES},
    "NAING": "N",
    "C": "N",
    "PYU": "P",
    **{
        unicodedata.normalize("NFC", "".join(word)): letter
        for letter, places in _WRITTEN_TYPES
        for word in product(*places)
    },
}

# Low bytes of the letters that a township can have: U+1000..1021 without U+1009, and U+1025.
_LETTER_BYTE: Final = "(?:[01][0-9A-F]|2[015])"
_canonical: Final = re.compile(
    rf"(?P<state>[1-9]|1[0-4])-(?P<town>(?:(?!09){_LETTER_BYTE}){{3}})-(?P<type>[NEPTYS])-(?P<number>[0-9]{{6}})"
).fullmatch

# Removes spaces, raises ASCII letters (str.upper would change others, too), and folds the look-alike.
_FOLDED: Final = str.maketrans(string.ascii_lowercase + "\u1009", string.ascii_uppercase + "\u1025", " ")
_BURMESE_DIGITS: Final = "၀၁၂၃၄၅၆၇၈၉"
_TO_ASCII_DIGITS: Final = str.maketrans(_BURMESE_DIGITS + "ဝ", "01234567890")
_TO_BURMESE_DIGITS: Final = str.maketrans("0123456789", _BURMESE_DIGITS)

_ASCII_DIGIT: Final = "[0-9]"
_BURMESE_DIGIT: Final = "[၀-၉ဝ]"
_DIGIT: Final = "[0-9၀-၉ဝ]"
_BURMESE_TYPES: Final = "|".join("".join(f"[{place}]" for place in places) for _, places in _WRITTEN_TYPES)
_TYPE: Final = f"NAING|PYU|[NEPTYSC]|{_BURMESE_TYPES}"
_APART: Final = r"[/\\-]"
_FIELD: Final = r"[^/\\()\[\]-]*"

# A whole NRC.  A run of Latin letters ends with the type: no type is the end of another one.
_whole: Final = re.compile(
    rf"(?P<state>{_ASCII_DIGIT}{{1,2}}|{_BURMESE_DIGIT}{{1,2}}){_APART}?"
    rf"(?P<town>[A-Z]{{3,}}?|[0-9A-F]{{6}}|[က-အဥ၀]{{3}})"
    rf"(?:\((?P<round>{_TYPE})\)|\[(?P<square>{_TYPE})\]|{_APART}?(?P<bare>{_TYPE}){_APART}?)"
    rf"(?P<number>{_ASCII_DIGIT}{{6}}|{_BURMESE_DIGIT}{{6}})"
).fullmatch

# Four separated fields with any content: used to report which is wrong.
_fields: Final = re.compile(
    rf"(?P<state>{_DIGIT}{{1,2}}){_APART}(?P<town>{_FIELD})"
    rf"(?:{_APART}?\((?P<round>{_FIELD})\){_APART}?|{_APART}?\[(?P<square>{_FIELD})\]{_APART}?|{_APART}(?P<bare>{_FIELD}){_APART})"
    rf"(?P<number>{_FIELD})"
).fullmatch

_set_apart: Final = re.compile(r"[/\\()\[\]-]").search
_separators: Final = re.compile(r"[/\\()\[\]-]+")
_begins_in_burmese: Final = re.compile(rf"{_DIGIT}{{1,2}}[က-အဥ]").match
_latin: Final = re.compile(r"[A-Z]+").fullmatch
_hex: Final = re.compile(r"[0-9A-F]{6}").fullmatch
_letter_bytes: Final = re.compile(rf"(?:(?!09){_LETTER_BYTE}){{3}}").fullmatch
_burmese_letters: Final = re.compile(r"[က-အဥ၀]{3}").fullmatch
_digits: Final = re.compile(rf"{_DIGIT}*").fullmatch
_one_script: Final = re.compile(rf"{_ASCII_DIGIT}*|{_BURMESE_DIGIT}*").fullmatch
_state: Final = re.compile(r"[1-9]|1[0-4]").fullmatch


_cut_state: Final = re.compile(r"[1-9]|1[0-4]|[၁-၉]|၁[၀ဝ၁-၄]").fullmatch
_prefix: Final = re.compile(
    r"(?:[1-9]|1[0-4])-(?:(?:(?!09)(?:[01][0-9A-F]|2[015])){3}-(?:[NEPTYS]-[0-9]{0,5})?)?"
).fullmatch
_PREFIX_TO_ASCII: Final = str.maketrans(_BURMESE_DIGITS, "0123456789")  # without ဝ: a township can begin with it
_prefix_state: Final = re.compile(r"([1-9]|1[0-4])[/\\-]?").fullmatch
_prefix_number: Final = re.compile(r"[0-9၀-၉]*\Z").search


class Nrc(Scheme):
    kind = "NRC"
    party_id_type = PartyIdType.PERSONAL_ID
    sub_ids = frozenset({"NATIONAL_REGISTRATION", "NATIONAL_ID_CARD", "NRC"})
    country: str | None = "MM"
    issuer: str | None = "MM"
    is_recognised = True
    samples: tuple[Sample, ...] = (Sample("12/OUKAMA(N)123456"),)
    prefix_form = "state, township, type and digits, as many of them as you need: 12/, 12/OUKAMA, 12/OUKAMA(N)12"

    def __init__(self, own: tuple[Township, ...] = ()) -> None:
        self._own = own  # townships that the operator adds to the lists

    def with_choices(self, choices: Choices) -> Self:
        return type(self)(choices.nrc_townships)

    def canonicalise(self, text: object) -> str:
        found = self.recognise(text)
        if found is None:
            raise BadIdentifier("bad_structure", "NRC")
        return found

    def is_canonical(self, text: str) -> bool:
        return _canonical(text) is not None

    def recognise(self, text: object) -> str | None:
        if isinstance(text, str) and _canonical(text):
            return text
        return _recognise(text, self._own)

    def find_cut(self, text: str, sub_id: str) -> bool:
        """Whether a proxy has decoded the slash of an NRC: `12/OUKAMA(N)123456` became an id 12 and a SubId."""
        if not _cut_state(text) or len(sub_id) > CUT_MAX or not is_allowed(sub_id):
            return False
        try:
            return _recognise(f"{text}/{sub_id}", self._own) is not None
        except BadIdentifier:
            return True  # an NRC with one wrong field

    def describe_fault(self, text: str, reason: Reason, country: str = "") -> str:
        nrc = unicodedata.normalize("NFC", text.translate(_FOLDED))
        match = _whole(nrc) or _fields(nrc)
        fields = match.groupdict() if match else {}
        kind = fields.get("round") or fields.get("square") or fields.get("bare") or ""
        match reason:
            case "bad_state" if fields:
                state = fields["state"].translate(_TO_ASCII_DIGITS)
                return f"the state is {state}, and it must be 1 to 14, without a leading zero"
            case "bad_number_length" if fields:
                count = len(fields["number"])
                return f"the number has {count} {'digit' if count == 1 else 'digits'}, and six are needed"
            case "bad_type" if len(kind) == 1:
                return f"the citizenship type is {name_character(kind)}, and it must be one of N E P T Y S"
            case "unknown_township_latin" | "ambiguous_township_latin" if fields:
                found = "no township" if reason == "unknown_township_latin" else "more than one township"
                state = fields["state"].translate(_TO_ASCII_DIGITS)
                return f"{found} of state {state} has the Latin spelling that is written here; use Burmese letters"
            case "bad_structure":
                return "it must have a state, a township, a type and six digits, as 12-OUKAMA-N-123456 has"
        return super().describe_fault(text, reason, country)

    def canonicalise_prefix(self, text: str) -> str:
        """Cut between the fields: state (`12-`), township, type, some digits of the number."""
        written = screen(text, "NRC prefix").strip()
        if _prefix(written.upper()):
            return written.upper()
        state = _prefix_state(written.translate(_PREFIX_TO_ASCII))
        if state:
            return f"{state[1]}-"
        readings = {
            found for found in (_read_to_township(written, self._own), _read_to_number(written, self._own)) if found
        }
        # There is no reading; or there are two: a township, and a shorter township with a type after it.
        if len(readings) != 1:
            raise BadIdentifier("bad_structure", "NRC prefix")
        return readings.pop()

    def claims_prefix(self, prefix: str) -> bool:
        """Not with digits alone: a passport can begin with 12."""
        try:
            return not prefix.isdigit() and bool(self.canonicalise_prefix(prefix))
        except BadIdentifier:
            return False

    def display(self, canonical: str) -> Display:
        match = _canonical(canonical)
        if not match:
            return Display(canonical)
        state, town, kind, number = match.groups()
        code = "".join(chr(0x1000 + byte) for byte in bytes.fromhex(town))
        return Display(
            f"{state}/{townships.write_popular_latin(state, code)}({kind}){number}",
            lossless_latin=f"{state}/{townships.write_lossless_latin(code)}({kind}){number}",
            burmese=f"{state}/{code}({TYPES[kind]}){number}".translate(_TO_BURMESE_DIGITS),
        )

    def preload(self) -> None:
        townships.load_table(self._own)


def _recognise(text: object, own: tuple[Township, ...]) -> str | None:
    """Return the canonical form; None for text that is no NRC.  Raises BadIdentifier for a broken NRC."""
    written = screen(text, "NRC")
    # Spaces go first: without them two characters can compose.
    nrc = unicodedata.normalize("NFC", written.translate(_FOLDED))
    if not nrc:
        raise BadIdentifier("empty", "NRC")
    match = _whole(nrc)
    if not match:
        _refuse_stray_separators(nrc)
        _refuse_broken(nrc)
        return None
    state = match["state"].translate(_TO_ASCII_DIGITS)
    fault = _find_township_fault(match["town"]) if _state(state) else "bad_state"
    if fault:
        if nrc.isascii() and not _set_apart(nrc):
            return None  # an account number can look like that: 99ABCDEN123456, 12345678N123456
        raise BadIdentifier(fault, "NRC")
    kind = _TYPE_WORDS[match["round"] or match["square"] or match["bare"]]
    return f"{state}-{_find_letters(state, match['town'], own)}-{kind}-{match['number'].translate(_TO_ASCII_DIGITS)}"


def _find_letters(state: str, town: str, own: tuple[Township, ...]) -> str:
    """Return the hex form of a township in any spelling.  Raises BadIdentifier."""
    if _hex(town):
        return town
    if _latin(town):
        codes = townships.find_codes(state, town, own)
        if not codes:
            raise BadIdentifier("unknown_township_latin", "NRC")
        if len(codes) > 1:
            raise BadIdentifier("ambiguous_township_latin", "NRC")
        (town,) = codes
    return "".join(f"{ord(letter) & 0xFF:02X}" for letter in town.replace("၀", "ဝ"))


def _refuse_stray_separators(nrc: str) -> None:
    """Raise BadIdentifier for four good fields with other separators than one, or a pair of brackets, between them.

    `1-MAKANA-(N)000045` stored unchanged would be another key than `1-MAKANA(N)000045`.
    """
    if _whole(_separators.sub("-", nrc).strip("-")):
        raise BadIdentifier("stray_separator", "NRC")


def _refuse_broken(nrc: str) -> None:
    """Raise BadIdentifier if exactly one of four fields is wrong.  With two wrong fields it is another document."""
    match = _fields(nrc)
    if not match:
        if _begins_in_burmese(nrc):
            raise BadIdentifier("bad_structure", "NRC")
        return
    kind = match["round"] or match["square"] or match["bare"]
    faults = [
        _find_digits_fault(match["state"])
        or (None if _state(match["state"].translate(_TO_ASCII_DIGITS)) else "bad_state"),
        _find_township_fault(match["town"]),
        None if kind in _TYPE_WORDS else "bad_type" if kind else "missing_type",
        _find_digits_fault(match["number"]) or (None if len(match["number"]) == NUMBER_DIGITS else "bad_number_length"),
    ]
    found = [fault for fault in faults if fault]
    if len(found) <= 1:
        raise BadIdentifier(found[0] if found else "bad_structure", "NRC")


def _find_township_fault(town: str) -> Reason | None:
    if _burmese_letters(town):
        return None
    if _latin(town):
        return None if len(town) >= townships.LETTERS else "unknown_township_latin"
    if _hex(town):
        return None if _letter_bytes(town) else "bad_township"
    return "bad_structure" if town.isascii() else "bad_township"


def _find_digits_fault(field: str) -> Reason | None:
    if not _digits(field):
        return "bad_structure"
    return None if _one_script(field) else "mixed_digit_scripts"


def _read_to_township(written: str, own: tuple[Township, ...]) -> str | None:
    """Complete the prefix to a whole NRC, and cut that after the township."""
    whole = _recognise_or_none(written.rstrip("/\\-") + "(N)000000", own)
    return whole and whole[: -len("N-000000")]


def _read_to_number(written: str, own: tuple[Township, ...]) -> str | None:
    """Complete the number with zeros, and cut them off again."""
    number = _prefix_number(written)
    digits = number[0] if number else ""
    missing = NUMBER_DIGITS - len(digits)
    if missing <= 0:
        return None
    zero = _BURMESE_DIGITS[0] if digits[-1:] in tuple(_BURMESE_DIGITS) else "0"
    whole = _recognise_or_none(written + zero * missing, own)
    return whole and whole[:-missing]


def _recognise_or_none(text: str, own: tuple[Township, ...]) -> str | None:
    try:
        return _recognise(text, own)
    except BadIdentifier:
        return None
