"""The buckets of one process: whom a request belongs to, and what it takes."""

from __future__ import annotations

import asyncio
from functools import cache

import pytest

from oracle.api.http import HttpServer, Request
from oracle.api.http.request import PlainRequest
from oracle.api.http.turns import Turns
from oracle.budgets.buckets import STRANGERS_MAX, TARGET_MAX, WINDOWS_MAX, Bucket, Buckets
from oracle.budgets.classes import Classes, Costs, Size
from oracle.settings import BUDGET_SIZES

TARGET = b"/participants/MSISDN/525512345678"
CLASSES = Classes({name: Size(size, refill) for name, size, refill in BUDGET_SIZES}, {"bluebank": "E"}, "C")


def make_buckets(*fsp_ids: str, enforces: bool = False) -> Buckets:
    buckets = Buckets(CLASSES, Costs(), enforces=enforces)
    buckets.know(fsp_ids)
    return buckets


def make_head(*lines: bytes, target: bytes = TARGET) -> bytes:
    return b"\r\n".join((b"GET %b HTTP/1.1" % target, *lines, b"", b""))


@cache
def make_turns() -> Turns:
    """Make the turns of a connection on which nothing is answered."""

    def ignore(given: Request | BaseException) -> None:
        pass

    async def make() -> Turns:
        return Turns(HttpServer(ignore, on_error=ignore))

    return asyncio.run(make())


def find(buckets: Buckets, data: bytes, target: bytes = TARGET) -> Bucket:
    """Find the bucket as a lookup of the hub does."""
    try:
        return buckets.windows[data[buckets.slices[len(target)]]]
    except LookupError:
        found = buckets.read(data, len(target))
        request = PlainRequest(make_turns(), target, data)
        return buckets.of(request.header(b"fspiop-source")) if found is None else found


FSPS = ("a", "greenbank", "greenbank2", "bank", "x" * 32)
BEFORE = (
    (),
    (b"content-type: application/vnd.interoperability.participants+json;version=2.0",),
    (b"content-type: application/vnd.interoperability.parties+json;version=1.1", b"x: y"),
)
AFTER = (
    (),
    (b"accept: x",),
    (b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", b"host: oracle"),
)


def test_every_request_is_paid_by_its_source_wherever_the_header_is() -> None:
    buckets = make_buckets(*FSPS)
    for _ in range(2):  # found, then remembered
        for before in BEFORE:
            for after in AFTER:
                for fsp_id in FSPS:
                    for length in (5, 21, 33, TARGET_MAX, TARGET_MAX + 40):
                        target = b"/" + b"1" * length
                        head = make_head(*before, b"fspiop-source: " + fsp_id.encode(), *after, target=target)
                        assert find(buckets, head, target).fsp_id == fsp_id


@pytest.mark.parametrize("line", [b"FSPIOP-Source: bank", b"fspiop-source:bank", b"fspiop-source:   bank  "])
def test_a_header_in_another_spelling_counts(line: bytes) -> None:
    buckets = make_buckets("bank")
    for _ in range(2):
        assert find(buckets, make_head(b"a: b", line, b"c: d")).fsp_id == "bank"


@pytest.mark.parametrize(
    "lines",
    [
        (),
        (b"fspiop-source: nobodys",),
        (b"fspiop-source: ban",),
        (b"fspiop-source: bankk",),
        (b"fspiop-source: ",),
        (b"x-source: bank",),
        (b"x: fspiop-source: bank",),
        (b"fspiop-destination: bank",),
        (b"fspiop-source: BANK",),
        (b"fspiop-source: b\xc3\xa4nk",),
        (b"fspiop-source: bank\xc2\xa0",),
        (b"fspiop-source: bank bank",),
        (b"fspiop-source: bank,greenbank",),
        (b"fspiop-source: unknown FSPs",),
        (b"fspiop-source: " + b"bank" * 2_000,),
        (b"FSPIOP-SOURCE: Bank",),
    ],
)
def test_a_source_that_the_directory_does_not_know_shares_one_bucket(lines: tuple[bytes, ...]) -> None:
    buckets = make_buckets("bank")
    find(buckets, make_head(b"a: b", b"fspiop-source: bank"))
    for _ in range(2):
        assert find(buckets, make_head(b"a: b", *lines)) is buckets.unknown


def test_strangers_take_little_memory_and_displace_nobody() -> None:
    buckets = make_buckets("bank")
    known = make_head(b"fspiop-source: bank", b"a: b", b"c: d")
    assert find(buckets, known).fsp_id == "bank"
    for number in range(1_000):
        assert find(buckets, make_head(b"fspiop-source: %d" % number, b"a: b", b"c: d")) is buckets.unknown
        assert len(buckets.windows) <= 1 + STRANGERS_MAX
    assert len(buckets.list_buckets()) == 2
    assert "bank" in [bucket.fsp_id for bucket in buckets.windows.values()]


def test_a_stranger_that_asks_again_is_found_by_its_window() -> None:
    buckets = make_buckets("bank")
    for _ in range(2):
        assert find(buckets, make_head(b"fspiop-source: payerfsp", b"a: b", b"c: d")) is buckets.unknown
    assert list(buckets.windows.values()) == [buckets.unknown]


def test_a_stranger_that_becomes_an_fsp_pays_from_then_on() -> None:
    buckets = make_buckets("bank")
    head = make_head(b"fspiop-source: payerfsp", b"a: b", b"c: d")
    assert find(buckets, head) is buckets.unknown
    buckets.know(["bank", "payerfsp"])
    assert find(buckets, head).fsp_id == "payerfsp"
    for number in range(2 * STRANGERS_MAX):
        find(buckets, make_head(b"fspiop-source: %d" % number, b"a: b", b"c: d"))
    assert find(buckets, head).fsp_id == "payerfsp"


def test_windows_are_bounded() -> None:
    buckets = make_buckets("a", "x" * 32)  # the window of `a` reaches into the next header
    for number in range(WINDOWS_MAX + 100):
        assert find(buckets, make_head(b"fspiop-source: a", b"x: %d" % number)).fsp_id == "a"
        assert len(buckets.windows) <= WINDOWS_MAX


def test_a_new_fsp_with_a_longer_name_is_told_from_the_others() -> None:
    buckets = make_buckets("bank")
    assert find(buckets, make_head(b"fspiop-source: bank", b"a: b")).fsp_id == "bank"
    assert find(buckets, make_head(b"fspiop-source: bank-of-the-north", b"a: b")) is buckets.unknown
    buckets.know(["bank", "bank-of-the-north"])
    assert find(buckets, make_head(b"fspiop-source: bank-of-the-north", b"a: b")).fsp_id == "bank-of-the-north"
    assert find(buckets, make_head(b"fspiop-source: bank", b"a: b")).fsp_id == "bank"


def test_an_fsp_has_the_bucket_of_its_class() -> None:
    buckets = make_buckets("greenbank", "bluebank")
    assert {bucket.fsp_id: (bucket.fsp_class, bucket.left) for bucket in buckets.list_buckets()} == {
        "unknown FSPs": ("unknown", 3_000),
        "greenbank": ("C", 8_000),
        "bluebank": ("E", 3_000),
    }


@pytest.mark.parametrize("enforces", [False, True])
def test_an_empty_bucket_refuses_only_where_it_is_enforced(enforces: bool) -> None:
    buckets = make_buckets("bank", enforces=enforces)
    bucket = buckets.of(b"bank")
    bucket.left = 1.0
    assert not buckets.refuses(bucket)
    assert buckets.take(bucket, 3)  # the last question can cost more than there is
    assert bucket.left == -2
    assert buckets.take(bucket, 3) is not enforces
    assert buckets.refuses(bucket) is enforces
    assert bucket.left == -2
    assert bucket.over == (2 if enforces else 1)
