"""Aliases that were stored under older rules: listed, read, changed and removed by their stored key, and no other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from admin_service import Service

from oracle.api.admin import doubtful

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

BANK = "/fsps/oldbank/aliases"
# As an older version stored them: type, key, SubId; then the code of the doubt, and what the hub reads today.
OLD: list[tuple[str, str, str, str, str | None]] = [
    ("MSISDN", "5215512340001", "", "read_otherwise", "525512340001"),  # the abolished 1 after +52
    ("MSISDN", "9509250000013", "", "read_otherwise", "959250000013"),  # a trunk prefix within
    ("MSISDN", "5212345", "", "refused", None),  # never was a Mexican number
    ("PERSONAL_ID", "12-OUKAMA-N-123456", "", "read_otherwise", "12-250019-N-123456"),
    ("PERSONAL_ID", "12-XXXXXX-N-123456", "", "refused", None),
    ("ACCOUNT_ID", "032180000118359718", "CLABE", "refused", None),  # the check digit is wrong
    ("IBAN", "GB00WEST12345698765432", "", "refused", None),
    ("EMAIL", "Ana@Example.org", "", "read_otherwise", "ana@example.org"),
    ("MSISDN", "5588887777", "", "refused", None),  # a Mexican number without its country
    ("MSISDN", "9250000012", "", "refused", None),  # one of Myanmar
    ("PERSONAL_ID", "12", "OUKAMA(N)654321", "refused", None),  # a proxy has decoded %2F
]  # fmt: skip
GOOD = [("MSISDN", "525512340009"), ("ACCOUNT_ID", "000000356"), ("DEVICE", "till-1"), ("MSISDN", "123456789")]


@pytest.fixture
def old(service: Service, operator: httpx.Client) -> None:
    """A bank whose aliases were registered long ago; and one with a key that it must never see."""
    operator.post("/fsps", json={"fspId": "oldbank"})
    rows = [(*row[:3], "oldbank") for row in OLD] + [(kind, text, "", "oldbank") for kind, text in GOOD]
    rows.append(("MSISDN", "5215512340002", "", "redbank"))
    service.fetch("DELETE FROM aliases WHERE identifier = ANY ($1)", [row[1] for row in rows])
    for row in rows:
        store(service, *row)


def store(service: Service, kind: str, identifier: str, sub_id: str, fsp_id: str, currency: str = "") -> None:
    service.fetch(
        "INSERT INTO aliases (party_id_type, identifier, sub_id, fsp_id, currency)"
        " VALUES ($1::text::party_id_type, $2, $3, $4, $5)", kind, identifier, sub_id, fsp_id, currency,
    )  # fmt: skip


def walk(client: httpx.Client, path: str, **params: Any) -> Iterator[Any]:
    """The pages of a list."""
    while True:
        answered = client.get(path, params=params)
        assert answered.status_code == 200, answered.text
        yield answered.json()
        if answered.json()["next"] is None:
            return
        params["cursor"] = answered.json()["next"]


def list_doubtful(client: httpx.Client, fsp_id: str = "oldbank", **params: Any) -> list[Any]:
    return [item for page in walk(client, f"/fsps/{fsp_id}/aliases/doubtful", **params) for item in page["items"]]


def error_of(answered: httpx.Response) -> tuple[int, str]:
    return answered.status_code, answered.json()["code"]


@pytest.mark.usefixtures("old")
@pytest.mark.parametrize("limit", [1, 3, 100])
def test_exactly_what_the_hub_would_not_store_today_is_listed(
    service: Service, operator: httpx.Client, limit: int
) -> None:
    found = list_doubtful(operator, limit=limit)
    about = [(each["partyIdType"], each["identifier"], each["subId"] or "", each["doubt"]) for each in found]
    assert sorted((*row[:3], row[3]["code"], row[3]["readAs"]) for row in about) == sorted(OLD, key=lambda row: row[:3])
    assert all(each["doubt"]["message"] and each["state"] == "answered" for each in found)
    for kind, identifier, sub_id, doubt in about:
        params = {"partySubIdOrType": sub_id} if sub_id else {}
        asked = service.hub.get(f"/{kind}/{identifier}", params=params)
        # Today's hub refuses the text, or answers for another key.
        assert (asked.status_code == 400) is (doubt["code"] == "refused")
        assert asked.status_code == 400 or asked.json() == {"partyList": []}
        assert (doubt["reason"] is None) is (doubt["code"] != "refused")
    assert [item["identifier"] for item in list_doubtful(operator, "redbank")] == ["5215512340002"]


@pytest.mark.usefixtures("old")
def test_a_page_looks_at_a_bounded_number_of_entries(service: Service, operator: httpx.Client) -> None:
    operator.post("/fsps", json={"fspId": "largebank"}).raise_for_status()
    count = doubtful.SCAN_MAX + doubtful.SCAN_CHUNK // 2
    service.fetch(
        "INSERT INTO aliases (changed_at, party_id_type, identifier, fsp_id)"
        " SELECT now() + n * interval '1 microsecond', 'DEVICE', 'D' || n, 'largebank'"
        " FROM generate_series(1, $1::int) AS n", count,
    )  # fmt: skip
    store(service, "IBAN", "GB00WEST12345698765439", "", "largebank")
    pages = list(walk(operator, "/fsps/largebank/aliases/doubtful"))
    assert [page["scanned"] for page in pages] == [doubtful.SCAN_MAX, count + 1 - doubtful.SCAN_MAX]
    assert [[item["identifier"] for item in page["items"]] for page in pages] == [[], ["GB00WEST12345698765439"]]


@pytest.mark.parametrize("as_stored", [False, True])
def test_a_doubtful_alias_is_read_changed_and_removed_by_its_stored_key(
    service: Service, operator: httpx.Client, as_stored: bool
) -> None:
    fsp_id = f"bank-{as_stored}"
    operator.post("/fsps", json={"fspId": fsp_id}).raise_for_status()
    maker = service.client("dfsp-maker", fsp_id)
    for kind, identifier, sub_id, *_ in OLD:
        service.fetch("DELETE FROM aliases WHERE identifier = $1", identifier)
        store(service, kind, identifier, sub_id, fsp_id)
        path = f"/fsps/{fsp_id}/aliases/{kind}/{identifier}"
        params = ({"asStored": "true"} if as_stored else {}) | ({"subId": sub_id} if sub_id else {})
        shown = maker.get(path, params=params)
        assert (shown.status_code, shown.json()["identifier"]) == (200, identifier)
        changed = maker.patch(path, params=params, json={"currency": "MXN", "reason": "a test"})
        assert [entry["currency"] for entry in changed.json()["entries"]] == ["MXN"]
        assert [item["currency"] for item in list_doubtful(maker, fsp_id)] == ["MXN"]
        assert maker.delete(path, params={**params, "reason": "correction"}).status_code == 204
        assert list_doubtful(maker, fsp_id) == []
        events = service.fetch(
            "SELECT action, channel, reason FROM events WHERE party_identifier = $1 AND fsp_id = $2 ORDER BY event_id",
            identifier, fsp_id,
        )  # fmt: skip
        assert [tuple(event) for event in events[-2:]] == [
            ("changed", "admin", "a test"), ("removed", "admin", "correction"),
        ]  # fmt: skip


@pytest.mark.usefixtures("old")
def test_a_doubtful_alias_of_another_fsp_is_absent_byte_for_byte(operator: httpx.Client) -> None:
    for params in ({}, {"asStored": "true"}):
        held = operator.get(f"{BANK}/MSISDN/5215512340002", params=params)
        free = operator.get(f"{BANK}/MSISDN/5215512340003", params=params)
        assert (held.status_code, held.content) == (free.status_code, free.content)
        assert held.status_code == 404


@pytest.mark.parametrize(
    ("stored", "other", "sub_id"),
    [
        ("5215588880001", "525588880001", ""),
        ("9509250000014", "959250000014", ""),
        ("5215588880002", "525588880002", "till"),
        ("5512340007", "525512340007", ""),  # as a Mexican writes it at home
        ("9250000013", "959250000013", ""),  # as it is written in Myanmar, without 0
        ("6561234567", "526561234567", ""),  # a number of Singapore, and one of Juárez
        ("5512340008", "525512340008", "till"),
    ],
)
def test_a_text_that_means_two_aliases_of_the_fsp_removes_none(
    service: Service, operator: httpx.Client, stored: str, other: str, sub_id: str
) -> None:
    fsp_id = f"two-{stored}"
    operator.post("/fsps", json={"fspId": fsp_id}).raise_for_status()
    store(service, "MSISDN", stored, sub_id, fsp_id)
    store(service, "MSISDN", other, sub_id, fsp_id)
    path, params = f"/fsps/{fsp_id}/aliases", {"subId": sub_id} if sub_id else {}

    def remove(text: str, **more: str) -> httpx.Response:
        return operator.delete(f"{path}/MSISDN/{text}", params={**params, **more, "reason": "correction"})

    def read_all() -> set[str]:
        return {item["identifier"] for item in operator.get(path).json()["items"]}

    refused = remove(stored)
    assert error_of(refused) == (409, "ambiguous")
    assert stored not in refused.text
    assert "asStored=true" in refused.json()["hint"]
    assert read_all() == {stored, other}
    # Alone, each is found; and the text of one is never a way to the other.
    assert remove(stored, asStored="true").status_code == 204
    assert read_all() == {other}
    store(service, "MSISDN", stored, sub_id, fsp_id)
    assert remove(f"+{other}").status_code == 204
    assert read_all() == {stored}
    assert remove(stored).status_code == 204
    assert read_all() == set()


def test_a_text_with_a_country_is_never_a_stored_key(service: Service, operator: httpx.Client) -> None:
    store(service, "MSISDN", "5512340010", "", "greenbank")
    path = "/fsps/greenbank/aliases/MSISDN/5512340010"
    gone = operator.delete(path, params={"country": "MX", "reason": "correction"})
    assert error_of(gone) == (404, "not_found")
    assert operator.get(path, params={"asStored": "true"}).json()["identifier"] == "5512340010"


def test_a_stored_key_is_found_under_its_own_kind_alone(service: Service, operator: httpx.Client) -> None:
    """A person who names a CLABE does not remove an account that is none."""
    store(service, "ACCOUNT_ID", "032180000118359711", "", "greenbank")
    path = "/fsps/greenbank/aliases/CLABE/032180000118359711"
    assert error_of(operator.delete(path, params={"reason": "correction"})) == (400, "bad_identifier")
    assert operator.get(path.replace("CLABE", "ACCOUNT_ID")).status_code == 200


@pytest.mark.usefixtures("old")
def test_stored_keys_can_be_checked_and_looked_up(operator: httpx.Client) -> None:
    kinds = [(kind, identifier, sub_id) for kind, identifier, sub_id, *_ in OLD]
    items = [
        {"kind": kind, "identifier": identifier, "subId": sub_id or None, "asStored": True}
        for kind, identifier, sub_id in kinds
    ]
    checked = operator.post(f"{BANK}/check", json={"items": items}).json()["items"]
    found = operator.post("/aliases/lookup", json={"items": items}).json()["items"]
    held = {item["identifier"] for item in found for holder in item["holders"] if holder["fspId"] == "oldbank"}
    there = {item["identifier"] for item in list_doubtful(operator)}
    assert len(there) == len(OLD)
    assert {item["identifier"] for item in checked if item["exists"]} == there == held


def test_the_address_of_a_new_alias_names_it_alone(operator: httpx.Client) -> None:
    """A canonical number can also be a national one: then its address is marked."""
    for identifier in ("+1 202 555 0123", "+52 55 1234 0011", "+65 6123 4567"):
        made = operator.post("/fsps/redbank/aliases", json={"kind": "MSISDN", "identifier": identifier})
        assert made.status_code == 201, made.text
        found = operator.get(made.headers["location"].removeprefix("/admin/v1"))
        assert found.json() == made.json()
        assert made.json()["display"]["country"] == {"1": "US", "5": "MX", "6": "SG"}[identifier[1]]


@pytest.mark.parametrize(
    ("default", "further", "doubtful_ones", "left"),
    [
        ("MXN", ["ZZZ", "USD"], ["ZZZ"], ["MXN", "USD"]),
        ("MXX", ["MXN"], ["MXX"], ["MXN"]),  # the heir becomes the default entry
        ("NAN", ["ZZZ"], ["NAN", "ZZZ"], []),
        ("", ["AAA"], ["AAA"], [""]),
        ("CUC", ["HRK", "GGP", "XTS"], [], ["CUC", "HRK", "GGP", "XTS"]),  # the hub accepts what ALS lets through
    ],
)
def test_an_entry_with_a_currency_that_does_not_exist_goes_alone(
    service: Service, operator: httpx.Client, default: str, further: list[str], doubtful_ones: list[str],
    left: list[str],
) -> None:  # fmt: skip
    fsp_id = f"odd-{default}"
    operator.post("/fsps", json={"fspId": fsp_id}).raise_for_status()
    identifier = f"odd-{default}-till"
    store(service, "DEVICE", identifier, "", fsp_id, default)
    for currency in further:
        service.fetch(
            "INSERT INTO alias_currencies (party_id_type, identifier, fsp_id, currency) VALUES ('DEVICE', $1, $2, $3)",
            identifier, fsp_id, currency,
        )  # fmt: skip
    found = list_doubtful(operator, fsp_id)
    assert sorted(item["currency"] for item in found) == doubtful_ones
    assert {item["doubt"]["code"] for item in found} <= {"currency"}
    path = f"/fsps/{fsp_id}/aliases/DEVICE/{identifier}"
    for currency in doubtful_ones:
        assert operator.delete(path, params={"reason": "correction", "currency": currency}).status_code == 204
    shown = operator.get(path)
    entries = [entry["currency"] or "" for entry in shown.json()["entries"]] if left else []
    assert (shown.status_code, sorted(entries)) == (200 if left else 404, sorted(left))
    assert list_doubtful(operator, fsp_id) == []
