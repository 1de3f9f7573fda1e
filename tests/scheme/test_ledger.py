"""The participants of a central ledger, over real sockets: what it answers, and all the ways in which it fails."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from mock_ledger import NOT_FOUND, MockLedger, Reply, answer, open_ledger, participant, row

from oracle.calls.calls import open_calls
from oracle.scheme.base import PARTICIPANT_PUT, PARTIES_GET, LedgerUnavailable, Participant
from oracle.scheme.cache import CacheTimes
from oracle.scheme.ledger import ANSWER_MAX, ENDPOINT_TIMES, FORGET_EVERY_S, PARTICIPANT_TIMES, LedgerScheme
from oracle.scheme.throttle import Throttle
from oracle.settings import Settings
from oracle.telemetry.metrics import Metrics

URL = "http://greenbank.example/parties/{{partyIdType}}/{{partyIdentifier}}"
# Nothing is kept, so that each question reaches the ledger; a failure is not remembered.
NO_TIME = CacheTimes(fresh_s=0.0, nothing_s=0.0, stale_s=0.0, retry_s=0.0)
SHORT = CacheTimes(fresh_s=0.0, nothing_s=0.0, stale_s=3600.0, retry_s=0.0)


@asynccontextmanager
async def open_kit(times: CacheTimes = NO_TIME, **arguments: Any) -> AsyncIterator[tuple[LedgerScheme, MockLedger]]:
    async with open_ledger() as ledger:
        caller = open_calls(Settings(), Metrics.open(None, "account-lookup", 0))
        scheme = LedgerScheme(
            ledger.url, caller, hub_name="Hub", participant_times=times, endpoint_times=times, **arguments
        )
        try:
            yield scheme, ledger
        finally:
            await scheme.close()
            await caller.close()


@row("E01")
async def test_the_calls_have_the_paths_and_headers_that_a_ledger_expects() -> None:
    async with open_kit() as (scheme, ledger):
        ledger.have("greenbank", {PARTIES_GET: URL, "FSPIOP_CALLBACK_URL_TRANSFER_POST": "http://x/transfers"})
        ledger.replies["/participants?isProxy=true"] = answer([])
        assert await scheme.find_participant("greenbank") == Participant("greenbank")
        assert await scheme.find_endpoint("greenbank", PARTIES_GET) == URL
        assert await scheme.find_endpoint("greenbank", PARTICIPANT_PUT) is None
        assert list(await scheme.list_proxies()) == []
        assert set(ledger.paths) == {
            "/participants/greenbank", "/participants/greenbank/endpoints", "/participants?isProxy=true",
        }  # fmt: skip
        for _, headers in ledger.requests:
            assert headers["accept"] == "application/vnd.interoperability.participants+json;version=1"
            assert headers["content-type"] == "application/vnd.interoperability.participants+json;version=1.0"
            assert headers["fspiop-source"] == headers["fspiop-destination"] == "Hub"
            assert headers["date"].endswith(" GMT")
            assert not {"traceparent", "cookie", "authorization"} & headers.keys()


@row("E05")
async def test_the_activity_of_a_participant_is_not_looked_at_and_that_of_a_proxy_is() -> None:
    async with open_kit() as (scheme, ledger):
        ledger.have("greenbank", isActive=0)
        ledger.have("proxy", isProxy=True)
        ledger.replies["/participants?isProxy=true"] = answer(
            [
                participant("one", isProxy=1),
                participant("two", isProxy=True, isActive=True),
                participant("three", isProxy=1, isActive=0),
                participant("no proxy"),
                {key: value for key, value in participant("older ledger").items() if key != "isProxy"},
            ]
        )
        assert await scheme.find_participant("greenbank") == Participant("greenbank")
        assert await scheme.find_participant("proxy") == Participant("proxy", is_proxy=True)
        assert list(await scheme.list_proxies()) == ["one", "two"]


@row("E03")
async def test_only_a_404_with_code_3200_means_that_there_is_no_such_fsp() -> None:
    async with open_kit() as (scheme, ledger):
        for reply in (NOT_FOUND, (404, b'{"errorInformation":{"errorCode":3200}}')):
            ledger.replies["/participants/greenbank"] = ledger.replies["/participants/greenbank/endpoints"] = reply
            assert await scheme.find_participant("greenbank") is None
            assert await scheme.find_endpoint("greenbank", PARTIES_GET) is None


FAILURES: dict[str, Reply] = {
    "500": (500, b'{"errorInformation":{"errorCode":"2001"}}'),
    "500 with 3200": (500, b'{"errorInformation":{"errorCode":"3200"}}'),
    "503": (503, b""),
    "301": (301, b""),
    "204": (204, b""),
    "401": (401, b""),
    "404 of a gateway": (404, b"<html>not found</html>"),
    "404 without a code": (404, b'{"errorInformation":{}}'),
    "404 with another code": (404, b'{"errorInformation":{"errorCode":"3002"}}'),
    "404 with a deep body": (404, b"[" * 100_000),
    "closed": None,
    "no JSON": (200, b"OK"),
    "nothing": (200, b""),
    "null": answer(None),
    "number": answer(5),
    "deep": (200, b"[" * 100_000),
    "no UTF-8": (200, b'{"name":"\xff\xfe"}'),
    "cut": (200, b'{"name":"green'),
    "huge": (200, b'{"name":"greenbank","x":"' + b"x" * ANSWER_MAX + b'"}'),
}
WRONG_PARTICIPANTS = {
    **FAILURES,
    "list": answer([participant("greenbank")]),
    "another FSP": answer(participant("bluebank")),
    "no name": answer({"isActive": 1}),
    "name is a number": answer({**participant("greenbank"), "name": 7}),
    "isProxy is text": answer(participant("greenbank", isProxy="yes")),
}
WRONG_ENDPOINTS = {
    **FAILURES,
    "object": answer({"type": PARTIES_GET, "value": URL}),
    "no value": answer([{"type": PARTIES_GET}]),
    "value is a number": answer([{"type": PARTIES_GET, "value": 7}]),
    "value is an object": answer([{"type": PARTIES_GET, "value": {"url": URL}}]),
    "item is null": answer([None]),
}


@pytest.mark.parametrize("name", WRONG_PARTICIPANTS)
async def test_a_participant_that_the_ledger_does_not_answer_well_is_unavailable(name: str) -> None:
    async with open_kit() as (scheme, ledger):
        ledger.replies["/participants/greenbank"] = WRONG_PARTICIPANTS[name]
        with pytest.raises(LedgerUnavailable) as refused:
            await scheme.find_participant("greenbank")
        assert ledger.url not in str(refused.value)


@pytest.mark.parametrize("name", WRONG_ENDPOINTS)
async def test_endpoints_that_the_ledger_does_not_answer_well_are_unavailable(name: str) -> None:
    async with open_kit() as (scheme, ledger):
        ledger.replies["/participants/greenbank/endpoints"] = WRONG_ENDPOINTS[name]
        with pytest.raises(LedgerUnavailable):
            await scheme.find_endpoint("greenbank", PARTIES_GET)


@pytest.mark.parametrize("reply", [*FAILURES.values(), NOT_FOUND, answer({}), answer([{"isProxy": 1}])])
async def test_proxies_that_the_ledger_does_not_answer_well_are_unavailable(reply: Reply) -> None:
    async with open_kit() as (scheme, ledger):
        ledger.replies["/participants?isProxy=true"] = reply
        with pytest.raises(LedgerUnavailable):
            await scheme.list_proxies()


@row("E04")
async def test_every_failure_leaves_what_was_known() -> None:
    async with open_kit(SHORT) as (scheme, ledger):
        ledger.have("greenbank", {PARTIES_GET: URL})
        ledger.replies["/participants?isProxy=true"] = answer([participant("proxy", isProxy=1)])
        for name, reply in ({"well": None} | FAILURES).items():
            if name != "well":
                ledger.replies = dict.fromkeys(ledger.replies, reply)
            assert await scheme.find_participant("greenbank") == Participant("greenbank")
            assert await scheme.find_endpoint("greenbank", PARTIES_GET) == URL
            assert list(await scheme.list_proxies()) == ["proxy"]


@row("E03")
async def test_a_ledger_that_is_away_or_never_answers_is_unavailable() -> None:
    async with open_kit(timeout_s=0.05) as (scheme, ledger):
        never = asyncio.Event()

        async def wait(_: str) -> Reply:
            await never.wait()
            return None

        ledger.reply = wait
        with pytest.raises(LedgerUnavailable):
            await scheme.find_participant("greenbank")
        never.set()
    with pytest.raises(LedgerUnavailable):
        await scheme.find_participant("greenbank")


@row("E01")
async def test_a_name_cannot_lead_to_another_path_of_the_ledger() -> None:
    async with open_kit() as (scheme, ledger):
        for name in (".", "..", "", "x" * 33, "a\r\nb", "a\x00b", "\x7f"):
            assert await scheme.find_participant(name) is None
            assert await scheme.find_endpoint(name, PARTIES_GET) is None
        assert ledger.requests == []
        for name, path in (
            ("../oracles", "..%2Foracles"),
            ("a/b", "a%2Fb"),
            ("a?isProxy=true", "a%3FisProxy%3Dtrue"),
            ("a#b", "a%23b"),
            ("a%2e", "a%252e"),
            ("ñ", "%C3%B1"),
            ("{{fsp}}", "%7B%7Bfsp%7D%7D"),
        ):
            assert await scheme.find_participant(name) is None
            assert ledger.paths.pop() == f"/participants/{path}"


@row("E03")
async def test_an_fsp_is_named_exactly_also_if_the_ledger_compares_without_case() -> None:
    async with open_kit() as (scheme, ledger):
        ledger.replies["/participants/GreenBank"] = answer(participant("greenbank"))
        assert await scheme.find_participant("GreenBank") is None


@row("E06")
async def test_invented_names_make_a_bounded_number_of_calls_and_those_in_use_go_on() -> None:
    times = CacheTimes(fresh_s=60.0, nothing_s=60.0, stale_s=60.0)
    async with open_kit(times, burst=20) as (scheme, ledger):
        ledger.have("greenbank", {PARTIES_GET: URL})
        assert await scheme.find_endpoint("greenbank", PARTIES_GET) == URL
        results = await asyncio.gather(
            *(scheme.find_participant(f"invented{number}") for number in range(2000)), return_exceptions=True
        )
        refused = [result for result in results if isinstance(result, LedgerUnavailable)]
        assert results.count(None) + len(refused) == 2000
        assert results.count(None) < 200  # the bucket fills by 50 a second meanwhile
        assert len(ledger.requests) == 1 + results.count(None)
        assert await scheme.find_endpoint("greenbank", PARTIES_GET) == URL


async def test_a_long_url_of_the_ledger_is_not_kept() -> None:
    async with open_kit() as (scheme, ledger):
        ledger.replies["/participants/greenbank/endpoints"] = (
            200,
            json.dumps(
                [{"type": PARTIES_GET, "value": "http://x/" + "x" * 5000}, {"type": PARTICIPANT_PUT, "value": URL}]
            ).encode(),
        )
        assert await scheme.find_endpoint("greenbank", PARTIES_GET) is None
        assert await scheme.find_endpoint("greenbank", PARTICIPANT_PUT) == URL


@row("E02")
async def test_answers_count_for_the_times_of_als_and_missing_endpoints_for_less() -> None:
    for times, fresh_s in ((PARTICIPANT_TIMES, 3.0), (ENDPOINT_TIMES, 180.0)):
        assert (times.fresh_s, times.nothing_s, times.stale_s) == (fresh_s, 3.0, 3600.0)
    async with open_ledger() as ledger:
        caller = open_calls(Settings(), Metrics.open(None, "account-lookup", 0))
        now_s = [1000.0]
        scheme = LedgerScheme(ledger.url, caller, hub_name="Hub", clock=lambda: now_s[0])
        ledger.have("greenbank", {PARTIES_GET: URL})
        ledger.have("bluebank", {})
        try:
            for passed_s, calls in ((0.0, 4), (1.9, 0), (1.2, 3), (100.0, 3), (100.0, 4)):
                now_s[0] += passed_s
                before = len(ledger.requests)
                for name, url in (("greenbank", URL), ("bluebank", None)):
                    assert await scheme.find_participant(name) == Participant(name)
                    assert await scheme.find_endpoint(name, PARTIES_GET) == url
                assert len(ledger.requests) - before == calls, passed_s
        finally:
            await scheme.close()
            await caller.close()


async def test_many_calls_to_forget_the_endpoints_make_few_calls_of_the_ledger() -> None:
    async with open_kit(CacheTimes(fresh_s=60.0, nothing_s=60.0, stale_s=60.0)) as (scheme, ledger):
        ledger.have("greenbank", {PARTIES_GET: URL})
        assert await scheme.find_endpoint("greenbank", PARTIES_GET) == URL
        began_s = time.monotonic()
        for _ in range(200):
            scheme.forget_endpoints()
            assert await scheme.find_endpoint("greenbank", PARTIES_GET) == URL
        assert len(ledger.requests) <= 3 + (time.monotonic() - began_s) / FORGET_EVERY_S


async def test_a_wish_to_forget_in_between_is_not_lost() -> None:
    runs: list[float] = []
    done = asyncio.Event()

    def run() -> None:
        runs.append(asyncio.get_running_loop().time())
        if len(runs) == 2:
            done.set()

    throttle = Throttle(run, 0.05)
    for _ in range(100):
        throttle.ask()
    assert len(runs) == 1
    async with asyncio.timeout(60):
        await done.wait()
    assert runs[1] - runs[0] >= 0.04
    throttle.close()
