"""Lists of aliases: their filters and pages, and that no alias that exists throughout is missed."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import random
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import asyncpg
import httpx
import pytest
from query_plans import count_read, list_scans, read_plan, write_explain

from oracle.api.admin.alias_export import Export, write_ndjson
from oracle.api.admin.alias_list import Filter
from oracle.identifiers import Reading
from oracle.imports.reading import Reader, RowChecks
from oracle.store.postgres import open_postgres

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from admin_service import Service

WITHOUT_HUB = True  # see admin_service

OWN = "/fsps/greenbank/aliases"

# Kind and identifier, currencies.
STANDING: list[tuple[str, str, list[str | None]]] = [
    ("MSISDN", "525520000001", ["MXN"]),
    ("MSISDN", "525520000002", ["MXN", "USD", "EUR"]),
    ("MSISDN", "525520000003", [None]),
    ("NRC", "12-250019-N-200001", ["MMK"]),
    ("PERSONAL_ID", "G20012345", [None]),
    ("CLABE", "032180000118359719", ["MXN"]),
    ("ACCOUNT_ID", "032180000118359718", ["MXN", "USD"]),
    ("ACCOUNT_ID", "000000356", [None]),
    ("IBAN", "GB82WEST12345698765432", ["GBP"]),
    ("ALIAS", "tía-lupe", [None]),
]


@pytest.fixture(scope="module")
def standing(maker: httpx.Client) -> list[Any]:
    """Registered one after the other; as they are answered."""
    for kind, identifier, currencies in STANDING:
        for currency in currencies:
            body = {"kind": kind, "identifier": identifier, "currency": currency}
            assert maker.post(OWN, json=body).status_code == 201
    return [maker.get(f"{OWN}/{kind}/{identifier}").json() for kind, identifier, _ in STANDING]


def walk(client: httpx.Client, at: str = OWN, **params: Any) -> Iterator[Any]:
    """All items of a list, page after page."""
    while True:
        answered = client.get(at, params=params)
        assert answered.status_code == 200, answered.text
        yield from answered.json()["items"]
        if answered.json()["next"] is None:
            return
        params["cursor"] = answered.json()["next"]


def names(items: Iterable[Any]) -> list[str]:
    return [item["identifier"] for item in items]


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_the_pages_together_are_all_aliases_each_once(reader: httpx.Client, standing: list[Any], limit: int) -> None:
    order = ["MSISDN", "EMAIL", "PERSONAL_ID", "BUSINESS", "DEVICE", "ACCOUNT_ID", "IBAN", "ALIAS"]
    wanted = sorted(standing, key=lambda alias: order.index(alias["partyIdType"]))
    assert list(walk(reader, limit=limit)) == wanted


@pytest.mark.usefixtures("standing")
@pytest.mark.parametrize("limit", [1, 100])
@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("MSISDN", ["525520000001", "525520000002", "525520000003"]),
        ("CLABE", ["032180000118359719"]),
        ("ACCOUNT_ID", ["032180000118359719", "032180000118359718", "000000356"]),
        ("NRC", ["12-250019-N-200001"]),
        ("PERSONAL_ID", ["12-250019-N-200001", "G20012345"]),
        ("DEVICE", []),
    ],
)
def test_a_kind_that_is_stored_as_a_wider_one_is_recognised_by_its_form(
    reader: httpx.Client, kind: str, wanted: list[str], limit: int
) -> None:
    assert names(walk(reader, kind=kind, limit=limit)) == wanted


@pytest.mark.usefixtures("standing")
@pytest.mark.parametrize("limit", [1, 100])
@pytest.mark.parametrize(
    ("params", "wanted"),
    [
        ({"currency": "USD"}, ["525520000002", "032180000118359718"]),
        ({"currency": "mxn", "kind": "MSISDN"}, ["525520000001", "525520000002"]),
        ({"currency": "MXN", "kind": "CLABE"}, ["032180000118359719"]),
        ({"currency": "USD", "prefix": "525520"}, ["525520000002"]),
        ({"currency": "MXN", "prefix": "032"}, ["032180000118359718", "032180000118359719"]),
        ({"currency": "JPY"}, []),
    ],
)
def test_a_currency_lists_the_aliases_with_an_entry_in_it(
    reader: httpx.Client, params: dict[str, str], wanted: list[str], limit: int
) -> None:
    assert names(walk(reader, limit=limit, **params)) == wanted
    lines = reader.get(f"{OWN}/export", params={**params, "format": "aliases"}).text.splitlines()
    assert sorted(names(map(json.loads, lines))) == sorted(wanted)


def test_a_currency_is_read_with_the_time_of_its_entry(reader: httpx.Client, standing: list[Any]) -> None:
    changed = {entry["currency"]: entry["changedAt"] for entry in standing[1]["entries"]}
    for currency, wanted in (("MXN", []), ("EUR", ["525520000002"])):
        params = {"currency": currency, "kind": "MSISDN", "changedFrom": changed["EUR"]}
        assert names(walk(reader, **params)) == wanted
        lines = reader.get(f"{OWN}/export", params={**params, "format": "aliases"}).text.splitlines()
        assert names(map(json.loads, lines)) == wanted


@pytest.mark.parametrize("limit", [1, 100])
def test_a_time_range_lists_the_aliases_that_changed_in_it(
    reader: httpx.Client, standing: list[Any], limit: int
) -> None:
    several = standing[1]
    first, second, third = sorted(entry["changedAt"] for entry in several["entries"])
    for since, until, there in (
        (first, second, True),
        (second, third, True),
        (third, None, True),
        (None, first, False),
    ):
        params: dict[str, Any] = {"changedFrom": since, "changedTo": until, "kind": "MSISDN", "limit": limit}
        found = list(walk(reader, **{name: value for name, value in params.items() if value is not None}))
        assert (several in found) is there
        assert names(found).count(several["identifier"]) == there
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    assert not list(walk(reader, changedFrom=tomorrow))


def test_the_state_is_that_of_the_fsp(operator: httpx.Client) -> None:
    path = "/fsps/redbank/aliases"
    operator.post(path, json={"kind": "MSISDN", "identifier": "525520000100"}).raise_for_status()
    for status, state, other in (("suspended", "unanswered", "answered"), ("active", "answered", "unanswered")):
        operator.post("/fsps/redbank/status", json={"status": status, "reason": "a test"}).raise_for_status()
        assert names(walk(operator, path, state=state)) == ["525520000100"]
        assert not list(walk(operator, path, state=other))


@pytest.mark.usefixtures("standing")
def test_a_cursor_works_for_one_caller_and_one_filter_and_reveals_nothing(
    operator: httpx.Client, reader: httpx.Client
) -> None:
    cursor = reader.get(OWN, params={"limit": 1, "kind": "MSISDN"}).json()["next"]
    assert b"5255" not in base64.urlsafe_b64decode(cursor + "==")
    assert reader.get(OWN, params={"limit": 2, "kind": "MSISDN", "cursor": cursor}).is_success
    for client, path, kind in (
        (operator, OWN, "MSISDN"),
        (reader, OWN, "ALIAS"),
        (operator, "/fsps/redbank/aliases", "MSISDN"),
    ):
        refused = client.get(path, params={"limit": 1, "kind": kind, "cursor": cursor})
        assert (refused.status_code, refused.json()["code"]) == (400, "invalid")


def test_a_filter_that_finds_nothing_costs_a_bounded_page(service: Service, operator: httpx.Client) -> None:
    operator.post("/fsps", json={"fspId": "sparsebank"}).raise_for_status()
    service.fetch(
        "INSERT INTO aliases (party_id_type, identifier, fsp_id)"
        " SELECT 'ACCOUNT_ID', 'A' || n, 'sparsebank' FROM generate_series(1, 5000) AS n"
    )
    path = "/fsps/sparsebank/aliases"
    operator.post(path, json={"kind": "CLABE", "identifier": "002010077777777771"}).raise_for_status()
    first = operator.get(path, params={"kind": "CLABE"}).json()
    assert first["items"] == []
    assert first["next"]
    assert names(walk(operator, path, kind="CLABE")) == ["002010077777777771"]


def test_aliases_of_one_instant_are_not_lost_between_pages(service: Service, operator: httpx.Client) -> None:
    """As rows of one statement did once; some that were read already go away between the pages."""
    operator.post("/fsps", json={"fspId": "tiebank"}).raise_for_status()
    service.fetch(
        "INSERT INTO aliases (party_id_type, identifier, fsp_id, changed_at)"
        " SELECT 'MSISDN', '5255300' || lpad(n::text, 5, '0'), 'tiebank', '2026-01-01'"
        " FROM generate_series(1, 300) AS n"
    )
    path = "/fsps/tiebank/aliases"
    seen = []
    pages = itertools.count()
    params: dict[str, Any] = {"limit": 40}
    while True:
        answered = operator.get(path, params=params).json()
        seen += names(answered["items"])
        if answered["next"] is None:
            break
        params["cursor"] = answered["next"]
        gone = f"5255300{next(pages) * 40 + 1:05}"
        assert operator.delete(f"{path}/MSISDN/{gone}", params={"reason": "other"}).status_code == 204
    assert seen == [f"5255300{number:05}" for number in range(1, 301)]


@pytest.mark.parametrize("limit", [1, 2])
@pytest.mark.parametrize("removed", ["MXN", "USD"])
def test_an_alias_that_loses_a_currency_between_two_pages_is_not_missed(
    operator: httpx.Client, removed: str, limit: int
) -> None:
    fsp_id = f"bank-{removed}-{limit}"
    operator.post("/fsps", json={"fspId": fsp_id}).raise_for_status()
    path = f"/fsps/{fsp_id}/aliases"
    identifiers = [f"till-{removed}-{limit}-{number}" for number in range(3)]
    for identifier, currency in [*((each, "MXN") for each in identifiers), (identifiers[0], "USD")]:
        body = {"kind": "DEVICE", "identifier": identifier, "currency": currency}
        operator.post(path, json=body).raise_for_status()
    first = operator.get(path, params={"limit": limit}).json()
    gone = operator.delete(f"{path}/DEVICE/{identifiers[0]}", params={"reason": "correction", "currency": removed})
    assert gone.status_code == 204
    rest = walk(operator, path, limit=limit, cursor=first["next"])
    assert {*names(first["items"]), *names(rest)} == set(identifiers)


def changing(service: Service, fsp_id: str, stop: threading.Event, seed: int, done: list[int]) -> None:
    """Give every second alias of `stay` currencies and take some away, never the last; and others come and go."""
    rng = random.Random(seed)
    path = f"/fsps/{fsp_id}/aliases"
    with httpx.Client(base_url=f"{service.oracle.admin_url}/admin/v1", timeout=30) as maker:
        maker.headers["Authorization"] = f"Bearer {service.issue('dfsp-maker', fsp_id)}"
        while not stop.is_set():
            number = rng.randrange(100) * 2 + 1 + seed
            kind, identifier = ["MSISDN", "ALIAS"][number % 2], f"5255400{number:05}"
            currency = rng.choice(["USD", "EUR"])
            answers = [maker.post(path, json={"kind": kind, "identifier": identifier, "currency": currency})]
            alias = f"{path}/{kind}/{identifier}"
            if rng.randrange(3) == 0:
                answers.append(maker.delete(alias, params={"reason": "other", "currency": "MXN"}))
            if rng.randrange(2) == 0:
                answers.append(maker.patch(alias, json={"currency": "MXN", "reason": "a test"}))
            fleeting = f"5255{seed + 5}00{rng.randrange(50):05}"
            answers.append(maker.post(path, json={"kind": "MSISDN", "identifier": fleeting}))
            answers.append(maker.delete(f"{path}/MSISDN/{fleeting}", params={"reason": "other"}))
            done.append(sum(answer.is_success for answer in answers))


def test_no_alias_that_exists_throughout_is_missed(service: Service, operator: httpx.Client) -> None:
    operator.post("/fsps", json={"fspId": "busybank"}).raise_for_status()
    service.fetch(
        "INSERT INTO aliases (party_id_type, identifier, fsp_id, currency)"
        " SELECT (ARRAY['MSISDN', 'ALIAS'])[n % 2 + 1]::party_id_type, '5255400' || lpad(n::text, 5, '0'),"
        " 'busybank', 'MXN' FROM generate_series(1, 200) AS n"
    )
    stay = {f"5255400{number:05}" for number in range(1, 201)}
    stop = threading.Event()
    done: list[int] = []
    writers = [threading.Thread(target=changing, args=(service, "busybank", stop, seed, done)) for seed in (0, 1)]
    for writer in writers:
        writer.start()
    path = "/fsps/busybank/aliases"
    try:
        for walks, limit in enumerate(itertools.cycle((7, 3, 20, 11))):
            assert stay <= set(names(walk(operator, path, limit=limit)))
            assert all(writer.is_alive() for writer in writers)
            if walks >= 4 and sum(done) > 150:
                break
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    found = names(walk(operator, path))
    assert stay <= set(found)
    assert len(found) == len(set(found))


# Prefixes and exports -----------------------------------------------------------------------------------------

ODD: list[tuple[str, str, list[str | None]]] = [
    ("MSISDN", "+9512345678", ["MMK", "USD"]),  # its digits alone could be a number of Mexico, too
    ("ALIAS", "tom,dick", [None, "MXN"]),
    ("ALIAS", "-lupe", [None]),  # a spreadsheet would run it
    ("ACCOUNT_ID", "000000357", [None]),
    ("CLABE", "646180110400000007", ["MXN"]),
    ("EMAIL", "ana@example.org", [None]),
    ("NRC", "12-250019-N-200777", [None]),
]


@pytest.fixture(scope="module")
def oddbank(service: Service) -> httpx.Client:
    """A maker whose FSP has aliases that a file can spoil; default country Mexico."""
    service.operator.post("/fsps", json={"fspId": "oddbank", "defaultCountry": "MX"}).raise_for_status()
    client = service.client("dfsp-maker", "oddbank")
    for kind, identifier, currencies in ODD:
        for currency in currencies:
            body = {"kind": kind, "identifier": identifier, "currency": currency}
            client.post("/fsps/oddbank/aliases", json=body).raise_for_status()
    client.post(
        "/fsps/oddbank/aliases", json={"kind": "BUSINESS", "identifier": "B1", "subId": "till,1"}
    ).raise_for_status()
    return client


def entries(service: Service, fsp_id: str) -> set[tuple[Any, ...]]:
    return {
        tuple(row)
        for row in service.fetch(
            "SELECT party_id_type::text, identifier, sub_id, currency FROM aliases WHERE fsp_id = $1 UNION ALL"
            " SELECT party_id_type::text, identifier, sub_id, currency FROM alias_currencies WHERE fsp_id = $1",
            fsp_id,
        )
    }


@pytest.mark.parametrize("form", ["csv", "ndjson"])
def test_an_import_reads_from_an_export_what_the_directory_holds(
    service: Service, oddbank: httpx.Client, form: Literal["csv", "ndjson"]
) -> None:
    # A hint is no registration: an import would make one of it.
    service.fetch("UPDATE aliases SET is_hint = true WHERE identifier = 'ana@example.org'")
    exported = oddbank.get("/fsps/oddbank/aliases/export", params={"format": form})
    reader = Reader(RowChecks(Reading(), default_country="MX"), file_format=form)
    chunks = reader.feed(exported.content) + reader.finish()
    rows = [row for chunk in chunks for row in chunk.rows]
    refused = [row for row in rows if row.code]
    assert [row.code for row in refused] == ["formula"]  # which no file can register
    read = [(row.party_id_type, row.identifier, row.sub_id, row.currency) for row in rows if not row.code]
    left_out = {("ALIAS", "-lupe", "", ""), ("EMAIL", "ana@example.org", "", "")}
    assert sorted(read) == sorted(entries(service, "oddbank") - left_out)
    assert {row.action for row in rows if not row.code} == {"add"}
    # The default entry comes first: it answers lookups without a currency.
    assert [row.currency for row in rows if row.party_id_type == "MSISDN"] == ["MMK", "USD"]


def test_no_spreadsheet_runs_a_cell_of_an_export(oddbank: httpx.Client) -> None:
    lines = oddbank.get("/fsps/oddbank/aliases/export").text.splitlines()
    assert lines[0] == "kind,identifier,sub_id,currency,country,action"
    assert {"MSISDN,'+9512345678,,MMK,,", "ALIAS,'-lupe,,,,"} <= set(lines)
    assert 'ALIAS,"tom,dick",,MXN,,' in lines
    assert 'BUSINESS,B1,"till,1",,,' in lines


@pytest.mark.usefixtures("standing")
@pytest.mark.parametrize(
    "params",
    [{}, {"kind": "MSISDN"}, {"kind": "CLABE"}, {"kind": "PERSONAL_ID"}, {"prefix": "03218"}, {"state": "unanswered"},
     {"kind": "MSISDN", "prefix": "+52 55 2000 0002"}, {"changedFrom": "2020-01-01T00:00:00Z"},
     {"changedTo": "2020-01-01T00:00:00Z"},
     {"prefix": "12-OUKAMA"}, {"kind": "NRC", "prefix": "12/OUKAMA", "changedTo": "2090-01-01T00:00:00Z"}],
)  # fmt: skip
def test_an_export_has_the_aliases_that_the_list_has(reader: httpx.Client, params: dict[str, str]) -> None:
    exported = reader.get(f"{OWN}/export", params={**params, "format": "aliases"})
    assert exported.headers["content-type"] == "application/x-ndjson"
    listed = [{name: value for name, value in each.items() if name != "display"} for each in walk(reader, **params)]

    def write(alias: Any) -> str:
        return json.dumps(alias, sort_keys=True)

    assert sorted(map(write, map(json.loads, exported.text.splitlines()))) == sorted(map(write, listed))


@pytest.mark.usefixtures("standing")
@pytest.mark.parametrize("limit", [1, 2, 100])
@pytest.mark.parametrize(
    ("params", "wanted"),
    [
        ({"prefix": "52552"}, ["525520000001", "525520000002", "525520000003"]),
        ({"prefix": "+52 55 2000 0002", "kind": "MSISDN"}, ["525520000002"]),
        ({"prefix": "0321800001183597"}, ["032180000118359718", "032180000118359719"]),
        ({"prefix": "032", "kind": "CLABE"}, ["032180000118359719"]),
        ({"prefix": "12/OUKAMA", "kind": "NRC"}, ["12-250019-N-200001"]),
        ({"prefix": "12/OUKAMA"}, ["12-250019-N-200001"]),
        ({"prefix": "၁၂/ဥကမ"}, ["12-250019-N-200001"]),
        ({"prefix": "12-OUKAMA"}, ["12-250019-N-200001"]),
        ({"prefix": "032 180"}, ["032180000118359718", "032180000118359719"]),
        ({"prefix": "gb82 west"}, ["GB82WEST12345698765432"]),
        ({"prefix": "gb82 west", "kind": "IBAN"}, ["GB82WEST12345698765432"]),
        ({"prefix": "tía"}, ["tía-lupe"]),
        ({"prefix": "52559"}, []),
    ],
)
def test_a_prefix_lists_what_begins_so_in_the_order_of_the_identifiers(
    reader: httpx.Client, params: dict[str, str], wanted: list[str], limit: int
) -> None:
    assert names(walk(reader, limit=limit, **params)) == wanted


@pytest.mark.parametrize(
    "params", [{"prefix": "521", "kind": "MSISDN"}, {"prefix": "GB", "kind": "MSISDN"}, {"prefix": ""}]
)
@pytest.mark.parametrize("path", [OWN, f"{OWN}/export"])
def test_a_prefix_with_which_nothing_begins_is_refused(reader: httpx.Client, path: str, params: dict[str, str]) -> None:
    assert reader.get(path, params=params).status_code == 400


@pytest.mark.parametrize("path", [OWN, f"{OWN}/export"])
@pytest.mark.parametrize(
    ("kind", "prefix", "form"),
    [("NRC", "12/OU", "12/OUKAMA(N)12"), ("MSISDN", "0", "calling code"), ("CLABE", "03a", "3 to 17 digits")],
)
def test_a_refused_prefix_shows_the_form_of_its_kind(
    reader: httpx.Client, path: str, kind: str, prefix: str, form: str
) -> None:
    refused = reader.get(path, params={"prefix": prefix, "kind": kind}).json()
    assert (refused["code"], refused["field"]) == ("bad_prefix", "prefix")
    assert form in refused["hint"]


def test_a_prefix_is_a_range_of_an_index(service: Service) -> None:
    """Of two FSPs that share the numbers of a country, with a plan for these arguments as in the service."""
    service.fetch("INSERT INTO fsps (fsp_id) VALUES ('plan-0'), ('plan-1')")
    service.fetch(
        "INSERT INTO aliases (party_id_type, identifier, fsp_id)"
        " SELECT 'MSISDN', '5255600' || lpad(n::text, 5, '0'), 'plan-' || n % 2 FROM generate_series(0, 19999) AS n"
    )
    service.fetch("ANALYZE aliases")
    fsp, begin, end = ["'plan-1'", "'MSISDN'"], "'52556001999'", "'52556001999\U0010ffff'"
    place = [*fsp, begin, end]
    times = ["'2000-01-01'", "'9999-01-01'"]
    for query, arguments in (
        ("aliases_beginning", [*fsp, begin, "''", end, *times, "101", "NULL"]),
        ("aliases_beginning", [*fsp, "'525560019994'", "'\x01'", end, *times, "101", "'MXN'"]),
        ("aliases_page_in_currency", [*fsp, *reversed(times), "''", "''", "101", "'MXN'"]),
        ("aliases_export", place),
        ("aliases_export_changed", [*place, *times]),
        ("aliases_export_in_currency", [*place, *times, "'MXN'"]),
    ):
        scans = list(list_scans(explain(service, query, arguments), "aliases"))
        assert scans, query
        for scan in scans:
            assert "Index Cond" in scan, (query, scan)
            # All of the index are a hundred blocks and more.
            assert scan["Shared Hit Blocks"] + scan["Shared Read Blocks"] <= 30, (query, scan)


def test_a_prefix_that_only_other_fsps_have_reads_nothing_of_theirs(service: Service) -> None:
    """With many aliases of one's own, the planner once hoped to meet one soon, and read all of the others."""
    service.fetch("INSERT INTO fsps (fsp_id) VALUES ('north'), ('south')")
    service.fetch("ALTER TABLE aliases DISABLE TRIGGER USER")  # history is not read here, and takes seconds
    service.fetch(
        "INSERT INTO aliases (party_id_type, identifier, fsp_id)"
        " SELECT 'MSISDN', CASE n % 3 WHEN 0 THEN '9595' ELSE '5299' END || lpad(n::text, 8, '0'),"
        " CASE n % 3 WHEN 0 THEN 'south' ELSE 'north' END FROM generate_series(0, 89999) AS n"
    )
    service.fetch("ALTER TABLE aliases ENABLE TRIGGER USER")
    service.fetch("ANALYZE aliases")
    times = ["'2000-01-01'", "'9999-01-01'"]
    never = ["'3000-01-01'", "'9999-01-01'"]
    for fsp, prefix, period, currency in (
        ("south", "5299", times, "NULL"), ("south", "5299", times, "'MXN'"), ("north", "9595", times, "NULL"),
        ("north", "5299", never, "NULL"), ("north", "5299", times, "'USD'"), ("south", "9595", times, "NULL"),
    ):  # fmt: skip
        arguments = [f"'{fsp}'", "'MSISDN'", f"'{prefix}'", "''", f"'{prefix}\U0010ffff'", *period, "101", currency]
        plan = explain(service, "aliases_beginning", arguments)
        assert list(list_scans(plan, "aliases"))
        assert count_read(plan, "aliases") <= 101, (fsp, prefix, plan)


def explain(service: Service, query: str, arguments: list[str]) -> Any:
    """Run a query with these arguments, as SQL; return its plan."""
    return read_plan(service.fetch(write_explain(query, arguments))[0][0])


def test_an_export_is_one_moment_which_it_names(service: Service, oddbank: httpx.Client) -> None:
    """Changes between two portions are not in it."""
    service.fetch("INSERT INTO fsps (fsp_id) VALUES ('momentbank')")
    service.fetch(
        "INSERT INTO aliases (party_id_type, identifier, fsp_id)"
        " SELECT (ARRAY['MSISDN', 'ALIAS'])[n % 2 + 1]::party_id_type, '5255700' || lpad(n::text, 5, '0'), 'momentbank'"
        " FROM generate_series(0, 2999) AS n"
    )
    found = asyncio.run(read_while_changing(service.database_url))
    assert found == {f"5255700{number:05}" for number in range(3_000)}
    began = datetime.now(UTC)
    at = oddbank.get("/fsps/oddbank/aliases/export").headers["snapshot-at"]
    assert began - timedelta(seconds=60) < datetime.fromisoformat(at) < datetime.now(UTC) + timedelta(seconds=60)


async def read_while_changing(database_url: str) -> set[str]:
    wanted = Filter.of("momentbank", None, None, None, None, None, [("MSISDN", ""), ("ALIAS", "")])
    async with open_postgres(database_url, desk=True) as postgres:
        export = Export(postgres.streams, wanted, write_ndjson(Reading(), None), 60)
        parts = export.parts(b"")
        lines = [await anext(parts), await anext(parts)]
        connection = await asyncpg.connect(database_url)
        await connection.execute("DELETE FROM aliases WHERE fsp_id = 'momentbank'")
        await connection.close()
        lines += [part async for part in parts]
    return {json.loads(line)["identifier"] for line in b"".join(lines).splitlines()}


def test_an_export_is_recorded_before_it_is_answered(service: Service, oddbank: httpx.Client) -> None:
    oddbank.get("/fsps/oddbank/aliases/export", params={"prefix": "5255", "kind": "MSISDN"}).raise_for_status()
    (row,) = service.fetch(
        "SELECT asked, fsp_id, role, details::text FROM audit_reads WHERE details ->> 'prefix' = '5255'"
    )
    assert tuple(row)[:3] == ("aliases", "oddbank", "dfsp-maker")
    assert json.loads(row["details"]) == {"kind": "MSISDN", "prefix": "5255", "as": "csv"}
