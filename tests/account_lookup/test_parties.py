"""GET and PUT /parties after their sync answers: who is asked, who gets the answer, who hears of an error."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
from harness import row

from oracle.api.dfsp.asked import Asked, Party
from oracle.api.dfsp.callbacks import Callbacks
from oracle.api.dfsp.directory import Entry
from oracle.api.dfsp.discovery import Discovery
from oracle.api.dfsp.exchanges import Exchanges
from oracle.api.dfsp.faults import Fault
from oracle.api.dfsp.parties import PartyRequests
from oracle.calls import Answer, Call, CallFailed
from oracle.scheme.base import PATHS, LedgerUnavailable, Participant
from oracle.store.cache.session import RedisSession, dial
from oracle.telemetry.metrics import Metrics

PARTY: Final = Party("MSISDN", "525512345678")
WITH_SUB_ID: Final = PARTY._replace(sub_id="S1")
PATH: Final = "/parties/MSISDN/525512345678"
BODY: Final = '{ "party" : {"name":"Ñ", "x": 1.0} }'.encode()


@dataclass
class Ledger:
    """A scheme.  `away`: FSPs about which its source cannot say anything now."""

    fsps: Sequence[str] = ("payerfsp", "bankb", "bankc")
    proxies: Sequence[str] = ()
    away: set[str] = field(default_factory=set)

    def recall_participant(self, fsp_id: str) -> Participant | None: ...

    def recall_endpoint(self, fsp_id: str, endpoint_type: str) -> str | None: ...

    async def find_participant(self, fsp_id: str) -> Participant | None:
        if fsp_id in self.away:
            raise LedgerUnavailable
        return Participant(fsp_id) if fsp_id in (*self.fsps, *self.proxies) else None

    async def find_endpoint(self, fsp_id: str, endpoint_type: str) -> str | None:
        known = fsp_id in (*self.fsps, *self.proxies)
        return f"http://{fsp_id}{PATHS[endpoint_type]}" if known else None

    async def list_proxies(self) -> Sequence[str]:
        return self.proxies

    def forget_endpoints(self) -> None: ...

    async def close(self) -> None: ...


@dataclass
class Wire:
    """Notes all calls.  `answers`: what a host answers, a status or a failure; else 202."""

    answers: dict[str, int | CallFailed] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)

    async def call(self, call: Call, *, timeout_s: float | None = None) -> Answer:  # noqa: ARG002
        self.calls.append(call)
        await asyncio.sleep(0)
        answer = self.answers.get(f"{call.method} {call.url.split('/')[2]}", 202)
        if isinstance(answer, CallFailed):
            raise answer
        return Answer(answer, (), b'{"secret": "inside"}')

    async def close(self) -> None: ...

    @property
    def sent(self) -> list[str]:
        """What was sent, without the error callbacks of the hub: `GET bankb/parties/…`."""
        return [f"{c.method} {c.url[7:]}" for c in self.calls if _find(c, b"fspiop-source") != "Hub"]

    @property
    def errors(self) -> list[tuple[str, str, str]]:
        """The error callbacks of the hub: where, code, description."""
        found = []
        for call in self.calls:
            if _find(call, b"fspiop-source") == "Hub":
                error = json.loads(call.body)["errorInformation"]
                found.append((call.url[7:], error["errorCode"], error["errorDescription"]))
        return found


def _find(call: Call, name: bytes) -> str | None:
    return next((value.decode() for key, value in call.headers if key.lower() == name), None)


@dataclass
class Directory:
    entries: Sequence[Entry] = ()
    fault: Fault | None = None
    asked: int = 0

    def choose(self, party_id_type: str, currency: str | None) -> Any:  # noqa: ARG002
        return self

    async def find(self, asked: Asked, party: Party, currency: str | None) -> Sequence[Entry]:
        assert (asked.party, asked.currency) == (party, currency)
        self.asked += 1
        if self.fault is not None:
            raise self.fault
        return self.entries

    async def put_hint(self, asked: Asked, party: Party, fsp_id: str) -> None: ...
    async def forget_hints(self, asked: Asked, party: Party) -> None: ...


class Rig:
    def __init__(
        self,
        *entries: Entry | str,
        answers: Mapping[str, int | CallFailed] | None = None,
        fault: Fault | None = None,
        away: Sequence[str] = (),
        find_session: Callable[[], RedisSession | None] = lambda: None,
        wire: Wire | None = None,
        **ledger: Any,
    ) -> None:
        self.ledger = Ledger(**ledger, away=set(away))
        self.wire = wire or Wire(dict(answers or {}))
        self.directory = Directory([Entry(e) if isinstance(e, str) else e for e in entries], fault)
        self.metrics = Metrics.open(None, "dfsp", 0)
        callbacks = Callbacks(
            self.ledger, self.wire, hub_name="Hub", signer=None, iso20022=False, metrics=self.metrics
        )  # fmt: skip
        self.discovery = Discovery(self.ledger, callbacks, self.directory.choose, find_session, prefix="t")
        self.requests = PartyRequests(
            self.ledger, self.directory, callbacks, self.discovery, Exchanges(find_session, "t"), self.metrics
        )

    async def get(self, **changed: Any) -> Rig:
        await self.requests.get(make_asked("GET", "payerfsp", **changed))
        return self

    async def put(self, source: str = "bankb", **changed: Any) -> Rig:
        asked = make_asked("PUT", source, **{"destination": "payerfsp", "body": BODY, **changed})
        await (self.requests.put_error if asked.is_error else self.requests.put)(asked)
        return self


def make_asked(method: str, source: str, **changed: Any) -> Asked:
    headers = [
        (b"content-type", b"application/vnd.interoperability.parties+json;version=1.1"),
        (b"date", b"Sat, 28 Nov 2026 10:00:00 GMT"),
        (b"fspiop-source", source.encode()),
        (b"cookie", b"secret"),
    ]
    if changed.get("destination") is not None:
        headers.append((b"fspiop-destination", changed["destination"].encode()))
    values: dict[str, Any] = {"headers": headers, "party": PARTY, **changed}
    return Asked(method=method, resource="parties", source=source, **values)


# GET -------------------------------------------------------------------------------------------------------------


async def test_a_known_destination_gets_the_question_and_the_directory_is_not_asked() -> None:
    rig = await Rig("bankc").get(destination="bankb")
    assert (rig.wire.sent, rig.wire.errors, rig.directory.asked) == ([f"GET bankb{PATH}"], [], 0)
    headers = rig.wire.calls[0].headers
    assert [value for name, value in headers if name == b"fspiop-destination"] == [b"bankb"]
    assert _find(rig.wire.calls[0], b"fspiop-source") == "payerfsp"
    assert _find(rig.wire.calls[0], b"cookie") is None


async def test_the_fsp_of_the_directory_gets_the_question() -> None:
    rig = await Rig("bankb").get(currency="MXN")
    assert (rig.wire.sent, rig.wire.errors) == ([f"GET bankb{PATH}"], [])
    assert _find(rig.wire.calls[0], b"fspiop-destination") == "bankb"


async def test_a_question_with_a_sub_id_goes_to_the_endpoint_with_it() -> None:
    rig = await Rig(Entry("bankb", "S1")).get(party=WITH_SUB_ID)
    assert rig.wire.sent == [f"GET bankb{PATH}/S1"]


@row("L05")
async def test_all_fitting_fsps_get_the_question_once() -> None:
    rig = await Rig("bankb", Entry("bankz", "S1"), "bankc", Entry("bankb", None, "MXN"), "unknown").get()
    assert sorted(rig.wire.sent) == [f"GET bankb{PATH}", f"GET bankc{PATH}"]
    assert rig.wire.errors == []


@row("L06")
@pytest.mark.parametrize(
    ("entry", "party"),
    [
        (Entry("bankb", "S1"), PARTY),
        (Entry("bankb"), WITH_SUB_ID),
        (Entry("bankb", "s1"), WITH_SUB_ID),
        (Entry("bankb", ""), PARTY),
    ],
)
async def test_entries_of_another_sub_id_do_not_answer(entry: Entry, party: Party) -> None:
    rig = await Rig(entry).get(party=party)
    where = f"payerfsp{PATH}{'' if party.sub_id is None else '/S1'}/error"
    text = "Generic ID not found - Empty oracle partyList, filtered based on callbackEndpointType"
    assert (rig.wire.sent, rig.wire.errors) == ([], [(where, "3200", text)])


async def test_nobody_and_no_proxy_is_3204() -> None:
    text = "Party not found - No proxy found to start inter-scheme discovery flow"
    for rig in (Rig(), Rig("unknown"), Rig("bankc")):
        destination = "unknown" if rig.directory.entries and rig.directory.entries[0].fsp_id == "bankc" else None
        await rig.get(destination=destination)
        assert (rig.wire.sent, rig.wire.errors) == ([], [(f"payerfsp{PATH}/error", "3204", text)])


async def test_the_proxies_are_asked_when_nobody_is_left() -> None:
    for destination in (None, "unknown"):
        rig = await Rig("unknown", proxies=["proxya"]).get(destination=destination)
        assert (rig.wire.sent, rig.wire.errors) == ([f"GET proxya{PATH}"], [])
        assert _find(rig.wire.calls[0], b"fspiop-destination") is None


async def test_an_fsp_of_another_scheme_is_asked_through_its_proxy() -> None:
    for destination in (None, "foreign"):
        rig = Rig("foreign", proxies=["proxya", "proxyb"])
        await rig.discovery.remember("foreign", "proxyb")
        await rig.get(destination=destination)
        assert (rig.wire.sent, rig.wire.errors) == ([f"GET proxyb{PATH}"], [])
        assert _find(rig.wire.calls[0], b"fspiop-destination") == "foreign"


async def test_a_question_from_another_scheme_is_asked_here() -> None:
    rig = Rig("bankb", proxies=["proxya"])
    await rig.requests.get(make_asked("GET", "foreign", proxy="proxya", destination="bankb"))
    await rig.requests.get(make_asked("GET", "foreign", proxy="proxya"))
    assert (rig.wire.sent, rig.wire.errors) == ([f"GET bankb{PATH}"] * 2, [])
    assert await rig.discovery.find_proxy("foreign") == "proxya"
    await rig.put(destination="foreign")
    assert rig.wire.sent[2:] == [f"PUT proxya{PATH}"]


async def test_a_destination_of_another_scheme_must_be_that_of_the_directory() -> None:
    rig = Rig("bankc", proxies=["proxya"])
    await rig.requests.get(make_asked("GET", "foreign", proxy="proxya", destination="bankb"))
    text = "Party not found - External party resolution error"
    assert (rig.wire.sent, rig.wire.errors) == ([], [(f"proxya{PATH}/error", "3204", text)])
    assert _find(rig.wire.calls[0], b"fspiop-destination") == "foreign"


async def test_a_question_of_another_scheme_does_not_go_on_to_a_third_one_by_a_hint() -> None:
    rig = Rig("other", proxies=["proxya", "proxyb"])
    await rig.discovery.remember("other", "proxyb")
    await rig.requests.get(make_asked("GET", "foreign", proxy="proxyb"))
    assert rig.wire.sent == [f"GET proxya{PATH}"]


@pytest.mark.parametrize(
    ("party", "detail"),
    [
        (Party("MSISDN", "abc"), "Invalid MSISDN identifier"),
        (Party("ALIAS", "a<b"), "Invalid ALIAS identifier"),
        (PARTY._replace(sub_id="x" * 129), "Invalid partySubIdOrType"),
    ],
)
async def test_an_invalid_identifier_is_3101_and_is_not_repeated(party: Party, detail: str) -> None:
    for rig in (await Rig("bankb").get(party=party, destination="bankb"), await Rig().put("payerfsp", party=party)):
        assert rig.wire.sent == []
        assert [(code, text) for _, code, text in rig.wire.errors] == [("3101", f"Malformed syntax - {detail}")]


async def test_what_the_directory_refuses_is_told() -> None:
    rig = await Rig(fault=Fault("2003", "try again later")).get()
    assert rig.wire.errors == [(f"payerfsp{PATH}/error", "2003", "Service currently unavailable - try again later")]


@row("L16", "D601")
async def test_a_ledger_that_is_away_is_no_unknown_fsp() -> None:
    for rig in (await Rig("bankb", away=["bankb"]).get(), await Rig(away=["bankb"]).get(destination="bankb")):
        assert (rig.wire.sent, [code for _, code, _ in rig.wire.errors]) == ([], ["2003"])
    rig = await Rig("bankb", "bankc", away=["bankb"]).get()
    assert (rig.wire.sent, rig.wire.errors) == ([f"GET bankc{PATH}"], [])


# A payee that cannot be asked --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "code", "status"),
    [
        (500, "1001", "500"),
        (404, "3200", "404"),
        (400, "1001", "400"),
        (CallFailed("timed_out", sent=True), "1001", "no answer"),
        (CallFailed("unreachable", sent=False), "1001", "no answer"),
        (CallFailed("broken", sent=True), "1001", "no answer"),
    ],
)
async def test_a_payee_that_fails_is_told_without_what_it_said(
    answer: int | CallFailed, code: str, status: str
) -> None:
    rig = await Rig("bankb", answers={"GET bankb": answer}).get()
    assert [(where, told) for where, told, _ in rig.wire.errors] == [(f"payerfsp{PATH}/error", code)]
    body = rig.wire.calls[-1].body
    extensions = json.loads(body)["errorInformation"]["extensionList"]["extension"]
    assert extensions == [{"key": "status", "value": status}]
    assert b"bankb" not in body
    assert b"inside" not in body
    await rig.put("bankb")
    assert len(rig.wire.sent) == 1  # the payer has its error: the answer is withheld, and the payee hears so
    assert rig.wire.errors[1][:2] == (f"bankb{PATH}/error", "3300")


@row("L12", "D604")
async def test_an_error_of_one_payee_waits_for_the_other() -> None:
    rig = await Rig("bankb", "bankc", answers={"GET bankb": 500}).get()
    assert rig.wire.errors == []
    await rig.put("bankc")
    assert rig.wire.sent[-1] == f"PUT payerfsp{PATH}"
    rig = await Rig("bankb", "bankc", answers={"GET bankb": 500, "GET bankc": 404}).get()
    assert [(where, code) for where, code, _ in rig.wire.errors] in [
        [(f"payerfsp{PATH}/error", c)] for c in ("1001", "3200")
    ]


async def test_a_payee_that_answers_before_its_call_fails_is_no_error() -> None:
    rig = Rig("bankb", answers={"GET bankb": 500})
    deliver = rig.wire.call

    async def answer_first(call: Call, *, timeout_s: float | None = None) -> Answer:
        if call.method == "GET":
            await rig.put("bankb")
        return await deliver(call, timeout_s=timeout_s)

    rig.wire.call = answer_first  # type: ignore[method-assign]
    await rig.get()
    assert (sorted(rig.wire.sent), rig.wire.errors) == ([f"GET bankb{PATH}", f"PUT payerfsp{PATH}"], [])


@row("L11")
async def test_a_payee_without_an_endpoint_is_told() -> None:
    class NoGets(Ledger):
        async def find_endpoint(self, fsp_id: str, endpoint_type: str) -> str | None:
            return None if endpoint_type.endswith("GET") else await super().find_endpoint(fsp_id, endpoint_type)

    rig = Rig("bankb")
    rig.ledger.__class__ = NoGets
    await rig.get()
    text = "Destination communication error - no FSPIOP_CALLBACK_URL_PARTIES_GET endpoint for the FSP"
    assert rig.wire.errors == [(f"payerfsp{PATH}/error", "1001", text)]


# PUT ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("party", [PARTY, WITH_SUB_ID])
@pytest.mark.parametrize("is_error", [False, True])
async def test_an_answer_is_forwarded_byte_for_byte(party: Party, is_error: bool) -> None:
    rig = await Rig().put(party=party, is_error=is_error)
    path = f"{PATH}{'' if party.sub_id is None else '/S1'}{'/error' if is_error else ''}"
    assert (rig.wire.sent, rig.wire.errors) == ([f"PUT payerfsp{path}"], [])
    assert rig.wire.calls[0].body == BODY
    assert _find(rig.wire.calls[0], b"content-type") == "application/vnd.interoperability.parties+json;version=1.1"


@pytest.mark.parametrize("is_error", [False, True])
async def test_an_unknown_payer_is_told_to_the_payee(is_error: bool) -> None:
    rig = await Rig().put(destination="unknown", is_error=is_error)
    text = "Destination FSP Error - Destination FSP not found"
    assert (rig.wire.sent, rig.wire.errors) == ([], [(f"bankb{PATH}/error", "3201", text)])


@pytest.mark.parametrize("is_error", [False, True])
async def test_an_answer_without_a_destination_is_3102(is_error: bool) -> None:
    rig = await Rig().put(destination=None, is_error=is_error)
    text = "Missing mandatory element - Missing required fspiop-destination header"
    assert (rig.wire.sent, rig.wire.errors) == ([], [(f"bankb{PATH}/error", "3102", text)])


@pytest.mark.parametrize("is_error", [False, True])
async def test_an_answer_for_another_scheme_goes_to_its_proxy(is_error: bool) -> None:
    rig = Rig(proxies=["proxya"])
    await rig.discovery.remember("foreign", "proxya")
    await rig.put(destination="foreign", is_error=is_error)
    assert (rig.wire.sent, rig.wire.errors) == ([f"PUT proxya{PATH}{'/error' if is_error else ''}"], [])
    assert _find(rig.wire.calls[0], b"fspiop-destination") == "foreign"


async def test_the_proxy_of_an_unknown_payee_is_remembered() -> None:
    for is_error in (False, True):
        rig = await Rig(proxies=["proxya"]).put("foreign", proxy="proxya", is_error=is_error)
        assert (len(rig.wire.sent), rig.wire.errors) == (1, [])
        assert await rig.discovery.find_proxy("foreign") == "proxya"
        await rig.put("bankb", proxy="proxya")
        assert await rig.discovery.find_proxy("bankb") is None


async def test_an_error_of_one_proxy_of_several_is_swallowed() -> None:
    rig = await Rig(proxies=["proxya", "proxyb"]).get()
    await rig.put("foreign", proxy="proxya", is_error=True)
    assert len(rig.wire.sent) == 2
    await rig.put("foreign", proxy="proxyb", is_error=True)
    assert rig.wire.sent[2:] == [f"PUT payerfsp{PATH}/error"]
    assert rig.wire.errors == []


@row("L28")
async def test_an_answer_is_not_lost_because_the_ledger_is_away() -> None:
    rig = await Rig(away=["payerfsp", "bankb"]).put()
    assert (rig.wire.sent, rig.wire.errors) == ([f"PUT payerfsp{PATH}"], [])


async def test_a_payer_that_refuses_the_answer_is_told_to_the_payee() -> None:
    rig = await Rig(answers={"PUT payerfsp": 500}).put()
    assert [(where, code) for where, code, _ in rig.wire.errors] == [(f"bankb{PATH}/error", "1001")]


async def test_an_error_after_our_error_is_withheld_without_a_word() -> None:
    rig = await Rig("bankb", answers={"GET bankb": 500}).get()
    await rig.put("bankb", is_error=True)
    assert (len(rig.wire.sent), len(rig.wire.errors)) == (1, 1)


async def test_a_defect_becomes_2001() -> None:
    rig = Rig()

    def fail(party_id_type: str, currency: str | None) -> Any:  # noqa: ARG001
        raise ZeroDivisionError

    rig.directory.choose = fail  # type: ignore[method-assign]
    await rig.get()
    assert rig.wire.errors == [(f"payerfsp{PATH}/error", "2001", "Internal server error")]


# Random orders on two workers -----------------------------------------------------------------------------------------


class Slow(Wire):
    """Payees that answer their GET late, or never, and send their PUT to either worker, in any order with that."""

    def __init__(self, rng: random.Random, payer: str) -> None:
        super().__init__()
        self.rng = rng
        self.payer = payer
        self.taken = 0  # how many GETs a payee has accepted
        self.workers: list[Rig] = []
        self.puts: list[asyncio.Task[Any]] = []

    async def call(self, call: Call, *, timeout_s: float | None = None) -> Answer:  # noqa: ARG002
        self.calls.append(call)
        if call.method == "PUT":
            return Answer(200)
        payee = call.url.split("/")[2]
        for _ in range(self.rng.choice((0, 0, 1, 1, 2))):
            self.puts.append(asyncio.create_task(self.put(payee, self.rng.random() < 0.3)))
        await self.wait()
        answer = self.rng.choice((202, 202, 500, 404, CallFailed("timed_out", sent=True)))
        if isinstance(answer, CallFailed):
            raise answer
        self.taken += answer == 202
        return Answer(answer)

    async def put(self, payee: str, is_error: bool) -> None:
        await self.wait()
        await self.rng.choice(self.workers).put(payee, is_error=is_error, destination=self.payer)

    async def wait(self) -> None:
        for _ in range(self.rng.choice((0, 1, 5, 20))):
            await asyncio.sleep(0)
        await asyncio.sleep(self.rng.choice((0, 0, 0.001)))


async def look_up(seed: int, find_sessions: Sequence[Callable[[], RedisSession | None]]) -> tuple[int, int, int, bool]:
    """Let a payer ask once or twice.  Return how often; its answers and errors; whether all payees refused the GET."""
    rng = random.Random(seed)
    payer, count = f"payer{seed}", rng.choice((1, 1, 2))
    wire = Slow(rng, payer)
    payees = rng.sample(["bankb", "bankc"], rng.choice((1, 2)))
    fsps = (payer, "bankb", "bankc")
    wire.workers = [Rig(*payees, find_session=find, wire=wire, fsps=fsps) for find in find_sessions]
    await asyncio.gather(*(rng.choice(wire.workers).requests.get(make_asked("GET", payer)) for _ in range(count)))
    await asyncio.gather(*wire.puts)
    answers = [sent for sent in wire.sent if sent.startswith(f"PUT {payer}/")]
    errors = [where for where, _, _ in wire.errors if where.startswith(f"{payer}/")]
    return count, len(answers), len(errors), not wire.taken


@row("L12", "L13", "L14", "L15", "D603", "D604")
async def test_an_error_and_an_answer_never_both_reach_a_payer(redis_url: str, complete: bool) -> None:
    sessions = [await dial(redis_url, timeout_ms=30_000, token_ms=60_000) for _ in range(2)]
    seen: set[tuple[int, bool, bool]] = set()
    for seed in range(2_000 if complete else 150):
        count, answers, errors, refused = await look_up(seed, [lambda: sessions[0], lambda: sessions[1]])
        seen.add((count, answers > 0, errors > 0))
        assert errors <= count, seed
        assert not (answers and errors == count), seed
        assert not refused or answers or errors == count, seed
    assert {(1, True, False), (1, False, True), (2, True, True)} <= seen
    for session in sessions:
        session.close()


@row("K24")
async def test_no_payer_is_left_without_a_word_while_redis_comes_and_goes(redis_url: str, complete: bool) -> None:
    sessions = [await dial(redis_url, timeout_ms=30_000, token_ms=60_000) for _ in range(2)]
    rng = random.Random(1)
    for seed in range(2_000 if complete else 100):
        finds = [lambda one=one: None if rng.random() < 0.4 else one for one in sessions]
        count, answers, errors, refused = await look_up(seed, finds)
        assert errors <= count, seed
        assert not refused or answers or errors == count, seed
    for session in sessions:
        session.close()
