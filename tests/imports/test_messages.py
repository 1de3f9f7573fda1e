"""The message of a bad row: what was found in it, and what is needed; in each language."""

import json
import re
from typing import Any, Final

import pytest

from oracle.api.languages import LANGUAGES, language
from oracle.api.texts import translate
from oracle.identifiers import KINDS, Reading
from oracle.identifiers.errors import EXPLANATIONS
from oracle.imports.reading import FileRow, Reader, RowChecks
from oracle.imports.refusals import FIELD_MAX, LINE_MAX, REFUSALS

HEADER = "kind,identifier,sub_id,currency,country,action"


def read_rows(data: str | bytes, **checks: Any) -> list[FileRow]:
    reader = Reader(RowChecks(Reading(), **checks))
    raw = data.encode() if isinstance(data, str) else data
    rows = [row for chunk in [*reader.feed(raw), *reader.finish()] for row in chunk.rows]
    for message in {row.message for row in rows if row.message}:
        for code in LANGUAGES[1:]:
            spoken = translate_to(code, message)
            assert spoken != message
            assert not _ENGLISH.search(spoken), spoken
    return rows


_ENGLISH: Final = re.compile(r"\b(?:the|is|has|and|are|with|write|needed|did you|to|or)\b", re.IGNORECASE)


def translate_to(code: str, text: str) -> str:
    before = language.set(code)
    try:
        return translate(text)
    finally:
        language.reset(before)


def read_messages(*lines: str, header: str = HEADER, **checks: Any) -> list[str]:
    return [row.message for row in read_rows("\n".join((header, *lines, "")), **checks)]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("MSISDN,+12345", "it has 5 digits, and 7 to 15 are needed"),
        ("MSISDN,1234567890123456", "it has 16 digits, and 7 to 15 are needed"),
        ("MSISDN,525512O45678", "character 7 is 'O', and a digit is needed"),
        ("MSISDN,52+5512345678", "character 3 is '+', and it is allowed at the beginning only"),
        ("MSISDN,+5255123456789", "11 digits follow the calling code 52, and numbers of MX have 10"),
        ("MSISDN,55123400,,,MX", "it has 8 digits, and numbers of MX have 10"),
        ("MSISDN,+525012345678", "the number of digits is right, but no number of MX begins like this one"),
        ("MSISDN,5512340006", "it has 10 digits and looks like a national number; write + and the calling code"),
        ("CLABE,03218000011835971", "it has 17 digits, and 18 are needed"),
        ("CLABE,0321 8000O118359719", "character 10 is 'O', and a digit is needed"),
        ("CLABE,032180000118359718", "the last digit is the check digit: it is 8, and 9 is needed"),
        ("CLABE,032180000118359719,,,GB", "the country is GB, and every CLABE is of MX"),
        ("NRC,15/OUKAMA(N)123456", "the state is 15, and it must be 1 to 14"),
        ("NRC,12/OUKAMA(N)12345", "the number has 5 digits, and six are needed"),
        ("PERSONAL_ID,12/OUKAMA(N)1234567", "the number has 7 digits, and six are needed"),
        ("NRC,12/OUKAMA(X)123456", "the citizenship type is 'X', and it must be one of N E P T Y S"),
        ("NRC,12/OUKAXX(N)123456", "no township of state 12 has the Latin spelling"),
        ("NRC,998877", "it must have a state, a township, a type and six digits, as 12-OUKAMA-N-123456 has"),
        ("IBAN,GB82WEST1234569876543", "it has 21 characters, and one of GB has 22"),
        ("IBAN,GB82WEST1234569876543O", "character 22 is 'O', and a digit is needed"),
        ("IBAN,GB82 WES1 12345698765432", "character 9 is '1', and a letter is needed"),
        ("IBAN,GB83WEST12345698765432", "characters 3 and 4, are 83, and 82 is needed for the rest"),
        ("IBAN,GB00WEST12345698765432", "characters 3 and 4, are 00, and they must be 02 to 98"),
        ("IBAN,XX82WEST12345698765432", "it begins with XX, and no country with this code"),
        ("IBAN,GB82-WEST", "character 5 is '-', and only letters and digits are allowed"),
        ("IBAN,GB82WEST12345698765432,,,MX", "the country is MX, and the IBAN is of GB"),
        ("EMAIL,ana.example.com", "it has no @"),
        ("EMAIL,a@b@example.com", "it has 2 signs @, and one is needed"),
        ("EMAIL,a\u00f1o@example.com", "character 2 is '\u00f1', and it is not allowed before the @"),
        ("EMAIL,ana@exa_mple.com", "character 8 is '_', and it is not allowed after the @"),
        ("EMAIL,ana@example", "it must end with a dot and at least two letters"),
        ("EMAIL,@example.com", "something is missing before the @"),
        ("ACCOUNT_ID,a/b", "character 2 is '/', and it is not allowed"),
        ("BUSINESS,a b", "character 2 is a space, and it is not allowed"),
        ("DEVICE,a\u200bb", "character 2 is U+200B, and it is not allowed"),
        (f"ALIAS,{'x' * 140}", "it has 140 characters, and at most 128 are allowed"),
        ("ALIAS,ana,a b", "SubId: character 2 is a space, and it is not allowed"),
        (f"ALIAS,ana,{'x' * 129}", "SubId: it has 129 characters, and at most 128 are allowed"),
    ],
    ids=lambda value: value[:32],
)
def test_a_message_about_an_identifier_says_what_was_found_and_what_is_needed(line: str, found: str) -> None:
    (message,) = read_messages(line)
    assert found in message
    assert message.partition("(")[2].partition(")")[0] in EXPLANATIONS
    kind, identifier = line.split(",")[:2]
    assert identifier not in message, "the message does not repeat the identifier"
    # The fast way has read a good row with the same other cells before.
    good = {"MSISDN": "525512345678", "CLABE": "032180000118359719", "EMAIL": "ana@b.mx", "ALIAS": "a"}.get(kind)
    if good:
        others = line.split(",")[2:]
        assert read_messages(",".join((kind, good, *others)), line)[1] == message


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("ALIAS,a,,pesos", "The currency has 5 characters, and three letters are needed. Write MXN"),
        ("ALIAS,a,,M1N", "Character 2 of the currency is '1', and a letter from A to Z is needed"),
        ("ALIAS,a,,ZZZ", "No currency has the code ZZZ. Write"),
        ("ALIAS,a,,,Mexico", "The country has 6 characters, and two letters are needed. Write MX or GB (not UK)"),
        ("ALIAS,a,,,UK", "No country has the code UK. Write MX or GB (not UK)"),
        ("ALIAS,a,,,M1", "Character 2 of the country is '1'"),
        ("ALIAS,a,,nan", "The column currency has a mark of a missing value"),
        ("ALIAS,a,,,,upd", "The action has 3 characters and is not known. Write add, replace or remove"),
        ("ALIAS,a,,,,Remov", "is not known (did you mean remove?)"),
        ("MSIDN,a", "The kind has 5 characters and is not known (did you mean MSISDN?)"),
        ("ALIAS,=1+1", "The identifier begins with '='"),
        ("ALIAS,a,@x", "The sub_id begins with '@'"),
        ("ACCOUNT_ID,1.23E+17", "character 5 of the identifier is 'E'"),
        ("ACCOUNT_ID,525512345678.0", "character 13 of the identifier is '.'"),
        ('ACCOUNT_ID,"1,234"', "character 2 of the identifier is ','"),
        ("CLABE,32180000118359719", "The CLABE has 17 digits, and 18 are needed: a zero is lost in front"),
        ("CLABE,2010077777777771", "The CLABE has 16 digits, and 18 are needed: two zeros are lost in front"),
        ("CLABE,032180000118359000", "The last 3 digits are 0"),
        ("ALIAS,a,b,c,d,e,f", "The row has 7 cells, and the first line names 6 columns"),
        ("ALIAS", "The row ends after 1 cell, and the column identifier is number 2"),
        ("ALIAS,a\0b", "Character 2 of cell 2 is a NUL character"),
        ("ALIAS,se\ufffdora", "Character 3 of cell 2 was lost"),
        (f"ALIAS,z{' ' * FIELD_MAX}", "The identifier has 1,001 characters, and at most 1,000 are allowed"),
        (f"ALIAS,{'x' * LINE_MAX}", "The line has more than 65,536 characters"),
        ('ALIAS,"open', "The quote at character 7 of the line is not closed"),
        ('ALIAS,"a""b"x', "Character 13 of the line is 'x', after a closing quote"),
    ],
    ids=lambda value: value[:32].replace("\0", "NUL"),
)
def test_a_message_about_another_cell_or_the_line_says_it_too(line: str, found: str) -> None:
    (message,) = read_messages(line)
    assert found in message
    assert message not in REFUSALS.values()


def test_a_byte_that_is_no_text_is_named_by_its_place() -> None:
    (row,) = read_rows(f"{HEADER}\n".encode() + b"ALIAS,se\xf1ora\n")
    assert "Character 3 of cell 2 is not UTF-8" in row.message


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ('{"kind":"ALIAS","identifier":1}', "The identifier is a number, and text is needed"),
        ('{"kind":"ALIAS","identifier":"a","sub_id":true}', "The sub_id is true or false, and text is needed"),
        ('{"kind":"ALIAS"', "The line ends too early to be a JSON object"),
        ('{"kind":"ALIAS" "x"}', "Character 17 cannot be there in a JSON object"),
        ('["ALIAS"]', "The line is a list, and a JSON object is needed"),
        (
            '{"kind":"ALIAS","identifer":"x"}',
            'The name "identifer" in the object is not known (did you mean identifier',
        ),
        ('{"kind":"ALIAS","525512345678":"x"}', "The name in the object is not known"),
        ('{"kind":"ALIAS","kind":"x"}', "The object has the name kind twice"),
    ],
)
def test_a_message_about_an_object_says_it_too(line: str, found: str) -> None:
    good = json.dumps({"kind": "ALIAS", "identifier": "ana"})
    rows = read_rows(f"{good}\n{line}\n")
    assert found in rows[1].message


def test_a_message_about_a_right_names_what_is_allowed() -> None:
    assert read_messages(
        "ALIAS,a", "MSISDN,+525512345678,,USD", kinds={"CLABE", "MSISDN"}, currencies={"MXN"}
    ) == [
        "This FSP cannot register ALIAS, only CLABE, MSISDN. Ask the operator of the hub to allow it.",
        "This FSP cannot register USD, only MXN. Ask the operator of the hub to allow it.",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_no_message_repeats_an_identifier(kind: str) -> None:
    """A message can be shown or sent without its row, so it never holds four neighbours of an identifier."""
    spoiled = [
        *("525512345678O", "5255123456781234", "03218000011835971X", "12/OUKAMA(N)12345X", "GB82WEST12345698765432X"),
        *("GB99WEST12345698765432", "ana@maria@example.com", "ana maria", "a/maria", "+525000000001"),
        *("tel:525512345678", "032180000118359710", "15/OUKAMA(N)123456", "525,512,345,678", "5.25512E+11"),
        *("=525512345678", "99887766554433"),
    ]  # fmt: skip
    named = "MSISDN CLABE 12-OUKAMA-N-123456 example @ .mx "
    for text in spoiled:
        cell = f'"{text}"'
        for row in read_rows(f"kind,identifier\n{kind},{cell}\n{cell},{kind}\n"):
            for at in range(len(text) - 4):
                part = text[at : at + 5]
                assert part not in row.message.replace(kind, "") or part in named, (text, row.message)
