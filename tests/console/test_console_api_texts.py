"""What is wrong with an identifier is said in the language of the person, with the part that is wrong."""

from __future__ import annotations

import re
from contextvars import copy_context

import pytest

from oracle.api.console import languages
from oracle.api.console.api_texts import translate
from oracle.api.texts import find_message
from oracle.identifiers import KINDS, BadIdentifier, Reading, describe_fault, find_scheme
from oracle.identifiers.errors import EXPLANATIONS

WRONG = {
    "MSISDN": ["+1", "+52 55", "+" + "9" * 20, "5512345678", "0052551234", "+52 00 1234 5678", "52+5512345678",
               "4930.0", "+52 55 1234 5678 9", "+95 12", "abc", "+0", "၅၂55", "tel:+5255"],
    "CLABE": ["032180000118359718", "1", "12", "03218x", "000180000118359719", "032 180 00011835971'9"],
    "NRC": ["0/OUKAMA(N)123456", "12/OUKAMA(X)123456", "12/OUKAMA(N)1", "12/OUKAMA(N)12345", "12/ZZZZZZ(N)123456",
            "MA123456", "12/OUKAMA()123456", "12/OUKAMA--(N)123456", "၁2/OUKAMA(N)123456"],
    "IBAN": ["GB82", "GB00WEST12345698765432", "GB83WEST12345698765432", "XX82WEST12345698765432", "1", "GB82WEST_",
             "GB8AWEST12345698765432", "GB82W3ST12345698765432", "G" * 40, "MX82", "GB82WEST1234569876543X"],
    "EMAIL": ["ana", "ana@", "@x.mx", "a@b@c.mx", "a na@x.mx", "ana@x_y.mx", "ana@x", "a%b@x.mx", "ana@x\t.mx"],
    "ACCOUNT_ID": [".", "..", "a b", "a\nb", "a'b", "\u200b", "x" * 129, "<"],
}  # fmt: skip


def speak(code: str, text: str) -> str:
    def run() -> str:
        languages.language.set(code)
        return translate(text)

    return copy_context().run(run)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("it has 5 digits, and 7 to 15 are needed with the calling code", ["၅", "၇", "၁၅"]),
        ("it has 5 digits, and 18 are needed", ["၅", "၁၈"]),
        ("character 3 is a space, and a digit is needed", ["၃"]),
        ("the last digit is the check digit: it is 8, and 9 is needed for the other 17", ["8", "၁၇", "9"]),
    ],
)
def test_burmese_counts_are_in_burmese_digits_and_identifiers_are_not(text: str, numbers: list[str]) -> None:
    assert re.findall(r"\d+", speak("my", text)) == numbers


def list_faults() -> list[str]:
    """List what is said of wrong identifiers, of each kind and each country."""
    reading, found = Reading(), dict[str, None]()
    for kind, texts in WRONG.items():
        samples = [find_scheme(each).samples[0].identifier for each in KINDS]
        for text in [*texts, *samples, ""]:
            for country in (None, "MX", "MM", "GB", "XX"):
                try:
                    reading.read_key(kind, text, country=country)
                except BadIdentifier as exc:
                    found[describe_fault(str(exc), exc.reason, text, country=country or "")] = None
    for sub_id in ("", "a b", "x" * 129, "a\u0301"):
        try:
            reading.read_key("ALIAS", "ana", sub_id=sub_id)
        except BadIdentifier as exc:
            found[describe_fault(str(exc), exc.reason, "ana", sub_id)] = None
    return list(found)


def test_each_explanation_can_be_translated() -> None:
    assert [text for text in EXPLANATIONS.values() if find_message(text) is None] == []


def test_each_fault_can_be_translated() -> None:
    faults = list_faults()
    assert len(faults) > 60
    assert [text for text in faults if find_message(text.partition(": ")[2]) is None] == []


@pytest.mark.parametrize("code", ["es", "my"])
def test_no_fault_stays_english(code: str) -> None:
    for text in list_faults():
        spoken = speak(code, text)
        assert spoken.partition(": ")[2] != text.partition(": ")[2]
        assert " is needed" not in spoken
        assert "{" not in spoken


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [
        ("en", "CLABE: the check digit is wrong", "CLABE: the check digit is wrong"),
        ("en", "MSISDN: it is empty", "Phone number: it is empty"),
        ("es", "CLABE: the check digit is wrong", "CLABE: el dígito de control es incorrecto"),
        ("es", "EMAIL: character 2 is a space, and it is not allowed",
         "Correo electrónico: el carácter 2 es un espacio y no está permitido"),
        ("es", "MSISDN: it has 2 digits, and 7 to 15 are needed",
         "Número de teléfono: tiene 2 dígitos y se necesitan de 7 a 15"),
        ("es", "MSISDN: it has 2 digits, and numbers of SG have 8, 10 or 11",
         "Número de teléfono: tiene 2 dígitos y los números de SG tienen 8, 10 o 11"),
        ("es", "SubId: it is empty; leave it out instead", "SubId: está vacío; omítalo"),
        ("es", "CLABE: the check digit is wrong (bad_check_digit). Check the digits: one is wrong, or two are swapped.",
         "CLABE: el dígito de control es incorrecto. Revise los dígitos: uno está mal o dos están intercambiados."),
        ("my", "NRC: it is empty (empty).", "NRC - ဗလာ ဖြစ်နေပါသည်။"),
        ("es", "NRC: it is new (empty).", "NRC: it is new (empty)."),
        ("es", "something that nobody has said", "something that nobody has said"),
        ("es", "MSISDN: {0} {n} %s <b>", "Número de teléfono: {0} {n} %s <b>"),
    ],
)  # fmt: skip
def test_values_stay_as_they_are(code: str, text: str, expected: str) -> None:
    assert speak(code, text) == expected


def test_a_text_with_marks_of_places_is_no_template() -> None:
    assert speak("es", "NRC: the citizenship type is '{n}', and it must be one of N E P T Y S").count("'{n}'") == 1
