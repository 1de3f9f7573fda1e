"""Section 7 of docs/account-lookup.md over sockets: parties in other schemes, from payer to payee and back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime
from typing import Any

import asyncpg
import pytest
from harness import Bench, Dfsp, Message, Reply, open_bench, row, until

PARTY = "/parties/MSISDN/525598765432"
BODY = b'{ "party" : {"partyIdInfo":{"partyIdType":"MSISDN","fspId":"farfsp"},"name":"Jos\\u00e9"} }'
NOT_FOUND = b'{"errorInformation":{"errorCode":"3204","errorDescription":"Party not found"}}'
NO_PROXY = "Party not found - No proxy found to start inter-scheme discovery flow"
NOBODY_ASKED = "Destination FSP Error - Proxy connection error - no successful requests sent to proxies"


class Schemes:
    """The listener, and two proxies to other schemes."""

    def __init__(self, bench: Bench, proxies: list[Dfsp]) -> None:
        self.bench = bench
        self.a, self.b = proxies

    def all(self) -> list[Dfsp]:
        return list(self.bench.dfsps.values())

    def forget(self) -> None:
        for dfsp in self.all():
            dfsp.forget()

    async def get(self, target: str = PARTY, source: str = "payerfsp", **headers: str) -> None:
        reply = await self.bench.ask("GET", target, source=source, headers=_name(headers))
        assert reply.status == 202, reply
        await self.bench.settle()

    async def put(self, proxy: Dfsp, target: str = PARTY, body: bytes = BODY, **headers: str) -> None:
        named = {"fspiop_proxy": proxy.name, "fspiop_destination": "payerfsp"} | headers
        reply = await self.bench.ask("PUT", target, body, source=named.pop("source", "farfsp"), headers=_name(named))
        assert reply.status == 200, reply
        await self.bench.settle()

    async def put_error(self, proxy: Dfsp, target: str = PARTY, body: bytes = NOT_FOUND, **headers: str) -> None:
        await self.put(proxy, f"{target}/error", body, **headers)

    async def read_hint(self) -> str | None:
        """Read which FSP the directory names for the party."""
        self.bench.payer.forget()
        target = PARTY.replace("parties", "participants")
        await self.bench.ask("GET", target)
        await self.bench.settle()
        (message,) = self.bench.payer.messages
        self.bench.payer.forget()
        return None if message.target.endswith("/error") else str(message.json["fspId"])


def _name(headers: dict[str, str]) -> dict[str, str | None]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


@pytest.fixture
async def schemes(database_url: str, redis_url: str) -> AsyncIterator[Schemes]:
    async with open_bench(database_url, redis_url, discovery_timeout_s=1) as bench:
        yield Schemes(bench, [await bench.add(name, is_proxy=True) for name in ("proxya", "proxyb")])


def only(dfsp: Dfsp) -> Message:
    (message,) = dfsp.messages
    return message


@row("X01", "X05", "X06", "X11")
async def test_a_party_of_another_scheme_is_found_and_found_again(schemes: Schemes) -> None:
    payer = schemes.bench.payer
    await schemes.get(fspiop_destination="nosuchfsp")
    for proxy in (schemes.a, schemes.b):
        message = only(proxy)
        assert (message.method, message.target) == ("GET", f"/{proxy.name}{PARTY}")
        assert message.headers["fspiop-source"] == "payerfsp"
        assert "fspiop-destination" not in message.headers
    assert payer.messages == []
    await schemes.put(schemes.b)
    message = only(payer)
    assert (message.target, message.body) == (f"/payerfsp{PARTY}", BODY)
    assert message.headers["fspiop-source"] == "farfsp"
    await schemes.put(schemes.a, source="otherfsp")
    assert [message.headers["fspiop-source"] for message in payer.messages] == ["farfsp", "otherfsp"]
    await until_hint(schemes, "farfsp")
    schemes.forget()
    await schemes.get()
    assert schemes.a.messages == []
    assert only(schemes.b).headers["fspiop-destination"] == "farfsp"
    await schemes.put(schemes.b)
    assert only(payer).body == BODY


async def until_hint(schemes: Schemes, expected: str | None) -> None:
    """Wait for the directory: it is changed beside the message."""
    while await schemes.read_hint() != expected:
        pass


@row("X02")
async def test_without_a_proxy_the_payer_gets_3204(database_url: str, redis_url: str) -> None:
    async with open_bench(database_url, redis_url) as bench:
        await bench.ask("GET", PARTY)
        (message,) = await bench.payer.received()
        assert (message.target, message.error) == (f"/payerfsp{PARTY}/error", ("3204", NO_PROXY))


@row("X02", "X17")
async def test_proxies_that_are_switched_off_are_not_asked(database_url: str, redis_url: str) -> None:
    async with open_bench(database_url, redis_url, account_lookup_proxies="off") as bench:
        proxy = await bench.add("proxya", is_proxy=True)
        await bench.ask("GET", PARTY)
        (message,) = await bench.payer.received()
        assert message.error == ("3204", NO_PROXY)
        assert proxy.messages == []


@row("X04", "D704")
async def test_a_proxy_that_cannot_be_asked_counts_as_one_that_has_not_found_the_party(schemes: Schemes) -> None:
    payer = schemes.bench.payer
    schemes.a.reply = Reply(500)
    await schemes.get()
    assert payer.messages == []
    await schemes.put_error(schemes.b)
    assert only(payer).error == ("3204", "Party not found")
    schemes.forget()
    await schemes.b.stop()
    await schemes.get(f"{PARTY}/S1")
    assert (only(payer).target, only(payer).error) == (f"/payerfsp{PARTY}/S1/error", ("3201", NOBODY_ASKED))


@row("X07", "D705")
async def test_only_the_last_error_is_forwarded_and_none_after_a_party(schemes: Schemes) -> None:
    payer = schemes.bench.payer
    await schemes.get()
    await schemes.put_error(schemes.a)
    assert payer.messages == []
    await schemes.put_error(schemes.b)
    assert (only(payer).target, only(payer).body) == (f"/payerfsp{PARTY}/error", NOT_FOUND)
    schemes.forget()
    await schemes.get()
    await schemes.put(schemes.a)
    await schemes.put_error(schemes.b)
    assert only(payer).body == BODY


@row("X08", "D701")
async def test_two_requests_at_once_get_two_answers(schemes: Schemes) -> None:
    payer = schemes.bench.payer
    for _ in range(2):
        await schemes.get()
    assert (len(schemes.a.messages), payer.messages) == (2, [])
    for _ in range(2):
        await schemes.put_error(schemes.a)
        await schemes.put_error(schemes.b)
    assert [message.error[0] for message in payer.messages] == ["3204", "3204"]


@row("X09", "X10", "D702", "D703", "D704", "D706", "D708")
@pytest.mark.parametrize("target", [PARTY, f"{PARTY}/S1", "/parties/ALIAS/a:b:c"])
async def test_a_payer_gets_3300_when_no_proxy_answers_in_time(schemes: Schemes, target: str) -> None:
    payer = schemes.bench.payer
    await schemes.get(target)
    await schemes.put(schemes.a, f"{target}0")  # of another party: forwarded, and no answer to this one
    assert only(payer).target == f"/payerfsp{target}0"
    payer.forget()
    (message,) = await payer.received()
    assert (message.method, message.target) == ("PUT", f"/payerfsp{target}/error")
    assert message.body == b'{"errorInformation":{"errorCode":"3300","errorDescription":"Generic expired error"}}'
    assert message.headers["fspiop-source"] == "Hub"
    assert message.headers["fspiop-destination"] == "payerfsp"
    assert message.headers["content-type"] == "application/vnd.interoperability.parties+json;version=2.0"
    assert parsedate_to_datetime(message.headers["date"])
    schemes.forget()
    await schemes.put(schemes.a, target)
    await schemes.put_error(schemes.b, target)
    assert payer.messages == []
    (refusal,) = schemes.a.messages
    assert refusal.error == ("3300", "Generic expired error - The payer already has an error for this request")


@row("X12", "D709")
async def test_an_fsp_behind_a_known_proxy_is_called_there(schemes: Schemes) -> None:
    await schemes.put(schemes.a, source="farfsp")
    schemes.forget()
    await schemes.get(fspiop_destination="farfsp")
    assert only(schemes.a).headers["fspiop-destination"] == "farfsp"
    assert schemes.b.messages == []


@row("X13", "D710")
async def test_a_hint_is_removed_when_its_proxy_does_not_find_the_party(schemes: Schemes) -> None:
    await schemes.get()
    await schemes.put(schemes.a)
    await until_hint(schemes, "farfsp")
    schemes.forget()
    await schemes.get()
    await schemes.put_error(schemes.a)
    assert only(schemes.bench.payer).body == NOT_FOUND
    await until_hint(schemes, None)


@row("X14", "D707")
async def test_a_payer_of_another_scheme_is_answered_through_its_proxy(schemes: Schemes) -> None:
    await schemes.bench.register("MSISDN", "525598765432")
    await schemes.get(source="farfsp", fspiop_proxy="proxya")
    message = only(schemes.bench.payee)
    assert (message.target, message.headers["fspiop-source"]) == (f"/payeefsp{PARTY}", "farfsp")
    assert message.headers["fspiop-destination"] == "payeefsp"
    reply = await schemes.bench.ask(
        "PUT", PARTY, BODY, source="payeefsp", headers={"fspiop-destination": "farfsp"}
    )  # fmt: skip
    assert reply.status == 200
    (answer,) = await schemes.a.received()
    assert (answer.target, answer.body) == (f"/proxya{PARTY}", BODY)
    assert answer.headers["fspiop-destination"] == "farfsp"


@row("X14")
async def test_a_payer_of_another_scheme_gets_its_errors_through_its_proxy(schemes: Schemes) -> None:
    await schemes.b.stop()
    await schemes.get(source="farfsp", fspiop_proxy="proxya")
    message = only(schemes.a)
    assert (message.target, message.error) == (f"/proxya{PARTY}/error", ("3201", NOBODY_ASKED))
    assert message.headers["fspiop-destination"] == "farfsp"


@row("X15")
async def test_a_payer_of_another_scheme_can_name_only_the_fsp_of_the_directory(schemes: Schemes) -> None:
    await schemes.bench.register("MSISDN", "525598765432")
    await schemes.get(source="farfsp", fspiop_proxy="proxya", fspiop_destination="thirdfsp")
    assert only(schemes.a).error == ("3204", "Party not found - External party resolution error")
    await schemes.get(source="farfsp", fspiop_proxy="proxya", fspiop_destination="payeefsp")
    assert only(schemes.bench.payee).target == f"/payeefsp{PARTY}"


@row("X16")
async def test_hints_are_no_registrations_and_name_nobody_in_logs(
    schemes: Schemes, capsys: pytest.CaptureFixture[str]
) -> None:
    await schemes.get()
    await schemes.put(schemes.a)
    await until_hint(schemes, "farfsp")
    await schemes.get()
    await schemes.put_error(schemes.a)
    await until_hint(schemes, None)
    await schemes.bench.register("MSISDN", "525598765432")  # by an FSP of this scheme
    assert await schemes.read_hint() == "payeefsp"
    shown = capsys.readouterr()
    assert "525598765432" not in shown.out + shown.err


async def test_a_hint_does_not_replace_a_registration(schemes: Schemes, database_url: str) -> None:
    await schemes.get()
    await schemes.bench.register("MSISDN", "525598765432")
    await schemes.put(schemes.a)
    connection: Any = await asyncpg.connect(database_url)
    try:
        await until(lambda: not schemes.bench.listener.working)
        owners = await connection.fetch("SELECT fsp_id FROM aliases")
    finally:
        await connection.close()
    assert [record["fsp_id"] for record in owners] == ["payeefsp"]
    assert await schemes.read_hint() == "payeefsp"
