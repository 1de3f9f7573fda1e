"""Commands that cannot be undone ask first: what is there stays unless a person agrees, and history has who did it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from oracle_process import environment
from shell import Shell

from oracle.audit.keys import KeyFile
from oracle.audit.sealer import Sealer
from oracle.store.servers import Servers

if TYPE_CHECKING:
    from admin_service import Service


def fetch(url: str, query: str, *arguments: object) -> list[asyncpg.Record]:
    async def ask() -> list[asyncpg.Record]:
        connection = await asyncpg.connect(url)
        try:
            rows: list[asyncpg.Record] = await connection.fetch(query, *arguments)
            return rows
        finally:
            await connection.close()

    return asyncio.run(ask())


@pytest.fixture
def local(
    database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Shell:
    """The commands that work on the database itself."""
    for name, value in (environment(tmp_path) | {"ORACLE_DATABASE_URL": database_url}).items():
        if name.startswith("ORACLE_"):
            monkeypatch.setenv(name, value)
    return Shell("", monkeypatch, capsys)


# Seed -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fsp_id", ["theirs", "fsp-001"])
def test_seed_asks_before_it_fills_a_directory_that_is_not_empty(fsp_id: str, local: Shell, database_url: str) -> None:
    """Also one that only has FSPs yet, and one that an earlier seed has filled."""
    fetch(database_url, "INSERT INTO fsps (fsp_id, status) VALUES ($1, 'active')", fsp_id)
    seed = ("seed", "--count", "3", "--fsps", "1")
    refused = local(*seed)
    assert (refused.code, refused.out) == (1, "")
    assert refused.err == (
        "oracle: The directory is not empty, and lookups would find the invented aliases. Nothing was added."
        " To agree, add --yes\n"
    )
    declined = local.as_key(None, *seed, typed="\n")
    assert (declined.code, declined.err.splitlines()[-1]) == (1, "oracle: nothing was added")
    assert fetch(database_url, "SELECT FROM aliases UNION ALL SELECT FROM fsps OFFSET 1") == []
    assert local.as_key(None, *seed, typed="y\n").code == 0
    assert local(*seed, "--yes").code == 0
    assert len(fetch(database_url, "SELECT FROM aliases")) == 3


# Files of keys ----------------------------------------------------------------------------------------------------


def test_no_command_overwrites_a_file_with_a_key(shell: Shell, service: Service, tmp_path: Path) -> None:
    kept = tmp_path / "kept.key"
    kept.write_text("the only copy\n")
    link = tmp_path / "link.key"
    link.symlink_to(kept)
    before = len(service.fetch("SELECT FROM credentials"))
    secrets = len(service.fetch("SELECT FROM credential_secrets"))
    for command in (("issue", "--role", "reader", "--label", "x"), ("rotate",), ("bootstrap", "--force")):
        for file in (kept, link):
            refused = shell("key", *command, "--out", str(file))
            assert (refused.code, refused.out) == (1, "")
            assert refused.err == (
                f"oracle: {file} exists, and can hold a key: name another file, or move this one away\n"
            )
    assert kept.read_text() == "the only copy\n"
    assert len(service.fetch("SELECT FROM credentials")) == before
    assert len(service.fetch("SELECT FROM credential_secrets")) == secrets

    fresh = tmp_path / "fresh.key"
    assert shell("key", "issue", "--role", "operator", "--label", "x", "--out", str(fresh)).code == 0
    assert shell.as_key(None, "key", "me", "--key-file", str(fresh)).code == 0
    # A call that fails leaves no file, not even an empty one.
    none = tmp_path / "none.key"
    assert (
        shell("key", "issue", "--role", "dfsp-maker", "--fsp", "nobody", "--label", "x", "--out", str(none)).code == 3
    )
    assert not none.exists()


# The key of the log -----------------------------------------------------------------------------------------------


async def seal(url: str, file: Path) -> None:
    sealer, stop = Sealer(Servers(url), KeyFile(file), interval_s=0.01), asyncio.Event()
    running = asyncio.create_task(sealer.run(stop))
    connection = await asyncpg.connect(url)
    while not await connection.fetchval("SELECT count(*) FROM audit_checkpoints"):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    await connection.close()
    stop.set()
    await running


def key_events(url: str) -> list[tuple[str, Any]]:
    rows = fetch(url, "SELECT actor, reason, after::text FROM events WHERE entity = 'audit-key' ORDER BY event_id")
    assert {row["actor"] for row in rows} <= {"ana"}
    return [(row["reason"], json.loads(row["after"])) for row in rows]


def test_the_key_of_the_log_is_replaced_only_when_it_is_lost(
    local: Shell, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "ana")
    file = tmp_path / "signing.keys"
    monkeypatch.setenv("ORACLE_AUDIT_KEY_FILE", str(file))
    replace = ("audit", "keys", "replace")
    early = local(*replace, "--yes")
    assert early.err.startswith("oracle: nothing is sealed yet, so no key is lost")
    assert not file.exists()

    fetch(database_url, "INSERT INTO fsps (fsp_id, status) VALUES ('a', 'active')")
    asyncio.run(seal(database_url, file))
    held = file.read_text()
    for answer in ({"typed": "y\n"}, {}):
        refused = local.as_key(None, *replace, *([] if answer else ["--yes"]), **answer)
        assert (refused.code, refused.out) == (1, "")
        assert refused.err.startswith(f"oracle: {file} holds the key that signs now, so it is not lost")
    assert file.read_text() == held
    assert key_events(database_url) == []

    assert local("audit", "keys", "rotate").code == 0
    old = local("audit", "keys").out.splitlines()[-1]
    (rotation,) = key_events(database_url)
    assert rotation[0] == "rotation of the key"
    assert (rotation[1]["vkey"], rotation[1]["introduced"]) == (old, True)

    file.write_text(held)  # the copy of another machine, from before the rotation
    refused = local(*replace)
    assert refused.code == 1
    assert "Look for a copy first" in refused.err
    assert refused.err.endswith("No key was created. To agree, add --yes\n")
    assert file.read_text() == held
    done = local.as_key(None, *replace, typed="yes\n")
    assert done.code == 0
    new = done.out.splitlines()[-1]
    assert (
        f"Tell every auditor: the key is lost, why, and since when. From now on they verify with both keys: --key {old}"
        in done.err
    )
    assert done.err.endswith(f" --key {new}\n")
    reason, after = key_events(database_url)[-1]
    assert reason == "the key is lost"
    assert (after["vkey"], after["introduced"]) == (new, False)


# The first operator -----------------------------------------------------------------------------------------------


def test_a_forced_key_of_an_operator_is_an_event(
    local: Shell, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that is lost stays valid until it expires: without force everybody would be locked out until then."""
    monkeypatch.setenv("LOGNAME", "ana")
    assert local("key", "bootstrap", "--force").out.startswith("aok_")  # nothing to force yet
    refused = local("key", "bootstrap")
    assert (refused.code, refused.out) == (5, "")
    assert refused.err.endswith("If no operator has a key any more, add --force\n")
    forced = local("key", "bootstrap", "--force")
    assert forced.code == 0
    assert "Revoke the lost keys now: oracle key list, oracle key revoke ID --reason lost" in forced.err
    rows = fetch(
        database_url,
        "SELECT actor, reason, after->>'credential_id' AS id, after->>'role' AS role FROM events"
        " WHERE entity = 'credential' AND action = 'registered' ORDER BY event_id",
    )
    assert [(row["actor"], row["role"], row["reason"]) for row in rows] == [
        ("bootstrap", "operator", "the first key"),
        ("bootstrap", "operator", "forced by ana while an operator existed"),
    ]
    assert rows[1]["id"] == forced.out.split("_")[1]
    ends = "SELECT expires_at < now() + interval '8 days' FROM credentials WHERE credential_id = $1"
    assert fetch(database_url, ends, rows[1]["id"])[0][0]
