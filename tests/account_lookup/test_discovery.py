"""Discovery of parties in other schemes: who is asked, what the payer gets, and when."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import pytest
import servers
from harness import row
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oracle.api.dfsp.asked import Asked, Party
from oracle.api.dfsp.callbacks import Callbacks
from oracle.api.dfsp.discovery import Discovery, read_code
from oracle.api.dfsp.faults import Fault
from oracle.api.dfsp.inquiries import (
    KEPT_S,
    OPEN_MAX,
    Inquiries,
    Inquiry,
    begin_telling,
    finish_telling,
    take_answer,
    take_error,
)
from oracle.api.dfsp.mappings import Mappings
from oracle.calls import Answer, Call, CallFailed
from oracle.scheme.base import PATHS, LedgerUnavailable, Participant
from oracle.store.cache.topology import dialler
from oracle.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from conftest import StartValkey

    from oracle.run.embedded import ValkeyServer
    from oracle.store.base import Session

PARTY = Party("MSISDN", "525512345678")
WITH_SUB_ID = PARTY._replace(sub_id="S:1")
GET, PUT = "GET", "PUT"


@dataclass
class Participants:
    """A scheme with these FSPs; `away`: its source does not answer."""

    proxies: Sequence[str] = ("proxya", "proxyb")
    fsps: Sequence[str] = ("payerfsp", "payeefsp")
    away: bool = False

    def recall_participant(self, fsp_id: str) -> Participant | None: ...

    def recall_endpoint(self, fsp_id: str, endpoint_type: str) -> str | None: ...

    async def find_participant(self, fsp_id: str) -> Participant | None:
        if self.away:
            raise LedgerUnavailable
        known = fsp_id in self.fsps or fsp_id in self.proxies
        return Participant(fsp_id, is_proxy=fsp_id in self.proxies) if known else None

    async def find_endpoint(self, fsp_id: str, endpoint_type: str) -> str | None:
        known = await self.find_participant(fsp_id) is not None
        return f"http://{fsp_id}{PATHS[endpoint_type]}" if known else None

    async def list_proxies(self) -> Sequence[str]:
        if self.away:
            raise LedgerUnavailable
        return self.proxies

    def forget_endpoints(self) -> None: ...

    async def close(self) -> None: ...


@dataclass
class Wire:
    """Notes all calls.  Hosts in `dead` cannot be reached."""

    calls: list[Call] = field(default_factory=list)
    dead: set[str] = field(default_factory=set)

    async def call(self, call: Call, *, timeout_s: float | None = None) -> Answer:  # noqa: ARG002
        await asyncio.sleep(0)
        self.calls.append(call)
        if call.url.split("/")[2] in self.dead:
            raise CallFailed("unreachable", sent=False)
        return Answer(202 if call.method == GET else 200)

    async def close(self) -> None: ...

    def sent(self, method: str = PUT) -> list[str]:
        return [call.url for call in self.calls if call.method == method]


class Entry(NamedTuple):
    fsp_id: str


@dataclass
class Hints:
    """A directory of one party."""

    entries: list[Entry] = field(default_factory=list)
    put: list[str] = field(default_factory=list)
    forgotten: int = 0
    fault: Fault | None = None

    async def find(self, asked: Asked, party: Party, currency: str | None) -> Sequence[Entry]:
        assert (asked.party, currency) == (party, None)
        return self.entries

    async def put_hint(self, asked: Asked, party: Party, fsp_id: str) -> None:
        assert asked.party == party
        if self.fault is not None:
            raise self.fault
        self.put.append(fsp_id)

    async def forget_hints(self, asked: Asked, party: Party) -> None:
        assert asked.party == party
        self.forgotten += 1


@dataclass
class Rig:
    discovery: Discovery
    scheme: Participants
    wire: Wire
    hints: Hints

    async def settle(self) -> Hints:
        await self.discovery.close()
        return self.hints


def make(session: Session | None, *, timeout_s: float = 20.0, asks: bool = True, **scheme: Any) -> Rig:
    participants, wire, hints = Participants(**scheme), Wire(), Hints()
    metrics = Metrics.open(None, "dfsp", 0)
    callbacks = Callbacks(participants, wire, hub_name="Hub", signer=None, iso20022=False, metrics=metrics)
    discovery = Discovery(
        participants, callbacks, lambda _type, _currency: hints, lambda: session,
        prefix="t", asks_proxies=asks, timeout_s=timeout_s,
    )  # fmt: skip
    return Rig(discovery, participants, wire, hints)


def get(party: Party = PARTY, source: str = "payerfsp", **other: Any) -> Asked:
    headers = [(b"Date", b"Sat, 28 Nov 2020 10:00:00 GMT"), (b"FSPIOP-Source", source.encode()), (b"x-own", b"1")]
    headers += [(b"FSPIOP-Destination", other["destination"].encode())] if "destination" in other else []
    return Asked(GET, "parties", source, headers, party=party, **other)


def put(proxy: str, party: Party = PARTY, payer: str = "payerfsp", source: str = "farfsp", **other: Any) -> Asked:
    return Asked(PUT, "parties", source, (), party=party, destination=payer, proxy=proxy, **other)


def error(proxy: str, party: Party = PARTY, code: str = "3204", **other: Any) -> Asked:
    body = b'{"errorInformation":{"errorCode":"%b","errorDescription":"x"}}' % code.encode()
    return put(proxy, party, is_error=True, body=body, **other)


@asynccontextmanager
async def dial(url: str) -> AsyncIterator[Session]:
    session = await dialler(url, timeout_ms=30_000, token_ms=1_000)()
    try:
        yield session
    finally:
        session.close()


@pytest.fixture(params=["redis", "memory"])
def place(request: pytest.FixtureRequest) -> str | None:
    """Both places in which inquiries can be: the URL of Redis, or None."""
    url: str | None = request.getfixturevalue("redis_url") if request.param == "redis" else None
    return url


@pytest.fixture
async def session(place: str | None) -> AsyncIterator[Session | None]:
    if place is None:
        yield None
        return
    async with dial(place) as opened:
        yield opened


async def tell(*rigs: Rig, count: int = 1) -> None:
    """Let the workers look until so many payers have an error."""
    told = 0
    while told < count:
        told += sum(await asyncio.gather(*(rig.discovery.tell_due() for rig in rigs)))
        await asyncio.sleep(0.002)


# -- questions --------------------------------------------------------------------------------------------------------


async def test_each_proxy_gets_the_question_without_a_destination(session: Session | None) -> None:
    rig = make(session)
    assert await rig.discovery.start(get(destination="nosuchfsp"))
    assert sorted(rig.wire.sent(GET)) == [f"http://proxy{name}/parties/MSISDN/525512345678" for name in "ab"]
    for call in rig.wire.calls:
        names = [name.lower() for name, _ in call.headers]
        assert b"fspiop-destination" not in names
        assert (b"FSPIOP-Source", b"payerfsp") in call.headers


async def test_a_question_with_a_sub_id_goes_to_its_endpoint(session: Session | None) -> None:
    rig = make(session, proxies=["proxya"])
    assert await rig.discovery.start(get(WITH_SUB_ID))
    assert rig.wire.sent(GET) == ["http://proxya/parties/MSISDN/525512345678/S:1"]


async def test_the_proxy_that_the_question_came_through_is_not_asked(session: Session | None) -> None:
    rig = make(session)
    assert await rig.discovery.start(get(source="farfsp", proxy="proxya"))
    assert rig.wire.sent(GET) == ["http://proxyb/parties/MSISDN/525512345678"]
    assert not await make(session, proxies=["proxya"]).discovery.start(get(source="farfsp", proxy="proxya"))


async def test_without_proxies_nobody_is_asked(session: Session | None) -> None:
    rig = make(session, proxies=[])
    assert not await rig.discovery.start(get())
    assert rig.wire.calls == []


async def test_a_service_without_other_schemes_asks_and_remembers_nothing(session: Session | None) -> None:
    rig = make(session, asks=False)
    rig.hints.entries = [Entry("farfsp")]
    assert not await rig.discovery.start(get())
    await rig.discovery.remember("farfsp", "proxya")
    assert await rig.discovery.find_proxy("farfsp") is None
    assert await rig.discovery.take_answer(put("proxya"))
    assert await rig.discovery.take_error(error("proxya"))
    assert (await rig.settle(), rig.wire.calls) == (Hints([Entry("farfsp")]), [])


@row("X03")
async def test_a_scheme_that_does_not_answer_is_not_one_without_proxies(session: Session | None) -> None:
    with pytest.raises(Fault, match="2003"):
        await make(session, away=True).discovery.start(get())


async def test_a_proxy_that_cannot_be_called_has_answered_with_an_error(session: Session | None) -> None:
    rig = make(session)
    rig.wire.dead = {"proxya"}
    assert await rig.discovery.start(get())
    assert await rig.discovery.take_error(error("proxyb"))


async def test_the_payer_gets_3201_if_no_proxy_can_be_called(session: Session | None) -> None:
    rig = make(session, timeout_s=0.001)
    rig.wire.dead = {"proxya", "proxyb"}
    with pytest.raises(Fault) as raised:
        await rig.discovery.start(get())
    text = "Destination FSP Error - Proxy connection error - no successful requests sent to proxies"
    assert raised.value.code == "3201"
    assert raised.value.description == text
    await asyncio.sleep(0.002)
    assert not await rig.discovery.tell_due()  # no second error follows


async def test_one_payer_cannot_open_any_number_of_inquiries_about_one_party(session: Session | None) -> None:
    rig = make(session)
    for _ in range(OPEN_MAX):
        assert await rig.discovery.start(get())
    with pytest.raises(Fault, match="2005"):
        await rig.discovery.start(get())
    assert await rig.discovery.start(get(source="payeefsp"))


# -- answers ----------------------------------------------------------------------------------------------------------


async def test_the_first_party_becomes_a_hint_and_all_are_forwarded(session: Session | None) -> None:
    rig = make(session)
    await rig.discovery.start(get())
    assert await rig.discovery.take_answer(put("proxyb", source="farfsp"))
    assert await rig.discovery.take_answer(put("proxya", source="otherfsp"))
    assert (await rig.settle()).put == ["farfsp"]


async def test_a_hint_is_not_kept_for_a_payer_of_another_scheme(session: Session | None) -> None:
    rig = make(session)
    await rig.discovery.start(get(source="strangefsp", proxy="proxya"))
    assert await rig.discovery.take_answer(put("proxyb", payer="strangefsp"))
    assert (await rig.settle()).put == []


async def test_a_directory_that_refuses_the_hint_does_not_keep_the_party_from_the_payer(
    session: Session | None,
) -> None:
    rig = make(session)
    rig.hints.fault = Fault("3003")
    await rig.discovery.start(get())
    assert await rig.discovery.take_answer(put("proxya"))
    await rig.settle()


async def test_only_the_last_error_is_forwarded(session: Session | None) -> None:
    rig = make(session, proxies=["proxya", "proxyb", "proxyc"])
    await rig.discovery.start(get())
    forwarded = [await rig.discovery.take_error(error(proxy)) for proxy in ("proxyc", "proxya", "proxyb")]
    assert forwarded == [False, False, True]


async def test_no_error_is_forwarded_after_a_party(session: Session | None) -> None:
    rig = make(session, proxies=["proxya", "proxyb", "proxyc"], timeout_s=0.001)
    await rig.discovery.start(get())
    assert not await rig.discovery.take_error(error("proxya"))
    assert await rig.discovery.take_answer(put("proxyb"))
    assert not await rig.discovery.take_error(error("proxyc"))
    await asyncio.sleep(0.002)
    assert not await rig.discovery.tell_due()
    assert (await rig.settle()).forgotten == 0


@row("X08", "D701")
async def test_two_questions_at_once_get_two_answers(session: Session | None) -> None:
    rig = make(session)
    assert all(await asyncio.gather(rig.discovery.start(get()), rig.discovery.start(get())))
    assert len(rig.wire.sent(GET)) == 4
    assert await rig.discovery.take_answer(put("proxya"))
    assert not await rig.discovery.take_error(error("proxyb"))
    assert not await rig.discovery.take_error(error("proxyb"))
    assert await rig.discovery.take_answer(put("proxya"))


async def test_two_questions_at_once_that_fail_get_two_errors(session: Session | None) -> None:
    rig = make(session)
    await asyncio.gather(rig.discovery.start(get()), rig.discovery.start(get()))
    answers = [await rig.discovery.take_error(error(proxy)) for proxy in ("proxya", "proxyb", "proxyb", "proxya")]
    assert answers == [False, True, False, True]


async def test_an_answer_belongs_to_its_sub_id_its_party_and_its_payer(session: Session | None) -> None:
    rig = make(session, proxies=["proxya"])
    await rig.discovery.start(get(WITH_SUB_ID))
    await rig.discovery.take_answer(put("proxya"))
    await rig.discovery.take_answer(put("proxya", PARTY._replace(identifier="525512345679"), payer="payerfsp"))
    await rig.discovery.take_answer(put("proxya", WITH_SUB_ID, payer="payeefsp"))
    await rig.discovery.take_answer(put("proxyb", WITH_SUB_ID))
    assert (await rig.settle()).put == []
    await rig.discovery.take_answer(put("proxya", WITH_SUB_ID))
    assert (await rig.settle()).put == ["farfsp"]


async def test_a_message_without_a_proxy_or_a_destination_is_forwarded(session: Session | None) -> None:
    rig = make(session)
    await rig.discovery.start(get())
    for asked in (put("proxya"), error("proxya")):
        for missing in ({"proxy": None}, {"destination": None}):
            values = {name: getattr(asked, name) for name in asked.__struct_fields__}
            changed = Asked(**{**values, **missing})
            assert await rig.discovery.take_answer(changed)
            assert await rig.discovery.take_error(changed)
    assert (await rig.settle()).put == []


# -- time -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("party", "path"),
    [
        (PARTY, "/parties/MSISDN/525512345678/error"),
        (WITH_SUB_ID, "/parties/MSISDN/525512345678/S:1/error"),
        (Party("ALIAS", "a:b:c"), "/parties/ALIAS/a:b:c/error"),
    ],
)
async def test_a_payer_gets_3300_if_no_proxy_answers_in_time(session: Session | None, party: Party, path: str) -> None:
    rig = make(session, timeout_s=0.01)
    before = time.time()
    await rig.discovery.start(get(party))
    await tell(rig)
    assert rig.wire.sent() == [f"http://payerfsp{path}"]
    call = rig.wire.calls[-1]
    headers = dict(call.headers)
    assert call.body == b'{"errorInformation":{"errorCode":"3300","errorDescription":"Generic expired error"}}'
    assert headers[b"fspiop-source"] == b"Hub"
    assert headers[b"fspiop-destination"] == b"payerfsp"
    assert headers[b"content-type"] == b"application/vnd.interoperability.parties+json;version=2.0"
    assert parsedate_to_datetime(headers[b"date"].decode()).timestamp() >= int(before)
    assert not await rig.discovery.tell_due()


async def test_a_payer_of_another_scheme_gets_its_error_through_its_proxy(session: Session | None) -> None:
    rig = make(session, timeout_s=0.001)
    await rig.discovery.start(get(source="strangefsp", proxy="proxya"))
    await tell(rig)
    assert rig.wire.sent() == ["http://proxya/parties/MSISDN/525512345678/error"]
    assert dict(rig.wire.calls[-1].headers)[b"fspiop-destination"] == b"strangefsp"


async def test_no_answer_follows_our_error_but_the_hint_is_kept(session: Session | None) -> None:
    rig = make(session, timeout_s=0.001)
    await rig.discovery.start(get())
    await tell(rig)
    assert not await rig.discovery.take_answer(put("proxya"))
    assert not await rig.discovery.take_error(error("proxyb"))
    assert (await rig.settle()).put == ["farfsp"]


async def test_a_question_after_the_error_gets_its_own_answer(session: Session | None) -> None:
    rig = make(session, timeout_s=0.05)
    await rig.discovery.start(get())
    await tell(rig)
    await rig.discovery.start(get())
    assert await rig.discovery.take_answer(put("proxya"))
    assert not await rig.discovery.take_answer(put("proxya"))  # that of the first


async def test_of_two_workers_one_tells_the_payer(redis_url: str) -> None:
    async with dial(redis_url) as first, dial(redis_url) as second:
        rigs = [make(each, timeout_s=0.01) for each in (first, second)]
        for number in range(20):
            await rigs[0].discovery.start(get(Party("MSISDN", f"5255{number:08}")))
        await tell(*rigs, count=20)
        assert sorted(rigs[0].wire.sent() + rigs[1].wire.sent()) == [
            f"http://payerfsp/parties/MSISDN/5255{number:08}/error" for number in range(20)
        ]


async def test_another_worker_tells_the_payer_if_one_is_killed_meanwhile(redis_url: str) -> None:
    async with dial(redis_url) as first, dial(redis_url) as second:
        killed = Inquiries(lambda: first, "t", 0.001, lease_s=0.05)
        other = Inquiries(lambda: second, "t", 0.001, lease_s=0.05)
        assert await killed.open(get(), PARTY, ["proxya"])
        claimed = asyncio.Event()

        async def hang(_: Asked) -> None:
            claimed.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(repeat(lambda: killed.tell_due(hang)))
        await claimed.wait()
        task.cancel()
        told: list[Asked] = []

        async def note(asked: Asked) -> None:
            told.append(asked)

        await repeat(lambda: other.tell_due(note))
        assert [asked.source for asked in told] == ["payerfsp"]
        assert await other.take_answer("payerfsp", PARTY, "proxya") == "late"


async def repeat(look: Callable[[], Awaitable[object]]) -> None:
    while not await look():  # noqa: ASYNC110 - what is waited for sets no event
        await asyncio.sleep(0.002)


async def test_an_answer_that_another_worker_gets_is_known(redis_url: str) -> None:
    async with dial(redis_url) as first, dial(redis_url) as second:
        rigs = [make(each) for each in (first, second)]
        await rigs[0].discovery.start(get())
        assert await rigs[1].discovery.take_answer(put("proxya"))
        assert not await rigs[0].discovery.take_error(error("proxyb"))


async def test_the_job_tells_payers_and_ends_when_the_process_stops(session: Session | None) -> None:
    rig = make(session, timeout_s=0.001)
    rig.discovery._look_every_s = 0.001
    stop = asyncio.Event()
    running = asyncio.create_task(rig.discovery.run(stop))
    await rig.discovery.start(get())
    while not rig.wire.sent():  # noqa: ASYNC110 - the rig has no event
        await asyncio.sleep(0.002)
    stop.set()
    await running


# -- hints that are wrong ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["3204", "3200", "3201"])
async def test_a_hint_is_removed_if_its_proxy_does_not_find_the_party(session: Session | None, code: str) -> None:
    rig = make(session)
    rig.hints.entries = [Entry("farfsp")]
    await rig.discovery.remember("farfsp", "proxya")
    assert await rig.discovery.take_error(error("proxya", code=code))
    assert (await rig.settle()).forgotten == 1


async def test_a_hint_stays_if_another_proxy_or_another_error_says_so(session: Session | None) -> None:
    rig = make(session)
    rig.hints.entries = [Entry("farfsp")]
    await rig.discovery.remember("farfsp", "proxya")
    assert await rig.discovery.take_error(error("proxyb"))
    assert await rig.discovery.take_error(error("proxya", code="2001"))
    assert await rig.discovery.take_error(put("proxya", is_error=True, body=b"not JSON"))
    assert (await rig.settle()).forgotten == 0


async def test_an_entry_of_an_fsp_of_the_scheme_is_no_hint(session: Session | None) -> None:
    rig = make(session)
    rig.hints.entries = [Entry("payeefsp"), Entry("farfsp")]
    assert await rig.discovery.take_error(error("proxya"))
    assert (await rig.settle()).forgotten == 0


async def test_a_hint_stays_while_the_scheme_does_not_answer(session: Session | None) -> None:
    rig = make(session)
    rig.hints.entries = [Entry("farfsp")]
    rig.scheme.away = True
    assert await rig.discovery.take_error(error("proxya"))
    assert (await rig.settle()).forgotten == 0


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"errorInformation":{"errorCode":"3204","errorDescription":"x"}}', "3204"),
        (b'{"Assgnmt":{},"Rpt":{"Rsn":{"Cd":"3204"},"OrgnlId":"x","Vrfctn":false}}', "3204"),
        (b"{}", ""),
        (b"[]", ""),
        (b'{"errorInformation":5}', ""),
        (b"\xff", ""),
        (b"", ""),
        (b"[" * 100_000, ""),
    ],
)
def test_the_code_of_an_error_is_read_in_both_forms(body: bytes, code: str) -> None:
    assert read_code(body) == code


# -- mappings ---------------------------------------------------------------------------------------------------------


async def test_the_proxy_of_an_fsp_is_known_to_all_workers(redis_url: str) -> None:
    async with dial(redis_url) as first, dial(redis_url) as second:
        rigs = [make(each) for each in (first, second)]
        await rigs[0].discovery.remember("farfsp", "proxya")
        assert await rigs[1].discovery.find_proxy("farfsp") == "proxya"
        await rigs[1].discovery.remember("farfsp", "proxyb")
        assert await rigs[0].discovery.find_proxy("farfsp") == "proxyb"
        assert await rigs[0].discovery.find_proxy("otherfsp") is None


async def test_only_a_proxy_of_the_scheme_is_remembered(session: Session | None) -> None:
    rig = make(session)
    await rig.discovery.remember("farfsp", "payeefsp")
    assert await rig.discovery.find_proxy("farfsp") is None
    rig.scheme.away = True
    await rig.discovery.remember("farfsp", "proxya")
    assert await rig.discovery.find_proxy("farfsp") is None


async def test_a_mapping_ends_unless_it_is_used(redis_url: str, valkey_server: ValkeyServer) -> None:
    async with dial(redis_url) as opened:
        mappings = Mappings(lambda: opened, "t", kept_s=100.0)
        await mappings.remember("farfsp", "proxya")
        (name,) = read_keys(valkey_server)
        servers.valkey_command(valkey_server, "PEXPIRE", name, "5000")
        assert await mappings.find("farfsp") == "proxya"
        assert read_ttl(valkey_server, name) > 5_000
    clock = [0.0]
    alone = Mappings(lambda: None, "t", kept_s=100.0, clock=lambda: clock[0])
    await alone.remember("farfsp", "proxya")
    for at, proxy in ((99.0, "proxya"), (198.0, "proxya"), (298.0, None)):
        clock[0] = at
        assert await alone.find("farfsp") == proxy


# -- Redis ------------------------------------------------------------------------------------------------------------


def read_keys(server: ValkeyServer) -> list[str]:
    lines = servers.valkey_command(server, "KEYS", "*").decode().split("\r\n")
    return [line for line in lines if line.startswith("t:")]


def read_ttl(server: ValkeyServer, name: str) -> int:
    return int(servers.valkey_command(server, "PTTL", name)[1:])


async def test_every_key_expires_and_names_nobody(redis_url: str, valkey_server: ValkeyServer) -> None:
    async with dial(redis_url) as opened:
        rig = make(opened)
        await rig.discovery.start(get())
        await rig.discovery.remember("farfsp", "proxya")
        await rig.discovery.take_answer(put("proxya"))
        await rig.discovery.start(get())
        names = read_keys(valkey_server)
        assert len(names) == 3
        for name in names:
            assert 0 < read_ttl(valkey_server, name) <= 24 * 3_600_000
            assert not any(text in name for text in ("5255", "payerfsp", "farfsp"))


async def test_a_cluster_keeps_inquiries_and_mappings(start_valkey: StartValkey) -> None:
    node = await start_valkey({"cluster-enabled": "yes"})
    assert servers.valkey_command(node, "CLUSTER", "ADDSLOTSRANGE", "0", "16383") == b"+OK\r\n"
    while b"cluster_state:ok" not in servers.valkey_command(node, "CLUSTER", "INFO"):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    async with dial(f"redis+cluster://127.0.0.1:{node.options['port']}") as opened:
        rig = make(opened, timeout_s=0.01)
        for number in range(20):
            await rig.discovery.start(get(Party("MSISDN", f"5255{number:08}")))
        await tell(rig, count=20)
        assert len(rig.wire.sent()) == 20
        await rig.discovery.remember("farfsp", "proxya")
        assert await rig.discovery.find_proxy("farfsp") == "proxya"
        assert len(read_keys(node)) > 20


async def test_the_memory_serves_while_redis_is_away(redis_url: str) -> None:
    session: list[Session | None] = [None]
    rig = make(None)
    rig.discovery._inquiries = Inquiries(lambda: session[0], "t", 20.0)
    async with dial(redis_url) as opened:
        session[0] = opened
        await rig.discovery.start(get())
        session[0] = None
        await rig.discovery.start(get(WITH_SUB_ID))
        assert await rig.discovery.take_answer(put("proxya", WITH_SUB_ID))
        session[0] = opened  # what was opened while it was away is known, and what was opened before
        assert not await rig.discovery.take_error(error("proxyb", WITH_SUB_ID))
        assert await rig.discovery.take_answer(put("proxya"))
        opened.close()  # nobody has noticed yet
        assert await rig.discovery.start(get())
        assert await rig.discovery.take_answer(put("proxya"))
    assert (await rig.settle()).put == ["farfsp"] * 3


async def test_a_value_that_nobody_wrote_is_no_inquiry(redis_url: str, valkey_server: ValkeyServer) -> None:
    async with dial(redis_url) as opened:
        rig = make(opened)
        await rig.discovery.start(get())
        name = next(name for name in read_keys(valkey_server) if not name.endswith("due"))
        for value in ('""', "x", r'"\x91\x01"', r'"\x91\x95\xa1n\x80\x90\x01\xa4open"'):
            servers.valkey_command(valkey_server, "SET", name, value)
            assert await rig.discovery.take_answer(put("proxya"))
        assert await rig.discovery.start(get())
    assert (await rig.settle()).put == []


# -- the rules as laws ------------------------------------------------------------------------------------------------

PROXIES = ("a", "b", "c")
Step = tuple[Literal["ask", "party", "error", "time"], str]
STEPS = st.lists(st.tuples(st.sampled_from(["ask", "party", "error", "time"]), st.sampled_from(PROXIES)), max_size=30)


@given(STEPS)
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_a_payer_gets_at_most_one_error_a_question_and_none_after_a_party(steps: list[Step]) -> None:
    inquiries: list[Inquiry] = []
    errors = parties = 0
    was_open = 0
    for number, (what, proxy) in enumerate(steps):
        waiting = [inquiry for inquiry in inquiries if inquiry.state == "open"]
        if what == "ask":
            inquiries.append(Inquiry(str(number), get(), list(PROXIES), time.time() + KEPT_S))
            was_open += 1
        elif what == "party":
            if take_answer(inquiries, proxy) in {"first", "further"}:
                parties += 1
                assert not any(inquiry.state == "open" for inquiry in inquiries)
        elif what == "error":
            if take_error(inquiries, proxy) == "last":
                errors += 1
                assert len(waiting) - 1 == sum(inquiry.state == "open" for inquiry in inquiries)
        elif waiting:
            assert begin_telling(inquiries, waiting[0].number) is not None
            finish_telling(inquiries, waiting[0].number)
            assert begin_telling(inquiries, waiting[0].number) is None
            errors += 1
    told = sum(inquiry.state == "told" for inquiry in inquiries)
    assert errors == told <= was_open
    for proxy in PROXIES:  # nobody waits for ever: each answer of each proxy ends what it was asked for
        while take_error(inquiries, proxy) != "unknown":
            pass
    assert not any(inquiry.waits for inquiry in inquiries)
