"""Every row of the test vectors."""

import csv
import json
import sys
from pathlib import Path

import pytest

from oracle.identifiers import KINDS, PARTY_ID_TYPES, BadIdentifier, Reading, display
from oracle.identifiers.errors import EXPLANATIONS

VECTORS = Path(__file__).parent / "vectors"
KINDS_WITH_VECTORS = sorted(file.stem for file in VECTORS.glob("*.csv") if file.stem != "nrc_forms")

READING = Reading()
canonicalise = READING.canonicalise
AMBIGUOUS = "ambiguous_national_or_international"


def load_rows(name: str) -> list[dict[str, str]]:
    csv.field_size_limit(sys.maxsize)  # one row is 100 kB long
    with (VECTORS / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


CASES = [
    # The id is the line, never the value: the report of a failed test is a log, too.
    pytest.param(kind.upper(), row, id=f"{kind}-{line}")
    for kind in KINDS_WITH_VECTORS
    for line, row in enumerate(load_rows(kind), start=2)
]
FORMS = [pytest.param(row, id=f"nrc_forms-{line}") for line, row in enumerate(load_rows("nrc_forms"), start=2)]


def test_every_vector_file_belongs_to_a_registered_kind() -> None:
    assert {kind.upper() for kind in KINDS_WITH_VECTORS} <= set(KINDS)
    assert {"clabe", "iban", "msisdn", "nrc"} <= set(KINDS_WITH_VECTORS)


def read_by_hub(kind: str, text: str) -> str:
    sub_id = kind if kind in {"CLABE", "NRC"} else None
    return READING.read_hub_key(PARTY_ID_TYPES[kind], text, sub_id).identifier


@pytest.mark.parametrize(("kind", "row"), CASES)
def test_a_vector_is_accepted_or_refused_as_its_row_says(kind: str, row: dict[str, str]) -> None:
    text = json.loads(f'"{row["input"]}"')
    country = row["country_hint"] or None
    if row["valid"] == "true":
        assert read_by_hub(kind, row["canonical"]) == row["canonical"]
        if country is None:
            assert read_by_hub(kind, text) == row["canonical"]
        assert canonicalise(kind, text, country) == row["canonical"]
        return
    with pytest.raises(BadIdentifier) as refusal:
        canonicalise(kind, text, country)
    assert refusal.value.reason == row["reason"]
    if country is None and row["reason"] != AMBIGUOUS:
        with pytest.raises(BadIdentifier):
            read_by_hub(kind, text)
    assert str(refusal.value) == f"{kind}: {EXPLANATIONS[refusal.value.reason]}"
    assert refusal.value.__context__ is None, "a chained exception could contain the identifier"


@pytest.mark.parametrize("row", FORMS)
def test_an_nrc_is_displayed_in_each_of_its_forms(row: dict[str, str]) -> None:
    shown = display("NRC", row["canonical"])
    assert shown.text == row["display_latin_popular"]
    assert shown.lossless_latin == row["display_latin_lossless"]
    assert shown.burmese == row["display_burmese"]
    assert display("PERSONAL_ID", row["canonical"]) == shown


@pytest.mark.parametrize("row", FORMS)
def test_the_burmese_forms_of_an_nrc_lead_back_to_it(row: dict[str, str]) -> None:
    assert canonicalise("NRC", row["display_burmese"]) == row["canonical"]
    assert canonicalise("NRC", row["key_burmese"]) == row["canonical"]
    compact = row["canonical"].replace("-", "")
    assert canonicalise("NRC", compact) == row["canonical"]
    assert canonicalise("PERSONAL_ID", compact) == row["canonical"]
