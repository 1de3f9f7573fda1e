"""Mojaloop's scheme adapter 18.0.2 (FSPIOP 1.x) as payer and as payee through the listener, signed and verified.

Each has its own Redis, and a backend that the test plays.  What an adapter's backend asks for is its outbound API:
POST /accounts registers, GET /parties/{Type}/{ID} looks up.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import StartValkey
from dfsps import WAIT_S
from harness import Bench, Message, Mock, Reply, open_bench
from keys import Keys
from packages import ADAPTER, HERE, environment, find_package
from servers import free_port, tcp_url

from oracle.scheme.base import PATHS

PARTY = {
    "idType": "MSISDN",
    "idValue": "525512345678",
    "displayName": "Juana",
    "firstName": "Juana",
    "lastName": "Perez",
    "dateOfBirth": "1980-01-31",
}


class Backend(Mock):
    """The core of a DFSP: knows one party."""

    def answer(self, message: Message) -> Reply:
        if message.target == "/parties/MSISDN/525512345678":
            return Reply(200, httpx.Response(200, json=PARTY).content, {"content-type": "application/json"})
        return Reply(404, b'{"statusCode":"3204","message":"Party not found"}', {"content-type": "application/json"})


class Adapter:
    def __init__(self, client: httpx.AsyncClient, inbound: int) -> None:
        self._client = client
        self.inbound = inbound

    def list_endpoints(self) -> dict[str, str]:
        return {kind: f"http://127.0.0.1:{self.inbound}{path}" for kind, path in PATHS.items()}

    async def register(self, identifiers: list[str]) -> Any:
        accounts = [{"idType": "MSISDN", "idValue": each, "currency": "MXN"} for each in identifiers]
        answer = await self._client.post("/accounts", json=accounts)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def look_up(self, identifier: str) -> httpx.Response:
        return await self._client.get(f"/parties/MSISDN/{identifier}")


async def wait_for(client: httpx.AsyncClient, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(WAIT_S):
        while True:
            assert process.returncode is None, "the adapter has ended"
            try:
                await client.get("/")
            except httpx.TransportError:
                await asyncio.sleep(0.2)
            else:
                return


@asynccontextmanager
async def start_adapter(name: str, port: int, redis_url: str, keys_dir: Path) -> AsyncIterator[Adapter]:
    """Start an adapter that calls the listener at this port."""
    backend = Backend()
    await backend.start()
    inbound, outbound, metrics = free_port(), free_port(), free_port()
    package = find_package(ADAPTER)
    place = package / "node_modules/@mojaloop/sdk-scheme-adapter"
    settings = {
        "INBOUND_LISTEN_PORT": str(inbound),
        "OUTBOUND_LISTEN_PORT": str(outbound),
        "METRICS_SERVER_LISTEN_PORT": str(metrics),
        "PEER_ENDPOINT": f"127.0.0.1:{port}",
        "ALS_ENDPOINT": f"127.0.0.1:{port}",
        "BACKEND_ENDPOINT": f"127.0.0.1:{backend.port}",
        "DFSP_ID": name,
        "CACHE_URL": redis_url,
        "JWS_SIGN": "true",
        "JWS_SIGN_PUT_PARTIES": "true",
        "JWS_SIGNING_KEY_PATH": str(keys_dir / f"{name}.key"),
        "VALIDATE_INBOUND_JWS": "true",
        "VALIDATE_INBOUND_PUT_PARTIES_JWS": "true",
        "JWS_VERIFICATION_KEYS_DIRECTORY": str(keys_dir),
        "REQUEST_PROCESSING_TIMEOUT_SECONDS": "100",
    }
    process = await asyncio.create_subprocess_exec(
        "node",
        "--require",
        str(HERE / "without_grpc.cjs"),
        "src/index.js",
        cwd=place,
        env=environment(package, **settings),
        stdout=None if os.environ.get("INTEROP_LOGS") else asyncio.subprocess.DEVNULL,
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{outbound}", timeout=WAIT_S) as client:
            await wait_for(client, process)
            yield Adapter(client, inbound)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await backend.stop()


class Lab:
    def __init__(self, bench: Bench, payer: Adapter, payee: Adapter) -> None:
        self.bench = bench
        self.payer = payer
        self.payee = payee


@pytest.fixture
async def lab(database_url: str, redis_url: str, start_valkey: StartValkey, tmp_path: Path) -> AsyncIterator[Lab]:
    for name in ("Hub", "payerfsp", "payeefsp"):
        pair = Keys()
        (tmp_path / f"{name}.pem").write_text(pair.public)
        key = tmp_path / f"{name}.key"
        key.write_text(pair.private)
        key.chmod(0o600)
    settings = {
        "jws_sign": "on",
        "jws_signing_key_file": tmp_path / "Hub.key",
        "jws_validate": "on",
        "jws_validate_put_parties": "on",
        "jws_verification_keys_dir": tmp_path,
    }
    async with AsyncExitStack() as stack:
        bench = await stack.enter_async_context(open_bench(database_url, redis_url, **settings))
        adapters = []
        for name in ("payerfsp", "payeefsp"):
            redis = tcp_url(await start_valkey())
            adapter = await stack.enter_async_context(start_adapter(name, bench.port, redis, tmp_path))
            bench.ledger.endpoints[name] = adapter.list_endpoints()
            adapters.append(adapter)
        yield Lab(bench, *adapters)


async def test_a_payer_finds_what_a_payee_has_registered(lab: Lab) -> None:
    """Registration, lookup, an unknown party of the hub and one of the payee, and a bulk of 10,000 accounts."""
    numbers = ["525512345678", *(f"5255{number}" for number in range(20_000_000, 20_009_999))]
    done = await lab.payee.register(numbers)
    assert done["currentState"] == "COMPLETED"
    assert done["response"] == [{"idType": "MSISDN", "idValue": number} for number in numbers]

    found = (await lab.payer.look_up("525512345678")).json()
    assert found["currentState"] == "COMPLETED"
    assert found["party"]["body"] == {
        "partyIdInfo": {"partyIdType": "MSISDN", "partyIdentifier": "525512345678", "fspId": "payeefsp"},
        "name": "Juana",
        "personalInfo": {
            "complexName": {"firstName": "Juana", "lastName": "Perez"},
            "dateOfBirth": "1980-01-31",
        },
    }
    assert found["party"]["headers"]["fspiop-source"] == "payeefsp"

    # The payee's backend does not know the first one; nobody has registered the second one.  Of an error, the adapter
    # shows its caller no more than the headers.
    for number, source in ((numbers[1], "payeefsp"), ("525500000000", "Hub")):
        missing = (await lab.payer.look_up(number)).json()["party"]
        assert missing["body"] == {}
        assert missing["headers"]["fspiop-uri"] == f"/parties/MSISDN/{number}/error"
        assert missing["headers"]["fspiop-source"] == source
