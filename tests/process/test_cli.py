"""The command line as an operator sees it: answers, errors, exit codes."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from oracle_process import SERVE, run_oracle, start_oracle

from oracle.run.embedded.directory import find_unwritable

PASSWORD = "hush-hush"


def test_version_prints_the_version(tmp_path: Path) -> None:
    done = run_oracle(tmp_path, "--version", cold=True)
    assert done.returncode == 0
    assert done.stdout.startswith("oracle ")


def test_help_does_not_list_the_worker_command(tmp_path: Path) -> None:
    done = run_oracle(tmp_path, "--help")
    assert "check-config" in done.stdout
    assert "worker" not in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [[], ["fly"], ["seed"], ["seed", "--count", "0", "--fsps", "1"], ["seed", "--count", "1", "--fsps", "10001"],
     ["serve", "--only", "nothing"], ["lookup", "MSISDN"]],
)  # fmt: skip
def test_wrong_usage_exits_with_2(tmp_path: Path, arguments: list[str]) -> None:
    done = run_oracle(tmp_path, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: ")


@pytest.mark.parametrize(("part", "setting"), [("account-lookup", "ACCOUNT_LOOKUP"), ("oracles", "ADMIN_PORT")])
def test_a_listener_that_is_off_is_not_started_alone(tmp_path: Path, part: str, setting: str) -> None:
    done = run_oracle(tmp_path, "serve", "--only", part)
    assert done.returncode == 2
    assert "is off. Set ORACLE_ACCOUNT_LOOKUP" in done.stderr
    assert setting in done.stderr


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["seed", "--count"], "oracle seed: --count needs a value"),
        (["seed", "--count", "0", "--fsps", "1"], "oracle seed: --count: 0 is not from 1 to 100,000,000"),
        (["seed", "--count", "1"], "oracle seed: missing: --fsps"),
        (["seed", "--count", "1", "--fsps", "1", "--fast"], "oracle seed: not known: --fast"),
        (
            ["serve", "--only", "jobs"],
            "oracle serve: --only: 'jobs' is not known. Choose from: hub, admin, account-lookup",
        ),
        (["fly"], "oracle: COMMAND: 'fly' is not known. Choose from: serve, health, check-config, migrate, "),
    ],
)
def test_wrong_usage_is_explained_in_plain_words(tmp_path: Path, arguments: list[str], line: str) -> None:
    *_, explanation, help_line = run_oracle(tmp_path, *arguments).stderr.splitlines()
    assert explanation.startswith(line)
    assert "worker" not in explanation
    assert help_line == f"For an explanation: {line.partition(':')[0]} --help"


def test_importing_the_command_line_loads_nothing_else_of_the_oracle() -> None:
    listing = (
        "import sys, oracle.cli; print([m for m in sys.modules if m.startswith(('oracle.', 'asyncpg', 'msgspec'))])"
    )
    done = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['oracle.compiled', 'oracle.cli']"  # the first finds the compiled form of a module


# Settings -----------------------------------------------------------------------------------------------------


ANY_PORT = {"ORACLE_HUB_PORT": "0", "ORACLE_ADMIN_PORT": "0"}  # another program can have the usual ones


def test_check_config_warns_of_two_public_listeners(tmp_path: Path) -> None:
    public = {"ORACLE_HUB_HOST": "0.0.0.0", "ORACLE_ADMIN_HOST": "::", **ANY_PORT}  # noqa: S104 - for a moment
    done = run_oracle(tmp_path, "check-config", env=public)
    assert done.returncode == 0
    assert done.stderr.startswith("warning: Both listeners are open to every network: ORACLE_HUB_HOST=0.0.0.0")
    assert run_oracle(tmp_path, "check-config", env=public | {"ORACLE_HUB_HOST": "127.0.0.1"}).stderr == ""


def test_check_config_masks_secrets_and_names_the_source_of_each_value(tmp_path: Path) -> None:
    (tmp_path / "oracle.toml").write_text("workers = 3")
    secrets = {
        "ORACLE_DATABASE_URL": f"postgresql://u:{PASSWORD}@127.0.0.1:1/directory",
        "ORACLE_REDIS_URL": f"redis://:{PASSWORD}@127.0.0.1:1",
        "ORACLE_CACHE_KEY": bytes(range(32)).hex(),
        "ORACLE_KEY": f"{PASSWORD}-{PASSWORD}",
    }
    done = run_oracle(tmp_path, "check-config", "--config", "oracle.toml", env=secrets)
    assert done.returncode == 0
    # It asks both servers, as `serve` will.
    assert done.stderr.splitlines() == [
        "warning: database postgresql://u:***@127.0.0.1:1/directory: nothing listens at the address of PostgreSQL",
        "warning: Redis cannot be used: nothing listens at the address of Redis",
    ]
    assert PASSWORD not in done.stdout
    words = [line.split() for line in done.stdout.splitlines()]
    assert ["ORACLE_DATABASE_URL=postgresql://u:***@127.0.0.1:1/directory", "#", "environment"] in words
    assert ["ORACLE_WORKERS=3", "#", "file"] in words


@pytest.mark.parametrize(
    "arguments", [["--config", "oracle.toml", "check-config"], ["check-config", "--config", "oracle.toml"]]
)
def test_config_can_be_given_before_or_after_the_command(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "oracle.toml").write_text("workers = 3")
    assert "ORACLE_WORKERS=3" in run_oracle(tmp_path, *arguments).stdout


@pytest.mark.parametrize(
    ("below", "fault"), [("file", "{}/file is not a directory"), ("file/deeper", "{}/file is not a directory")]
)
def test_a_data_directory_that_cannot_be_used_is_a_warning(tmp_path: Path, below: str, fault: str) -> None:
    (tmp_path / "file").touch()
    assert find_unwritable(tmp_path / "new" / "deeper") == ""
    assert not (tmp_path / "new").exists()
    assert f"cannot be used: {fault.format(tmp_path)}: set ORACLE_DATA_DIR to" in find_unwritable(tmp_path / below)


def test_check_config_warns_of_what_the_service_cannot_use_and_succeeds(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        issuer = {
            "ORACLE_ADMIN_AUTH": "keys,oidc",
            "ORACLE_OIDC_ISSUER": "http://127.0.0.1:1",
            "ORACLE_OIDC_AUDIENCE": "us",
        }
        env = {"ORACLE_HUB_PORT": port, "ORACLE_DATA_DIR": "file", **issuer}
        done = run_oracle(tmp_path, "check-config", env=env)
    assert done.returncode == 0
    assert f"warning: port {port} on 127.0.0.1 (hub listener) is taken by " in done.stderr
    assert "warning: data directory " in done.stderr
    assert "warning: the keys of the issuer 'main' cannot be fetched: no answer: " in done.stderr


LIST_SETTINGS = "To list all settings: oracle check-config --example"


@pytest.mark.parametrize("command", [["check-config"], ["serve"], ["migrate"], ["lookup", "MSISDN", "525512345678"]])
def test_each_bad_setting_is_one_line(tmp_path: Path, command: list[str]) -> None:
    done = run_oracle(tmp_path, *command, env={"ORACLE_HUB_PORT": "x", "ORACLE_WORKER": "2"})
    assert (done.returncode, done.stdout) == (1, "")
    assert sorted(done.stderr.splitlines()) == [
        "oracle: ORACLE_HUB_PORT: 'x' is not allowed; use a whole number from 0 to 65535",
        "oracle: ORACLE_WORKER: no such setting; did you mean ORACLE_WORKERS? " + LIST_SETTINGS,
    ]


def test_the_example_is_a_file_that_the_command_accepts(tmp_path: Path) -> None:
    done = run_oracle(tmp_path, "check-config", "--example")
    assert (done.returncode, done.stderr) == (0, "")
    (tmp_path / "oracle.toml").write_text(done.stdout)
    checked = run_oracle(tmp_path, "--config", "oracle.toml", "check-config", env=ANY_PORT)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert re.search(r"^ORACLE_WORKERS=1 +# default$", checked.stdout, re.MULTILINE)


@pytest.mark.parametrize("command", ["check-config", "serve"])
def test_every_problem_of_settings_and_of_their_files_is_reported_at_once(tmp_path: Path, command: str) -> None:
    (tmp_path / "towns.csv").write_text("state,township_mm,township_en\n1\n2\n")
    names = {
        "HUB_TLS_CERTIFICATE": "a.pem", "HUB_TLS_KEY": "b.pem", "HUB_TLS_CLIENT_CA": "c.pem",
        "ADMIN_TLS_CERTIFICATE": "d.pem", "CALL_CA_FILE": "e.pem", "CALL_CERT_FILE": "f.pem",
        "JWS_SIGNING_KEY_FILE": "g.pem", "OIDC_FILE": "h.toml",
    }  # fmt: skip
    more = {"JWS_SIGN": "on", "ADMIN_AUTH": "keys,oidc", "NRC_TOWNSHIPS": "towns.csv", "WORKERS": "many"}
    env = {f"ORACLE_{name}": value for name, value in (names | more).items()}
    done = run_oracle(tmp_path, command, env=env)
    assert (done.returncode, done.stdout) == (1, "")
    found = [line.split(": ")[1] for line in done.stderr.splitlines() if "ORACLE_" in line]
    assert sorted(found) == sorted([
        *(f"ORACLE_{name}" for name in names), "ORACLE_NRC_TOWNSHIPS", "ORACLE_NRC_TOWNSHIPS", "ORACLE_WORKERS",
        "there is no issuer of tokens",
    ])  # fmt: skip


def test_a_missing_settings_file_is_one_line(tmp_path: Path) -> None:
    done = run_oracle(tmp_path, "--config", "no.toml", "serve")
    assert done.returncode == 1
    assert done.stderr == "oracle: no.toml: cannot be read: No such file or directory\n"


# Identifiers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "spelling"),
    [
        (["msisdn", "+52 1 55 1234 5678"], "525512345678"),
        (["MSISDN", "55 1234 5678", "--country", "MX"], "525512345678"),
        (["CLABE", "032180000118359719"], "032180000118359719"),
        (["IBAN", "de89 3704 0044 0532 0130 00"], "DE89370400440532013000"),
    ],
)
def test_canon_prints_the_canonical_form(tmp_path: Path, arguments: list[str], spelling: str) -> None:
    done = run_oracle(tmp_path, "canon", *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{spelling}\n", "")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (
            ["CLABE", "032180000118359710"],
            "CLABE: the last digit is the check digit: it is 0, and 9 is needed for the other 17. ",
        ),
        (["MSISDN", "0"], "MSISDN: "),
        (["SHOE_SIZE", "44"], "identifier: this kind of identifier is not known. The kinds are MSISDN, "),
    ],
)
def test_canon_explains_a_bad_identifier(tmp_path: Path, arguments: list[str], reason: str) -> None:
    done = run_oracle(tmp_path, "canon", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"oracle: {reason}")


# The database -------------------------------------------------------------------------------------------------


async def fetch(url: str, sql: str) -> list[Any]:
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(sql)]
    finally:
        await connection.close()


async def seed(tmp_path: Path, url: str, count: int, fsps: int) -> subprocess.CompletedProcess[str]:
    arguments = ("seed", "--count", str(count), "--fsps", str(fsps), "--yes")
    return await asyncio.to_thread(run_oracle, tmp_path, *arguments, env={"ORACLE_DATABASE_URL": url})


async def test_seed_writes_aliases_and_their_history_once(tmp_path: Path, database_url: str) -> None:
    generation = "SELECT generation FROM cache_generation"
    events = "SELECT entity, action, channel, count(*) FROM events GROUP BY 1, 2, 3 ORDER BY 1"
    ((before,),) = await fetch(database_url, generation)

    done = await seed(tmp_path, database_url, 1003, 4)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.endswith("; 1,003 new\n")
    assert done.stderr.count("\n") == 1
    ((after,),) = await fetch(database_url, generation)
    assert after > before
    history = [("alias", "registered", "seed", 1003), ("fsp", "registered", "seed", 4)]
    assert await fetch(database_url, events) == history

    again = await seed(tmp_path, database_url, 1003, 4)
    assert again.returncode == 0
    assert again.stderr.endswith("; 0 new\n")
    assert await fetch(database_url, events) == history
    assert await fetch(database_url, generation) == [(after,)]


async def test_seed_spreads_the_aliases_over_active_fsps(tmp_path: Path, database_url: str) -> None:
    await seed(tmp_path, database_url, 8, 4)
    assert await fetch(database_url, "SELECT fsp_id, status::text FROM fsps ORDER BY 1") == [
        (f"fsp-00{n}", "active") for n in range(1, 5)
    ]
    assert await fetch(database_url, "SELECT identifier, fsp_id FROM aliases ORDER BY 1") == [
        (f"5255{i:08d}", f"fsp-{i % 4 + 1:03d}") for i in range(8)
    ]


async def test_seed_keeps_aliases_of_other_fsps_and_suspensions(tmp_path: Path, database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute("INSERT INTO fsps VALUES ('theirs', 'active'), ('fsp-001', 'suspended')")
    await connection.execute(
        "INSERT INTO aliases (party_id_type, identifier, fsp_id) VALUES ('MSISDN', '525500000001', 'theirs')"
    )
    await connection.execute(
        "INSERT INTO aliases (party_id_type, identifier, fsp_id, is_hint)"
        " VALUES ('MSISDN', '525500000002', 'theirs', true)"
    )
    await connection.close()
    done = await seed(tmp_path, database_url, 3, 1)
    assert done.stderr.endswith("; 2 new\n")
    replaced = await fetch(database_url, "SELECT fsp_id, is_hint FROM aliases WHERE identifier = '525500000002'")
    assert replaced == [("fsp-001", False)]  # a hint is no registration
    assert await fetch(database_url, "SELECT fsp_id FROM aliases WHERE identifier = '525500000001'") == [("theirs",)]
    assert await fetch(database_url, "SELECT status::text FROM fsps WHERE fsp_id = 'fsp-001'") == [("suspended",)]


async def test_seed_reports_a_lost_database_in_one_line(tmp_path: Path, database_url: str) -> None:
    running = asyncio.create_task(seed(tmp_path, database_url, 100_000_000, 4))
    while not (running.done() or await fetch(database_url, "SELECT FROM aliases LIMIT 1")):  # noqa: ASYNC110 - its own process
        await asyncio.sleep(0.05)
    await fetch(
        database_url,
        """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
           WHERE application_name = 'oracle seed' AND datname = current_database()""",
    )
    done = await running
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert done.stderr.startswith("oracle: database ")


async def test_seed_numbers_more_than_999_fsps(tmp_path: Path, database_url: str) -> None:
    await seed(tmp_path, database_url, 1, 1001)
    assert await fetch(database_url, "SELECT max(fsp_id) FROM fsps WHERE length(fsp_id) > 7") == [("fsp-1001",)]


async def test_seed_reports_a_failed_statement_in_one_line(tmp_path: Path, database_url: str) -> None:
    await fetch(database_url, "ALTER TABLE aliases RENAME TO elsewhere")
    done = await seed(tmp_path, database_url, 100_000, 1)
    assert done.returncode == 1
    assert done.stderr.startswith("oracle: database ")
    assert done.stderr.count("\n") == 1


def test_lookup_without_tables_names_the_command_that_creates_them(tmp_path: Path, empty_database_url: str) -> None:
    url = {"ORACLE_DATABASE_URL": empty_database_url}
    lookup = ("lookup", "MSISDN", "+525500000000")
    done = run_oracle(tmp_path, *lookup, env=url)
    assert done.returncode == 1
    assert done.stderr.endswith("it has no schema yet; run: oracle migrate\n")
    migrated = run_oracle(tmp_path, "migrate", env=url)
    assert (migrated.returncode, migrated.stderr) == (0, "")
    assert run_oracle(tmp_path, "migrate", env=url).stdout == "migrations applied: 0\n"
    assert (
        run_oracle(tmp_path, *lookup, env=url).stderr
        == "oracle: MSISDN/525500000000: no FSP has registered this identifier\n"
    )


def test_migrate_without_the_right_names_the_setting_of_the_owner(tmp_path: Path, empty_database_url: str) -> None:
    url = empty_database_url.replace("oracle@", "oracle_service@")
    done = run_oracle(tmp_path, "migrate", env={"ORACLE_DATABASE_URL": url})
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("oracle: this role may not migrate: permission denied")
    assert done.stderr.endswith("Set ORACLE_DATABASE_OWNER_URL to the owner's URL\n")


def test_migrate_needs_only_the_url_of_the_owner(tmp_path: Path, empty_database_url: str) -> None:
    owner = {"ORACLE_DATABASE_OWNER_URL": empty_database_url}
    assert run_oracle(tmp_path, "migrate", env=owner).stdout != "migrations applied: 0\n"
    both = {**owner, "ORACLE_DATABASE_URL": empty_database_url}
    assert run_oracle(tmp_path, "migrate", env=both).stdout == "migrations applied: 0\n"


@pytest.mark.parametrize("words", ["serve", "check-config", "key bootstrap", "lookup MSISDN +525500000000"])
def test_the_url_of_the_owner_alone_starts_no_other_postgresql(tmp_path: Path, words: str) -> None:
    done = run_oracle(tmp_path, *words.split(), env={"ORACLE_DATABASE_OWNER_URL": "postgresql://o@127.0.0.1:9/d"})
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("oracle: ORACLE_DATABASE_OWNER_URL is set, but ORACLE_DATABASE_URL is not. Set ")


@pytest.mark.parametrize("words", ["key bootstrap", "lookup MSISDN +525500000000", "audit verify", "audit keys"])
def test_a_command_in_a_wrong_directory_makes_no_database(tmp_path: Path, words: str) -> None:
    done = run_oracle(tmp_path, *words.split())
    assert (done.returncode, done.stdout) == (6, "")
    assert done.stderr.startswith("oracle: there is no PostgreSQL in ")
    assert "Set ORACLE_DATABASE_URL, or set ORACLE_DATA_DIR" in done.stderr
    assert ("oracle audit fetch" in done.stderr) == words.startswith("audit")
    assert not list(tmp_path.rglob("postgres"))


async def test_lookup_shows_the_entries_of_the_key(tmp_path: Path, database_url: str) -> None:
    env = {"ORACLE_DATABASE_URL": database_url}
    connection = await asyncpg.connect(database_url)
    await connection.execute("INSERT INTO fsps VALUES ('one', 'active'), ('off', 'suspended')")
    await connection.execute(
        "INSERT INTO aliases (party_id_type, identifier, sub_id, fsp_id, currency) VALUES"
        " ('ACCOUNT_ID', '032180000118359719', '', 'one', 'MXN'), ('ALIAS', 'shop', 'till', 'off', '')"
    )
    await connection.execute(
        "INSERT INTO alias_currencies VALUES (now(), 'ACCOUNT_ID', '032180000118359719', '', 'one', 'USD')"
    )
    await connection.close()

    async def look_up(*arguments: str) -> tuple[int, str]:
        done = await asyncio.to_thread(run_oracle, tmp_path, "lookup", *arguments, env=env)
        return done.returncode, done.stdout

    name = "ACCOUNT_ID/032180000118359719"
    assert await look_up("CLABE", "032180000118359719") == (0, f"{name}  one  MXN\n{name}  one  USD\n")
    assert await look_up("ACCOUNT_ID", "032180000118359719", "--currency", "usd") == (0, f"{name}  one  USD\n")
    assert await look_up("ALIAS", "shop") == (3, "")
    assert await look_up("ALIAS", "shop", "--sub", "till") == (
        3,
        "ALIAS/shop/till  (its FSP is suspended or closed)\n",
    )
    code, text = await look_up("CLABE", "032180000118359719", "--json", "--currency", "USD")
    assert code == 0
    assert json.loads(text) == {
        "partyIdType": "ACCOUNT_ID",
        "partyIdentifier": "032180000118359719",
        "partySubIdOrType": None,
        "entries": [{"fspId": "one", "currency": "USD"}],
    }


def test_lookup_refuses_a_bad_identifier(tmp_path: Path) -> None:
    done = run_oracle(tmp_path, "lookup", "CLABE", "123")
    assert (done.returncode, done.stderr) == (
        2,
        "oracle: CLABE: it has 3 digits, and 18 are needed. Correct the identifier, its kind, --sub or --country\n",
    )


def test_commands_work_alone_and_beside_a_running_serve(tmp_path: Path) -> None:
    lookup = ("lookup", "MSISDN", "+525500000001")
    assert run_oracle(tmp_path, *lookup).returncode == 6  # there is no directory yet, and it makes none
    assert run_oracle(tmp_path, "seed", "--count", "2", "--fsps", "2", cold=True).returncode == 0
    assert run_oracle(tmp_path, *lookup, cold=True).stdout == "MSISDN/525500000001  fsp-002\n"
    with start_oracle(tmp_path, command=(*SERVE, "--only", "hub")):
        assert run_oracle(tmp_path, *lookup).stdout == "MSISDN/525500000001  fsp-002\n"
        assert run_oracle(tmp_path, "migrate", cold=True).stdout == "migrations applied: 0\n"


def test_a_failed_connection_is_one_line_without_the_password(tmp_path: Path) -> None:
    env = {"ORACLE_DATABASE_URL": f"postgresql://u:{PASSWORD}@127.0.0.1:1/db"}
    for command in (["migrate"], ["seed", "--count", "1", "--fsps", "1"], ["lookup", "MSISDN", "525512345678"]):
        done = run_oracle(tmp_path, *command, env=env)
        assert done.returncode == 6
        assert done.stderr.count("\n") == 1
        assert done.stderr.startswith("oracle: database postgresql://u:***@127.0.0.1:1/db: ")
        assert PASSWORD not in done.stderr
