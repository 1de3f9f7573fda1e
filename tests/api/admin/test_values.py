"""Values that do not exist (currencies, countries) and marks of nothing, on every channel; what is stored already."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any, Final

import httpx
import pytest
from oracle_process import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from admin_service import Service

OWN: Final = "/fsps/greenbank/aliases"
NOWHERE: Final = ("ZZZ", "MXX", "NAN", "ZWL", "CNH", "ıNR")  # the last one is INR in capitals, by Unicode
RETIRED: Final = ("CUC", "HRK", "SLL", "GGP", "IMP", "JEP", "SPL", "TVD", "BGN", "ANG")
CURRENT: Final = ("MXN", "mmk", "XTS", "XXX", "SLE", "XCG", "ZWG")


def error_of(answered: httpx.Response) -> tuple[int, str]:
    return answered.status_code, answered.json()["code"]


def code_of(answered: httpx.Response) -> tuple[int, str]:
    return answered.status_code, (answered.json() or {}).get("errorInformation", {}).get("errorCode", "")


def body(currency: str) -> dict[str, str]:
    return {"fspId": "greenbank", "currency": currency}


# Currencies ---------------------------------------------------------------------------------------------------------


def test_a_hub_names_no_currency_that_does_not_exist(service: Service) -> None:
    hub, party = service.hub, "/ALIAS/currencies"
    assert hub.post(party, json=body("MXN")).status_code == 201
    refused = (400, "3100")
    for currency in NOWHERE:
        assert code_of(hub.get(party, params={"currency": currency})) == refused, currency
        assert code_of(hub.post(party, json=body(currency))) == refused, currency
        assert code_of(hub.post(party, json={"fspId": "greenbank"}, params={"currency": currency})) == refused, currency
        assert code_of(hub.put(party, json=body(currency))) == refused, currency
        items = [{"partyIdType": "ALIAS", "partyIdentifier": "in-bulk", "fspId": "greenbank", "currency": currency}]
        answered = hub.post("", json={"requestId": "1", "partyList": items}).json()["partyList"]
        assert answered[0]["errorInformation"]["errorCode"] == "3100", currency
        of_list = hub.post(
            "", json={"requestId": "1", "partyList": [{**items[0], "currency": ""}], "currency": currency}
        )
        assert of_list.json()["partyList"][0]["errorInformation"]["errorCode"] == "3100", currency
    assert hub.get(party).json() == {"partyList": [{"fspId": "greenbank", "currency": "MXN"}]}
    assert hub.get("/ALIAS/in-bulk").json() == {"partyList": []}


def test_a_hub_names_the_currencies_that_als_lets_through(service: Service) -> None:
    hub = service.hub
    for number, currency in enumerate((*RETIRED, *CURRENT)):
        party = f"/ALIAS/let-through-{number}"
        assert hub.post(party, json=body(currency)).status_code == 201, currency
        entry = {"fspId": "greenbank", "currency": currency.upper()}
        assert hub.get(party, params={"currency": currency}).json() == {"partyList": [entry]}, currency
        assert hub.put(party, json=body(currency)).status_code == 200, currency
        assert hub.delete(party, params={"currency": currency}).status_code == 204, currency


def test_people_name_only_currencies_that_iso_4217_has_now(maker: httpx.Client) -> None:
    alias = {"kind": "ALIAS", "identifier": "at-the-desk"}
    maker.post(OWN, json=alias).raise_for_status()
    for currency in (*NOWHERE[:-1], *RETIRED):
        refused = maker.post(OWN, json={**alias, "currency": currency})
        assert error_of(refused) == (400, "unknown_currency"), currency
        assert (refused.json()["detail"], refused.json()["field"]) == ("No such currency", "currency")
        assert "MXN" in refused.json()["hint"]
        changed = maker.patch(f"{OWN}/ALIAS/at-the-desk", json={"currency": currency, "reason": "x"})
        assert error_of(changed) == (400, "unknown_currency"), currency
    for currency in CURRENT:
        assert maker.post(OWN, json={**alias, "currency": currency}).status_code == 201, currency
    assert maker.patch(f"{OWN}/ALIAS/at-the-desk", json={"currency": "xts", "reason": "x"}).is_success


def test_an_fsp_can_have_the_currencies_of_both_lists(operator: httpx.Client, service: Service) -> None:
    fsp = {"fspId": "currencies", "currencies": ["MXN", "ZZZ"]}
    refused = operator.post("/fsps", json=fsp)
    assert (*error_of(refused), refused.json()["field"]) == (400, "unknown_currency", "currencies")
    assert operator.post("/fsps", json={**fsp, "currencies": ["MXN", "HRK"]}).status_code == 201
    service.fetch("UPDATE fsps SET currencies = '{MXN,ZZZ}' WHERE fsp_id = 'currencies'")  # by an earlier version
    path = "/fsps/currencies"
    assert operator.patch(path, json={"name": "Old"}).json()["currencies"] == ["MXN", "ZZZ"]
    assert error_of(operator.patch(path, json={"currencies": ["ZZZ", "MXX"]})) == (400, "unknown_currency")
    assert operator.patch(path, json={"currencies": ["ZZZ", "USD"]}).json()["currencies"] == ["ZZZ", "USD"]


def test_a_question_about_now_names_what_a_hub_can_name(operator: httpx.Client) -> None:
    question = {"kind": "ALIAS", "identifier": "asked"}
    assert operator.post("/routes/what-if", json={**question, "currency": "HRK"}).status_code == 200
    refused = operator.post("/routes/what-if", json={**question, "currency": "ZZZ"})
    assert error_of(refused) == (400, "unknown_currency")
    past = {**question, "currency": "ZZZ", "at": "2026-01-01T00:00:00Z"}
    assert operator.post("/routes/what-if", json=past).status_code == 200


def test_a_stored_currency_that_does_not_exist_is_read_changed_and_removed(
    service: Service, maker: httpx.Client, auditor: httpx.Client
) -> None:
    hub, entry = service.hub, {"fspId": "greenbank", "currency": "ZZZ"}
    stored = [f"stored-{number}" for number in range(8)]
    columns = "(party_id_type, identifier, currency, fsp_id)"  # as an earlier version stored them
    service.fetch(f"INSERT INTO aliases {columns} SELECT 'ALIAS', unnest($1::text[]), 'ZZZ', 'greenbank'", stored)
    by_hub, by_hub_named, put, patched, removed, removed_named, by_file, replaced = stored
    assert hub.get(f"/ALIAS/{by_hub}").json() == {"partyList": [entry]}
    assert hub.delete(f"/ALIAS/{by_hub}").status_code == 204
    assert hub.delete(f"/ALIAS/{by_hub_named}", params={"currency": "zzz"}).status_code == 204
    assert hub.put(f"/ALIAS/{put}", json=body("MXN")).status_code == 200
    assert hub.get(f"/ALIAS/{put}").json() == {"partyList": [{**entry, "currency": "MXN"}]}
    shown = maker.get(f"{OWN}/ALIAS/{patched}").json()
    assert shown["entries"][0]["currency"] == "ZZZ"
    assert maker.patch(f"{OWN}/ALIAS/{patched}", json={"currency": "MXN", "reason": "x"}).is_success
    assert maker.delete(f"{OWN}/ALIAS/{removed}", params={"reason": "correction"}).status_code == 204
    named = {"reason": "correction", "currency": "ZZZ"}
    assert maker.delete(f"{OWN}/ALIAS/{removed_named}", params=named).status_code == 204
    results = import_file(maker, f"ALIAS,{by_file},,ZZZ,,remove\nALIAS,{replaced},,MXN,,replace\n")
    assert [line.split(",")[1] for line in results] == ["removed", "changed"]
    question = {"kind": "ALIAS", "identifier": removed, "currency": "ZZZ"}
    past = auditor.post(service.oracle.admin_url + "/audit/v1/timeline", json=question)
    assert past.status_code == 200, past.text
    left = [name for name in stored if hub.get(f"/ALIAS/{name}").json()["partyList"]]
    assert left == [put, patched, replaced]


# Marks and numbers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["nan", "None", "NULL", "N/A", "#N/A", "(null)", "-", "NA", "undefined"])
def test_a_mark_of_a_missing_value_is_not_registered_by_a_person(maker: httpx.Client, text: str) -> None:
    for alias, field in (
        ({"identifier": text}, "identifier"),
        ({"identifier": "some", "subId": text}, "subId"),
    ):
        refused = maker.post(OWN, json={"kind": "ALIAS", **alias})
        assert (*error_of(refused), refused.json()["field"]) == (400, "damaged_value", field)
        assert refused.json()["hint"] == "Reason: missing_value_mark"


def test_a_spoiled_number_is_not_registered_by_a_person(maker: httpx.Client) -> None:
    for text, reason in (
        *((text, "scientific_notation") for text in ("1.23457e17", "1,2E+5", "3.4e-5", "5E+10", "1.2×10^17")),
        ("525512345678.0", "decimal_number"),
        ("1,234,567", "thousands_separator"),
    ):
        for kind in ("ACCOUNT_ID", "MSISDN", "BUSINESS"):
            refused = maker.post(OWN, json={"kind": kind, "identifier": text})
            assert (*error_of(refused), refused.json()["hint"]) == (400, "damaged_value", f"Reason: {reason}"), text
    assert maker.post(OWN, json={"kind": "ACCOUNT_ID", "identifier": "219E01BE"}).status_code == 201


def test_a_hub_registers_them_and_a_person_can_read_and_remove_them(service: Service, maker: httpx.Client) -> None:
    for identifier, sub_id in (("None", None), ("1.5e3", None), ("known", "nan")):
        party = {"fspId": "greenbank"} | ({"partySubIdOrType": sub_id} if sub_id else {})
        assert service.hub.post(f"/ALIAS/{identifier}", json=party).status_code == 201
        query = {"subId": sub_id} if sub_id else {}
        path = f"{OWN}/ALIAS/{identifier}"
        assert maker.get(path, params=query).status_code == 200
        changed = maker.patch(path, params=query, json={"currency": "MXN", "reason": "x"})
        assert changed.status_code == 200
        assert maker.delete(path, params={**query, "reason": "correction"}).status_code == 204


# Countries ----------------------------------------------------------------------------------------------------------


def import_file(client: httpx.Client, rows: str, **query: str) -> list[str]:
    """Import rows for greenbank, and return the lines of their results."""
    path = "/fsps/greenbank/batches"
    content = f"kind,identifier,sub_id,currency,country,action\n{rows}"
    batch = client.post(path, params=query, content=content)
    assert batch.status_code == 201, batch.text
    here = f"{path}/{batch.json()['batchId']}"
    until(lambda: client.get(here).json()["state"] == "done")
    return client.get(f"{here}/results").text.splitlines()[1:]


@pytest.mark.parametrize("country", ["UK", "XX", "nan", "Mexico", ""])
def test_a_country_that_does_not_exist_is_refused(maker: httpx.Client, operator: httpx.Client, country: str) -> None:
    codes = ("unknown_country", "invalid")
    upload = maker.post("/fsps/greenbank/batches", params={"country": country}, content="kind,identifier\nALIAS,a\n")
    assert upload.status_code == 400
    assert upload.json()["code"] in codes
    for answered in (
        operator.post("/fsps", json={"fspId": "nowhere", "defaultCountry": country}),
        operator.patch("/fsps/greenbank", json={"defaultCountry": country}),
    ):
        assert answered.status_code == 400
        assert answered.json()["code"] in codes
        assert answered.json()["field"] == "defaultCountry"
    if country == "UK":
        assert "GB" in upload.json()["hint"]


def test_an_fsp_has_a_default_country_until_it_is_removed(service: Service, operator: httpx.Client) -> None:
    made: Any = operator.post("/fsps", json={"fspId": "at-home", "defaultCountry": "mx"})
    assert made.json()["defaultCountry"] == "MX"
    path = "/fsps/at-home"
    changed = operator.patch(path, json={"defaultCountry": "MM"}, headers={"If-Match": made.headers["etag"]})
    assert (changed.json()["defaultCountry"], operator.get(path).json()["defaultCountry"]) == ("MM", "MM")
    assert changed.headers["etag"] != made.headers["etag"]
    assert operator.patch(path, json={"name": "At home"}).json()["defaultCountry"] == "MM"
    assert operator.patch(path, json={"defaultCountry": None}).json()["defaultCountry"] is None
    events = service.fetch(
        "SELECT after ->> 'default_country' AS country FROM events WHERE fsp_id = 'at-home' ORDER BY event_id"
    )
    assert [event["country"] for event in events] == ["MX", "MM", "MM", None]


def test_a_batch_shows_the_country_that_it_got_at_its_upload(maker: httpx.Client, operator: httpx.Client) -> None:
    path, content = "/fsps/greenbank/batches", "kind,identifier\nALIAS,of-a-country\n"

    def upload(**query: str) -> Any:
        return maker.post(path, params=query, content=content).json()

    try:
        none, named = upload(), upload(country="mm")
        operator.patch("/fsps/greenbank", json={"defaultCountry": "MX"}).raise_for_status()
        of_fsp, other = upload(), upload(country="GB")
        operator.patch("/fsps/greenbank", json={"defaultCountry": "IT"}).raise_for_status()
    finally:
        operator.patch("/fsps/greenbank", json={"defaultCountry": None}).raise_for_status()
    for batch, country in ((none, None), (named, "MM"), (of_fsp, "MX"), (other, "GB")):
        assert (batch["country"], maker.get(f"{path}/{batch['batchId']}").json()["country"]) == (country, country)
    listed = {batch["batchId"]: batch["country"] for batch in maker.get(path).json()["items"]}
    assert listed[of_fsp["batchId"]] == "MX"


@pytest.fixture
def home(operator: httpx.Client) -> Iterator[Callable[[str], None]]:
    """Set the default country of greenbank."""

    def set_country(country: str | None) -> None:
        operator.patch("/fsps/greenbank", json={"defaultCountry": country}).raise_for_status()

    yield set_country
    set_country(None)


def test_the_country_of_a_row_counts_before_that_of_the_file_and_of_the_fsp(
    maker: httpx.Client, home: Callable[[str], None]
) -> None:
    """951 123 1101 is a number of Oaxaca, and with 95 a number of Myanmar."""
    numbers = ("5512341101", "9250001101", "9511231101", "+959250001102", "525512341102", "123456789")
    rows = "".join(f"MSISDN,{number},,,,\n" for number in numbers) + "MSISDN,09250001103,,,MM,\nALIAS,a-row,,,,\n"

    def read(**query: str) -> list[str]:
        """Return the identifier of each row, or the reason of its refusal."""
        lines = list(csv.reader(import_file(maker, rows, **query)))
        return [line[4] or line[3].partition("(")[2].partition(")")[0] for line in lines]

    refused, doubtful = "national_without_country", "ambiguous_national_or_international"
    same = ["959250001102", "525512341102", "123456789", "959250001103", "a-row"]
    assert read() == [refused, refused, doubtful, *same]
    assert read(country="mx") == ["525512341101", refused, "529511231101", *same]
    assert read(country="MM") == [refused, "959250001101", "9511231101", *same]
    home("MX")
    assert read() == ["525512341101", refused, "529511231101", *same]
    assert read(country="MM") == [refused, "959250001101", "9511231101", *same]


def test_a_person_names_a_number_of_the_fsps_country_without_it(
    service: Service, maker: httpx.Client, stranger: httpx.Client, home: Callable[[str], None]
) -> None:
    national, path = "55 1234 1201", f"{OWN}/MSISDN/55%201234%201201"
    alias = {"kind": "MSISDN", "identifier": national}
    assert error_of(maker.post(OWN, json=alias)) == (400, "bad_identifier")
    home("MX")
    assert maker.post(OWN, json=alias).json()["identifier"] == "525512341201"
    assert error_of(maker.post(OWN, json={**alias, "country": "MM"})) == (400, "bad_identifier")
    assert error_of(stranger.post("/fsps/redbank/aliases", json=alias)) == (400, "bad_identifier")
    assert maker.get(path).json()["identifier"] == "525512341201"
    checked = maker.post(f"{OWN}/check", json={"items": [alias]}).json()["items"][0]
    assert (checked["identifier"], checked["exists"]) == ("525512341201", True)
    assert maker.patch(path, json={"currency": "MXN", "reason": "x"}).status_code == 200
    assert code_of(service.hub.get("/MSISDN/5512341201"))[0] == 400  # a hub names no country, and has no default one
    assert maker.delete(path, params={"reason": "correction"}).status_code == 204
    assert service.hub.get("/MSISDN/525512341201").json() == {"partyList": []}
