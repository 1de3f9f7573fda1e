"""Every way in, every endpoint, every role, the own FSP and another one; and one person, whichever way they came in.

The listener, the identity provider and the gateway are in the process of the test.  The provider signs real tokens and
serves its keys over HTTP.  Who may call what is in the table of test_access, which tests the same for keys.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import httpx
import pytest
from issuer import Issuer, issuing
from test_access import ENDPOINTS, EXPECTED, OWN, Endpoint

from oracle.api.admin.access import FAILURES_MAX
from oracle.api.admin.app import AdminServices, admin_app
from oracle.api.admin.certificates import NAMES
from oracle.run.bootstrap import bootstrap
from oracle.run.wiring import _open_health, _open_ways, open_store
from oracle.settings import load
from oracle.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from pathlib import Path

GATEWAY: Final = "10.1.2.3"
SECRET: Final = "the gateway shows this and nobody else knows it"
NEXT_SECRET: Final = "the gateway shows this when the first one is replaced"
RULES: Final = """
[[oidc.map]]
claim = "roles"
pattern = "^reader of (?P<fsp>.+)$"
role = "reader"
"""
# What the ready-made rules and those above give to whom.
ROLES: Final[Mapping[str, Mapping[str, Any]]] = {
    "operator": {"roles": ["HUB-Admin"]},
    "auditor": {"roles": ["audit"]},
    "reader": {"roles": ["HUB-User"]},
    "own maker": {"roles": ["DFSP-Operation"], "dfsp_id": "greenbank"},
    "own checker": {"roles": ["DFSP-Admin"], "dfsp_id": "greenbank"},
    "own reader": {"roles": ["reader of greenbank"]},
}


class Answer(NamedTuple):
    status: int
    code: str


class Hub:
    """An admin listener of this process, its directory, and who can call it."""

    def __init__(self, app: Any, issuer: Issuer, stack: AsyncExitStack) -> None:
        self._app = app
        self._stack = stack
        self._clients: dict[str, httpx.AsyncClient] = {}
        self.issuer = issuer
        self.names: frozenset[str] = frozenset()  # in the client certificate of the gateway
        self.key = ""

    async def ask(
        self, method: str, path: str, headers: Mapping[str, str], *, peer: str = "192.0.2.1", **body: Any
    ) -> httpx.Response:
        client = self._clients.get(peer)
        if client is None:
            transport = httpx.ASGITransport(self.serve, client=(peer, 1))
            client = httpx.AsyncClient(transport=transport, base_url="http://oracle")
            self._clients[peer] = await self._stack.enter_async_context(client)
        return await client.request(method, path, headers=dict(headers), **body)

    async def call(self, who: Mapping[str, str], method: str, path: str, **body: Any) -> httpx.Response:
        """Call with the headers of `as_key`, `as_token` or `as_user`; those of a gateway come from its address."""
        return await self.ask(method, path, who, peer=GATEWAY if "x-user" in who else "192.0.2.1", **body)

    async def serve(self, scope: Any, receive: Any, send: Any) -> None:
        scope["state"] = {NAMES: self.names}
        await self._app(scope, receive, send)

    def as_token(self, sub: str = "ana", **claims: Any) -> dict[str, str]:
        token = self.issuer.issue(sub=sub, realm_access=None, **claims)
        return {"authorization": f"Bearer {token}"}

    async def as_key(self, role: str, fsp_id: str | None = None, **members: Any) -> dict[str, str]:
        body = {"role": role, "fspId": fsp_id, "label": f"{role} {time.monotonic_ns()}", **members}
        issued = await self.call(self.operator, "POST", "/admin/v1/credentials", json=body)
        assert issued.status_code == 201, issued.text
        return {"authorization": f"Bearer {issued.json()['key']}"}

    @property
    def operator(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"}


def as_user(user: str = "ana", secret: str | None = SECRET, **headers: str) -> dict[str, str]:
    named = {f"x-{name.replace('_', '-')}": value for name, value in headers.items()}
    return {"x-user": user, **({"x-gateway-secret": secret} if secret else {}), **named}


def as_user_of(role: str, user: str = "ana") -> dict[str, str]:
    claims = ROLES[role]
    dfsp = {"dfsp_id": claims["dfsp_id"]} if "dfsp_id" in claims else {}
    return as_user(user, roles=str(claims["roles"]).replace("'", '"'), **dfsp)


@asynccontextmanager
async def open_hub(
    database_url: str, tmp_path: Path, ways: str = "keys,oidc,gateway", issuer_status: int = 200
) -> AsyncIterator[Hub]:
    """`issuer_status`: of each answer of the identity provider, from the start, which is when its keys are fetched."""
    async with AsyncExitStack() as stack:
        issuer = await stack.enter_async_context(issuing())
        issuer.status = issuer_status
        file = tmp_path / "oidc.toml"
        file.write_text(f'[[oidc.issuer]]\nalias="hub"\nissuer="{issuer.url}"\naudience="alias-oracle"\n{RULES}')
        environ = {
            "ORACLE_DATABASE_URL": database_url, "ORACLE_ADMIN_AUTH": ways, "ORACLE_OIDC_FILE": str(file),
            "ORACLE_OIDC_RULES": "thitsaworks,hydra", "ORACLE_ADMIN_PROXIES": "10.1.0.0/16",
            "ORACLE_ADMIN_TLS_CERTIFICATE": "unread.pem", "ORACLE_ADMIN_TLS_CLIENT_CA": "unread.pem",
            "ORACLE_GATEWAY_SECRET": f"{SECRET},{NEXT_SECRET}",
            "ORACLE_GATEWAY_CERTIFICATE_NAMES": "gateway.hub.example",
        }  # fmt: skip
        settings, metrics = load(environ).settings, Metrics.open(None, "admin", 0)
        key = await bootstrap(database_url)
        assert key is not None
        store = await stack.enter_async_context(open_store(settings, metrics, desk=True))
        health = await stack.enter_async_context(_open_health(store, metrics))
        entries = await stack.enter_async_context(_open_ways(settings, metrics))
        services = AdminServices(
            store.changes, store.postgres, health, metrics, proxies=settings.admin_proxies, ways=entries
        )
        hub = Hub(admin_app(services), issuer, stack)
        hub.key = key
        for fsp_id in ("greenbank", "redbank"):
            made = await hub.call(hub.operator, "POST", "/admin/v1/fsps", json={"fspId": fsp_id, "twoPersons": True})
            assert made.status_code == (201 if "keys" in ways else 401), made.text
        yield hub


def read_answer(response: httpx.Response) -> Answer:
    return Answer(response.status_code, response.json()["code"] if response.status_code >= 400 else "")


# The matrix -----------------------------------------------------------------------------------------------------


async def test_each_role_may_call_the_same_whichever_way_it_came_in(
    database_url: str, tmp_path: Path, complete: bool
) -> None:
    """The sample takes one way for each endpoint and role, the other one for the next."""
    async with open_hub(database_url, tmp_path) as hub:
        tokens = {role: hub.as_token(**claims) for role, claims in ROLES.items()}
        users = {role: as_user_of(role) for role in ROLES}
        asked: Counter[tuple[str, str]] = Counter()
        wrong: list[Any] = []
        for number, endpoint in enumerate(each for each in ENDPOINTS if "nobody" not in EXPECTED[str(each)]):
            body: dict[str, Any] = {} if endpoint.method in ("GET", "DELETE") else {"json": {}}
            for index, (way, callers) in enumerate((("token", tokens), ("gateway", users))):
                for place, (role, who) in enumerate(callers.items()):
                    if not complete and (number + index + place) % 2:
                        continue
                    own = read_answer(await hub.call(who, endpoint.method, endpoint.target("greenbank"), **body))
                    if (own.status != 403) != _may(endpoint, role) or own.status in (401, 429, 500):
                        wrong.append((way, role, str(endpoint), "own", own))
                    asked[way, "own"] += 1
                    if role in OWN and endpoint.is_of_an_fsp:
                        other = read_answer(await hub.call(who, endpoint.method, endpoint.target("redbank"), **body))
                        if other != Answer(403, "foreign" if role in EXPECTED[str(endpoint)] else "forbidden"):
                            wrong.append((way, role, str(endpoint), "foreign", other))
                        asked[way, "foreign"] += 1
        assert not wrong
        assert min(asked["token", "own"], asked["gateway", "own"]) > (400 if complete else 200)
        assert min(asked["token", "foreign"], asked["gateway", "foreign"]) > (100 if complete else 50)


def _may(endpoint: Endpoint, role: str) -> bool:
    # Nobody without a key can rotate it.
    return str(endpoint) != "POST /admin/v1/me/rotate" and role in EXPECTED[str(endpoint)]


# One person -----------------------------------------------------------------------------------------------------

PERSON: Final = "oidc:hub:ana"


async def test_one_person_cannot_send_and_approve_whichever_way_they_came_in(database_url: str, tmp_path: Path) -> None:
    async with open_hub(database_url, tmp_path) as hub:
        maker, checker = ROLES["own maker"], ROLES["own checker"]
        senders = {
            "key": await hub.as_key("dfsp-maker", "greenbank"),
            "key of ana": await hub.as_key("dfsp-maker", "greenbank", person=PERSON),
            "token of ana": hub.as_token("ana", **maker),
            "token of a program": hub.as_token("bank", client_id="bank", **maker),
            "gateway ana": as_user_of("own maker", "ana"),
        }
        deciders = {
            "key": await hub.as_key("dfsp-checker", "greenbank"),
            "key of ana": await hub.as_key("dfsp-checker", "greenbank", person=PERSON),
            "key of ben": await hub.as_key("dfsp-checker", "greenbank", person="oidc:hub:ben"),
            "token of ana": hub.as_token("ana", **checker),
            "token of ben": hub.as_token("ben", **checker),
            "gateway ana": as_user_of("own checker", "ana"),
            "gateway ben": as_user_of("own checker", "ben"),
        }
        same, unknown, fine = "same_person", "person_unknown", ""
        expected = {
            "key": (fine, fine, fine, unknown, unknown, unknown, unknown),
            "key of ana": (fine, same, fine, same, fine, unknown, unknown),
            "token of ana": (unknown, same, fine, same, fine, unknown, unknown),
            "token of a program": (unknown, unknown, unknown, fine, fine, unknown, unknown),
            "gateway ana": (unknown, unknown, unknown, unknown, unknown, same, fine),
        }

        turns = asyncio.Semaphore(6)  # each change waits, because there is no Redis to fence copies

        async def decide(number: int, sender: Mapping[str, str], decider: Mapping[str, str]) -> str:
            change = {"kind": "MSISDN", "identifier": f"+52 155 1234 {number:04}"}
            async with turns:
                sent = await hub.call(sender, "POST", "/admin/v1/fsps/greenbank/aliases", json=change)
                assert sent.status_code == 202, sent.text
                path = f"/admin/v1/fsps/greenbank/batches/{sent.json()['batchId']}/approve"
                return read_answer(await hub.call(decider, "POST", path, json={})).code

        pairs = itertools.product(senders, deciders)
        found = await asyncio.gather(
            *(decide(number, senders[one], deciders[two]) for number, (one, two) in enumerate(pairs))
        )
        assert found == list(itertools.chain(*expected.values()))


async def test_a_key_that_gets_its_person_later_counts_as_this_person(database_url: str, tmp_path: Path) -> None:
    async with open_hub(database_url, tmp_path) as hub:
        maker = await hub.as_key("dfsp-maker", "greenbank")
        sent = await hub.call(
            maker,
            "POST",
            "/admin/v1/fsps/greenbank/aliases",
            json={"kind": "MSISDN", "identifier": "+52 155 1234 5678"},
        )
        approve = f"/admin/v1/fsps/greenbank/batches/{sent.json()['batchId']}/approve"
        ana = hub.as_token("ana", **ROLES["own checker"])
        assert read_answer(await hub.call(ana, "POST", approve, json={})) == Answer(403, "person_unknown")
        path = f"/admin/v1/credentials/{maker['authorization'].split('_')[1]}"
        changed = await hub.call(hub.operator, "PATCH", path, json={"person": PERSON})
        assert changed.json()["person"] == PERSON
        assert read_answer(await hub.call(ana, "POST", approve, json={})) == Answer(403, "same_person")
        back = await hub.call(hub.operator, "PATCH", path, json={"person": None})
        assert back.json()["person"] is None
        wrong = await hub.call(hub.operator, "PATCH", path, json={"person": "ana@greenbank.example"})
        assert (wrong.status_code, wrong.json()["field"]) == (400, "person")
        # Another person who signs in is another person as soon as both are known.
        await hub.call(hub.operator, "PATCH", path, json={"person": "oidc:hub:eva"})
        assert read_answer(await hub.call(ana, "POST", approve, json={})) == Answer(200, "")


# Proof ----------------------------------------------------------------------------------------------------------


async def test_headers_of_a_gateway_need_its_address_and_a_proof(
    database_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_hub(database_url, tmp_path) as hub:
        refused = Answer(401, "unauthorized")

        async def try_as(headers: Mapping[str, str], peer: str = GATEWAY) -> Answer:
            return read_answer(await hub.ask("GET", "/admin/v1/me", headers, peer=peer))

        good = as_user_of("operator")
        assert await try_as(good) == Answer(200, "")
        assert await try_as(good, "10.2.0.1") == refused
        assert await try_as(good, "192.0.2.1") == refused
        assert await try_as({**good, "x-gateway-secret": SECRET + "x"}) == refused
        assert await try_as({**good, "x-gateway-secret": NEXT_SECRET}) == Answer(200, "")
        assert await try_as({**good, "x-gateway-secret": f"{SECRET},{NEXT_SECRET}"}) == refused
        assert await try_as({**good, "x-gateway-secret": ""}) == refused
        bare = {name: value for name, value in good.items() if name != "x-gateway-secret"}
        assert await try_as(bare) == refused
        hub.names = frozenset({"somebody.hub.example"})
        assert await try_as(bare) == refused
        hub.names = frozenset({"gateway.hub.example", "spiffe://hub/gateway"})
        assert await try_as(bare) == Answer(200, "")
        assert await try_as(bare, "192.0.2.1") == refused
        hub.names = frozenset()
        # A forwarded address is not the address of the other end.
        assert await try_as({**bare, "x-forwarded-for": GATEWAY}) == refused
        # No line for each call: everybody can make them.
        lines = [line for line in caplog.messages if line.startswith("The headers of a gateway are not believed")]
        assert 0 < len(lines) < 5


async def test_without_a_role_or_a_scope_nobody_gets_in_through_the_gateway(database_url: str, tmp_path: Path) -> None:
    async with open_hub(database_url, tmp_path) as hub:

        async def read(headers: Mapping[str, str], path: str) -> Answer:
            return read_answer(await hub.call(headers, "GET", path))

        own, other = "/admin/v1/fsps/greenbank/aliases", "/admin/v1/fsps/redbank/aliases"
        assert await read(as_user(), own) == Answer(403, "no_role")
        assert await read(as_user(scope="fsps=*"), own) == Answer(403, "no_role")
        assert await read(as_user(roles="HUB-Guest"), own) == Answer(403, "no_role")
        assert await read(as_user(roles="DFSP-Operation"), own) == Answer(403, "no_role")  # of which DFSP?
        operator = {"roles": '["HUB-Admin"]'}
        assert await read(as_user(**operator), other) == Answer(200, "")
        assert await read(as_user(**operator, scope="fsps=*"), other) == Answer(200, "")
        assert await read(as_user(**operator, scope="fsps=greenbank"), own) == Answer(200, "")
        assert await read(as_user(**operator, scope="fsps=greenbank"), other) == Answer(403, "foreign")
        assert await read(as_user(**operator, scope="none"), own) == Answer(403, "foreign")
        assert await read(as_user(**operator, dfsp_id="greenbank"), other) == Answer(403, "foreign")
        # A scope never widens what the role gives.
        of_one = as_user_of("own maker") | {"x-scope": "fsps=greenbank,redbank"}
        assert await read(of_one, other) == Answer(403, "foreign")
        assert await read(as_user_of("own maker") | {"x-scope": "fsps=redbank"}, other) == Answer(403, "foreign")
        for header, value in (
            ("x-scope", "fsps="), ("x-scope", "greenbank"), ("x-scope", "fsps=*,greenbank"), ("x-scope", "all"),
            ("x-roles", "[1]"), ("x-roles", "[" * 5_000), ("x-user", ""), ("x-user", "ana@greenbank.example"),
            ("x-user", "a" * 256),
        ):  # fmt: skip
            refused = await hub.call(as_user(**operator) | {header: value}, "GET", own)
            assert (refused.status_code, refused.json()["code"], refused.json()["field"]) == (
                400,
                "bad_request",
                header,
            )


async def test_a_header_of_the_gateway_that_is_there_twice_is_refused(database_url: str, tmp_path: Path) -> None:
    async with open_hub(database_url, tmp_path) as hub:
        for name in ("x-user", "x-roles", "x-dfsp-id", "x-scope"):
            good = list((as_user_of("operator") | {"x-scope": "fsps=*", "x-dfsp-id": ""}).items())
            twice = httpx.Headers([*good, (name, "HUB-Admin")])
            client = httpx.AsyncClient(
                transport=httpx.ASGITransport(hub.serve, client=(GATEWAY, 1)), base_url="http://oracle"
            )
            async with client:
                refused = await client.get("/admin/v1/me", headers=twice)
                assert read_answer(refused) == Answer(400, "bad_request")
                both = httpx.Headers([*good, ("x-gateway-secret", SECRET)])
                assert read_answer(await client.get("/admin/v1/me", headers=both)) == Answer(401, "unauthorized")


async def test_each_bad_token_has_its_code_and_counts_as_a_bad_key(database_url: str, tmp_path: Path) -> None:
    async with open_hub(database_url, tmp_path) as hub:
        me, operator = "/admin/v1/me", ROLES["operator"]
        now = int(time.time())
        tokens = {
            "token_expired": hub.as_token(exp=now - 100, **operator),
            "issuer_unknown": hub.as_token(iss="https://elsewhere.example", **operator),
            "token_invalid": hub.as_token(aud="another-service", **operator),
            "no_role": hub.as_token(roles=["nobody"]),
        }
        for code, who in tokens.items():
            refused = await hub.call(who, "GET", me)
            assert read_answer(refused) == Answer(403 if code == "no_role" else 401, code)
            if code != "no_role":
                assert refused.headers["www-authenticate"] == 'Bearer error="invalid_token"'
        listed = (await hub.call(hub.operator, "GET", "/admin/v1/refusals")).json()["items"]
        actors = {each["reason"]: (each["credentialId"], each["credentialName"]) for each in listed}
        assert actors == {
            "token_expired": (None, None), "issuer_unknown": (None, None), "token_invalid": (None, None),
            "no_role": ("oidc:hub:ana", "ana (signed in with hub)"),
        }  # fmt: skip
        garbage = {"authorization": "Bearer garbage"}
        codes = [read_answer(await hub.call(garbage, "GET", me)).code for _ in range(FAILURES_MAX + 2)]
        assert (codes[0], codes[-1]) == ("token_invalid", "too_many_failures")
        # A valid token works at once, from the same address.
        assert read_answer(await hub.call(hub.as_token(**operator), "GET", me)) == Answer(200, "")


async def test_tokens_cannot_be_checked_without_the_keys_of_their_issuer(database_url: str, tmp_path: Path) -> None:
    async with open_hub(database_url, tmp_path, issuer_status=500) as hub:
        refused = await hub.call(hub.as_token(**ROLES["operator"]), "GET", "/admin/v1/me")
        assert read_answer(refused) == Answer(503, "keys_unavailable")
        assert int(refused.headers["retry-after"]) > 0
        assert (await hub.call(hub.operator, "GET", "/admin/v1/refusals")).json()["items"] == []


@pytest.mark.parametrize("ways", ["keys", "oidc", "gateway"])
async def test_a_way_that_is_not_named_is_closed(database_url: str, tmp_path: Path, ways: str) -> None:
    async with open_hub(database_url, tmp_path, ways) as hub:
        callers = {
            "keys": hub.operator, "oidc": hub.as_token(**ROLES["operator"]), "gateway": as_user_of("operator"),
        }  # fmt: skip
        for way, who in callers.items():
            answer = await hub.call(who, "GET", "/admin/v1/me")
            assert read_answer(answer) == (Answer(200, "") if way == ways else Answer(401, "unauthorized"))
            if way == ways:
                assert answer.json()["way"] == {"keys": "key"}.get(way, way)


# What is recorded and shown -----------------------------------------------------------------------------------------


async def test_history_names_who_signed_in_and_lists_find_them(database_url: str, tmp_path: Path) -> None:
    async with open_hub(database_url, tmp_path) as hub:
        operator = hub.as_token("4711", **ROLES["operator"])
        made = await hub.call(operator, "POST", "/admin/v1/fsps", json={"fspId": "bluebank"})
        assert made.status_code == 201
        user = as_user_of("operator", "u-17")
        assert (await hub.call(user, "PATCH", "/admin/v1/fsps/bluebank", json={"name": "Blue"})).status_code == 200
        auditor = hub.as_token("rosa", **ROLES["auditor"])

        async def find(**query: str) -> list[tuple[str, str | None]]:
            answer = await hub.call(auditor, "GET", "/audit/v1/events", params={"fspId": "bluebank", **query})
            assert answer.status_code == 200, answer.text
            return [(each["actor"], each["actorName"]) for each in answer.json()["items"]]

        signed_in, outside = (
            ("oidc:hub:4711", "4711 (signed in with hub)"),
            ("gateway:u-17", "u-17 (through the gateway)"),
        )
        assert await find() == [outside, signed_in]
        assert await find(by="oidc:hub:4711") == await find(by="4711 (signed in with hub)") == [signed_in]
        assert await find(by="gateway:u-17") == await find(by="u-17 (through the gateway)") == [outside]
        # A key of the same person names the person, and is found with them.
        await hub.as_key("operator", label="Eva", person="oidc:hub:4711")
        named = ("oidc:hub:4711", "Eva (signed in with hub)")
        assert await find(by="Eva") == await find(by="eva (signed in with hub)") == await find(by=named[0]) == [named]
        reads = (await hub.call(auditor, "GET", "/audit/v1/reads")).json()["items"]
        assert {each["credentialName"] for each in reads} == {"rosa (signed in with hub)"}
        me = (await hub.call(operator, "GET", "/admin/v1/me")).json()
        assert (me["actor"], me["person"], me["credentialId"], me["fspIds"]) == (named[0], named[0], None, None)


async def test_an_answer_with_a_key_is_not_kept_for_somebody_without_a_key(database_url: str, tmp_path: Path) -> None:
    async with open_hub(database_url, tmp_path) as hub:
        body = {"role": "reader", "label": "once"}
        for who in (hub.as_token(**ROLES["operator"]), as_user_of("operator")):
            who |= {"idempotency-key": "first"}
            made = await hub.call(who, "POST", "/admin/v1/credentials", json=body)
            assert made.status_code == 201
            assert read_answer(await hub.call(who, "POST", "/admin/v1/credentials", json=body)) == Answer(
                409, "answer_lost"
            )
            who["idempotency-key"] = "second"
            made = await hub.call(who, "POST", "/admin/v1/fsps", json={"fspId": who.get("x-user", "tokenbank")})
            again = await hub.call(who, "POST", "/admin/v1/fsps", json={"fspId": who.get("x-user", "tokenbank")})
            assert (made.status_code, again.status_code, again.content) == (201, 201, made.content)
            assert again.headers["idempotency-replayed"] == "true"
        listed = (await hub.call(hub.operator, "GET", "/admin/v1/credentials?role=reader")).json()["items"]
        assert [each["label"] for each in listed] == ["once", "once"]
        assert {each["createdByName"] for each in listed} == {"ana (signed in with hub)", "ana (through the gateway)"}
        # Another actor has their own answers.
        other = hub.as_token("ben", **ROLES["operator"]) | {"idempotency-key": "second"}
        assert (await hub.call(other, "POST", "/admin/v1/fsps", json={"fspId": "benbank"})).status_code == 201


async def test_a_scope_narrows_lists_and_several_fsps_are_all_open(database_url: str, tmp_path: Path) -> None:
    async with open_hub(database_url, tmp_path) as hub:
        for number, fsp_id in enumerate(("bluebank", "greenbank", "redbank")):
            await hub.call(hub.operator, "POST", "/admin/v1/fsps", json={"fspId": fsp_id, "twoPersons": True})
            route = {"kind": "MSISDN", "prefix": f"+52155{number}", "fspId": fsp_id}
            placed = await hub.call(hub.operator, "POST", "/admin/v1/routes", json=route)
            assert placed.status_code == 201, placed.text
            await hub.as_key("reader", fsp_id)
            change = {"kind": "MSISDN", "identifier": f"+52 155 1234 567{number}"}
            made = await hub.call(hub.operator, "POST", f"/admin/v1/fsps/{fsp_id}/aliases", json=change)
            assert made.status_code == 202, made.text
        wide = as_user_of("operator")

        async def list_fsps(who: Mapping[str, str], path: str) -> list[str]:
            listed = await hub.call(who, "GET", f"/admin/v1/{path}")
            assert listed.status_code == 200, listed.text
            return sorted(each["fspId"] for each in listed.json()["items"] if each["fspId"])

        every, two = ["bluebank", "greenbank", "redbank"], ["bluebank", "redbank"]
        for path in ("fsps", "routes", "batches", "credentials"):
            assert await list_fsps(wide | {"x-scope": "fsps=*"}, path) == every
            assert await list_fsps(wide | {"x-scope": "fsps=redbank,bluebank"}, path) == two
            assert await list_fsps(wide | {"x-scope": "none"}, path) == []
            assert await list_fsps(wide | {"x-scope": "fsps=nobank"}, path) == []
        reader = hub.as_token(roles=["reader of redbank", "reader of bluebank"])
        assert (await hub.call(reader, "GET", "/admin/v1/me")).json()["fspIds"] == two
        assert await list_fsps(reader, "fsps") == two
        path = "/admin/v1/fsps/{}/aliases"
        answers = [read_answer(await hub.call(reader, "GET", path.format(fsp_id))) for fsp_id in every]
        assert answers == [Answer(200, ""), Answer(403, "foreign"), Answer(200, "")]
        # Names of people are those of these FSPs, too.
        await hub.as_key("dfsp-maker", "greenbank", label="Grün")
        hidden = await hub.call(reader, "GET", "/admin/v1/batches?by=Gr")
        assert read_answer(hidden) == Answer(400, "unknown_person")


async def test_a_closed_fsp_lets_nobody_in_and_takes_nothing_from_the_others(database_url: str, tmp_path: Path) -> None:
    async with open_hub(database_url, tmp_path) as hub:
        one, two = hub.as_token(roles=["dfsp:redbank"]), hub.as_token(roles=["dfsp:redbank", "dfsp:greenbank"])
        assert read_answer(await hub.call(one, "GET", "/admin/v1/me")) == Answer(200, "")
        closed = {"status": "closed", "reason": "a test"}
        await hub.call(hub.operator, "POST", "/admin/v1/fsps/redbank/status", json=closed)
        assert read_answer(await hub.call(one, "GET", "/admin/v1/me")) == Answer(403, "no_role")
        assert (await hub.call(two, "GET", "/admin/v1/me")).json()["fspIds"] == ["greenbank"]


async def test_gateways_find_the_operations_and_what_limits_them(database_url: str, tmp_path: Path) -> None:
    async with open_hub(database_url, tmp_path) as hub:
        path = "/.authz/openapi"
        found = await hub.ask("GET", path, {"accept-encoding": "identity"})
        assert (found.status_code, found.headers["content-type"]) == (200, "application/json")
        tag = found.headers["etag"]
        known = await hub.ask("GET", path, {"if-none-match": tag, "accept-encoding": "identity"})
        assert (known.status_code, known.content, known.headers["etag"]) == (304, b"", tag)
        head = await hub.ask("HEAD", path, {"accept-encoding": "identity"})
        assert (head.status_code, head.headers["etag"]) == (200, tag)
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            refused = await hub.ask(method, path, {})
            assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
        document = found.json()
        scopes = {
            f"{method.upper()} {path}": operation["x-authz"]["scopedBy"]
            for path, item in document["paths"].items()
            for method, operation in item.items()
        }
        # Whoever is limited to FSPs reaches exactly the operations that say so, and those for everybody.
        for endpoint, scope in scopes.items():
            is_own = bool(EXPECTED[endpoint] & OWN) and "nobody" not in EXPECTED[endpoint]
            assert scope == (["fsps"] if "{fsp_id}" in endpoint else scope)
            if scope and "{fsp_id}" not in endpoint:
                assert is_own or endpoint in ("GET /admin/v1/credentials", "GET /admin/v1/sessions")
        assert scopes["GET /admin/v1/fsps"] == scopes["GET /admin/v1/credentials"] == ["fsps"]
        assert scopes["POST /admin/v1/fsps"] == scopes["GET /admin/v1/me"] == []
