"""What ALS finds in another scheme, stores here and takes back; with ORACLE_FSP_REGISTRATION=required."""

from __future__ import annotations

import asyncio
import re
import urllib.request
from collections import Counter
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import asyncpg
import pytest
import servers
from hub import als, shapes
from hub.inter_scheme import DISCOVERY, InterScheme, name_source
from hub.messages import (
    INTER_SCHEME,
    ISO_PARTIES,
    PARTICIPANTS,
    PARTIES,
    PAYER,
    STRANGER,
    delete,
    get,
    post,
    put,
    with_headers,
)
from hub.process import SUSPENDED, Hub, run_oracle
from hub.wire import Wire, ask
from oracle_process import PATIENCE_S, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oracle.run.embedded import PostgresServer, ValkeyServer

LEDGER: Final = frozenset({"payerfsp", "payeefsp"})
REMOTE: Final = b'{"fspId":"remotefsp"}'


@pytest.fixture(scope="module")
def hub(
    postgres_template: PostgresServer, valkey_server: ValkeyServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Hub]:
    directory = tmp_path_factory.mktemp("oracle")
    required = {"ORACLE_FSP_REGISTRATION": "required"}
    with run_oracle(postgres_template, valkey_server, directory, required, whole=True) as hub:
        fetch(hub, "UPDATE fsps SET kinds = '{EMAIL}', currencies = '{MXN}' WHERE fsp_id = 'mallory' RETURNING 1")
        fetch(hub, "INSERT INTO fsps (fsp_id, hub_changes) VALUES ('deskfsp', false) RETURNING 1")
        yield hub


@pytest.fixture
def scheme(hub: Hub) -> Iterator[InterScheme]:
    with Wire(hub.port) as wire:
        yield InterScheme(wire, LEDGER)


def fetch(hub: Hub, query: str, *arguments: Any) -> list[Any]:
    async def inside() -> list[Any]:
        connection = await asyncpg.connect(hub.database_url)
        try:
            rows: list[Any] = await connection.fetch(query, *arguments)
            return rows
        finally:
            await connection.close()

    return asyncio.run(inside())


def count_events(hub: Hub) -> Counter[tuple[str, str, str]]:
    rows = fetch(hub, "SELECT action, channel, coalesce(reason, '') FROM events WHERE entity = 'alias'")
    return Counter(tuple(row) for row in rows)


def fetch_metrics(hub: Hub) -> str:
    with urllib.request.urlopen(f"{hub.process.admin_url}/metrics", timeout=PATIENCE_S) as page:  # noqa: S310 - our own
        return str(page.read().decode())


def read_counters(hub: Hub, name: str) -> Counter[str]:
    kept = fetch_metrics(hub)  # for a second at most; each page that is made has other times
    until(lambda: fetch_metrics(hub) != kept)
    found = re.findall(rf"^moja_oracle_{name}(?:\{{(.*)\}})? ([0-9.e+]+)$", fetch_metrics(hub), re.MULTILINE)
    return Counter({labels: int(float(value)) for labels, value in found})


def expect_success(answer: Any) -> None:
    assert (answer.status, answer.body) == (201, b"{}"), answer


# The flow -----------------------------------------------------------------------------------------------------


def test_discovery_stores_a_hint_heals_it_and_begins_anew(scheme: InterScheme) -> None:
    target = b"/participants/MSISDN/525512380001"
    assert scheme.get_party(target) == DISCOVERY
    scheme.put_party(target, "remotefsp")
    assert scheme.heard == ["remotefsp"]
    assert scheme.get_party(target) == "remotefsp"
    assert scheme.put_party_error(target, "remotefsp") == DISCOVERY  # the customer has left that FSP
    scheme.put_party(target, "strangerfsp")
    assert scheme.get_party(target) == "strangerfsp"
    scheme.put_party(target, "remotefsp")  # and is back; nobody said goodbye
    assert scheme.get_party(target) == "remotefsp"
    assert scheme.heard == ["remotefsp", "strangerfsp", "remotefsp"]


def test_a_local_fsp_that_wins_the_customer_replaces_the_hint(hub: Hub, scheme: InterScheme) -> None:
    target = b"/participants/MSISDN/525512380002"
    scheme.put_party(target, "remotefsp")
    als.read_post(scheme.wire.ask(post(target, PAYER)))
    assert scheme.get_party(target) == "payerfsp"
    scheme.put_party(target, "remotefsp")  # a late answer
    assert scheme.heard == ["remotefsp", "remotefsp"]
    assert scheme.get_party(target) == "payerfsp"
    assert scheme.put_party_error(target, "remotefsp") == "payerfsp"
    scheme.clean_up(target, "nosuch")
    assert scheme.get_party(target) == "payerfsp"
    counted = read_counters(hub, "changes_total")
    shapes.expect_refusal(
        scheme.wire.ask(post(target, b'{"fspId":"strangerfsp"}', STRANGER)), 409, {"3003"}, als.read_post
    )
    assert read_counters(hub, "changes_total") - counted == {'operation="register",result="refused"': 1}
    found = fetch(hub, "SELECT after::text FROM events WHERE party_identifier = '525512380002' ORDER BY event_id")
    assert ['"hint": true' in (row["after"] or "") for row in found] == [True, False, False, False]


def test_a_bulk_replaces_the_hints_among_its_parties(scheme: InterScheme) -> None:
    identifiers = [f"52551238010{n}" for n in range(6)]
    targets = [f"/participants/MSISDN/{identifier}".encode() for identifier in identifiers]
    for target in targets[1:4]:
        scheme.put_party(target, "remotefsp")
    als.read_post(scheme.wire.ask(post(targets[5], b'{"fspId":"strangerfsp"}', STRANGER)))
    items = [{"partyIdType": "MSISDN", "partyIdentifier": each, "fspId": "payerfsp"} for each in identifiers]
    answer = scheme.wire.ask(post(b"/participants", shapes.dump_json({"requestId": "b51e", "partyList": items})))
    assert [error for _, error in als.read_bulk(answer, items)] == [None] * 5 + ["3003"]
    assert {scheme.get_party(target) for target in targets[:5]} == {"payerfsp"}


def test_a_clean_up_without_subid_takes_the_hints_under_every_subid(scheme: InterScheme) -> None:
    target = b"/participants/BUSINESS/acme-380"
    als.read_post(scheme.wire.ask(post(target, b'{"fspId":"payerfsp","partySubIdOrType":"till1"}')))
    for sub_id in (None, "till7", "till8"):
        scheme.put_party(target, "remotefsp", sub_id)
        assert scheme.get_party(target, sub_id) == "remotefsp"
    als.read_delete(scheme.wire.ask(delete(target + b"?partySubIdOrType=till8", PARTIES)))
    assert [scheme.get_party(target, sub_id) for sub_id in ("till7", "till8")] == ["remotefsp", DISCOVERY]
    scheme.clean_up(target, "remotefsp")
    found = [scheme.get_party(target, sub_id) for sub_id in (None, "till7", "till1")]
    assert found == [DISCOVERY, DISCOVERY, "payerfsp"]


def test_the_fsp_of_a_hint_owns_it(scheme: InterScheme) -> None:
    target, other = b"/participants/MSISDN/525512380003", b"/participants/MSISDN/525512380004"
    mine = name_source(PARTICIPANTS, "remotefsp")
    for each in (target, other):
        scheme.put_party(each, "remotefsp")
    als.read_delete(scheme.wire.ask(delete(target, mine)))
    assert scheme.get_party(target) == DISCOVERY
    shapes.expect_refusal(scheme.wire.ask(put(other, PAYER)), 404, {"3204"}, als.read_put)
    als.read_put(scheme.wire.ask(put(other, b'{"fspId":"remotefsp","currency":"MXN"}', mine)))
    scheme.clean_up(other, "remotefsp")  # a registration now
    assert als.read_lookup(scheme.wire.ask(get(other))) == "remotefsp"


@pytest.mark.parametrize(
    "content_type",
    [
        b"application/vnd.interoperability.parties+json;version=1.1",
        b"application/vnd.interoperability.iso20022.parties+json;version=2.0",
        b"Application/VND.Interoperability.Parties+JSON ; Version=2.0",
        b"application/vnd.interoperability.parties+json;charset=utf-8;version=2.0",
        b"application/vnd.interoperability.parties+json",
    ],
)
def test_every_form_of_the_content_type_means_a_hint(scheme: InterScheme, content_type: bytes) -> None:
    target = b"/participants/MSISDN/525512380005"
    own = re.compile(rb"(?m)^content-type: [^\r]*")
    scheme.put_party(target, "remotefsp", headers=own.sub(b"content-type: " + content_type, INTER_SCHEME))
    assert scheme.get_party(target) == "remotefsp"
    als.read_delete(scheme.wire.ask(delete(target, own.sub(b"content-type: " + content_type, PARTIES))))
    assert scheme.get_party(target) == DISCOVERY


@pytest.mark.parametrize(
    "content_type",
    [
        b"application/vnd.interoperability.participants+json;version=2.0;note=.parties+json",
        b"application/vnd.interoperability.participants+json",
        b"application/json",
        b"",
    ],
)
def test_no_other_content_type_does(scheme: InterScheme, content_type: bytes) -> None:
    target = b"/participants/MSISDN/525512380006"
    headers = re.sub(rb"(?m)^content-type: [^\r]*", b"content-type: " + content_type, PARTICIPANTS)
    als.read_post(scheme.wire.ask(post(target, PAYER, headers)))
    scheme.clean_up(target, "payerfsp")
    assert scheme.get_party(target) == "payerfsp"
    als.read_delete(scheme.wire.ask(delete(target, headers)))


def test_bulks_and_updates_are_never_hints(scheme: InterScheme) -> None:
    target = b"/participants/MSISDN/525512380007"
    item = {"partyIdType": "MSISDN", "partyIdentifier": "525512380007", "fspId": "payerfsp"}
    bulk = shapes.dump_json({"requestId": "b51e", "partyList": [item]})
    assert als.read_bulk(scheme.wire.ask(post(b"/participants", bulk, PARTIES)), [item]) == [(item, None)]
    als.read_put(scheme.wire.ask(put(target, b'{"fspId":"payerfsp","currency":"MXN"}', PARTIES)))
    scheme.clean_up(target, "payerfsp")
    assert scheme.get_party(target) == "payerfsp"
    shapes.expect_refusal(scheme.wire.ask(post(b"/participants", b"{}", PARTIES)), 400, {"3102"}, als.read_post)
    shapes.expect_refusal(
        scheme.wire.ask(put(b"/participants/MSISDN/12&", PAYER, PARTIES)), 400, {"3101"}, als.read_put
    )


# Never an error -----------------------------------------------------------------------------------------------

IGNORED: Final = {
    "unknown_fsp": [("unknownfsp", b"/participants/MSISDN/525512381001", b'{"fspId":"unknownfsp"}'),
                    (SUSPENDED, b"/participants/MSISDN/525512381002", b'{"fspId":"suspendedfsp"}')],
    "not_allowed": [("mallory", b"/participants/MSISDN/525512381003", b'{"fspId":"mallory"}'),
                    ("mallory", b"/participants/EMAIL/a@example.com", b'{"fspId":"mallory","currency":"USD"}')],
    "hub_changes_off": [("deskfsp", b"/participants/MSISDN/525512381005", b'{"fspId":"deskfsp"}')],
    "held_elsewhere": [("remotefsp", b"/participants/MSISDN/525512381000", REMOTE),
                       ("remotefsp", b"/participants/MSISDN/525512381000?currency=USD", REMOTE)],
    "bad_request": [("remotefsp", b"/participants/MSISDN/525512381004", body) for body in (
        b"", b" ", b"not json", b"[]", b"{}", b'{"fspId":7}', b'{"fspId":"payeefsp"}', b"\xff\xfe",
        b'{"fspId":"remotefsp","currency":"pesos"}')],
    "bad_identifier": [("remotefsp", b"/participants/BUSINESS/acme-381",
                        b'{"fspId":"remotefsp","partySubIdOrType":"a/b&c"}')],
}  # fmt: skip
# What is wrong with these is seen before the directory could record anything about a party.
DAMAGED: Final = (
    b"/participants/MSISDN/abc", b"/participants/MSISDN/1", b"/participants/IBAN/XX", b"/participants/PERSONAL_ID/12&",
    b"/participants/ALIAS/tom&amp;jerry", b"/participants/ALIAS/100%", b"/participants/ALIAS/%FF",
    b"/participants/ALIAS/" + b"x" * 129, b"/participants/CLABE/032180000118359719", b"/participants/MSISDN/1/2/3/4",
    b"/participants/ALIAS/x?nonsense=1", b"/participants/ALIAS/x?currency=", b"//participants/MSISDN/-",
)  # fmt: skip


@pytest.mark.parametrize("reason", IGNORED)
def test_a_hint_that_cannot_be_stored_is_recorded_and_no_error(hub: Hub, scheme: InterScheme, reason: str) -> None:
    held = b"/participants/MSISDN/525512381000"
    als.read_post(scheme.wire.ask(post(held, PAYER)))
    before, counted = count_events(hub), read_counters(hub, "hints_ignored_total")
    for source, target, body in IGNORED[reason]:
        expect_success(scheme.wire.ask(post(target, body, name_source(INTER_SCHEME, source))))
        expected = "payerfsp" if held in target else DISCOVERY
        assert scheme.get_party(target.partition(b"?")[0]) == expected
    count = len(IGNORED[reason])
    assert count_events(hub) - before == {
        ("ignored", "self-heal", f"hint not stored: {reason.replace('_', ' ')}"): count
    }
    assert read_counters(hub, "hints_ignored_total") - counted == {f'reason="{reason}"': count}
    assert fetch(hub, "SELECT FROM fsps WHERE fsp_id = 'unknownfsp'") == []


@pytest.mark.parametrize("headers", [INTER_SCHEME, ISO_PARTIES], ids=["fspiop", "iso"])
def test_a_damaged_identifier_is_no_error_and_no_change(hub: Hub, scheme: InterScheme, headers: bytes) -> None:
    """Nor in the log: an identifier is personal data."""
    before = count_events(hub)
    counted, removals = read_counters(hub, "hints_ignored_total"), read_counters(hub, "ignored_removals_total")
    for target in DAMAGED:
        expect_success(scheme.wire.ask(post(target, REMOTE, name_source(headers, "remotefsp"))))
        als.read_delete(scheme.wire.ask(delete(target, headers)))
        assert scheme.wire.ask(post(target, REMOTE, name_source(PARTICIPANTS, "remotefsp"))).status in (400, 404)
    assert count_events(hub) == before
    assert sum((read_counters(hub, "hints_ignored_total") - counted).values()) == len(DAMAGED)
    assert sum((read_counters(hub, "ignored_removals_total") - removals).values()) == len(DAMAGED)
    assert not re.search(r"jerry|x{20}|032180000118359719", hub.process.output)


def test_a_hint_without_a_source_is_no_error(scheme: InterScheme) -> None:
    without = re.sub(rb"fspiop-source: [^\r]*\r\n", b"", INTER_SCHEME)
    for headers in (without, with_headers(INTER_SCHEME, b"fspiop-source: other")):
        expect_success(scheme.wire.ask(post(b"/participants/MSISDN/525512381005", REMOTE, headers)))
        als.read_delete(scheme.wire.ask(delete(b"/participants/MSISDN/525512381005", headers)))
    assert scheme.get_party(b"/participants/MSISDN/525512381005") == DISCOVERY


def test_a_registration_of_an_unknown_fsp_is_refused_as_before(scheme: InterScheme) -> None:
    headers = name_source(PARTICIPANTS, "unknownfsp")
    answer = scheme.wire.ask(post(b"/participants/MSISDN/525512381006", b'{"fspId":"unknownfsp"}', headers))
    shapes.expect_refusal(answer, 400, {"3201"}, als.read_post)


def test_the_limits_of_http_stay_errors(hub: Hub) -> None:
    target = b"/participants/MSISDN/525512381007"
    huge = INTER_SCHEME.replace(b"User-Agent:", b"Content-Length: 99999999\r\nUser-Agent:", 1)
    assert ask(hub.port, b"POST " + target + b" HTTP/1.1\r\n" + huge + b"\r\n").status == 413
    assert ask(hub.port, post(b"/elsewhere/MSISDN/1", REMOTE, INTER_SCHEME)).status == 404
    twice = with_headers(INTER_SCHEME, b"content-type: application/vnd.interoperability.participants+json")
    for method in (post, put):
        assert ask(hub.port, method(target, REMOTE, twice)).status == 400


def test_without_the_directory_the_flow_of_als_goes_on(hub: Hub, postgres_template: PostgresServer) -> None:
    name, target = urlsplit(hub.database_url).path.strip("/"), b"/participants/MSISDN/525512381008"
    counted = read_counters(hub, "hints_ignored_total")

    def administer(*statements: str) -> None:
        for statement in statements:
            asyncio.run(servers.administer(postgres_template, statement))

    administer(
        f"ALTER DATABASE {name} ALLOW_CONNECTIONS false",
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'",  # noqa: S608
        f"ALTER DATABASE {name} RENAME TO {name}_away",
    )
    try:
        expect_success(ask(hub.port, post(target, REMOTE, INTER_SCHEME)))
        als.read_delete(ask(hub.port, delete(target, PARTIES)))
        shapes.expect_refusal(ask(hub.port, post(target, PAYER)), 503, {"2003"}, als.read_post)
    finally:
        administer(
            f"ALTER DATABASE {name}_away RENAME TO {name}",
            f"ALTER DATABASE {name} ALLOW_CONNECTIONS true",
        )
    assert read_counters(hub, "hints_ignored_total") - counted == {'reason="unavailable"': 1}
    until(lambda: ask(hub.port, get(target)).status == 200)
    assert shapes.expect_party_list(ask(hub.port, get(target))) == []
