"""Bulk registration: one answer for each item, in order; one bad item never fails the others."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from hub import als, shapes
from hub.messages import MINE, PARTICIPANTS, PAYER, STRANGER, get, post
from hub.process import Hub, run_oracle
from hub.wire import Answer, Wire, ask

from oracle.store.bulk import PART

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from oracle.run.embedded import PostgresServer, ValkeyServer

Item = dict[str, Any]


@pytest.fixture(scope="module")
def hub(
    postgres_template: PostgresServer, valkey_server: ValkeyServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Hub]:
    with run_oracle(postgres_template, valkey_server, tmp_path_factory.mktemp("oracle")) as hub:
        yield hub


def item(kind: str, identifier: str, sub_id: str = "", currency: str = "MXN", fsp_id: str = "payerfsp") -> Item:
    """Make an item with the members in the order of ALS."""
    return {
        "partyIdType": kind,
        "partyIdentifier": identifier,
        "fspId": fsp_id,
        **({"partySubIdOrType": sub_id} if sub_id else {}),
        **({"currency": currency} if currency else {}),
    }


def bulk(items: Sequence[object], headers: bytes = PARTICIPANTS, **more: object) -> bytes:
    body = {"requestId": "b51ec534-ee48-4575-b6a9-ead2955b8069", "partyList": items} | more
    return post(b"/participants", shapes.dump_json({k: v for k, v in body.items() if v is not None}), headers)


def list_codes(answer: Answer, items: Sequence[Item]) -> list[str | None]:
    """List the error code of each item, or None.  ALS must be able to pass on the whole answer."""
    assert answer.status == 201, answer
    body = answer.json()
    assert set(body) == {"partyList"}
    for entry in body["partyList"]:
        assert set(entry) <= {"partyId", "errorInformation"}
        if "errorInformation" in entry:
            shapes.read_code(entry["errorInformation"])
    results = als.read_bulk(answer, items)
    for (party_id, _), asked in zip(results, items, strict=True):
        assert party_id == {k: v for k, v in asked.items() if k != "currency"}
    return [code for _, code in results]


def find_holder(hub: Hub, target: str) -> str | None:
    entries = shapes.expect_party_list(ask(hub.port, get(target.encode())))
    return entries[0]["fspId"] if entries else None


def test_the_captured_form(hub: Hub) -> None:
    """One item without and one with a SubId; ALS writes the currency into each."""
    items = [item("BUSINESS", "acme-bulk-1"), item("BUSINESS", "acme-bulk-1", "S")]
    raw = post(
        b"/participants",
        b'{"requestId":"b51ec534-ee48-4575-b6a9-ead2955b8069","partyList":['
        b'{"partyIdType":"BUSINESS","partyIdentifier":"acme-bulk-1","fspId":"payerfsp","currency":"MXN"},'
        b'{"partyIdType":"BUSINESS","partyIdentifier":"acme-bulk-1","fspId":"payerfsp","partySubIdOrType":"S",'
        b'"currency":"MXN"}]}',
    )
    assert list_codes(ask(hub.port, raw), items) == [None, None]
    assert shapes.expect_party_list(ask(hub.port, get(b"/participants/BUSINESS/acme-bulk-1"))) == [
        {"fspId": "payerfsp", "currency": "MXN"}
    ]
    assert shapes.expect_party_list(
        ask(hub.port, get(b"/participants/BUSINESS/acme-bulk-1?partySubIdOrType=S")), "S"
    ) == [{"fspId": "payerfsp", "currency": "MXN", "partySubIdOrType": "S"}]


def test_the_same_bulk_again_is_no_error(hub: Hub) -> None:
    """ALS repeats a requestId for each type; a DFSP repeats a bulk if it gets no answer."""
    items = [item("MSISDN", f"52551235{n:04}") for n in range(20)]
    with Wire(hub.port) as wire:
        for _ in range(2):
            assert list_codes(wire.ask(bulk(items)), items) == [None] * 20
        other = [item("BUSINESS", f"acme-again-{n}") for n in range(3)]
        assert list_codes(wire.ask(bulk(other)), other) == [None] * 3


def test_a_bulk_without_request_id_or_currency(hub: Hub) -> None:
    items = [item("MSISDN", "525512352000", currency="")]
    assert list_codes(ask(hub.port, bulk(items, requestId=None)), items) == [None]
    assert shapes.expect_party_list(ask(hub.port, get(b"/participants/MSISDN/525512352000"))) == MINE


def test_bad_items_do_not_touch_the_good_ones(hub: Hub) -> None:
    assert ask(hub.port, post(b"/participants/MSISDN/525512353001", PAYER)).status == 201
    taken = item("MSISDN", "525512353001", fsp_id="strangerfsp")
    items = [
        item("MSISDN", "525512353002", fsp_id="strangerfsp"),
        taken,
        item("EMAIL", "not-an-email", fsp_id="strangerfsp"),
        item("MSISDN", "525512353003", fsp_id="payerfsp"),
        item("CLABE", "032180000118359719", fsp_id="strangerfsp"),
        item("MSISDN", "12", fsp_id="strangerfsp"),
        item("ALIAS", "tom&jerry", fsp_id="strangerfsp"),
        item("ACCOUNT_ID", "032180000118359710", "CLABE", fsp_id="strangerfsp"),
        item("ALIAS", "x" * 129, fsp_id="strangerfsp"),
        item("MSISDN", "525512353004", fsp_id="strangerfsp"),
    ]
    codes = list_codes(ask(hub.port, bulk(items, STRANGER)), items)
    assert [codes[at] for at in (0, 9)] == [None, None]
    assert codes[1] == "3003"
    assert all(code in {"3100", "3101"} for code in (*codes[2:9],)), codes
    assert find_holder(hub, "/participants/MSISDN/525512353001") == "payerfsp"
    assert find_holder(hub, "/participants/MSISDN/525512353002") == "strangerfsp"
    assert find_holder(hub, "/participants/MSISDN/525512353003") is None
    assert find_holder(hub, "/participants/MSISDN/525512353004") == "strangerfsp"


def test_a_bulk_of_bad_items_alone_is_still_a_201(hub: Hub) -> None:
    items = [item("EMAIL", "not-an-email"), item("MSISDN", "12")]
    assert all(code in {"3100", "3101"} for code in list_codes(ask(hub.port, bulk(items)), items))


@pytest.mark.parametrize("missing", ["fspId", "partyIdType", "partyIdentifier"])
def test_an_item_that_lacks_a_member(hub: Hub, missing: str) -> None:
    broken = {k: v for k, v in item("MSISDN", "525512354000").items() if k != missing}
    whole = item("MSISDN", f"52551235401{len(missing) % 10}")
    answer = ask(hub.port, bulk([broken, whole]))
    results = als.read_bulk(answer, [broken, whole])
    assert [code for _, code in results] == ["3102", None]
    assert results[0][0].items() <= broken.items()


def test_duplicates_within_one_bulk(hub: Hub) -> None:
    """The same entry twice has the effect of one; another SubId or type is another entry."""
    items = [
        item("BUSINESS", "acme-twice"),
        item("BUSINESS", "acme-twice"),
        item("BUSINESS", "acme-twice", "a"),
        item("DEVICE", "acme-twice"),
        item("BUSINESS", "acme-twice", "a"),
        item("MSISDN", "525512355000"),
        item("MSISDN", "+525512355000"),
        item("MSISDN", "5215512355000"),  # with the 1 that Mexican numbers no longer have
    ]
    assert list_codes(ask(hub.port, bulk(items)), items) == [None] * 8
    assert find_holder(hub, "/participants/MSISDN/525512355000") == "payerfsp"


def test_a_conflict_with_an_alias_that_the_bulk_names_twice(hub: Hub) -> None:
    assert ask(hub.port, post(b"/participants/ALIAS/taken", PAYER)).status == 201
    items = [
        item("ALIAS", "taken", fsp_id="strangerfsp"),
        item("ALIAS", "free", fsp_id="strangerfsp"),
        item("ALIAS", "taken", fsp_id="strangerfsp"),
    ]
    assert list_codes(ask(hub.port, bulk(items, STRANGER)), items) == ["3003", None, "3003"]


def test_an_nrc_with_its_slash_resolves_in_every_spelling(hub: Hub) -> None:
    """In JSON the slash arrives undamaged; on the path it needs another spelling."""
    items = [item("PERSONAL_ID", "12/OUKAMA(N)123456", "NATIONAL_REGISTRATION", currency="")]
    assert list_codes(ask(hub.port, bulk(items)), items) == [None]
    with Wire(hub.port) as wire:
        for spelling in (b"12-OUKAMA-N-123456", b"12%2FOUKAMA(N)123456", b"12-250019-n-123456"):
            for sub_id in ("", "NATIONAL_REGISTRATION", "NATIONAL_ID_CARD"):
                query = b"?partySubIdOrType=" + sub_id.encode() if sub_id else b""
                answer = wire.ask(get(b"/participants/PERSONAL_ID/" + spelling + query))
                entries = shapes.expect_party_list(answer, sub_id or None)
                assert [entry["fspId"] for entry in entries] == ["payerfsp"], (spelling, sub_id)


def test_ten_thousand_items(hub: Hub) -> None:
    """The most items that FSPIOP allows, in the size that ALS gives them."""
    items = [item("BUSINESS", f"acme-{n:05}-with-a-rather-long-identifier", f"till-{n % 7}") for n in range(10_000)]
    raw = bulk(items)
    assert len(raw) > 940_066, "as large as the largest that was captured"
    answer = ask(hub.port, raw)  # within ALS's 20 s
    assert list_codes(answer, items) == [None] * 10_000
    found = ask(
        hub.port,
        get(b"/participants/BUSINESS/acme-09999-with-a-rather-long-identifier?partySubIdOrType=till-3"),
    )
    assert shapes.expect_party_list(found, "till-3")[0]["fspId"] == "payerfsp"


@pytest.mark.parametrize(
    ("body", "codes"),
    [
        (b"", {"3100", "3101", "3102"}),
        (b"{}", {"3102"}),
        (b"[]", {"3100", "3101"}),
        (b"null", {"3100", "3101"}),
        (b"{", {"3100", "3101"}),
        (b'{"partyList":{}}', {"3100", "3101"}),
        (b'{"partyList":null}', {"3100", "3101", "3102"}),
        (b'{"partyList":[]}', {"3100", "3101", "3102"}),
        (b'{"partyList":"x"}', {"3100", "3101"}),
        (b'{"partyList":[' + b",".join([b"{}"] * 10_001) + b"]}", {"3103"}),
    ],
    ids=lambda value: value[:20].decode() if isinstance(value, bytes) else "",
)
def test_a_body_that_is_not_a_bulk_is_refused_as_a_whole(hub: Hub, body: bytes, codes: set[str]) -> None:
    shapes.expect_refusal(ask(hub.port, post(b"/participants", body)), 400, codes, als.read_post)


@pytest.mark.parametrize("odd", [None, 1, "x", [], True])
def test_an_item_that_is_not_an_object_changes_no_alias(hub: Hub, odd: object) -> None:
    """ALS never sends such an item.  It can pass on either refusal: of the bulk, or of the item."""
    answer = ask(hub.port, bulk([odd, item("ALIAS", "beside-an-odd-one")]))
    if answer.status == 201:
        assert [code for _, code in als.read_bulk(answer, [{}, {}])] != [None, None]
    else:
        shapes.expect_refusal(answer, 400, {"3100", "3101"}, als.read_post)


def test_a_bulk_of_an_fsp_that_is_suspended(hub: Hub) -> None:
    items = [item("ALIAS", f"of-a-suspended-one-{n}", fsp_id="suspendedfsp") for n in range(3)]
    headers = PARTICIPANTS.replace(b"source: payerfsp", b"source: suspendedfsp")
    assert list_codes(ask(hub.port, bulk(items, headers)), items) == ["3201"] * 3
    assert find_holder(hub, "/participants/ALIAS/of-a-suspended-one-0") is None


def test_a_bulk_without_source(hub: Hub) -> None:
    headers = PARTICIPANTS.replace(b"fspiop-source: payerfsp\r\n", b"")
    answer = ask(hub.port, bulk([item("ALIAS", "nobody's".replace("'", ""))], headers))
    shapes.expect_refusal(answer, 400, {"3102"}, als.read_post)


def test_a_bulk_that_fails_in_the_middle_names_what_is_not_registered(hub: Hub) -> None:
    """ALS does not repeat a bulk: after the first part that is registered, each item has its own answer."""

    async def lock(identifier: str) -> None:
        connection = await asyncpg.connect(hub.database_url)
        try:
            await connection.execute(f"""
                CREATE FUNCTION lock_one() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                    RAISE EXCEPTION 'locked' USING ERRCODE = '55P03';
                END $$;
                CREATE TRIGGER lock_one BEFORE INSERT ON aliases FOR EACH ROW
                WHEN (NEW.identifier = '{identifier}') EXECUTE FUNCTION lock_one()
            """)
        finally:
            await connection.close()

    items = [item("BUSINESS", f"partly-{n:04}") for n in range(PART + 150)]
    asyncio.run(lock(f"partly-{PART + 120:04}"))
    codes = list_codes(ask(hub.port, bulk(items)), items)
    registered = codes.index("2003")
    assert PART <= registered <= PART + 120
    assert codes == [None] * registered + ["2003"] * (len(items) - registered)
    assert find_holder(hub, f"/participants/BUSINESS/partly-{registered - 1:04}") == "payerfsp"
    assert find_holder(hub, f"/participants/BUSINESS/partly-{registered:04}") is None
    asyncio.run(lock_none(hub))
    assert list_codes(ask(hub.port, bulk(items)), items) == [None] * len(items)


async def lock_none(hub: Hub) -> None:
    connection = await asyncpg.connect(hub.database_url)
    try:
        await connection.execute("DROP TRIGGER lock_one ON aliases; DROP FUNCTION lock_one()")
    finally:
        await connection.close()
