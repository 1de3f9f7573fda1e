"""The commands that call the admin API, typed as people and scripts type them, against a running service.

`shell("fsp", "list")` runs the command line in this process, with a key in the environment.  The result is what
a shell gets, without the start of an interpreter each time.
"""

from __future__ import annotations

import ast
import asyncio
import csv
import json
import os
import re
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import asyncpg
import pytest
from admin_service import Service
from oracle_process import environment, run_oracle
from shell import Shell, key_of

import oracle.commands
import oracle.commands.client
from oracle.audit import log
from oracle.audit.keys import KeyFile, create_first_key
from oracle.commands import batch_calls, batch_uploads
from oracle.commands.client import RETRY_PAUSES_S, Client, ClientError, Upload
from oracle.commands.output import write_output
from oracle.commands.progress import Progress
from oracle.commands.verbs import parse_past_time, parse_time
from oracle.store.queries import QUERIES

PUBLISHED = Path(oracle.commands.__file__).parents[2] / "schemas" / "admin.openapi.json"


# All commands -----------------------------------------------------------------------------------------------------

# Operations of the contract that no command calls, and the reason.
NOT_COMMANDS: dict[tuple[str, str], str] = {
    (
        "GET",
        "/fsps/{fsp_id}/batches/{batch_id}/events",
    ): "commands ask for the batch instead, because that survives a restart",
    ("GET", "/fsps/{fsp_id}/batches/{batch_id}/rows"): "`oracle batch results` gets all of them",
    ("GET", "/fsps/{fsp_id}/batches/{batch_id}/sample"): "`oracle batch file` gets the whole file",
    ("GET", "/fsps/{fsp_id}/batches/{batch_id}/decision"): "`oracle batch approve` gives the same reason",
    ("GET", "/batches/waiting"): "`oracle batch list --state waiting` lists those of each FSP",
    ("GET", "/batches/decided"): "`oracle batch list` shows who decided, for each FSP",
    ("GET", "/service"): "for pages of people; `/health` and `/metrics` have the same for programs",
    ("GET", "/service/samples"): "for pages of people; a monitor keeps its own samples of `/metrics`",
}


def test_every_operation_has_a_command_and_every_command_an_operation() -> None:
    published = {
        (method.upper(), path.removeprefix("/admin/v1"))
        for path, operations in json.loads(PUBLISHED.read_bytes())["paths"].items()
        if path.startswith("/admin/v1/")
        for method in operations
    }
    assert published - find_calls() == NOT_COMMANDS.keys()
    assert find_calls() <= published


def find_calls() -> set[tuple[str, str]]:
    """The calls in the source of the commands and the client, by method and path."""
    found = set()
    for source in [Path(oracle.commands.client.__file__), *Path(oracle.commands.__file__).parent.glob("*.py")]:
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                texts = [str(given.value) for given in node.args[:2] if isinstance(given, ast.Constant)]
                if node.func.attr == "call" and len(texts) == 2:
                    found.add((texts[0], texts[1]))
                elif texts and node.func.attr in ("fetch_pages", "download"):
                    found.add(("GET", texts[0]))
    return found


def test_making_the_parser_imports_nothing_costly() -> None:
    listing = (
        "import sys, oracle.cli; oracle.cli.make_parser();"
        " costly = ('oracle.commands.client', 'httpx', 'rich', 'asyncpg', 'msgspec', 'asyncio');"
        " print([m for m in sys.modules if m in costly])"
    )
    done = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# FSPs -------------------------------------------------------------------------------------------------------------


def test_an_fsp_is_created_listed_changed_suspended_and_closed(shell: Shell) -> None:
    made = shell("fsp", "create", "bluebank", "--name", "Blue Bank", "--kinds", "MSISDN,CLABE", "--two-persons",
                 "--contact-name", "Ana", "--use-cases", "p2p", "--json")  # fmt: skip
    assert made.code == 0
    assert made.json["kinds"] == ["MSISDN", "CLABE"]
    assert (made.json["contact"]["name"], made.json["twoPersons"]) == ("Ana", True)
    again = shell("fsp", "create", "bluebank")
    assert (again.code, again.out) == (5, "")
    assert again.err == ("oracle: An FSP with this id already exists (exists). Change that FSP, or choose another id\n")

    assert ["active", "bluebank", "Blue Bank", "yes"] in [line[:4] for line in shell("fsp", "list").lines]
    assert [line[1] for line in shell("fsp", "list", "--use-case", "p2p").lines] == ["bluebank"]
    assert len(shell("fsp", "list", "--limit", "2", "--json").out.splitlines()) == 2

    update = ("fsp", "update", "bluebank", "--clear", "kinds,contact", "--no-two-persons", "--name", "B", "--if-match")
    assert "(version_mismatch)" in shell(*update, "77").err
    assert shell(*update, "1").code == 0
    shown = shell("fsp", "show", "bluebank", "--json").json
    assert (shown["kinds"], shown["contact"], shown["twoPersons"], shown["name"]) == (None, None, False, "B")
    assert shown["useCases"] == ["p2p"]
    assert re.search(r"^version +2$", shell("fsp", "show", "bluebank").out, re.MULTILINE)

    for verb, status in (("suspend", "suspended"), ("activate", "active"), ("close", "closed")):
        assert shell("fsp", verb, "bluebank", "--reason", "a test", "--json").json["status"] == status
    assert shell("fsp", "show", "nobody").err.startswith("oracle: No such FSP (not_found). ")


def test_a_logo_is_uploaded_downloaded_and_removed(shell: Shell, tmp_path: Path) -> None:
    image = tmp_path / "logo.png"
    image.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    assert shell("fsp", "logo", "redbank", str(image), "--json").json["logo"]["dataType"] == "image/png"
    back = tmp_path / "back.png"
    assert shell("fsp", "logo", "redbank", "--out", str(back)).code == 0
    assert back.read_bytes() == image.read_bytes()
    assert shell("fsp", "logo", "redbank", "--remove", "--json").json["logo"] is None
    assert shell("fsp", "logo", "redbank", "--out", str(back)).err.startswith("oracle: The FSP has no logo (not_found)")
    missing = shell("fsp", "logo", "redbank", str(tmp_path / "none.png"))
    assert (missing.code, missing.err) == (1, f"oracle: {tmp_path}/none.png: No such file or directory\n")


@pytest.mark.parametrize(
    "words",
    [["fsp"], ["fsp", "fly"], ["fsp", "create"], ["fsp", "suspend", "redbank"], ["fsp", "update", "redbank"],
     ["fsp", "update", "redbank", "--clear", "everything"], ["fsp", "list", "--limit", "-1"], ["key", "issue"],
     ["fsp", "logo", "redbank"], ["fsp", "logo", "redbank", "--remove", "--out", "x"],
     ["key", "issue", "--role", "king", "--label", "x"], ["key", "update", "x"],
     ["key", "update", "x", "--expires", "soon"], ["batch", "show", "x"], ["route", "show", "x"],
     ["audit", "proof", "x"], ["audit", "events", "--channel", "post"],
     ["audit", "verify", "--offline", "x", "--from", "3"]],
)  # fmt: skip
def test_wrong_usage_exits_with_2(shell: Shell, words: list[str]) -> None:
    done = shell(*words)
    assert (done.code, done.out) == (2, "")
    assert done.err


def test_control_characters_in_names_are_printed_as_escapes(shell: Shell) -> None:
    assert shell("fsp", "update", "redbank", "--name", "a\x1b[31m\tb\nc\u202e").code == 0
    assert [line[2] for line in shell("fsp", "list").lines if line[1] == "redbank"] == [r"a\x1b[31m\x09b\x0ac\u202e"]


def test_no_output_holds_a_character_that_a_terminal_obeys(shell: Shell) -> None:
    """Names, labels and reasons: in JSON, in tables, in sentences, and in complaints on stderr."""
    marks = "x\u202etxt.exe\u2066\u061c\u200e\u200f\u2028\x85\x9b31m"
    hostile = f"{marks}\x7f\x1b[2J"
    assert shell("fsp", "update", "redbank", "--name", hostile).code == 0
    assert shell("fsp", "suspend", "redbank", "--reason", marks).code == 0
    assert shell("fsp", "activate", "redbank", "--reason", marks).code == 0
    assert shell("key", "issue", "--role", "auditor", "--label", marks).code == 0
    shown = [
        shell("fsp", "show", "redbank", "--json").out,
        shell("fsp", "list", "--json").out,
        shell("fsp", "list").out,
        shell("key", "list", "--json").out,
        shell("key", "list").out,
        shell("audit", "events", "--fsp", "redbank", "--json").out,
        shell("--config", hostile, "check-config").err,  # a complaint
        shell("alias", "add", "ALIAS", "a", "b", marks).err,  # wrong usage
    ]
    obeyed = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e-\u200f\u2028-\u202e\u2066-\u2069]")
    for text in shown:
        assert obeyed.findall(text) == [], text
        assert r"\u202e" in text, text
    assert shell("fsp", "show", "redbank", "--json").json["name"] == hostile


def test_a_file_is_escaped_for_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """The results of an import can hold such a character within a value."""
    pieces = ["1,é\u202e".encode()[:4], "1,é\u202e".encode()[4:], b"\r\n2\t\x1b[2J\r\n"]
    write_output(pieces)
    assert capfdbinary.readouterr().out == b"".join(pieces)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    write_output(pieces)
    assert capfdbinary.readouterr().out.decode() == "1,é\\u202e\n2\t\\u001b[2J\n"


def test_files_that_commands_write_are_private(shell: Shell, service: Service, tmp_path: Path) -> None:
    """A umask that hides nothing: they are created so, and not changed afterwards."""
    before = os.umask(0)
    try:
        image = tmp_path / "logo.png"
        image.write_bytes(b"\x89PNG\r\n\x1a\n")
        assert shell("fsp", "logo", "redbank", str(image)).code == 0
        assert shell("fsp", "logo", "redbank", "--out", str(tmp_path / "got.png")).code == 0
        while (fetched := shell("audit", "fetch", str(tmp_path / "export"), "--csv")).code:
            assert "No event is sealed yet" in fetched.err
        key = str(service.operator.headers["authorization"]).removeprefix("Bearer ")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_CONFIG_HOME", str(tmp_path / "new"))
            assert shell.as_key(None, "key", "save", stdin=key).code == 0
    finally:
        os.umask(before)
    keys = tmp_path / "new" / "alias-oracle" / "keys"
    written = [tmp_path / "got.png", *keys.iterdir(), *(tmp_path / "export").iterdir()]
    assert len(written) == 6
    assert {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in written} == {
        path.name: "0o600" for path in written
    }
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700


# Keys -------------------------------------------------------------------------------------------------------------


def test_a_key_is_issued_used_rotated_and_revoked(shell: Shell, tmp_path: Path) -> None:
    issued = shell("key", "issue", "--role", "dfsp-maker", "--fsp", "redbank", "--label", "ana", "--expires", "90d")
    key = issued.out.strip()
    assert re.fullmatch(r"aok_[a-z2-7]{12}_[0-9a-f]{64}", key)
    assert issued.err == "Save this key now: it is not stored and cannot be shown again.\n"
    name = key.split("_")[1]
    me = shell.as_key(key, "key", "me", "--json").json
    assert (me["credentialId"], me["role"], me["fspId"]) == (name, "dfsp-maker", "redbank")
    refused = shell.as_key(key, "fsp", "list")
    assert (refused.code, refused.out) == (4, "")
    assert refused.err == (
        "oracle: This role may not do that (forbidden). Your role is dfsp-maker; the role operator, auditor or reader"
        " is needed\n"
    )

    assert [name, "dfsp-maker", "redbank", "ana"] in [
        line[:4] for line in shell("key", "list", "--fsp", "redbank", "--role", "dfsp-maker").lines
    ]
    assert shell("key", "update", name, "--label", "ana maria", "--expires", "never").code == 0
    shown = shell("key", "show", name, "--json").json
    assert (shown["label"], shown["expiresAt"]) == ("ana maria", None)

    second = shell("key", "rotate", name, "--grace-s", "3600").out.strip()
    assert second != key
    assert {shell.as_key(each, "key", "me").code for each in (key, second)} == {0}
    own = tmp_path / "own.key"
    assert shell.as_key(second, "key", "rotate", "--out", str(own), "--json").json["credentialId"] == name
    assert shell.as_key(None, "key", "me", "--key-file", str(own)).code == 0
    for label in ("Ana  María", "ana maria (Maker of redbank)"):  # a label, and a name as lists show it
        assert shell("key", "show", label, "--json").json["credentialId"] == name
    twin = shell("key", "issue", "--role", "reader", "--label", "Ana María", "--json").json["credential"][
        "credentialId"
    ]
    ambiguous = shell("key", "revoke", "ana maria", "--reason", "she left")
    assert ambiguous.code == 2
    assert ambiguous.err.startswith("oracle: 2 keys have the label ana maria. Write the id of one: ")
    for named in (f"{name} = ana maria (maker of redbank)", f"{twin} = Ana María (reader)"):
        assert named in ambiguous.err
    assert shell("key", "revoke", "Ana María (reader)", "--reason", "a test").code == 0
    unknown = shell("key", "rotate", "Maria")
    assert (unknown.code, unknown.err) == (
        3,
        f"oracle: no key has the id or the label Maria. Similar: {name} = ana maria (maker of redbank)\n",
    )
    rotated = shell("key", "rotate", "ana maria", "--grace-s", "0")
    assert rotated.err.splitlines()[-1] == "The old key does not work any more."
    later = shell("key", "rotate", "ANA MARIA", "--grace-s", "3600").err.splitlines()[-1]
    assert re.fullmatch(
        r"The old key works until [-0-9]+ [0-9:]+Z\. Before then, give the new key to all who use it\.", later
    )
    assert shell("key", "revoke", name, "--reason", "she left").code == 0
    assert {shell.as_key(each, "key", "me").code for each in (key, second)} == {4}
    assert ["401", "unauthorized", "GET", "/me", "ana maria (maker of redbank)"] in [
        line[1:6] for line in shell("key", "refused").lines
    ]


def test_sessions_are_listed_and_ended(shell: Shell, service: Service) -> None:
    mina = shell("key", "issue", "--role", "reader", "--label", "mina", "--person", "oidc:hub:mina", "--json").json
    service.fetch(
        "INSERT INTO console_sessions (token_sha256, actor, role, ends_at, browser, address)"
        " SELECT sha256(n::text::bytea), 'oidc:hub:' || n, 'reader', now() + interval '1 hour', 'x' || chr(27), '::1'"
        " FROM unnest('{mina, mina2, ben}'::text[]) AS n"
    )
    service.fetch("UPDATE console_sessions SET person = 'oidc:hub:mina' WHERE actor LIKE 'oidc:hub:mina%'")
    assert {line[1] for line in shell("session", "list", "--by", "oidc:hub:mina").lines} == {
        "mina (signed in with hub)", "mina2 (signed in with hub)"
    }  # fmt: skip
    (ben,) = shell("session", "list", "--role", "reader", "--by", "oidc:hub:ben").lines
    shown = shell("session", "show", ben[0])
    assert "oidc:hub:ben" in shown.out
    assert "\x1b" not in shown.out
    assert shell("session", "end", ben[0], "--reason", "a test").out == "ended  1\n"
    again = shell("session", "end", ben[0], "--reason", "a test")
    assert (again.code, again.out) == (0, "ended  0\n")
    assert again.err.startswith("Nothing to end: ")
    assert shell("session", "show", ben[0]).code == 3
    named = mina["credential"]["credentialId"]
    assert shell("session", "end", "--actor", named, "--reason", "she left", "--json").json == {"ended": 2}
    assert "session" in shell("audit", "events", "--entity", "session", "--limit", "1").out
    for words in ((), (ben[0], "--actor", named)):
        assert shell("session", "end", *words, "--reason", "a test").code == 2


def test_a_key_is_written_to_a_private_file_and_not_shown(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "reader.key"
    issued = shell("key", "issue", "--role", "reader", "--label", "a report", "--out", str(file))
    key = file.read_text().strip()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert key not in issued.out + issued.err
    assert shell.as_key(None, "key", "me", "--key-file", str(file), "--json").json["role"] == "reader"

    before = len(shell("key", "list", "--limit", "0").lines)
    nowhere = shell("key", "issue", "--role", "reader", "--label", "lost", "--out", str(tmp_path / "no" / "x"))
    assert nowhere.code == 1
    assert len(shell("key", "list", "--limit", "0").lines) == before  # no credential without a key was created


def test_people_appear_by_name_and_are_found_by_it(shell: Shell, service: Service, tmp_path: Path) -> None:
    for fsp in ("northbank", "southbank"):
        assert shell("fsp", "create", fsp, *(["--two-persons"] if fsp == "northbank" else [])).code == 0
    ana = service.issue("dfsp-maker", "northbank", label="Ana Flores")
    newer = service.issue("dfsp-maker", "northbank", label="ana flores")  # the same person got a second key
    luis = service.issue("dfsp-checker", "northbank", label="Luis")
    other = service.issue("dfsp-maker", "southbank", label="Ana Flores")
    desk = service.issue("auditor", label="Rosa")
    numbers = []
    for at, key in enumerate((ana, newer, other)):
        file = tmp_path / f"{at}.csv"
        file.write_text(HEADER + rows(7_000 + 10 * at, 2))
        uploaded = shell.as_key(key, "import", str(file), "--json")
        assert uploaded.code == 0, uploaded.err
        numbers.append(str(uploaded.json["batchId"]))
    first, second, third = numbers
    assert shell.as_key(luis, "batch", "approve", first).code == 0
    assert shell.as_key(ana, "batch", "watch", first).code == 0
    assert shell.as_key(ana, "batch", "cancel", second).code == 0

    shown = shell.as_key(luis, "batch", "show", first, "--json").json
    assert (shown["uploadedByName"], shown["decidedByName"], shown["cancelledByName"]) == (
        "Ana Flores (maker of northbank)", "Luis (checker of northbank)", None,
    )  # fmt: skip
    assert shown["uploadedBy"] == ana.split("_")[1]
    assert [[line[0], line[6], line[8]] for line in shell("batch", "list", "--by", "Luis").lines] == [
        [first, "Ana Flores (maker of northbank)", "Luis (checker of northbank)"]
    ]

    def find(*words: str, key: str = "") -> list[str]:
        listed = shell.as_key(key, *words) if key else shell(*words)
        assert listed.code == 0, listed.err
        return [line[0] for line in listed.lines]

    whole = "Ana Flores (maker of northbank)"
    assert find("batch", "list", "--by", whole) == find("batch", "list", "--by", whole.upper()) == [second, first]
    assert find("batch", "list", "--uploaded-by", "flores", key=luis) == [second, first]
    assert find("batch", "list", "--by", "flores", key=other) == [third]
    assert find("batch", "list", "--by", ana.split("_")[1]) == [second, first]
    ambiguous = shell("batch", "list", "--by", "ana flores")
    assert ambiguous.code != 0
    for name in (whole, "Ana Flores (maker of southbank)"):
        assert name.casefold() in ambiguous.err.casefold()
    for words in (("batch", "list"), ("audit", "events"), ("audit", "reads")):
        unknown = shell.as_key(desk, *words, "--by", "Nobody Here")
        assert "No key has this name" in unknown.err, (words, unknown.err)

    events = shell.as_key(desk, "audit", "events", "--by", "Ana Flores (maker of southbank)")
    assert {line[5] for line in events.lines} == {"Ana Flores (maker of southbank)"}
    assert len([line for line in events.lines if line[2] == "alias"]) == 2
    own = shell.as_key(other, "audit", "events", "--by", "Rosa", "--json")
    assert (own.code, own.out) == (0, "")  # a name of the hub, by its whole label; she changed nothing there
    assert "No key has this name" in shell.as_key(other, "audit", "events", "--by", "Luis").err
    reads = shell.as_key(desk, "audit", "reads", "--by", "rosa")
    assert {line[2] for line in reads.lines} == {"Rosa (auditor)"}

    assert shell("key", "update", luis.split("_")[1], "--label", "Luis Peña Díaz").code == 0
    for typed in ("Luis Peña Díaz", "luis pena diaz", "DIAZ", "Pena Díaz", "LUIS PENA DIAZ (checker of Northbank)"):
        assert find("batch", "list", "--by", typed) == [first], typed
    plain = service.issue("dfsp-maker", "northbank", label="Luis Pena Diaz")  # an exact spelling names one of two
    assert find("batch", "list", "--by", "Luis Peña Díaz") == [first]
    assert find("batch", "list", "--by", "Luis Pena Diaz") == []
    assert "Several people" in shell("batch", "list", "--by", "luis").err
    assert "No key has this name" in shell("batch", "list", "--by", "\u0301").err  # an accent alone
    assert shell("key", "revoke", plain.split("_")[1], "--reason", "a test").code == 0
    renamed = shell.as_key(luis, "batch", "show", first, "--json").json
    assert renamed["decidedByName"] == "Luis Peña Díaz (checker of northbank)"
    assert shell.as_key(luis, "key", "me", "--json").json["label"] == "Luis Peña Díaz"


def test_an_nrc_is_shown_as_people_write_it_beside_its_canonical_form(shell: Shell) -> None:
    named = ("NRC", "12/OUKAMA(N)123456")
    assert shell("fsp", "create", "nrcbank").code == 0
    assert shell("alias", "add", *named, "--fsp", "nrcbank").code == 0
    for words in (("lookup", *named), ("check", *named, "--fsp", "nrcbank")):
        (found,) = shell("alias", *words, "--json").out.splitlines()
        assert '"display":"12/OUKAMA(N)123456"' in found
        assert '"identifier":"12-250019-N-123456"' in found
    (moment,) = shell("audit", "events", "--kind", "NRC", "--identifier", named[1], "--json").out.splitlines()
    assert json.loads(moment)["display"] == "12/OUKAMA(N)123456"
    assert shell("audit", "timeline", *named).out.splitlines()[0] == "NRC 12/OUKAMA(N)123456"
    assert re.search(r"^display +12/OUKAMA\(N\)123456$", shell("audit", "resolve", *named).out, re.MULTILINE)


def test_bootstrap_creates_only_the_first_key(database_url: str, tmp_path: Path) -> None:
    env = {"ORACLE_DATABASE_URL": database_url}
    first = run_oracle(tmp_path, "key", "bootstrap", env=env)
    assert first.returncode == 0
    assert first.stdout.startswith("aok_")
    second = run_oracle(tmp_path, "key", "bootstrap", "--out", "second.key", env=env)
    assert (second.returncode, second.stdout) == (5, "")  # a program can tell it from a failure
    assert second.stderr == (
        "oracle: an operator exists already: ask an operator for a key (oracle key issue)."
        " If no operator has a key any more, add --force\n"
    )
    assert not [file for file in tmp_path.iterdir() if "second.key" in file.name]


def test_the_key_of_history_can_be_made_before_the_first_start(database_url: str, tmp_path: Path) -> None:
    """A secret that every machine mounts: none of them can write it."""
    file = tmp_path / "signing.keys"
    env = {"ORACLE_DATABASE_URL": database_url, "ORACLE_AUDIT_KEY_FILE": str(file)}
    made = run_oracle(tmp_path, "audit", "keys", "create", env=env)
    assert made.returncode == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600

    async def begin() -> list[str]:
        connection = await asyncpg.connect(database_url)
        try:
            await create_first_key(connection, await connection.fetchval(QUERIES["audit_origin"]), KeyFile(file))
            return [key.vkey for key in await log.fetch_keys(connection)]
        finally:
            await connection.close()

    again = run_oracle(tmp_path, "audit", "keys", "create", env=env)
    assert (again.returncode, again.stdout) == (1, "")
    assert "holds a key already: use it" in again.stderr
    assert asyncio.run(begin()) == made.stdout.split()
    lost = run_oracle(tmp_path, "audit", "keys", "create", env={**env, "ORACLE_AUDIT_KEY_FILE": str(tmp_path / "new")})
    assert (lost.returncode, (tmp_path / "new").exists()) == (1, False)
    assert "the log has a key already: copy the key file" in lost.stderr


def test_settings_never_show_the_key(tmp_path: Path) -> None:
    key = f"aok_secretsecret_{'0' * 64}"
    done = run_oracle(tmp_path, "check-config", env={"ORACLE_KEY": key})
    assert "ORACLE_KEY=***" in done.stdout
    assert key not in done.stdout + done.stderr


def test_a_server_that_cannot_be_reached_is_one_line(tmp_path: Path) -> None:
    key = {"ORACLE_KEY": f"aok_secretsecret_{'0' * 64}"}
    env = {**key, "ORACLE_ADMIN_URL": "http://127.0.0.1:9"}
    done = run_oracle(tmp_path, "key", "me", env=env)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (6, "", 1)
    assert done.stderr.startswith("oracle: http://127.0.0.1:9 cannot be reached: ")
    assert done.stderr.endswith(" (unreachable). Is `oracle serve` running there? ORACLE_ADMIN_URL sets the address\n")
    unset = run_oracle(tmp_path, "key", "me", env=key)
    assert (unset.returncode, unset.stderr) == (
        1, "oracle: set ORACLE_ADMIN_URL to the admin listener, because ORACLE_ADMIN_PORT is 0\n"
    )  # fmt: skip


# Aliases ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def maker_key(service: Service) -> str:
    return service.issue("dfsp-maker", "greenbank")


def test_an_alias_is_registered_shown_changed_and_removed(shell: Shell, maker_key: str) -> None:
    named = ("MSISDN", "+52 1 55 1234 5678")
    made = shell.as_key(maker_key, "alias", "add", *named, "--currency", "mxn", "--reason", "new", "--json")
    assert made.code == 0
    assert (made.json["identifier"], made.json["entries"][0]["currency"]) == ("525512345678", "MXN")
    shown = shell("alias", "show", "msisdn", "55 1234 5678", "--country", "mx", "--fsp", "greenbank")
    assert re.search(r"^identifier +525512345678$", shown.out, re.MULTILINE)
    version = re.search(r"^version +(\S+)$", shown.out, re.MULTILINE)
    assert version is not None

    update = ("alias", "update", *named, "--currency", "any", "--reason", "all of them", "--json", "--if-match")
    assert '"version_mismatch"' in shell.as_key(maker_key, *update, "0" * 32).err
    assert shell.as_key(maker_key, *update, version[1]).json["entries"][0]["currency"] is None
    assert shell.as_key(maker_key, "alias", "list", "--kind", "msisdn").lines[0][:5] == [
        "MSISDN", "525512345678", "", "any", "answered",
    ]  # fmt: skip

    assert shell.as_key(maker_key, "alias", "remove", *named).code == 2  # no reason
    removed = shell.as_key(maker_key, "alias", "remove", *named, "--reason", "correction", "--note", "a test")
    assert (removed.code, removed.out, removed.err) == (0, "", "")
    gone = shell.as_key(maker_key, "alias", "show", *named)
    assert gone.code == 3
    assert gone.err.startswith("oracle: Not found (not_found). This FSP has no such alias. `oracle alias list` shows")


def test_identifiers_with_url_characters_work_in_paths(shell: Shell, maker_key: str) -> None:
    """An identifier can hold characters that have a meaning in a URL."""
    for kind, identifier in (("NRC", "12/OUKAMA(N)765432"), ("ALIAS", "a;b@~"), ("EMAIL", "a+b@c.example")):
        assert shell.as_key(maker_key, "alias", "add", kind, identifier).code == 0, kind
        assert shell.as_key(maker_key, "alias", "show", kind, identifier).code == 0, kind
        assert shell.as_key(maker_key, "alias", "remove", kind, identifier, "--reason", "other").code == 0, kind


def test_more_identifiers_than_one_call_accepts_are_checked_and_looked_up(shell: Shell, maker_key: str) -> None:
    numbers = [f"5255{n:08d}" for n in range(1_001)]  # one more than a call accepts
    shell.as_key(maker_key, "alias", "add", "MSISDN", numbers[-1])
    asked = "\n".join([*numbers, "", "12"])
    checked = shell.as_key(maker_key, "alias", "check", "MSISDN", stdin=asked)
    assert [line[:2] for line in checked.lines[999:]] == [
        [numbers[999], "no"], [numbers[1000], "yes"], ["12", ""],
    ]  # fmt: skip
    assert "it has 2 digits, and 7 to 15 are needed" in checked.lines[-1][-1]
    found = shell("alias", "lookup", "MSISDN", numbers[-1], numbers[0])
    assert [line[:2] for line in found.lines] == [[numbers[-1], "greenbank"], [numbers[0], ""]]
    assert shell("alias", "check", "MSISDN", numbers[0]).err.startswith("oracle: add --fsp FSP")
    assert shell.as_key(maker_key, "alias", "lookup", "MSISDN", numbers[0]).err.startswith(
        "oracle: This role may not do that"
    )
    assert shell.as_key(maker_key, "alias", "list", "--fsp", "redbank").err.startswith(
        "oracle: You can only act for your own FSP"
    )


def store_old(service: Service, identifier: str, fsp_id: str) -> None:
    """Store a phone number as an older version did."""
    service.fetch(
        "INSERT INTO aliases (party_id_type, identifier, fsp_id, currency) VALUES ('MSISDN', $1, $2, 'MXN')",
        identifier, fsp_id,
    )  # fmt: skip


def test_doubtful_aliases_are_listed_and_removed_after_asking(service: Service, shell: Shell, maker_key: str) -> None:
    for identifier, fsp_id in (
        ("5215512349001", "greenbank"), ("5215512349002", "greenbank"), ("5215512349003", "redbank"),
    ):  # fmt: skip
        store_old(service, identifier, fsp_id)
    shell("alias", "add", "MSISDN", "+525512349001", "--fsp", "greenbank", "--currency", "MXN")
    doubtful = ("alias", "doubtful")
    every = shell(*doubtful)
    assert [line[:3] for line in every.lines] == [
        ["greenbank", "MSISDN", "5215512349001"], ["greenbank", "MSISDN", "5215512349002"],
        ["redbank", "MSISDN", "5215512349003"],
    ]  # fmt: skip
    assert re.fullmatch(r"Looked at [\d,]+ entries: 3 are doubtful\.\n", every.err)
    own = shell.as_key(maker_key, *doubtful, "--json")
    assert [json.loads(line)["doubt"]["readAs"] for line in own.out.splitlines()] == ["525512349001", "525512349002"]
    assert shell(*doubtful, "--fsp", "redbank").lines == every.lines[2:]

    unasked = shell.as_key(maker_key, *doubtful, "--remove")
    assert (unasked.code, unasked.err.splitlines()[-1]) == (
        1, "oracle: 2 doubtful entries found. Nothing was removed. To agree, add --yes",
    )  # fmt: skip
    removed = shell.as_key(maker_key, *doubtful, "--remove", "--yes")
    assert (removed.code, removed.err.splitlines()[-1]) == (0, "Removed 2 entries.")
    assert shell.as_key(maker_key, *doubtful, "--remove", "--yes").out == ""
    # Nothing else is gone: neither the same number as it is read today nor another FSP's.
    assert shell("alias", "show", "MSISDN", "+525512349001", "--fsp", "greenbank").code == 0
    assert shell(*doubtful).lines == every.lines[2:]
    reasons = service.fetch(
        "SELECT reason FROM events WHERE party_identifier LIKE '52155123490%' AND before IS NOT NULL"
    )
    assert {event["reason"] for event in reasons} == {"correction: doubtful alias: read_otherwise"}

    for answer, code, last in (("n", 1, "oracle: nothing was removed"), ("y", 0, "Removed 1 entry.")):
        asked = shell.as_key(key_of(service), *doubtful, "--remove", typed=f"{answer}\n")
        assert (asked.code, asked.err.splitlines()[-1]) == (code, last)
        assert "Remove 1 doubtful entry? [y/N]" in asked.err
    assert shell(*doubtful).err.endswith("0 are doubtful.\n")


def test_a_stored_key_is_reached_as_stored(service: Service, shell: Shell) -> None:
    store_old(service, "5215512349009", "redbank")
    shell("alias", "add", "MSISDN", "+525512349009", "--fsp", "redbank")
    named = ("MSISDN", "5215512349009")
    at = ("--fsp", "redbank")
    assert "(ambiguous)" in shell("alias", "remove", *named, *at, "--reason", "other").err
    assert re.search(
        r"^identifier +5215512349009$", shell("alias", "show", *named, *at, "--as-stored").out, re.MULTILINE
    )
    assert shell("alias", "check", *named, *at, "--as-stored").lines[0][:4] == [named[1], "yes", *named]
    assert shell("alias", "lookup", *named, "--as-stored").lines[0][:4] == [named[1], "redbank", *named]
    changed = shell("alias", "update", *named, *at, "--as-stored", "--currency", "USD", "--reason", "a test", "--json")
    assert changed.json["entries"][0]["currency"] == "USD"
    assert shell("alias", "remove", *named, *at, "--as-stored", "--reason", "other").code == 0
    assert shell("alias", "show", *named, *at, "--json").json["identifier"] == "525512349009"


def test_a_registration_shows_the_country_of_the_number(shell: Shell) -> None:
    for number, country in (("+52 55 1234 9010", "MX"), ("+95 9 250 009 011", "MM"), ("+1 202-555-0123", "US")):
        made = shell("alias", "add", "MSISDN", number, "--fsp", "redbank")
        assert re.search(rf"^display\.country +{country}$", made.out, re.MULTILINE)
        assert re.search(rf"^display\.text +{re.escape(number)}$", made.out, re.MULTILINE)
        assert shell("alias", "remove", "MSISDN", number, "--fsp", "redbank", "--reason", "other").code == 0


# Routes -----------------------------------------------------------------------------------------------------------


def test_a_route_is_tried_added_and_ended(shell: Shell) -> None:
    assert shell("route", "add", "CLABE", "646180", "--fsp", "greenbank", "--note", "a bank").code == 0
    unaccepted = shell("route", "add", "CLABE", "64618011", "--fsp", "redbank")
    assert (unaccepted.code, unaccepted.out) == (1, "")
    assert unaccepted.err.splitlines()[-1] == "oracle: This overlaps 1 route. Nothing was added. To agree, add --yes"
    tried = shell("route", "add", "CLABE", "64618011", "--fsp", "redbank", "--dry-run")
    assert (tried.code, tried.out) == (0, "")
    assert "go to redbank instead of greenbank" in tried.err
    made = shell("route", "add", "CLABE", "64618011", "--fsp", "redbank", "--yes", "--json")
    assert made.json["fspId"] == "redbank"
    assert "(route_overlap)" in shell("route", "add", "CLABE", "646180", "--fsp", "redbank").err

    listed = shell("route", "list", "--prefix", "646180")
    assert [line[1:4] for line in listed.lines] == [
        ["CLABE", "646180", "greenbank"], ["CLABE", "64618011", "redbank"],
    ]  # fmt: skip
    why = shell("route", "what-if", "CLABE", "646180110400000007", "--json")
    assert (why.code, why.json["answer"][0]["fspId"], why.json["by"]) == (0, "redbank", "route")
    number = str(made.json["routeId"])
    assert shell("route", "update", number, "--note", "for a while", "--to", "90d", "--json").json["note"]
    assert shell("route", "end", number, "--reason", "a test").code == 0
    assert shell("route", "end", number, "--reason", "a test").err.startswith("oracle: The route has ended")
    again = shell("route", "what-if", "CLABE", "646180110400000007")
    assert re.search(r"^answer +greenbank$", again.out, re.MULTILINE)
    later = shell("route", "add", "CLABE", "647", "--fsp", "redbank", "--from", "90d", "--json").json["routeId"]
    assert "it is deleted" in shell("route", "end", str(later), "--reason", "a test").err
    assert shell("route", "show", number, "--json").json["validTo"] is not None


def test_a_file_of_routes_is_added_as_a_whole_or_not_at_all(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "routes.csv"
    file.write_text("prefix,fspId\n012,greenbank\nx,redbank\n014,nobody\n")
    wrong = shell("route", "import", str(file))
    assert wrong.code == 5
    assert wrong.err.startswith("line 3: ")
    assert wrong.err.endswith(
        "nothing was added: 2 rows of the file cannot be used. Correct the rows, then import the whole file again\n"
    )
    file.write_text("prefix,fspId\n012,greenbank\n014,newbank\n")
    arguments = ("route", "import", str(file), "--unknown-fsps", "create")
    assert shell(*arguments, "--dry-run", "--json").json["created"] == 2
    assert shell("route", "list", "--prefix", "012").out == ""
    assert re.search(r"^created +2$", shell(*arguments).out, re.MULTILINE)
    assert re.search(r"^unchanged +2$", shell(*arguments).out, re.MULTILINE)
    assert shell("fsp", "show", "newbank", "--json").json["status"] == "provisional"


# Files ------------------------------------------------------------------------------------------------------------

HEADER = "kind,identifier,sub_id,currency,country,action\n"


def rows(first: int, count: int) -> str:
    return "".join(f"MSISDN,5233{n:08d},,MXN,,add\n" for n in range(first, first + count))


def test_import_registers_a_file_and_writes_its_results(shell: Shell, maker_key: str, tmp_path: Path) -> None:
    file = tmp_path / "good.csv"
    file.write_text(HEADER + rows(0, 3))
    out = tmp_path / "results.csv"
    done = shell.as_key(maker_key, "import", str(file), "--results", str(out), "--note", "three")
    number = done.out.split()[1]
    assert (done.code, done.out) == (0, f"batch {number} done: 3 rows read, 3 valid, 3 applied, 0 failed\n")
    assert [line.split()[0] for line in done.err.splitlines()] == ["uploaded", "checked", "applied"]
    assert out.read_text().splitlines()[1] == "2,added,,,523300000000,MSISDN,'523300000000,,MXN,,add"
    assert stat.S_IMODE(out.stat().st_mode) == 0o600

    back = tmp_path / "back.csv"
    assert shell.as_key(maker_key, "batch", "file", number, "--out", str(back)).code == 0
    assert back.read_bytes() == file.read_bytes()
    assert [number, "greenbank", "done", "3"] in [line[:4] for line in shell("batch", "list").lines]


def test_bad_rows_make_the_import_fail(shell: Shell, maker_key: str, tmp_path: Path) -> None:
    file = tmp_path / "bad.csv"
    file.write_text(HEADER + rows(10, 1) + "MSISDN,12,,,,add\n")
    done = shell.as_key(maker_key, "import", str(file), "--json")
    assert (done.code, done.json["rows"]["failed"]) == (5, 1)
    number = done.json["batchId"]
    assert json.loads(done.err.splitlines()[-1]) == {
        "code": "refused", "message": f"batch {number}: 1 row failed", "exitCode": 5, "status": None,
        "hint": f"To see why: oracle batch results {number} --failed",
    }  # fmt: skip
    (failed,) = shell.as_key(
        maker_key, "batch", "results", str(number), "--failed", "--format", "ndjson"
    ).out.splitlines()
    assert json.loads(failed)["code"] == "bad_identifier"

    file.write_text("no,such,header\n1,2,3\n")
    refused = shell.as_key(maker_key, "import", str(file))
    assert refused.code == 5
    assert refused.err.splitlines()[-1].startswith("oracle: batch ")
    file.write_text("")
    assert shell.as_key(maker_key, "import", str(file)).err.splitlines()[-1].startswith("oracle: The file is empty")


def test_a_file_is_checked_before_its_import(shell: Shell, maker_key: str, tmp_path: Path) -> None:
    file = tmp_path / "checked.csv"
    file.write_text(HEADER + rows(20, 1) + "MSISDN,12,,,,add\n")
    done = shell.as_key(maker_key, "batch", "check", str(file))
    assert done.code == 5
    assert done.lines[0][:3] == ["3", "MSISDN", "bad_identifier"]
    assert done.err.startswith("2 rows: 1 valid, 1 not valid\n")
    file.write_text(HEADER + rows(20, 60_000))
    assert shell.as_key(maker_key, "batch", "check", str(file), "--json").json["rows"]["failed"] == 0
    file.write_text("no,such,header\n")
    assert "(no_header)" in shell.as_key(maker_key, "batch", "check", str(file)).err


def test_failed_rows_are_written_to_a_file_corrected_and_imported_again(
    shell: Shell, maker_key: str, tmp_path: Path
) -> None:
    file, fix = tmp_path / "bad.csv", tmp_path / "fix.csv"
    file.write_text(f"{HEADER}{rows(60, 1)}MSISDN,+523300000O61,,MXN,,add\nMSISDN,+523300000062,,ZZZ,,add\n")
    number = str(shell.as_key(maker_key, "import", str(file), "--json").json["batchId"])
    results = ("batch", "results", number)
    written = shell.as_key(maker_key, *results, "--failed", str(fix))
    assert (written.code, written.out) == (0, "")
    assert written.err == f"Correct the rows in {fix}, then: oracle import {fix}. It ignores the columns of results.\n"
    first, second = list(csv.DictReader(fix.read_text().splitlines()))
    assert (first["line"], first["identifier"], second["currency"]) == ("3", "'+523300000O61", "ZZZ")
    assert "character 11 is 'O', and a digit is needed" in first["message"]
    assert "No currency has the code ZZZ" in second["message"]
    fix.write_text(fix.read_text().replace("O61", "061").replace(",ZZZ,", ",MXN,"))
    done = shell.as_key(maker_key, "import", str(fix))
    assert (done.code, done.out.partition(": ")[2]) == (0, "2 rows read, 2 valid, 2 applied, 0 failed\n")
    again = shell.as_key(maker_key, *results, "--failed", str(fix))  # it would replace the corrections
    assert (again.code, again.err) == (1, f"oracle: {fix} exists already, and was kept. Name a new file\n")
    assert "+523300000061" in fix.read_text()
    nowhere = shell.as_key(maker_key, *results, "--failed", str(tmp_path / "no" / "fix.csv"))
    assert (nowhere.code, nowhere.err) == (
        1,
        f"oracle: {tmp_path / 'no'}: there is no such directory. Create it, or name another one\n",
    )
    # The names of the files can come in either way, once.
    both = shell.as_key(maker_key, *results, "--failed", str(fix), "--out", str(fix))
    assert (both.code, "once" in both.err) == (2, True)
    out = tmp_path / "out.csv"
    assert shell.as_key(maker_key, *results, "--failed", "--out", str(out)).code == 0
    printed = shell.as_key(maker_key, *results, "--failed")
    assert (printed.code, printed.err, printed.out.splitlines()) == (0, "", out.read_text().splitlines())


def test_the_numbers_of_a_file_have_the_country_of_the_option_or_of_the_fsp(
    shell: Shell, maker_key: str, tmp_path: Path
) -> None:
    file, out = tmp_path / "national.csv", tmp_path / "results.csv"
    file.write_text("kind,identifier\nMSISDN,5512349101\n")
    words = ("import", str(file), "--results", str(out))
    assert "national_without_country" in shell.as_key(maker_key, *words).err + out.read_text()
    assert shell.as_key(maker_key, *words, "--country", "mx").code == 0
    assert out.read_text().splitlines()[1] == "2,added,,,525512349101,MSISDN,5512349101"
    assert shell("fsp", "update", "greenbank", "--country", "mx").code == 0
    assert shell("fsp", "show", "greenbank", "--json").json["defaultCountry"] == "MX"
    done = shell.as_key(maker_key, *words, "--json")
    assert (done.code, done.json["country"]) == (0, "MX")
    assert out.read_text().splitlines()[1] == "2,unchanged,,,525512349101,MSISDN,5512349101"
    assert (
        shell.as_key(maker_key, "alias", "show", "MSISDN", "5512349101", "--json").json["identifier"] == "525512349101"
    )
    assert shell("fsp", "update", "greenbank", "--clear", "country", "--json").json["defaultCountry"] is None
    refused = shell.as_key(maker_key, *words, "--country", "UK")
    assert (refused.code, "GB" in refused.err) == (2, True)


def test_importing_a_directory_or_a_missing_file_is_one_line(shell: Shell, maker_key: str, tmp_path: Path) -> None:
    for name, problem in ((str(tmp_path), "Is a directory"), (str(tmp_path / "none"), "No such file or directory")):
        done = shell.as_key(maker_key, "import", name)
        assert (done.code, done.out, done.err) == (1, "", f"oracle: {name}: {problem}\n")


def test_an_output_that_cannot_be_written_fails_before_the_call(shell: Shell, maker_key: str, tmp_path: Path) -> None:
    file = tmp_path / "kept.csv"
    file.write_text(HEADER + rows(50, 1))
    before = shell("batch", "list").out
    none = tmp_path / "none"
    for place, problem in (
        (tmp_path, f"{tmp_path}: Is a directory"),
        (none / "x", f"{none}: there is no such directory. Create it, or name another one"),
    ):
        done = shell.as_key(maker_key, "import", str(file), "--results", str(place))
        assert (done.code, done.out, done.err) == (1, "", f"oracle: {problem}\n")
    assert shell("batch", "list").out == before
    issued = shell("key", "issue", "--role", "reader", "--label", "unkept", "--out", "/")
    assert (issued.code, issued.err) == (1, "oracle: /: Is a directory\n")
    assert "unkept" not in shell("key", "list").out


def test_output_to_a_pipe_or_a_link_does_not_replace_it(shell: Shell, tmp_path: Path) -> None:
    """Otherwise --out /dev/stdout would replace the device by a file."""
    pipe, target, link = (tmp_path / name for name in ("pipe", "target", "link"))
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    assert shell("batch", "template", "--out", str(pipe)).code == 0
    reader.join()
    assert pipe.is_fifo()
    link.symlink_to(target)
    assert shell("batch", "template", "--out", str(link)).code == 0
    assert link.is_symlink()
    assert target.read_bytes() == read[0] == shell("batch", "template").out.encode()


def test_a_full_disk_is_one_line(service: Service, tmp_path: Path) -> None:
    env = environment(tmp_path, {"ORACLE_ADMIN_URL": service.oracle.admin_url, "ORACLE_KEY": key_of(service)})
    for words in (["batch", "template"], ["key", "me"]):
        command = [sys.executable, "-m", "oracle", *words]
        with Path("/dev/full").open("wb") as full:
            done = subprocess.run(command, env=env, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, check=False)
        assert (done.returncode, done.stderr) == (1, b"oracle: cannot write the output: No space left on device\n")


def test_the_error_about_a_wrong_key_names_its_source(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "old.key"
    file.write_text("aok_aaaaaaaaaaaa_" + "0" * 64)
    file.chmod(0o600)
    refused = shell.as_key(None, "fsp", "list", "--key-file", str(file))
    assert refused.code == 4
    assert refused.err.startswith("oracle: A valid key is required (unauthorized)")
    assert f" does not accept the key in {file}: it is unknown there, expired or revoked. " in refused.err


def test_distances_count_forward_or_back() -> None:
    now = datetime.now(UTC)
    assert datetime.fromisoformat(parse_past_time("2d")) < now - timedelta(hours=47)
    assert datetime.fromisoformat(parse_time("2d")) > now + timedelta(hours=47)
    assert parse_past_time("2026-03-03") == parse_time("2026-03-03") == "2026-03-03T00:00:00+00:00"


def test_a_lost_connection_names_the_command_that_follows_the_import(
    shell: Shell, maker_key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ClientError("it cannot be reached")

    file = tmp_path / "left.csv"
    file.write_text(HEADER + rows(60, 1))
    monkeypatch.setattr(batch_uploads, "follow", fail)
    done = shell.as_key(maker_key, "import", str(file))
    assert (done.code, done.out) == (1, "")
    assert re.search(
        r"^The import continues on the server. To follow it: oracle batch watch \d+\noracle: it cannot",
        done.err,
        re.MULTILINE,
    )


def test_a_second_person_approves_or_rejects_a_file(shell: Shell, service: Service, tmp_path: Path) -> None:
    assert shell("fsp", "create", "twobank", "--two-persons").code == 0
    maker, checker = (service.issue(role, "twobank") for role in ("dfsp-maker", "dfsp-checker"))
    file = tmp_path / "ours.csv"
    file.write_text(HEADER + rows(100, 5))
    numbers = []
    for wait in ([], ["--no-wait"], []):
        uploaded = shell.as_key(maker, "import", str(file), "--json", *wait)
        assert uploaded.code == 0
        assert wait or uploaded.json["state"] == "waiting"
        numbers.append(str(uploaded.json["batchId"]))
    first, second, third = numbers
    assert shell.as_key(maker, "batch", "approve", first).err.startswith(
        "oracle: This role may not do that (forbidden)"
    )
    assert shell.as_key(checker, "batch", "approve", first, "--reason", "seen", "--json").json["state"] == "applying"
    assert shell.as_key(maker, "batch", "watch", first).code == 0

    assert shell.as_key(checker, "batch", "reject", third).code == 2  # no reason
    assert shell.as_key(checker, "batch", "reject", third, "--reason", "not ours").code == 0
    rejected = shell.as_key(maker, "batch", "watch", third)
    assert rejected.code == 5
    assert rejected.err.startswith(
        f"oracle: batch {third} was rejected by dfsp-checker of twobank (checker of twobank): not ours."
    )
    assert shell.as_key(maker, "batch", "cancel", second).code == 0
    assert shell.as_key(checker, "batch", "show", second, "--json").json["state"] == "cancelled"
    assert shell.as_key(maker, "import", str(file), "--no-wait", "--results", "x").code == 2


def test_a_change_of_one_alias_waits_for_a_second_person(shell: Shell, service: Service) -> None:
    made = shell("fsp", "create", "pairbank", "--two-persons")
    hint = "oracle fsp update pairbank --hub-changes off"
    assert made.err == (
        "Changes through the hub need no second person, because the hub must get its answer at once. To refuse them:"
        f" {hint}\n"
    )
    assert re.search(r"^hubChanges +on$", made.out, re.MULTILINE)
    assert shell("fsp", "show", "pairbank").err == made.err
    assert shell(*hint.split()[1:]).err == ""
    assert re.search(r"^hubChanges +off$", shell("fsp", "show", "pairbank").out, re.MULTILINE)
    maker, checker = (service.issue(role, "pairbank") for role in ("dfsp-maker", "dfsp-checker"))

    def wait(key: str, *words: str) -> str:
        """Ask for a change, and return the number of the batch that waits."""
        asked = shell.as_key(key, "alias", *words)
        assert asked.code == 0
        ((number, what),) = re.findall(r"^batch (\d+) waits for a second person: (.+)\n$", asked.out)
        named = f"{number} --fsp pairbank" if "--fsp" in words else number
        assert asked.err == (
            "Nothing is changed yet. A checker of pairbank or an operator must approve it, with another key than yours:"
            f" oracle batch approve {named}\n"
        )
        assert ["waiting", "one alias: " + what] in [
            [line[2], line[-1]] for line in shell.as_key(checker, "batch", "list").lines if line[0] == number
        ]
        return str(number)

    party = ("MSISDN", "+52 55 9876 0001")
    add = wait(maker, "add", *party, "--currency", "MXN")
    shown = shell.as_key(checker, "batch", "show", add).out
    assert re.search(r"^change.identifier +525598760001$", shown, re.MULTILINE)
    assert shell.as_key(maker, "alias", "show", *party).code == 3
    assert shell.as_key(checker, "batch", "approve", add, "--json").json["state"] == "done"
    assert shell.as_key(maker, "alias", "show", *party).code == 0
    update = wait(maker, "update", *party, "--currency", "USD", "--reason", "asked")
    again = shell.as_key(maker, "alias", "update", *party, "--currency", "USD", "--reason", "asked")
    assert (again.code, again.out) == (5, "")
    assert again.err == (
        f"oracle: Batch {update} already waits for this change (already_waiting). A second person must approve it."
        " To see it: oracle batch show BATCH. To withdraw it: oracle batch cancel BATCH\n"
    )
    waiting = {line[0]: line[-1] for line in shell.as_key(checker, "batch", "list", "--state", "waiting").lines}
    assert waiting[update] == "one alias: update MSISDN 525598760001, new currency: USD (now: MXN)"
    # Also an operator, and also with the version of an alias that changes before the approval.
    (version,) = re.findall(r"^version +(\S+)$", shell.as_key(maker, "alias", "show", *party).out, re.MULTILINE)
    operator = service.operator.headers["authorization"].removeprefix("Bearer ")
    removal = wait(operator, "remove", *party, "--reason", "moved", "--fsp", "pairbank", "--if-match", version)
    assert shell("batch", "approve", removal, "--fsp", "pairbank").err.count("(same_person)") == 1
    assert shell.as_key(checker, "batch", "show", update).err == (
        f"To decide: oracle batch approve {update}, or oracle batch reject {update} --reason TEXT\n"
    )
    several = shell.as_key(checker, "batch", "approve", update, removal, "--json")
    assert [json.loads(line)["batchId"] for line in several.out.splitlines()] == [int(update)]
    assert several.code == 5
    assert f"batch {removal} is approved, but the alias is not changed: The alias has changed since" in several.err
    failed = json.loads(several.err.splitlines()[-1])
    assert (failed["message"], failed["exitCode"]) == ("1 of 2 batches failed", 5)
    assert shell.as_key(checker, "batch", "approve", add, update, "--if-match", "1").code == 2
    service.fetch("INSERT INTO aliases (fsp_id, party_id_type, identifier) VALUES ('pairbank', 'MSISDN', '5588887779')")
    doubtful = shell.as_key(maker, "alias", "doubtful", "--remove", "--yes").err.splitlines()
    assert doubtful[-2:] == [
        "Removed 0 entries.",
        "1 removal waits for a second person. To see what waits: oracle batch list --state waiting",
    ]
    ((number, *_),) = shell.as_key(checker, "batch", "list", "--state", "waiting").lines
    assert shell.as_key(checker, "batch", "approve", number).code == 0
    assert shell.as_key(maker, "alias", "list").lines[0][1] == "525598760001"
    both = [wait(maker, "add", "NRC", nrc) for nrc in ("12/OUKAMA(N)654321", "12/OUKAMA(N)654322")]
    approved = shell.as_key(checker, "batch", "approve", *both)
    assert approved.out.splitlines() == [
        f"batch {number} done: one alias: add NRC 12-250019-N-65432{end}"
        for number, end in zip(both, "12", strict=True)
    ]
    last = shell.as_key(maker, "alias", "remove", *party, "--reason", "moved", "--json").json["batchId"]
    assert shell.as_key(maker, "batch", "cancel", str(last), "--json").json["state"] == "cancelled"
    assert shell.as_key(maker, "alias", "show", *party, "--json").json["entries"][0]["currency"] == "USD"


def test_a_pipe_can_be_imported(service: Service, maker_key: str, tmp_path: Path) -> None:
    env = environment(tmp_path, {"ORACLE_ADMIN_URL": service.oracle.admin_url, "ORACLE_KEY": maker_key})
    done = subprocess.run(
        [sys.executable, "-m", "oracle", "import", "-"],
        input=HEADER + rows(200_000, 3_000), env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr[:8]) == (0, "uploaded")
    assert " done: 3,000 rows read, 3,000 valid, 3,000 applied, 0 failed" in done.stdout


def test_at_a_terminal_there_is_a_bar_and_a_table(service: Service, maker_key: str, tmp_path: Path) -> None:
    env = environment(tmp_path, {"ORACLE_ADMIN_URL": service.oracle.admin_url, "ORACLE_KEY": maker_key})
    env |= {"TERM": "xterm", "COLUMNS": "160", "LINES": "40"}
    (tmp_path / "a.csv").write_text(HEADER + rows(50_000, 2_000))
    shown = run_at_terminal(["import", "a.csv"], env, tmp_path)
    assert "checking rows" in shown
    assert " done: 2,000 rows read" in shown
    assert "uploaded by" in run_at_terminal(["batch", "list"], env, tmp_path)


def run_at_terminal(words: list[str], env: dict[str, str], cwd: Path) -> str:
    """Run the command line at a pseudo-terminal; return all that it shows."""
    ours, theirs = os.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "oracle", *words], env=env, cwd=cwd, stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        shown = b""
        with os.fdopen(ours, "rb", buffering=0) as terminal, suppress(OSError):  # a terminal ends with an error
            while piece := terminal.read(65_536):
                shown += piece
        assert process.wait() == 0, shown.decode()
    return shown.decode()


def test_templates_are_printed_and_written(shell: Shell, tmp_path: Path) -> None:
    for form in ("csv", "ndjson"):
        out = tmp_path / form
        assert shell("batch", "template", form, "--out", str(out)).code == 0
        assert out.read_bytes() == (PUBLISHED.parent / "templates" / f"import.{form}").read_bytes()


# The client -------------------------------------------------------------------------------------------------------


class Unreliable(ThreadingHTTPServer):
    """A server that breaks connections or answers 503 as `failures` says, then answers; it records the requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Unreliable)
        self.failures: list[str] = []
        self.seen: list[tuple[str, str | None, bytes]] = []
        self.answers: list[bytes] = []  # one after the other; then nothing

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Unreliable(BaseHTTPRequestHandler):
    server: Unreliable
    problem: ClassVar = b'{"code":"unavailable","detail":"Not now","hint":"Try again"}'

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.server.seen.append((self.command, self.headers["Idempotency-Key"], body))
        how = self.server.failures.pop(0) if self.server.failures else ""
        if how == "break":
            self.close_connection = True
            return
        if how == "cut":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"5\r\nkind,\r\n")
            self.close_connection = True
            return
        good = self.server.answers.pop(0) if not how and self.server.answers else b"{}"
        answer = {"503": self.problem, "strange": b"<html>"}.get(how, good)
        self.send_response(503 if how == "503" else 502 if how == "strange" else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST  # noqa: N815 - as http.server calls it
    do_PATCH = do_POST  # noqa: N815 - as http.server calls it

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def unreliable() -> Iterator[Unreliable]:
    server = Unreliable()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def client(unreliable: Unreliable) -> Iterator[Client]:
    with Client(unreliable.url, "aok_hush", retry_pauses_s=[0] * len(RETRY_PAUSES_S)) as client:
        yield client


def test_a_failed_post_is_retried_with_the_same_key(client: Client, unreliable: Unreliable) -> None:
    unreliable.failures = ["break", "503", "break"]
    assert client.call("POST", "/things", body={"a": 1}).body == {}
    assert len(unreliable.seen) == 4
    assert len(set(unreliable.seen)) == 1
    client.call("POST", "/things", body={"a": 1})
    assert len({key for _, key, _ in unreliable.seen}) == 2  # another call is another one


def test_retries_end(client: Client, unreliable: Unreliable) -> None:
    unreliable.failures = ["503"] * 99
    with pytest.raises(ClientError, match=r"^Not now \(unavailable\)\. Try again$"):
        client.call("POST", "/things", body={})
    assert len(unreliable.seen) == len(RETRY_PAUSES_S) + 1


def test_a_patch_that_may_have_happened_is_not_retried(client: Client, unreliable: Unreliable) -> None:
    for failure, said in {"break": "cannot be reached", "503": "Not now"}.items():
        unreliable.seen, unreliable.failures = [], [failure]
        with pytest.raises(ClientError, match=said):
            client.call("PATCH", "/things", body={})
        assert len(unreliable.seen) == 1


def test_a_retry_reads_the_upload_again(client: Client, unreliable: Unreliable) -> None:
    unreliable.failures = ["503", "break"]
    upload = Upload(lambda: iter([b"a" * 10, b"b"]), "text/csv", 11)
    client.call("POST", "/files", upload=upload)
    assert [body for _, _, body in unreliable.seen] == [b"aaaaaaaaaab"] * 3
    unreliable.failures = ["503"]
    with pytest.raises(ClientError, match="Not now"):
        client.call("POST", "/files", upload=upload._replace(is_repeatable=False))


def test_following_a_batch_survives_longer_failures_than_retries_do(client: Client, unreliable: Unreliable) -> None:
    counts = {"read": 1, "valid": 1, "applied": 1, "changed": 1, "failed": 0}
    batch: dict[str, Any] = {"batchId": 1, "fspId": "greenbank", "state": "applying", "rows": counts}
    unreliable.answers = [json.dumps({**batch, "state": state}).encode() for state in ("applying", "done")]
    unreliable.failures = [*["break"] * 9, "", *["503"] * 9]
    with Progress() as progress:
        assert batch_calls.follow(client, batch, progress, through_approval=True, poll_every_s=0)["state"] == "done"
        unreliable.failures = ["break"] * 99
        with pytest.raises(ClientError, match="cannot be reached"):
            batch_calls.follow(client, batch, progress, through_approval=True, poll_every_s=0, silence_max_s=0)


def test_an_answer_of_another_server_is_reported(client: Client, unreliable: Unreliable) -> None:
    unreliable.failures = ["strange"]
    with pytest.raises(
        ClientError, match=r"^The proxy in front of http://\S+ cannot reach the oracle \(status 502\)\. Check that"
    ):
        client.call("POST", "/things", body={})


@pytest.mark.parametrize("url", ["http://", "http://h:99999", "http://[::1"])
def test_a_bad_url_is_one_line(url: str) -> None:
    with pytest.raises(ClientError, match="ORACLE_ADMIN_URL"):
        Client(url, "aok_hush")


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_a_name_that_changes_the_path_is_refused(client: Client, name: str) -> None:
    with pytest.raises(ClientError, match="cannot be used as a name"):
        client.call("GET", "/things/{thing}", thing=name)


# Long lists and files -----------------------------------------------------------------------------------------------


def test_a_file_of_identifiers_is_checked_and_looked_up(
    shell: Shell, service: Service, maker_key: str, tmp_path: Path
) -> None:
    shell.as_key(maker_key, "alias", "add", "MSISDN", "525599990001")
    plain, table = tmp_path / "numbers", tmp_path / "numbers.csv"
    plain.write_text("+52 55 9999 0001\n525599990002\n12\n")
    table.write_text("Nombre;Celular\nAna;'+525599990001\nEva;525599990002\nLuz;12\n")
    for words in ([str(plain)], ["-"], [str(table), "--column", "celular"]):
        asked = ("MSISDN", "--file", *words)
        checked = shell.as_key(maker_key, "alias", "check", *asked, stdin=plain.read_text())
        assert [line[1] for line in checked.lines] == ["yes", "no", ""]
        assert checked.err == "3 identifiers: 1 registered by the FSP, 1 not, 1 not valid\n"
        found = shell.as_key(key_of(service), "alias", "lookup", *asked, stdin=plain.read_text())
        assert [line[1] for line in found.lines] == ["greenbank", "", ""]
        assert found.err == "3 identifiers: 1 answered by an FSP, 1 not, 1 not valid\n"
    for name in (str(plain), str(table), "list.txt"):
        mistaken = shell.as_key(maker_key, "alias", "check", "MSISDN", name)
        assert mistaken.err == f"{name} is read as an identifier. To read the identifiers in that file: --file {name}\n"
    assert "missing: KIND\n" in shell.as_key(maker_key, "alias", "check", "--file", str(plain)).err
    wrong = shell.as_key(maker_key, "alias", "check", "MSISDN", "12", "--file", str(plain))
    assert wrong.code == 2
    missing = shell.as_key(maker_key, "alias", "check", "MSISDN", "--file", str(tmp_path / "none"))
    assert (missing.code, missing.out) == (1, "")
    assert "No such file" in missing.err


def test_each_list_says_that_it_goes_on(shell: Shell, service: Service, tmp_path: Path) -> None:
    shell("fsp", "create", "listbank", "--country", "MX")
    maker_key = service.issue("dfsp-maker", "listbank")
    for number in range(2):
        file = tmp_path / f"{number}.csv"
        file.write_text(HEADER + rows(80_000 + number, 1))
        assert shell.as_key(maker_key, "import", str(file)).code == 0
        assert shell("route", "add", "ACCOUNT_ID", f"7700{number}", "--fsp", "listbank").code == 0
        shell.as_key("aok_nobody234567_" + "0" * 64, "fsp", "list")
    shell.as_key(maker_key, "alias", "add", "MSISDN", "523300080000", "--currency", "USD")
    auditor = service.issue("auditor")
    shell.as_key(auditor, "audit", "events")
    operator = key_of(service)
    lists = {
        "alias list": maker_key, "batch list": maker_key, "fsp list": operator, "key list": operator,
        "key refused": operator, "route list": operator, "audit events": auditor, "audit reads": auditor,
        "audit timeline MSISDN 523300080000": auditor, "alias list --prefix 5233": maker_key,
    }  # fmt: skip
    more = "Only the first is shown; there are more. To see all, add --all. To see more, add --limit 10.\n"
    for words, key in lists.items():
        for form in ([], ["--json"]):
            short = shell.as_key(key, *words.split(), *form, "--limit", "1")
            assert (short.code, short.err) == (0, more), words
            heading = "timeline" in words and not form  # the identifier
            assert len([line for line in short.out.splitlines() if not line.startswith("  ")]) == 1 + heading, words
            whole = shell.as_key(key, *words.split(), *form, "--all")
            assert (whole.code, whole.err) == (0, ""), words
            assert len(whole.out.splitlines()) > 1, words


def test_all_aliases_are_those_of_the_pages(shell: Shell, service: Service, tmp_path: Path) -> None:
    shell("fsp", "create", "pagebank", "--country", "MX")
    maker_key = service.issue("dfsp-maker", "pagebank")
    (tmp_path / "many.csv").write_text(HEADER + rows(90_000, 1_100))  # more than a page
    assert shell.as_key(maker_key, "import", str(tmp_path / "many.csv")).code == 0
    shell.as_key(maker_key, "alias", "add", "ALIAS", "tía-lupe", "--currency", "MXN")
    shell.as_key(maker_key, "alias", "add", "ALIAS", "tía-lupe", "--currency", "USD")
    for more in (
        [],
        ["--kind", "alias"],
        ["--prefix", "52330009"],
        ["--state", "unanswered"],
        ["--changed-from", "2d"],
    ):
        paged = shell.as_key(maker_key, "alias", "list", "--limit", "900000", *more)
        streamed = shell.as_key(maker_key, "alias", "list", "--all", *more)
        assert sorted(streamed.lines) == sorted(paged.lines)
        whole = shell.as_key(maker_key, "alias", "list", "--all", "--json", *more)
        items = [json.loads(line) for line in whole.out.splitlines()]
        paged = shell.as_key(maker_key, "alias", "list", "--limit", "900000", "--json", *more)
        wanted = [json.loads(line) for line in paged.out.splitlines()]
        for each in wanted:
            del each["display"]
        assert sorted(items, key=str) == sorted(wanted, key=str)


def test_an_export_is_imported_as_it_is(shell: Shell, service: Service, tmp_path: Path) -> None:
    shell("fsp", "create", "movebank", "--country", "MX")
    key = service.issue("dfsp-maker", "movebank")
    for kind, identifier, *more in (
        ("MSISDN", "+9512345678", "--currency", "MMK"),  # without + a number of Mexico
        ("MSISDN", "+9512345678", "--currency", "USD"),
        ("ALIAS", "a,b", "--sub", "till,1"),
        ("CLABE", "646180110400000007"),
        ("NRC", "12/OUKAMA(N)123459"),
        ("EMAIL", "ana@example.org"),
    ):
        assert shell.as_key(key, "alias", "add", kind, identifier, *more).code == 0, identifier
    listed = sorted(line[:5] for line in shell.as_key(key, "alias", "list", "--all").lines)
    for form in ("csv", "ndjson"):
        file = tmp_path / f"all.{form}"
        done = shell.as_key(key, "alias", "export", "--format", form, "--out", str(file))
        assert (done.code, done.out) == (0, "")
        assert re.fullmatch(
            rf"Wrote 6 rows to {file} in [0-9.]+ s \([0-9,]+ rows/s\), as they were at \S+Z\.\n", done.err
        )
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        piped = shell.as_key(key, "alias", "export", "--format", form)
        assert sorted(piped.out.splitlines()) == sorted(file.read_text().splitlines())
        service.fetch("DELETE FROM alias_currencies WHERE fsp_id = 'movebank'")
        service.fetch("DELETE FROM aliases WHERE fsp_id = 'movebank'")
        assert shell.as_key(key, "import", str(file)).code == 0
        assert sorted(line[:5] for line in shell.as_key(key, "alias", "list", "--all").lines) == listed


def test_an_export_that_breaks_off_leaves_no_file(
    shell: Shell, unreliable: Unreliable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ORACLE_ADMIN_URL", unreliable.url)
    unreliable.failures = ["cut"]
    out = tmp_path / "all.csv"
    broken = shell("alias", "export", "--fsp", "greenbank", "--out", str(out))
    assert (broken.code, broken.err) == (
        6, "oracle: The answer ended before it was complete (incomplete). Try again\n"
    )  # fmt: skip
    assert list(tmp_path.glob("*.csv*")) == []
