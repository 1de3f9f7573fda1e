"""What an attacker sends to the admin listener with a token: each is refused with its code, and leads to no 500."""

from __future__ import annotations

from pathlib import Path

import httpx
from hostile_tokens import HOSTILE
from test_identity import ROLES, Hub, open_hub, read_answer

ME = "/admin/v1/me"


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


async def test_each_hostile_token_is_refused_with_its_code(
    database_url: str, tmp_path: Path, *, complete: bool
) -> None:
    async with open_hub(database_url, tmp_path) as hub:
        keys = hub.issuer.keys
        for number, (name, (code, make)) in enumerate([*HOSTILE.items()][:: 1 if complete else 5]):
            hub.issuer.keys = keys  # some tokens of the list need others
            token = make(hub.issuer)
            if not token.isascii() or not token.strip() or "\n" in token:
                continue  # no client can send it in a header
            # Each from an address of its own: else the address would soon be refused, whatever it sends.
            answer = await hub.ask("GET", ME, bearer(token), peer=f"192.0.2.{number}")
            assert (answer.status_code, answer.json()["code"]) == (401, code), name


async def test_a_token_counts_only_alone_and_in_the_header_for_it(database_url: str, tmp_path: Path) -> None:
    """A proxy before us may read another of two headers than we do; a URL is in logs (RFC 9700, section 4.3.2)."""
    async with open_hub(database_url, tmp_path) as hub:
        good = hub.as_token(**ROLES["operator"])["authorization"]
        assert (await hub.ask("GET", ME, {"authorization": good})).status_code == 200
        token = good.removeprefix("Bearer ")
        for number, (headers, path) in enumerate([
            ([("authorization", good), ("authorization", good)], ME),
            ([("authorization", good), ("authorization", f"Bearer {hub.key}")], ME),
            ([("authorization", f"{good}, {good}")], ME),
            ([("authorization", f"Bearer {token} {token}")], ME),
            ([("authorization", token)], ME),
            ([("authorization", f"DPoP {token}")], ME),
            ([("authorization", f"Basic {token}")], ME),
            ([("cookie", f"access_token={token}")], ME),
            ([("x-access-token", token)], ME),
            ([], f"{ME}?access_token={token}"),
        ]):  # fmt: skip
            answer = await ask(hub, headers, path, f"192.0.2.{number}")
            assert read_answer(answer).status in (400, 401), headers


async def ask(hub: Hub, headers: list[tuple[str, str]], path: str, peer: str) -> httpx.Response:
    transport = httpx.ASGITransport(hub.serve, client=(peer, 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://oracle") as client:
        return await client.get(path, headers=headers)
