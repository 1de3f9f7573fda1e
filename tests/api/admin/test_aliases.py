"""Aliases of an FSP: one at a time, by which role, in which version, and what the history holds afterwards."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import httpx
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from admin_service import Service

OWN = "/fsps/greenbank/aliases"
FOREIGN = "/fsps/redbank/aliases"

# Kind, as it is written first, as it is asked for in a path, kind and key that come back, first display form.
SPELLINGS = [
    ("MSISDN", "+52 55 1000 0001", "MSISDN/525510000001", "MSISDN", "525510000001", "+52 55 1000 0001"),
    ("msisdn", "525510000002", "MSISDN/%2B52%2055%201000%200002", "MSISDN", "525510000002", "+52 55 1000 0002"),
    ("CLABE", "032-180-00011835971-9", "CLABE/032180000118359719", "CLABE", "032180000118359719",
     "032 180 00011835971 9"),
    ("NRC", "12/OUKAMA(N)123456", "nrc/12%2Foukama(n)123456", "NRC", "12-250019-N-123456", "12/OUKAMA(N)123456"),
    ("PERSONAL_ID", "12OUKAMAN123457", "PERSONAL_ID/12%2FOUKAMA(N)123457", "NRC", "12-250019-N-123457",
     "12/OUKAMA(N)123457"),
    ("IBAN", "gb82 west 1234 5698 7654 32", "IBAN/GB82WEST12345698765432", "IBAN", "GB82WEST12345698765432",
     "GB82 WEST 1234 5698 7654 32"),
    ("ACCOUNT_ID", "000000356", "ACCOUNT_ID/000000356", "ACCOUNT_ID", "000000356", "000000356"),
    ("PERSONAL_ID", "G20099999", "PERSONAL_ID/G20099999", "PERSONAL_ID", "G20099999", "G20099999"),
]  # fmt: skip


def register(client: httpx.Client, identifier: str, kind: str = "MSISDN", path: str = OWN, **members: Any) -> Any:
    answered = client.post(path, json={"kind": kind, "identifier": identifier, **members})
    assert answered.status_code == 201, answered.text
    return answered


def error_of(answered: httpx.Response) -> tuple[int, str]:
    return answered.status_code, answered.json()["code"]


def at_once(*calls: Callable[[], httpx.Response]) -> list[httpx.Response]:
    """Answers to calls that are all sent at the same moment."""
    barrier = threading.Barrier(len(calls))
    answers: list[httpx.Response | None] = [None] * len(calls)

    def run(number: int) -> None:
        barrier.wait()
        answers[number] = calls[number]()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(answer is not None for answer in answers)
    return [answer for answer in answers if answer is not None]


def entries_of(alias: Any) -> list[tuple[str | None, bool]]:
    return [(entry["currency"], entry["default"]) for entry in alias["entries"]]


@pytest.mark.parametrize(("kind", "written", "path", "kind_read", "canonical", "shown"), SPELLINGS)
def test_an_alias_is_found_in_every_spelling_until_it_is_removed(
    maker: httpx.Client, reader: httpx.Client, kind: str, written: str, path: str, kind_read: str, canonical: str,
    shown: str,
) -> None:  # fmt: skip
    registered = register(maker, written, kind, currency="MXN")
    alias = registered.json()
    assert (alias["kind"], alias["identifier"], alias["display"]["text"]) == (kind_read, canonical, shown)
    assert entries_of(alias) == [("MXN", True)]
    assert alias["state"] == "answered"
    for found in (reader.get(f"{OWN}/{path}"), maker.get(registered.headers["location"].removeprefix("/admin/v1"))):
        assert (found.status_code, found.json(), found.headers["etag"]) == (200, alias, registered.headers["etag"])
    again = maker.post(OWN, json={"kind": kind, "identifier": written, "currency": "MXN"})
    assert (again.status_code, again.content) == (200, registered.content)
    changed = maker.patch(f"{OWN}/{path}", json={"currency": "USD", "reason": "a test"})
    assert entries_of(changed.json()) == [("USD", True)]
    assert maker.delete(f"{OWN}/{path}", params={"reason": "correction"}).status_code == 204
    assert maker.get(f"{OWN}/{path}").status_code == 404


def test_the_hub_answers_with_it_at_once(service: Service, maker: httpx.Client) -> None:
    party = "/MSISDN/525510000005"
    path = f"{OWN}/MSISDN/525510000005"
    hub = service.hub
    assert hub.get(party).json() == {"partyList": []}
    register(maker, "525510000005", currency="MXN")
    assert hub.get(party).json() == {"partyList": [{"fspId": "greenbank", "currency": "MXN"}]}
    maker.patch(path, json={"currency": None, "reason": "any"}).raise_for_status()
    assert hub.get(party).json() == {"partyList": [{"fspId": "greenbank"}]}
    maker.delete(path, params={"reason": "user_requested"}).raise_for_status()
    assert hub.get(party).json() == {"partyList": []}


def test_display_forms_depend_on_the_kind(maker: httpx.Client) -> None:
    nrc = register(maker, "၁၂/ဥကမ(နိုင်)၁၂၃၄၅၈", "NRC").json()["display"]
    assert nrc["burmese"] == "၁၂/ဥကမ(နိုင်)၁၂၃၄၅၈"
    assert nrc["latin"] == "12/OUKAMA(N)123458"
    assert register(maker, "002010077777777771", "CLABE").json()["display"]["institution"] == "Banamex"


def test_national_forms_need_their_country(maker: httpx.Client) -> None:
    assert error_of(maker.post(OWN, json={"kind": "MSISDN", "identifier": "09 781 234 567"})) == (400, "bad_identifier")
    alias = register(maker, "09 781 234 567", country="mm").json()
    assert alias["identifier"] == "959781234567"
    assert maker.get(f"{OWN}/MSISDN/09%20781%20234567", params={"country": "MM"}).json() == alias


def test_each_sub_id_is_a_separate_alias(maker: httpx.Client) -> None:
    one = register(maker, "000000777", "ACCOUNT_ID", subId="savings")
    two = register(maker, "000000777", "ACCOUNT_ID", currency="MXN")
    assert one.headers["location"].endswith("?subId=savings")
    assert maker.get(f"{OWN}/ACCOUNT_ID/000000777?subId=savings").json() == one.json()
    assert maker.get(f"{OWN}/ACCOUNT_ID/000000777").json() == two.json()
    assert maker.delete(f"{OWN}/ACCOUNT_ID/000000777", params={"reason": "moved"}).status_code == 204
    assert maker.get(f"{OWN}/ACCOUNT_ID/000000777?subId=savings").json() == one.json()


def test_an_alias_may_have_several_currencies(maker: httpx.Client) -> None:
    path = f"{OWN}/MSISDN/525510000020"
    register(maker, "525510000020", currency="MXN")
    assert entries_of(register(maker, "525510000020", currency="USD").json()) == [("MXN", True), ("USD", False)]
    gone = maker.delete(path, params={"reason": "correction", "currency": "EUR"})
    assert error_of(gone) == (404, "not_found")
    assert maker.delete(path, params={"reason": "correction", "currency": "MXN"}).status_code == 204
    assert entries_of(maker.get(path).json()) == [("USD", True)]
    register(maker, "525510000020", currency="EUR")
    assert entries_of(maker.patch(path, json={"currency": None, "reason": "all"}).json()) == [(None, True)]


def test_an_alias_of_another_fsp_is_absent_byte_for_byte(
    maker: httpx.Client, stranger: httpx.Client, operator: httpx.Client
) -> None:
    register(maker, "525510000030", currency="MXN")
    held, free = "525510000030", "525510000031"
    change = {"currency": "USD", "reason": "mine now"}
    calls: list[tuple[str, dict[str, Any]]] = [
        ("GET", {}),
        ("GET", {"headers": {"If-None-Match": "*"}}),
        ("PATCH", {"json": change}),
        ("PATCH", {"json": change, "headers": {"If-Match": '"0"'}}),
        ("DELETE", {"params": {"reason": "fraud"}}),
        ("DELETE", {"params": {"reason": "fraud"}, "headers": {"If-Match": "*"}}),
    ]
    for client in (stranger, operator):
        for method, how in calls:
            absent = client.request(method, f"{FOREIGN}/MSISDN/{free}", **how)
            foreign = client.request(method, f"{FOREIGN}/MSISDN/{held}", **how)
            assert (foreign.status_code, foreign.content) == (absent.status_code, absent.content)
            assert foreign.status_code == 404
    items = [{"kind": "MSISDN", "identifier": each} for each in (held, free)]
    assert [item["exists"] for item in stranger.post(f"{FOREIGN}/check", json={"items": items}).json()["items"]] == [
        False,
        False,
    ]
    refused = stranger.post(FOREIGN, json={"kind": "MSISDN", "identifier": held})
    assert error_of(refused) == (409, "held_elsewhere")
    assert "greenbank" not in refused.text
    assert held not in refused.text
    assert stranger.get(f"{OWN}/MSISDN/{held}").status_code == 403
    assert entries_of(maker.get(f"{OWN}/MSISDN/{held}").json()) == [("MXN", True)]


def test_only_makers_and_operators_write(
    operator: httpx.Client, checker: httpx.Client, reader: httpx.Client, auditor: httpx.Client
) -> None:
    register(operator, "525510000040")
    for client in (checker, reader):
        assert client.get(f"{OWN}/MSISDN/525510000040").status_code == 200
        assert client.post(OWN, json={"kind": "MSISDN", "identifier": "525510000041"}).status_code == 403
        assert client.delete(f"{OWN}/MSISDN/525510000040", params={"reason": "moved"}).status_code == 403
        assert client.post("/aliases/lookup", json={"items": []}).status_code == 403
    assert auditor.get(OWN).status_code == 403


def test_every_change_of_the_answer_changes_the_version(maker: httpx.Client, operator: httpx.Client) -> None:
    path = f"{OWN}/MSISDN/525510000050"
    versions = [register(maker, "525510000050", currency="MXN").headers["etag"]]
    versions.append(register(maker, "525510000050", currency="USD").headers["etag"])
    versions.append(maker.patch(path, json={"currency": "EUR", "reason": "one"}).headers["etag"])
    assert maker.delete(path, params={"reason": "other"}, headers={"If-Match": versions[-1]}).status_code == 204
    versions.append(register(maker, "525510000050", currency="MXN").headers["etag"])
    assert maker.get(path, headers={"If-None-Match": versions[-1]}).status_code == 304
    for status in ("suspended", "active"):
        assert operator.post("/fsps/greenbank/status", json={"status": status, "reason": "a test"}).is_success
        found = maker.get(path)
        assert found.json()["state"] == ("answered" if status == "active" else "unanswered")
        versions.append(found.headers["etag"])
    assert versions[-1] == versions[-3]
    assert len(set(versions)) == len(versions) - 1
    stale = maker.patch(path, json={"currency": "GBP", "reason": "late"}, headers={"If-Match": versions[0]})
    assert error_of(stale) == (412, "version_mismatch")


@pytest.mark.parametrize("round_", range(5))
def test_of_two_writers_who_read_the_same_version_one_is_refused(maker: httpx.Client, round_: int) -> None:
    identifier = f"52551000006{round_}"
    path = f"{OWN}/MSISDN/{identifier}"
    match = {"If-Match": register(maker, identifier, currency="MXN").headers["etag"]}
    answers = at_once(
        *(
            lambda currency=currency: maker.patch(path, json={"currency": currency, "reason": "race"}, headers=match)
            for currency in ("USD", "EUR", "GBP")
        )
    )
    assert sorted(answer.status_code for answer in answers) == [200, 412, 412]
    (won,) = [answer for answer in answers if answer.is_success]
    assert maker.get(path).json() == won.json()


@pytest.mark.parametrize("round_", range(5))
def test_a_writer_after_a_removal_finds_the_new_default_entry_in_another_version(
    maker: httpx.Client, round_: int
) -> None:
    """The default entry goes while the other writer waits for it, and a further currency takes its place."""
    identifier = f"52551000007{round_}"
    path = f"{OWN}/MSISDN/{identifier}"
    register(maker, identifier, currency="MXN")
    match = {"If-Match": register(maker, identifier, currency="USD").headers["etag"]}
    removed, changed = at_once(
        lambda: maker.delete(path, params={"reason": "correction", "currency": "MXN"}, headers=match),
        lambda: maker.patch(path, json={"currency": "EUR", "reason": "race"}, headers=match),
    )
    assert (removed.status_code, changed.status_code) in {(204, 412), (412, 200)}


def test_a_repeated_registration_is_done_once(service: Service, maker: httpx.Client) -> None:
    key = {"Idempotency-Key": "alias"}
    body = {"kind": "MSISDN", "identifier": "525510000080", "currency": "MXN"}
    answers = at_once(*(lambda: maker.post(OWN, json=body, headers=key) for _ in range(4)))
    assert {(answer.status_code, answer.content) for answer in answers} == {(201, answers[0].content)}
    assert sum("idempotency-replayed" in answer.headers for answer in answers) == 3
    assert maker.delete(f"{OWN}/MSISDN/525510000080", params={"reason": "moved"}).status_code == 204
    assert maker.post(OWN, json=body, headers=key).status_code == 201
    assert maker.get(f"{OWN}/MSISDN/525510000080").status_code == 404
    events = service.fetch("SELECT action FROM events WHERE party_identifier = '525510000080' ORDER BY event_id")
    assert [event["action"] for event in events] == ["registered", "removed"]


def test_a_refusal_is_repeated_as_well(maker: httpx.Client, stranger: httpx.Client) -> None:
    register(maker, "525510000081")
    item = {"kind": "MSISDN", "identifier": "525510000081"}
    key = {"Idempotency-Key": "refused-alias"}
    first = stranger.post(FOREIGN, json=item, headers=key)
    assert maker.delete(f"{OWN}/MSISDN/{item['identifier']}", params={"reason": "moved"}).status_code == 204
    register(stranger, item["identifier"], path=FOREIGN)
    again = stranger.post(FOREIGN, json=item, headers=key)
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert error_of(stranger.post(FOREIGN, json={}, headers=key)) == (400, "invalid")


def test_an_fsp_registers_only_its_kinds_and_currencies(service: Service, operator: httpx.Client) -> None:
    may = {"fspId": "smallbank", "kinds": ["CLABE", "MSISDN"], "currencies": ["MXN"]}
    operator.post("/fsps", json=may).raise_for_status()
    maker = service.client("dfsp-maker", "smallbank")
    path = "/fsps/smallbank/aliases"
    register(maker, "646180157000000004", "CLABE", path, currency="MXN")
    register(maker, "525510000090", path=path)
    for kind, identifier, currency in (
        ("ACCOUNT_ID", "646180157000000005", None),
        ("EMAIL", "a@example.org", None),
        ("MSISDN", "525510000091", "USD"),
    ):
        refused = maker.post(path, json={"kind": kind, "identifier": identifier, "currency": currency})
        assert error_of(refused) == (409, "not_allowed")
        fact = "USD; its currencies are MXN" if currency else f"{kind}; its kinds are CLABE, MSISDN"
        assert refused.json()["detail"] == f"smallbank cannot register {fact}"
    refused = maker.patch(f"{path}/MSISDN/525510000090", json={"currency": "USD", "reason": "more"})
    assert error_of(refused) == (409, "not_allowed")
    operator.patch("/fsps/smallbank", json={"kinds": ["MSISDN"]}).raise_for_status()
    account = f"{path}/CLABE/646180157000000004"
    assert error_of(maker.patch(account, json={"currency": "MXN", "reason": "same"})) == (409, "not_allowed")
    assert maker.delete(account, params={"reason": "account_closed"}).status_code == 204


def test_an_unknown_or_inactive_fsp_registers_nothing(service: Service, operator: httpx.Client) -> None:
    body = {"kind": "MSISDN", "identifier": "525510000100"}
    assert error_of(operator.post("/fsps/nobody/aliases", json=body)) == (404, "not_found")
    assert error_of(operator.get("/fsps/nobody/aliases")) == (404, "not_found")
    assert not service.fetch("SELECT FROM fsps WHERE fsp_id = 'nobody'")
    operator.post("/fsps", json={"fspId": "latebank"}).raise_for_status()
    operator.post("/fsps/latebank/status", json={"status": "closed", "reason": "a test"}).raise_for_status()
    key = {"Idempotency-Key": "late"}
    refused = operator.post("/fsps/latebank/aliases", json=body, headers=key)
    assert error_of(refused) == (409, "fsp_not_active")
    assert operator.post("/fsps/latebank/aliases", json=body, headers=key).content == refused.content


def test_history_shows_who_changed_what_and_why(service: Service, maker: httpx.Client, operator: httpx.Client) -> None:
    path = f"{OWN}/MSISDN/525510000110"
    number = "525510000110"
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    headers = {"X-Request-ID": "walk-1", "traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"}
    maker.post(OWN, json={"kind": "MSISDN", "identifier": number, "reason": "opened"}, headers=headers)
    operator.patch(path, json={"currency": "MXN", "reason": "asked for"}, headers={"X-Request-ID": "walk-2"})
    for params in ({}, {"reason": "boredom"}, {"reason": "moved", "note": "a\nb"}, {"reason": "moved", "note": ""}):
        assert error_of(maker.delete(path, params=params)) == (400, "invalid")
    maker.delete(path, params={"reason": "moved", "note": "to bluebank"}, headers={"X-Request-ID": "walk-3"})
    events = service.fetch(
        "SELECT action, channel, actor, role, fsp_id, reason, request_id, trace_id FROM events"
        " WHERE party_identifier = $1 ORDER BY event_id",
        number,
    )
    actors = [client.get("/me").json()["credentialId"] for client in (maker, operator, maker)]
    assert [tuple(event) for event in events] == [
        ("registered", "admin", actors[0], "dfsp-maker", "greenbank", "opened", "walk-1", trace_id),
        ("changed", "admin", actors[1], "operator", "greenbank", "asked for", "walk-2", None),
        ("removed", "admin", actors[2], "dfsp-maker", "greenbank", "moved: to bluebank", "walk-3", None),
    ]


def test_under_policy_per_currency_each_fsp_sees_and_changes_its_own(
    service: Service, maker: httpx.Client, stranger: httpx.Client
) -> None:
    service.fetch("UPDATE key_policies SET policy = 'per-currency' WHERE party_id_type = 'DEVICE'")
    register(stranger, "till-1", "DEVICE", FOREIGN, currency="MXN")
    register(maker, "till-1", "DEVICE", currency="USD")
    taken = maker.post(OWN, json={"kind": "DEVICE", "identifier": "till-1", "currency": "MXN"})
    assert error_of(taken) == (409, "held_elsewhere")
    own, foreign = maker.get(f"{OWN}/DEVICE/till-1"), stranger.get(f"{FOREIGN}/DEVICE/till-1")
    assert (entries_of(own.json()), entries_of(foreign.json())) == ([("USD", False)], [("MXN", True)])
    assert [item["identifier"] for item in maker.get(OWN, params={"kind": "DEVICE"}).json()["items"]] == ["till-1"]
    match = {"If-Match": own.headers["etag"]}
    changed = maker.patch(f"{OWN}/DEVICE/till-1", json={"currency": "EUR", "reason": "moved"}, headers=match)
    assert entries_of(changed.json()) == [("EUR", False)]
    assert stranger.delete(f"{FOREIGN}/DEVICE/till-1", params={"reason": "moved"}).status_code == 204
    assert entries_of(maker.get(f"{OWN}/DEVICE/till-1").json()) == [("EUR", True)]


# Many at once ---------------------------------------------------------------------------------------------------------


def test_a_check_reports_for_each_item_whether_it_exists_or_what_is_wrong(maker: httpx.Client) -> None:
    register(maker, "525510000120")
    register(maker, "000000121", "ACCOUNT_ID", subId="savings")
    items = [
        {"kind": "MSISDN", "identifier": "+52 55 1000 0120"},
        {"kind": "MSISDN", "identifier": "55 1000 0120", "country": "MX"},
        {"kind": "MSISDN", "identifier": "525510000121"},
        {"kind": "ACCOUNT_ID", "identifier": "000000121"},
        {"kind": "ACCOUNT_ID", "identifier": "000000121", "subId": "savings"},
        {"kind": "MSISDN", "identifier": "12"},
        {"kind": "CLABE", "identifier": "032180000118359718"},
        {"kind": "FAX", "identifier": "1"},
    ]
    found = maker.post(f"{OWN}/check", json={"items": items}).json()["items"]
    assert [item["exists"] for item in found] == [True, True, False, False, True, None, None, None]
    assert [item["error"] and item["error"]["hint"] for item in found[5:]] == [
        "Reason: too_short", "Reason: bad_check_digit", "Reason: unknown_kind",
    ]  # fmt: skip
    many = [{"kind": "MSISDN", "identifier": f"5255200{number:05}"} for number in range(1_000)]
    assert len(maker.post(f"{OWN}/check", json={"items": many}).json()["items"]) == 1_000
    assert error_of(maker.post(f"{OWN}/check", json={"items": [*many, many[0]]})) == (400, "invalid")


def test_a_lookup_names_the_holder_or_the_route_that_decides(
    service: Service, operator: httpx.Client, maker: httpx.Client, stranger: httpx.Client
) -> None:
    register(maker, "701000130", "ACCOUNT_ID", currency="MXN")
    register(maker, "701000130", "ACCOUNT_ID", currency="USD")
    register(stranger, "701000131", "ACCOUNT_ID", FOREIGN, subId="savings")
    operator.post("/fsps", json={"fspId": "shutbank"}).raise_for_status()
    service.fetch(
        "INSERT INTO routes (party_id_type, prefix, fsp_id, valid_from, valid_to) VALUES"
        " ('ACCOUNT_ID', '701', 'redbank', now(), 'infinity'), ('ACCOUNT_ID', '7019', 'shutbank', now(), 'infinity'),"
        " ('ACCOUNT_ID', '7010', 'greenbank', now() - interval '2 days', now() - interval '1 day')"
    )
    operator.post("/fsps/shutbank/status", json={"status": "suspended", "reason": "a test"}).raise_for_status()
    asked: list[dict[str, Any]] = [
        {"identifier": "701000130"},
        {"identifier": "701000131"},
        {"identifier": "701000131", "subId": "savings"},
        {"identifier": "701900000"},
        {"identifier": "702000000"},
        {"identifier": "a b"},
    ]
    items = [{"kind": "ACCOUNT_ID", **item} for item in asked]
    answered = operator.post("/aliases/lookup", json={"items": items})
    found = answered.json()["items"]
    holders = [[(h["fspId"], h["subId"], h["currency"], h["default"]) for h in item["holders"]] for item in found]
    routes = [
        item["route"] and (item["route"]["prefix"], item["route"]["fspId"], item["route"]["state"]) for item in found
    ]
    savings = [("redbank", "savings", None, True)]
    greens = [("greenbank", None, "MXN", True), ("greenbank", None, "USD", False)]
    assert holders == [greens, savings, savings, [], [], []]
    to_redbank, to_shutbank = ("701", "redbank", "answered"), ("7019", "shutbank", "unanswered")
    assert routes == [None, to_redbank, None, to_shutbank, None, None]
    assert [item["error"] is None for item in found] == [True] * 5 + [False]


def test_a_hint_is_shown_as_one_and_administered_like_an_alias(
    service: Service, operator: httpx.Client, maker: httpx.Client, stranger: httpx.Client
) -> None:
    parties = {
        "fspiop-source": "redbank",
        "content-type": "application/vnd.interoperability.parties+json;version=2.0",
    }
    for identifier in ("525510000170", "525510000171", "525510000172"):
        stored = service.hub.post(f"/MSISDN/{identifier}", json={"fspId": "redbank"}, headers=parties)
        assert stored.status_code == 201
    path = f"{FOREIGN}/MSISDN/525510000170"
    hint = stranger.get(path)
    assert (hint.json()["hint"], entries_of(hint.json())) == (True, [(None, True)])
    listed = {
        each["identifier"]: each["hint"] for each in stranger.get(FOREIGN, params={"limit": 1000}).json()["items"]
    }
    assert {name for name, is_hint in listed.items() if is_hint} == {f"52551000017{n}" for n in range(3)}
    item = {"kind": "MSISDN", "identifier": "525510000170"}
    (found,) = operator.post("/aliases/lookup", json={"items": [item]}).json()["items"]
    assert [(holder["fspId"], holder["hint"]) for holder in found["holders"]] == [("redbank", True)]
    explained = operator.post("/routes/what-if", json=item).json()
    assert (explained["alias"]["fspId"], explained["alias"]["hint"]) == ("redbank", True)
    expected = "The hub found it in another scheme, at redbank (a hint), so no route is needed"
    assert explained["explanation"] == expected

    registered = maker.post(OWN, json=item)  # by another FSP
    assert (registered.status_code, registered.json()["hint"]) == (201, False)
    assert stranger.get(path).status_code == 404
    own = stranger.post(FOREIGN, json={"kind": "MSISDN", "identifier": "525510000171"})  # by its own
    assert (own.status_code, own.json()["hint"]) == (201, False)
    assert own.headers["etag"] != hint.headers["etag"]
    last = f"{FOREIGN}/MSISDN/525510000172"
    assert maker.delete(last.replace(FOREIGN, OWN), params={"reason": "other"}).status_code == 404
    assert operator.delete(last, params={"reason": "correction"}).status_code == 204
    assert service.hub.get("/MSISDN/525510000172").json() == {"partyList": []}


# What is not a request ------------------------------------------------------------------------------------------------

SECRET = "525512345678"
BODIES = [
    b"", b"null", b"[]", b"{", b'"x"', b"[" * 100_000, b'{"a":' * 50_000,
    b'{"kind":"ALIAS","identifier":"a","x":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
    b'{"kind":"MSISDN","identifier":"\\ud800525512345678"}',
    b'{"kind":"MSISDN","identifier":"\xff525512345678"}',
    b'{"kind":"ALIAS","identifier":"525512345678\\u0000"}',
    b'{"kind":"ALIAS","identifier":"525512345678","subId":"\\u0000"}',
    b'{"kind":"ALIAS","identifier":"525512345678","subId":""}',
    b'{"kind":"ALIAS","identifier":"525512345678","reason":"a\\u0000b"}',
    b'{"kind":"ALIAS","identifier":"525512345678","reason":""}',
    b'{"kind":"ALIAS","identifier":"525512345678","currency":"MXN\\n"}',
    b'{"kind":"ALIAS","identifier":"525512345678","currency":"\'525512345678"}',
    b'{"kind":"MSISDN","identifier":"5512345678","country":"\\u0130X"}',
    b'{"kind":"\'525512345678","identifier":"525512345678"}',
    b'{"kind":"ALIAS","identifier":525512345678}',
    b'{"kind":["525512345678"],"identifier":"x"}',
    b'{"525512345678":"525512345678"}',
    b'{"kind":"ALIAS","identifier":"525512345678","525512345678`\'":1}',
]  # fmt: skip
QUERIES = [
    "/ALIAS/%00", "/%00/525512345678", "/FAX/525512345678", "/MSISDN/525512345678x", "/MSISDN/52%2F5512345678",
    "/ALIAS/525512345678?subId=", "/ALIAS/525512345678?subId=%00", "/MSISDN/525512345678?country=%00%00",
    "/ALIAS/" + "5" * 5_000, "?cursor=525512345678", "?cursor=%00", "?cursor=" + "A" * 60, "?kind=525512345678",
    "?kind='525512345678", "?state=525512345678", "?changedFrom=525512345678", "?changedFrom=2026-01-01T00:00:00",
    "?changedFrom=0001-01-01T00:00:00%2B14:00", "?changedTo=9999-12-31T23:59:59-14:00", "?limit=0", "?limit=1001",
]  # fmt: skip


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
@pytest.mark.parametrize("path", [OWN, f"{OWN}/check", f"{OWN}/MSISDN/525510000150"])
def test_a_bad_body_is_refused_without_quoting_it(maker: httpx.Client, path: str, body: bytes) -> None:
    if path.endswith("/check"):
        body = b'{"items":[' + body + b"]}"
    headers = {"Content-Type": "application/json"}
    refused = maker.request("PATCH" if "MSISDN" in path else "POST", path, content=body, headers=headers)
    if not path.endswith("/check") or refused.status_code != 200:
        assert refused.status_code == 400
        assert refused.json()["hint"]
    assert SECRET not in refused.text


def test_a_body_that_is_too_large_is_refused(maker: httpx.Client) -> None:
    body = {"kind": "ALIAS", "identifier": "5" * 1_100_000}
    refused = maker.post(OWN, json=body)
    assert error_of(refused) == (413, "too_large")
    assert refused.headers["connection"] == "close"  # its rest is not read: the next request must not come behind it
    assert maker.get(OWN).status_code == 200


@pytest.mark.parametrize("query", QUERIES)
def test_a_bad_path_or_query_is_refused_without_quoting_it(maker: httpx.Client, query: str) -> None:
    refused = maker.get(OWN + query)
    assert refused.status_code == 400, refused.text
    assert refused.json()["hint"]
    assert SECRET not in refused.text


def test_no_identifier_is_logged(service: Service, maker: httpx.Client) -> None:
    maker.get(f"{OWN}/MSISDN/{SECRET}")
    logged = service.oracle.output
    assert SECRET not in logged
    assert "52551000" not in logged


def test_a_change_of_a_caller_cannot_pass_for_one_of_a_file(service: Service) -> None:
    made = service.operator.post("/fsps", json={"fspId": "fakebatch"}, headers={"X-Request-ID": "batch:1"})
    (event,) = service.fetch("SELECT request_id FROM events WHERE entity = 'fsp' AND fsp_id = 'fakebatch'")
    assert event["request_id"] == made.headers["x-request-id"] != "batch:1"
