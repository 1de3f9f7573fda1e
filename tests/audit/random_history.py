"""A random life of a directory, made through the real hub listener, the admin listener and psql, and watched live.

After every change some parties are looked up: the answer of the hub, and the instants before and after it.  Nothing
changes meanwhile, so the answer is the right one for every instant between.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import asyncpg
import httpx
from oracle_process import until

if TYPE_CHECKING:
    from admin_service import Service

FSPS = ("bank-a", "bank-b", "bank-c", "bank-d")
CURRENCIES = (None, "MXN", "USD", "MMK")
MSISDNS = [f"5255{n}234{n:04}" for n in (1, 2, 3, 4)] + [f"9592500000{n:02}" for n in range(4)]
ACCOUNTS = ["646180110400000007", "646180", "012180000118359713", "000123"]
ALIASES = ["shop", "shop-2", "tienda", "x1"]
SUB_IDS = (None, "SAVINGS", "till-1")
PARTIES = [
    *(("MSISDN", identifier) for identifier in MSISDNS),
    *(("ACCOUNT_ID", identifier) for identifier in ACCOUNTS),
    *(("ALIAS", identifier) for identifier in ALIASES),
]
CLABES = ACCOUNTS[::2]
PREFIXES = [("MSISDN", "5255"), ("MSISDN", "52551"), ("MSISDN", "959"), ("CLABE", "646"), ("ACCOUNT_ID", "646"),
            ("ACCOUNT_ID", "646180"), ("CLABE", "0"), ("ACCOUNT_ID", "0"), ("ALIAS", "shop"), ("ALIAS", "shop-2"),
            ("ALIAS", "t")]  # fmt: skip


class Asked(NamedTuple):
    party_id_type: str
    identifier: str
    sub_id: str | None
    currency: str | None


class Seen(NamedTuple):
    """What the hub said, and between which instants it was asked."""

    asked: Asked
    party_list: list[dict[str, str]]
    before: datetime
    after: datetime


def some_question(rng: random.Random) -> Asked:
    party_id_type, identifier = rng.choice(PARTIES)
    sub_id = rng.choice(SUB_IDS) if party_id_type != "MSISDN" else None
    return Asked(party_id_type, identifier, sub_id, rng.choice((None, *CURRENCIES)))


class RandomHistory:
    def __init__(self, service: Service, seed: int) -> None:
        self.seen: list[Seen] = []
        self._rng = random.Random(seed)
        self._service = service
        self._canaries = 0

    def make(self, steps: int) -> None:
        with httpx.Client(base_url=self._service.oracle.hub_url, timeout=30) as self._hub:
            self._make(steps)

    def _make(self, steps: int) -> None:
        for fsp_id in FSPS:
            self._service.operator.post("/fsps", json={"fspId": fsp_id}).raise_for_status()
        self._by_hand(
            ("UPDATE key_policies SET policy = 'per-currency' WHERE party_id_type IN ('ALIAS', 'MSISDN')",),
        )
        self._new_rule()
        for step in range(steps):
            self._change(step)
            for _ in range(4):
                self._look(some_question(self._rng))

    def _change(self, step: int) -> None:
        rng = self._rng
        if step % 25 == 12:
            self._suspend_or_resume()
        elif step % 25 == 3:
            self._new_rule()
        elif step % 25 == 18:
            self._end_or_move_rule()
        elif step % 25 == 24:
            self._several_by_hand()
        else:
            often = (self._register, self._register, self._register, self._update, self._remove, self._remove)
            rng.choice((*often, self._put_hint, self._put_hint, self._forget_hints))()

    # -- through the hub ------------------------------------------------------------------------------------------

    def _call(self, method: str, body: dict[str, str] | None = None, *, resource: str = "participants") -> None:
        asked = some_question(self._rng)
        source = self._rng.choice(FSPS)
        if body is not None:
            body = {"fspId": source}
            if asked.currency:
                body["currency"] = asked.currency
        path = f"/participants/{asked.party_id_type}/{asked.identifier}"
        path += f"/{asked.sub_id}" if asked.sub_id else ""
        params = {"currency": asked.currency} if method == "DELETE" and asked.currency else {}
        headers = {
            "fspiop-source": source,
            "content-type": f"application/vnd.interoperability.{resource}+json;version=2.0",
        }
        begun = time.monotonic()
        answer = self._hub.request(method, path, params=params, json=body, headers=headers)
        # PostgreSQL paused; the change below comes after this one and settles whether it counts.  What ALS does by
        # itself has the same answer then, only later.
        if answer.status_code == 503 or (resource == "parties" and time.monotonic() - begun > 1):
            self._by_hand()
        else:
            assert answer.status_code < 500, answer.text

    def _register(self) -> None:
        self._call("POST", {})

    def _update(self) -> None:
        self._call("PUT", {})

    def _remove(self) -> None:
        self._call("DELETE")

    def _put_hint(self) -> None:
        self._call("POST", {}, resource="parties")

    def _forget_hints(self) -> None:
        self._call("DELETE", resource="parties")

    def _look(self, asked: Asked) -> None:
        path = f"/participants/{asked.party_id_type}/{asked.identifier}" + (f"/{asked.sub_id}" if asked.sub_id else "")
        params = {"currency": asked.currency} if asked.currency else {}
        self.seen.append(Seen(asked, *self._ask_hub(path, params)))

    # -- by administrators ----------------------------------------------------------------------------------------

    def _suspend_or_resume(self) -> None:
        fsp_id = self._rng.choice(FSPS)
        now = self._service.operator.get(f"/fsps/{fsp_id}").json()["status"]
        status = self._rng.choice(("suspended", "closed")) if now == "active" else "active"
        body = {"status": status, "reason": "a test"}
        self._service.operator.post(f"/fsps/{fsp_id}/status", json=body).raise_for_status()

    def _new_rule(self) -> None:
        """One that holds at once, or begins or ends while we look on."""
        kind, prefix = self._rng.choice(PREFIXES)
        party_id_type = "ACCOUNT_ID" if kind == "CLABE" else kind
        now = datetime.now(UTC)
        valid_from = now + timedelta(seconds=self._rng.choice((-5, -5, 1)))
        valid_to = now + timedelta(seconds=self._rng.choice((2, 4, 3600, 3600)))
        added = "INSERT INTO routes (party_id_type, kind, prefix, fsp_id, valid_from, valid_to)"
        added += " VALUES ($1, $2, $3, $4, $5, $6)"
        self._by_hand((added, party_id_type, kind, prefix, self._rng.choice(FSPS), valid_from, valid_to))

    def _end_or_move_rule(self) -> None:
        rules = self._service.fetch("SELECT route_id FROM routes WHERE prefix NOT LIKE 'canary%' ORDER BY route_id")
        if not rules:
            return
        route_id = self._rng.choice(rules)["route_id"]
        statement = self._rng.choice((
            "DELETE FROM routes WHERE route_id = $1",
            "UPDATE routes SET valid_to = greatest(now(), valid_from + interval '1 ms') WHERE route_id = $1",
            "UPDATE routes SET prefix = prefix || '1', party_id_type = 'MSISDN' WHERE route_id = $1",
            "UPDATE routes SET fsp_id = 'bank-d' WHERE route_id = $1",
        ))  # fmt: skip
        self._by_hand((statement, route_id))

    def _several_by_hand(self) -> None:
        """One transaction that does much, with pauses in it: nobody may ever see half of it."""
        party_id_type, identifier = self._rng.choice(PARTIES)
        to = self._rng.choice(FSPS)
        key = party_id_type, identifier
        come = "INSERT INTO aliases (party_id_type, identifier, sub_id, fsp_id) VALUES"
        gone = "DELETE FROM aliases WHERE party_id_type = $1 AND identifier = $2"
        self._by_hand(
            (gone, *key),
            ("SELECT pg_sleep(0.02)",),
            (gone, *key),  # the heirs of those
            ("DELETE FROM alias_currencies WHERE party_id_type = $1 AND identifier = $2", *key),
            (gone, *key),
            ("UPDATE fsps SET status = 'active' WHERE fsp_id = $1 AND status <> 'active'", to),
            ("SELECT pg_sleep(0.02)",),
            (f"{come} ($1, $2, '', $3) ON CONFLICT DO NOTHING", *key, to),
            (f"{come} ($1, $2, 'till-1', $3) ON CONFLICT DO NOTHING", *key, to),
        )

    def _by_hand(self, *statements: tuple[Any, ...]) -> None:
        """Run them in one transaction, and wait until the hub answers by it: canaries change with it."""
        self._canaries += 1
        held, routed = (f"canary-{self._canaries}-{kind}" for kind in ("held", "routed"))
        assert not self._is_known(held)  # so that there is a copy of that
        canaries = (
            ("INSERT INTO aliases (party_id_type, identifier, fsp_id) VALUES ('ALIAS', $1, 'greenbank')", held),
            ("INSERT INTO routes (party_id_type, prefix, fsp_id) VALUES ('ALIAS', $1, 'greenbank')", routed),
        )
        asyncio.run(self._run_statements([*statements, *canaries]))
        until(lambda: self._is_known(held) and self._is_known(routed))

    async def _run_statements(self, statements: list[tuple[Any, ...]]) -> None:
        connection = await asyncpg.connect(self._service.database_url)
        try:
            async with connection.transaction():
                for statement in statements:
                    # Some are refused by the rules of the directory.
                    with suppress(asyncpg.UnknownPostgresError, asyncpg.IntegrityConstraintViolationError):
                        async with connection.transaction():
                            await connection.execute(*statement)
        finally:
            await connection.close()

    def _is_known(self, alias: str) -> bool:
        return bool(self._ask_hub(f"/participants/ALIAS/{alias}", {})[0])

    def _ask_hub(self, path: str, params: dict[str, str]) -> tuple[list[dict[str, str]], datetime, datetime]:
        """Ask the hub, again while PostgreSQL pauses (503); return the answer and the instants around it."""
        answers: list[httpx.Response] = []
        before = datetime.now(UTC)

        def has_answered() -> bool:
            nonlocal before
            before = datetime.now(UTC)
            answers.append(self._hub.get(path, params=params, headers={"fspiop-source": "bank-a"}))
            return answers[-1].status_code != 503

        until(has_answered)
        after = datetime.now(UTC)
        assert answers[-1].status_code == 200, answers[-1].text
        party_list: list[dict[str, str]] = answers[-1].json()["partyList"]
        return party_list, before, after


# The slow way -----------------------------------------------------------------------------------------------------


class Event(NamedTuple):
    event_id: int
    xact: int
    at: datetime
    entity: str
    action: str
    party_id_type: str | None
    identifier: str | None
    sub_id: str | None
    fsp_id: str | None
    before: Any
    after: Any


async def all_events(url: str) -> list[Event]:
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(
            "SELECT event_id, xact::text::bigint, at, entity, action, party_id_type::text, party_identifier, sub_id,"
            " fsp_id, before::text, after::text FROM events ORDER BY event_id"
        )
    finally:
        await connection.close()
    return [Event(*row[:9], *(None if text is None else json.loads(text) for text in row[9:])) for row in rows]


def replay(events: list[Event], asked: Asked, at: datetime) -> tuple[str, str]:
    """FSP and currency ('' for none) that were answered: every event looked at, one after the other, by what the
    documents say and none of the code under test.
    """
    concerned = _select_concerned(events, asked)
    over: dict[int, datetime] = {}
    for event in concerned:
        over[event.xact] = max(event.at, over.get(event.xact, event.at))
    defaults: dict[str, tuple[str, str]] = {}
    further: dict[tuple[str, str], str] = {}
    status: dict[str, str] = {}
    rules: dict[int, Any] = {}
    for event in concerned:
        if over[event.xact] > at:
            continue
        if event.entity == "fsp":
            status[str(event.fsp_id)] = event.after["status"]
        elif event.entity == "route":
            rules.pop((event.before or event.after)["route_id"], None)
            if event.after:
                rules[event.after["route_id"]] = event.after
        else:
            sub = event.sub_id or ""
            if event.before:
                if event.before["default"]:
                    del defaults[sub]
                else:
                    del further[sub, event.before["currency"]]
            if event.after:
                if event.after["default"]:
                    defaults[sub] = event.after["fsp_id"], event.after["currency"]
                else:
                    further[sub, event.after["currency"]] = event.after["fsp_id"]
    return _answer(asked, at, defaults, further, status, rules)


def _select_concerned(events: list[Event], asked: Asked) -> list[Event]:
    own = [e for e in events if e.entity == "alias" and (e.party_id_type, e.identifier) == asked[:2]]
    ruling = [
        e
        for e in events
        if e.entity == "route"
        and any(
            side and side["party_id_type"] == asked.party_id_type and asked.identifier.startswith(side["prefix"])
            for side in (e.before, e.after)
        )
    ]
    fsps = {side["fsp_id"] for e in own + ruling for side in (e.before, e.after) if side}
    moved = [
        e
        for e in events
        if e.entity == "fsp" and e.fsp_id in fsps and (not e.before or e.before["status"] != e.after["status"])
    ]
    return sorted(own + ruling + moved)


def _answer(
    asked: Asked, at: datetime, defaults: Any, further: Any, status: dict[str, str], rules: dict[int, Any]
) -> tuple[str, str]:
    def show(fsp_id: str, currency: str = "") -> tuple[str, str]:
        return (fsp_id, currency) if status[fsp_id] in ("active", "provisional") else ("", "")

    sub, currency = asked.sub_id or "", asked.currency
    if sub in defaults:
        fsp_id, has = defaults[sub]
        if currency is None or has == currency:
            return show(fsp_id, has)
        if (sub, currency) in further:
            return show(further[sub, currency], currency)
        if not has:
            return show(fsp_id)
        return show(further[sub, ""]) if (sub, "") in further else ("", "")
    holding = [
        rule
        for rule in rules.values()
        if rule["party_id_type"] == asked.party_id_type
        and asked.identifier.startswith(rule["prefix"])
        and time_of(rule["valid_from"]) <= at < time_of(rule["valid_to"])
        and (rule["kind"] != "CLABE" or asked.identifier in CLABES)
    ]
    if not holding:
        return "", ""
    return show(max(holding, key=lambda rule: (len(rule["prefix"]), rule["kind"] == "CLABE"))["fsp_id"])


def time_of(text: str) -> datetime:
    return datetime.max.replace(tzinfo=UTC) if text == "infinity" else datetime.fromisoformat(text)
