"""What a slow, dead or talkative host can take: connections, places in the queue, bytes; and the breaker."""

from __future__ import annotations

import asyncio

from peer import (
    OK,
    Client,
    answer_with,
    begin,
    calling,
    end_pauses,
    fail,
    get,
    never_answer,
    on_each_loop,
    put,
    serve_ok,
    serving,
    wait_until,
)

from oracle.calls import CallLimits
from oracle.calls.addresses import Addresses
from oracle.calls.breaker import SPREAD, Breaker
from oracle.calls.host import Host
from oracle.calls.limits import LIMITS


@on_each_loop
async def test_a_full_queue_refuses_at_once_and_the_calls_in_it_are_answered_in_order() -> None:
    go_on = asyncio.Event()

    async def serve(client: Client) -> None:
        while await client.read():
            await go_on.wait()
            await client.write(OK)

    async with serving(serve) as peer, calling(CallLimits(connections_max=1, waiting_max=2)) as calls:
        tasks = await begin(calls, f"{peer.url}/0", 1)
        await peer.arrived.wait()
        tasks += await begin(calls, f"{peer.url}/1", 1) + await begin(calls, f"{peer.url}/2", 1)
        assert await fail(calls, get(peer.url)) == ("busy", False)
        go_on.set()
        assert await asyncio.gather(*tasks) == [200, 200, 200]
        assert [request.split(b" ")[1] for request in peer.requests] == [b"/0", b"/1", b"/2"]


@on_each_loop
async def test_a_host_that_answers_nothing_for_a_while_gets_no_longer_queue() -> None:
    answers = asyncio.Semaphore(0)

    async def serve(client: Client) -> None:
        while await client.read():
            await answers.acquire()
            await client.write(OK)

    async with serving(serve) as peer, calling(CallLimits(connections_max=2)) as calls:
        tasks = await begin(calls, peer.url, 2)
        await wait_until(lambda: len(peer.requests) == 2)
        tasks += await begin(calls, peer.url, 2)  # they wait
        for host in calls._hosts.values():
            host._heard_at -= 2 * calls.totals.limits.stall_s
        assert await fail(calls, put(peer.url)) == ("busy", False)
        answers.release()
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        tasks += await begin(calls, peer.url, 1)  # it answers again, so this one waits
        for _ in tasks:
            answers.release()
        assert set(await asyncio.gather(*tasks)) == {200}


@on_each_loop
async def test_a_call_that_waits_for_a_connection_ends_in_time_and_frees_its_place() -> None:
    async with serving(never_answer) as peer, calling(CallLimits(connections_max=1, waiting_max=1)) as calls:
        (first,) = await begin(calls, peer.url, 1)
        await peer.arrived.wait()
        for _ in range(3):
            assert await fail(calls, put(peer.url), timeout_s=0.01) == ("timed_out", False)
        assert len(peer.requests) == 1
        first.cancel()


@on_each_loop
async def test_bodies_that_wait_are_bounded_for_a_host_and_for_all() -> None:
    limits = CallLimits(host_body_bytes_max=1000, body_bytes_max=1500)
    async with serving(never_answer) as slow, serving(never_answer) as other, calling(limits) as calls:
        tasks = await begin(calls, slow.url, 1, 600)
        assert await fail(calls, put(slow.url, b"a" * 600)) == ("busy", False)
        tasks += await begin(calls, other.url, 1, 600)
        assert await fail(calls, put(other.url, b"a" * 301)) == ("busy", False)
        tasks += await begin(calls, other.url, 1, 300)
        assert calls.totals.body_bytes == 1500
        assert await fail(calls, get("http://127.0.0.1:1/")) == ("unreachable", False)  # nothing to hold: not refused
        await calls.close()
        assert not any(task.done() and task.result() == 200 for task in tasks)
        assert calls.totals.body_bytes == 0


@on_each_loop
async def test_answers_that_arrive_are_bounded_for_all_hosts_together() -> None:
    async def serve(client: Client) -> None:
        await client.read()
        await client.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n" + b"a" * 900)
        await client.wait_closed()

    async with serving(serve) as peer, calling(CallLimits(answer_bytes_max=2000)) as calls:
        tasks = await begin(calls, peer.url, 3)
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        assert [task.result() for task in done] == [("broken", True)]
        assert calls.totals.answer_bytes == 1800


@on_each_loop
async def test_a_slow_host_leaves_connections_to_the_others() -> None:
    limits = CallLimits(connections_all_max=8)
    async with serving(never_answer) as slow, serving() as healthy, calling(limits) as calls:
        tasks = await begin(calls, slow.url, 50)
        for _ in range(3):
            assert (await calls.call(get(healthy.url))).status == 200
        assert slow.open_max <= 4  # half of them
        assert not any(task.done() for task in tasks)
        await calls.close()
        await asyncio.wait(tasks)


@on_each_loop
async def test_a_host_without_a_connection_gets_the_next_that_is_free() -> None:
    go_on = asyncio.Event()

    async def serve(client: Client) -> None:
        while await client.read():
            await go_on.wait()
            await client.write(OK)

    async with (
        serving(serve) as one,
        serving() as other,
        calling(CallLimits(connections_all_max=1, sweep_s=60)) as calls,
    ):
        first = asyncio.ensure_future(calls.call(get(one.url)))
        await one.arrived.wait()
        second = asyncio.ensure_future(calls.call(get(other.url)))
        third = asyncio.ensure_future(calls.call(get(other.url)))
        for _ in range(10):
            await asyncio.sleep(0)
        assert other.connections == 0
        go_on.set()
        assert [(await call).status for call in (first, second, third)] == [200, 200, 200]
        # And an idle connection of another host gives way.
        assert (await calls.call(get(one.url))).status == 200


@on_each_loop
async def test_calls_that_wait_get_a_new_connection_when_theirs_ends() -> None:
    closing = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok"
    async with serving(answer_with(closing)) as peer, calling(CallLimits(connections_max=1, sweep_s=60)) as calls:
        tasks = await begin(calls, peer.url, 5)
        assert set(await asyncio.gather(*tasks)) == {200}
        assert (peer.connections, peer.open_max) == (5, 1)


@on_each_loop
async def test_a_connection_that_was_idle_for_too_long_is_not_used_even_before_it_is_closed() -> None:
    async with serving() as peer, calling(CallLimits(sweep_s=60)) as calls:
        assert (await calls.call(get(peer.url))).status == 200
        for host in calls._hosts.values():
            host._idle[0].usable_until = 0.0
        assert (await calls.call(get(peer.url))).status == 200
        assert peer.connections == 2


@on_each_loop
async def test_a_probe_that_its_caller_gives_up_is_followed_by_another_one() -> None:
    limits = CallLimits(failures_max=1, sweep_s=60)
    async with serving(answer_with(b"junk")) as peer, calling(limits) as calls:
        assert await fail(calls, put(peer.url)) == ("broken", True)
        assert await fail(calls, put(peer.url)) == ("busy", False)
        peer.script = never_answer
        end_pauses(calls)
        peer.arrived.clear()
        probe = asyncio.ensure_future(calls.call(put(peer.url)))
        await peer.arrived.wait()
        assert await fail(calls, put(peer.url)) == ("busy", False)
        probe.cancel()
        await asyncio.wait([probe])
        peer.script = serve_ok
        assert (await calls.call(put(peer.url))).status == 200


@on_each_loop
async def test_failures_in_a_row_open_the_breaker_and_one_call_tries_the_host_again() -> None:
    go_on = asyncio.Event()

    async def serve(client: Client) -> None:
        while await client.read():
            await go_on.wait()
            await client.write(OK)

    async with serving() as gone, calling(CallLimits(failures_max=3)) as calls:
        await gone.stop()
        for _ in range(3):
            assert await fail(calls, put(gone.url)) == ("unreachable", False)
        assert await fail(calls, put(gone.url)) == ("busy", False)
        assert calls.totals.blocked == 1
        # Each pause ends with one call that reaches for the host, which is still away.
        for _ in range(2):
            end_pauses(calls)
            assert await fail(calls, put(gone.url)) == ("unreachable", False)
            assert await fail(calls, put(gone.url)) == ("busy", False)
        async with serving(serve, port=gone.port) as peer:
            end_pauses(calls)
            (probe,) = await begin(calls, peer.url, 1)
            await peer.arrived.wait()
            assert await fail(calls, put(peer.url)) == ("busy", False)  # one probe at a time
            go_on.set()
            assert await probe == 200
            assert calls.totals.blocked == 0
            assert (await calls.call(put(peer.url))).status == 200


@on_each_loop
async def test_calls_that_wait_end_when_the_breaker_opens() -> None:
    async def serve(client: Client) -> None:
        await client.read()
        await client.peer.arrived.wait()
        await go_on.wait()
        await client.write(b"junk")
        await client.wait_closed()

    go_on = asyncio.Event()
    limits = CallLimits(failures_max=2, connections_max=2)
    async with serving(serve) as peer, calling(limits) as calls:
        tasks = await begin(calls, peer.url, 10)
        await peer.arrived.wait()
        go_on.set()
        results = await asyncio.gather(*tasks)
        assert sorted(set(results)) == [("broken", True), ("busy", False)]
        assert results.count(("broken", True)) <= 3
        assert len(peer.requests) == results.count(("broken", True))


@on_each_loop
async def test_a_time_out_counts_as_a_failure_of_the_host_only_if_the_host_had_the_call() -> None:
    limits = CallLimits(failures_max=2, connections_max=1)
    async with serving(never_answer) as peer, calling(limits) as calls:
        (first,) = await begin(calls, peer.url, 1)
        await peer.arrived.wait()
        for _ in range(5):
            assert await fail(calls, put(peer.url), timeout_s=0.01) == ("timed_out", False)
        assert calls.totals.blocked == 0
        first.cancel()
        await peer.wait_open(0)
        for _ in range(2):
            peer.arrived.clear()
            (call,) = await begin(calls, peer.url, 1)
            await peer.arrived.wait()
            (exchange,) = calls.totals.active
            exchange.time_out()
            assert await call == ("timed_out", True)
        assert await fail(calls, put(peer.url)) == ("busy", False)


@on_each_loop
async def test_any_answer_is_a_success_for_the_breaker() -> None:
    failing = b"HTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n"
    async with serving(answer_with(failing)) as peer, calling(CallLimits(failures_max=2)) as calls:
        for _ in range(5):
            assert (await calls.call(put(peer.url))).status == 500


@on_each_loop
async def test_a_host_that_refuses_more_connections_serves_the_calls_with_those_it_has() -> None:
    """The peer closes its listening socket: connections that are open go on, new ones are refused."""
    go_on = asyncio.Event()

    async def serve(client: Client) -> None:
        while await client.read():
            await go_on.wait()
            await client.write(OK)

    async with serving(serve) as peer, calling(CallLimits(failures_max=3)) as calls:
        (first,) = await begin(calls, peer.url, 1)
        await peer.arrived.wait()
        peer.close_listener()
        tasks = await begin(calls, peer.url, 20)
        (host,) = calls._hosts.values()
        await wait_until(lambda: host._open_again_at > 0)
        go_on.set()
        assert set(await asyncio.gather(first, *tasks)) == {200}
        assert peer.connections == 1


@on_each_loop
async def test_idle_connections_are_closed_and_unused_hosts_forgotten() -> None:
    limits = CallLimits(idle_s=0.05, forget_s=0.1, sweep_s=0.01)
    async with serving() as peer, calling(limits) as calls:
        await calls.call(get(peer.url))
        await peer.wait_open(0)
        await wait_until(lambda: not calls._hosts)
        assert (await calls.call(get(peer.url))).status == 200


@on_each_loop
async def test_hosts_are_bounded_and_a_quiet_one_makes_room() -> None:
    async with serving(never_answer) as slow, serving() as peer, calling(CallLimits(hosts_max=2)) as calls:
        (first,) = await begin(calls, slow.url, 1)
        for port in (1, 2, 3):
            assert await fail(calls, put(f"http://127.0.0.1:{port}/")) == ("unreachable", False)
            assert len(calls._hosts) == 2
        assert (await calls.call(get(peer.url))).status == 200  # its connection stays open
        assert await fail(calls, put("http://127.0.0.1:4/")) == ("busy", False)
        assert (await calls.call(get(peer.url))).status == 200
        first.cancel()


@on_each_loop
async def test_spellings_of_a_host_share_its_connections_and_are_not_kept_without_a_bound() -> None:
    async with serving(serve_ok) as peer, calling() as calls:
        for number in range(30):
            url = peer.url.replace("http://", f"http://user{number}:secret@")
            assert (await calls.call(get(url))).status == 200
        assert peer.connections == 1
        assert len({request.partition(b"authorization: ")[2][:30] for request in peer.requests}) == 30
        assert len(calls._origins) == calls.totals.limits.origins_max


@on_each_loop
async def test_a_name_is_asked_once_for_many_connections_and_its_address_is_used_for_a_short_time() -> None:
    addresses = Addresses("localhost", CallLimits(name_fresh_s=60))
    found = await asyncio.gather(*(addresses.find() for _ in range(20)))
    asked_at = addresses._asked_at
    assert "127.0.0.1" in found[0]
    assert all(one == found[0] for one in found)
    addresses.prefer("127.0.0.1")
    assert (await addresses.find())[0] == "127.0.0.1"
    assert addresses._asked_at == asked_at
    stale = Addresses("localhost", CallLimits(name_fresh_s=0))
    await stale.find()
    stale._asked_at = 0.0
    await stale.find()
    assert stale._asked_at > 0


@on_each_loop
async def test_known_addresses_are_used_when_the_name_service_fails() -> None:
    addresses = Addresses("nobody.invalid", CallLimits(name_fresh_s=0, name_stale_s=60))
    addresses._known, addresses._asked_at = ["127.0.0.1"], asyncio.get_running_loop().time()
    assert await addresses.find() == ["127.0.0.1"]
    addresses.close()


@on_each_loop
async def test_a_host_that_is_well_again_is_called_again_when_its_pause_ends() -> None:
    limits = CallLimits(failures_max=2, pauses_s=(0.02, 0.04))
    async with serving() as gone, calling(limits) as calls:
        await gone.stop()
        for _ in range(2):
            assert await fail(calls, put(gone.url)) == ("unreachable", False)
        (host,) = calls._hosts.values()
        for _ in range(4):  # the last pauses are no longer than the longest one
            await pause_of(host)
            assert await fail(calls, put(gone.url)) == ("unreachable", False)
        async with serving(serve_ok, port=gone.port) as peer:
            await pause_of(host)
            assert [(await calls.call(put(peer.url))).status for _ in range(3)] == [200] * 3
            assert calls.totals.blocked == 0


async def pause_of(host: Host) -> None:
    """Wait until the pause of its breaker has ended, which is no longer than the limits say."""
    until = host._breaker._open_until
    assert until is not None
    assert until - host.now() <= max(host.limits.pauses_s) * (1 + SPREAD)
    await asyncio.sleep(max(until - host.now(), 0))
    await wait_until(lambda: host.now() >= until)


def test_no_pause_of_the_usual_limits_is_longer_than_six_seconds() -> None:
    breaker, now = Breaker(LIMITS), 1000.0
    for _ in range(LIMITS.failures_max):
        breaker.fail(now)
    for _ in range(50):
        now += 6
        assert breaker.allows(now)
        breaker.begin_probe()
        breaker.fail(now, is_probe=True)
    assert breaker.allows(now + 6)


def test_the_breaker_waits_longer_after_each_probe_that_fails() -> None:
    breaker = Breaker(CallLimits(failures_max=2, pauses_s=(1, 10, 100)))
    assert [breaker.fail(0), breaker.allows(0), breaker.fail(0), breaker.allows(0)] == [False, True, True, False]
    assert breaker.fail(0.5) is False  # a call from before: it changes nothing
    assert not breaker.allows(0.5)
    assert breaker.allows(1)
    for now in (1, 2, 30):  # nor does one that fails later than the pause ends
        assert breaker.fail(now) is False
        assert breaker.allows(now)
    breaker.begin_probe()
    assert not breaker.allows(1)
    breaker.fail(1)  # another call from before, while the probe is under way
    assert not breaker.allows(100)
    breaker.fail(1, is_probe=True)
    assert (breaker.allows(8.9), breaker.allows(11)) == (False, True)
    breaker.begin_probe()
    breaker.give_up_probe()
    assert breaker.allows(11)
    assert breaker.succeed() is True
    assert [breaker.fail(12), breaker.fail(12), breaker.allows(13)] == [False, True, True]
