"""Keys that commands keep on this machine: one for each address, and none that others can read.

Most of it needs no service: a refused or missing key file stops a command before its first call.
"""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

import pytest
from oracle_process import environment
from shell import Shell

from oracle.commands.client import Client
from oracle.run.greeting import print_greeting
from oracle.settings import Settings

KEY = "aok_" + "a" * 12 + "_" + "0" * 64
OTHER = "aok_" + "b" * 12 + "_" + "1" * 64


class Hub(BaseHTTPRequestHandler):
    """An admin listener that remembers which keys it was sent."""

    seen: ClassVar[dict[int, list[str]]] = {}

    def do_GET(self) -> None:
        port = self.server.server_port  # type: ignore[attr-defined]
        self.seen.setdefault(port, []).append(str(self.headers["Authorization"]).removeprefix("Bearer "))
        body = b'{"credentialId":"x","role":"operator","fspId":null}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Shell:
    for name, value in environment(tmp_path).items():
        if name.startswith(("ORACLE_", "XDG_")):
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("ORACLE_ADMIN_URL", "http://127.0.0.1:3001")
    defaults = Client.__init__.__kwdefaults__
    assert defaults
    monkeypatch.setitem(defaults, "retry_pauses_s", ())  # no service is there to come back
    return Shell("", monkeypatch, capsys)


def keep(shell: Shell, key: str, *words: str) -> Path:
    """Save the key, and return the file."""
    saved = shell.as_key(None, "key", "save", *words, stdin=f"{key}\n")
    assert saved.code == 0, saved.err
    return Path(saved.err.splitlines()[0].rpartition(" in ")[2])


def test_a_kept_key_is_sent_to_its_own_address_alone(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), Hub) for _ in range(3)]
    ports = [server.server_port for server in servers]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        for port, key in zip(ports, (KEY, OTHER), strict=False):
            monkeypatch.setenv("ORACLE_ADMIN_URL", f"http://127.0.0.1:{port}")
            keep(shell, key)
        for port in ports:
            monkeypatch.setenv("ORACLE_ADMIN_URL", f"http://LOCALHOST:{port}/")
            me = shell.as_key(None, "key", "me", "--json")
            if port == ports[2]:
                assert (me.code, "no key is kept for" in me.err) == (4, True)
                continue
            assert me.json["url"] == f"http://LOCALHOST:{port}"
            assert Path(me.json["keyFrom"]).read_text().strip() == Hub.seen[port][0]
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
    assert [Hub.seen.get(port) for port in ports] == [[KEY], [OTHER], None]


@pytest.mark.parametrize(
    ("url", "same"),
    [
        ("http://localhost:3001/", "http://127.0.0.1:3001"),
        ("http://Hub.Example:80", "http://hub.example"),
        ("https://hub.example.:443/", "https://hub.example"),
        ("https://hub.example/oracle/", "https://hub.example/oracle"),
    ],
)
def test_spellings_of_one_address_have_one_key(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, url: str, same: str
) -> None:
    monkeypatch.setenv("ORACLE_ADMIN_URL", url)
    file = keep(shell, KEY)
    assert [line[:2] for line in shell.as_key(None, "key", "kept").lines] == [[same, "a" * 12]]
    monkeypatch.setenv("ORACLE_ADMIN_URL", same)
    assert keep(shell, OTHER, "--yes") == file
    for other in ("http://127.0.0.2:3001", "https://127.0.0.1:3001", "http://hub.example:8080", "http://[::1]:3001"):
        monkeypatch.setenv("ORACLE_ADMIN_URL", other)
        assert "no key is kept for" in shell.as_key(None, "key", "me").err


@pytest.mark.parametrize(
    ("damaged", "says"),
    [
        (KEY[:-1], ", and this has 80."),
        (f"{KEY}x", ", and this has 82."),
        (KEY.upper().replace("AOK", "aok"), " characters."),
    ],
)
def test_a_key_that_was_not_copied_as_a_whole_is_not_kept(shell: Shell, damaged: str, says: str) -> None:
    saved = shell.as_key(None, "key", "save", stdin=damaged)
    assert saved.code == 1
    assert saved.err.startswith("oracle: stdin: not a whole key: a key has 81 characters")
    assert says in saved.err
    assert damaged not in saved.err


def test_a_key_file_that_an_editor_of_windows_saved_is_read(shell: Shell) -> None:
    assert keep(shell, f"\ufeff{KEY}\r").read_text() == f"{KEY}\n"


def test_kept_keys_are_private_listed_and_deleted(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = keep(shell, KEY)
    assert file.is_relative_to(tmp_path / "config")
    assert oct(stat.S_IMODE(file.stat().st_mode)) == "0o600"
    assert oct(stat.S_IMODE(file.parent.stat().st_mode)) == "0o700"
    assert "Another key is kept for http://127.0.0.1:3001." in shell.as_key(None, "key", "save", stdin=OTHER).err
    assert file.read_text() == f"{KEY}\n"
    assert "stdin: not a key" in shell.as_key(None, "key", "save", stdin="hush-hush").err
    monkeypatch.setenv("ORACLE_KEY_FILE", str(tmp_path / "ana.key"))
    noted = shell.as_key(None, "key", "save", stdin=KEY)
    assert "ORACLE_KEY_FILE is set" in noted.err
    assert not (tmp_path / "ana.key").exists()
    monkeypatch.delenv("ORACLE_KEY_FILE")
    monkeypatch.setenv("ORACLE_ADMIN_URL", "https://hub.example")
    keep(shell, OTHER)
    listed = shell.as_key(None, "key", "kept", "--json").out.splitlines()
    assert [json.loads(line)["credentialId"] for line in listed] == ["a" * 12, "b" * 12]
    assert KEY not in "".join(listed)
    assert shell.as_key(None, "key", "forget", "http://localhost:3001").code == 0
    assert not file.exists()
    again = shell.as_key(None, "key", "forget", "http://localhost:3001")
    assert (again.code, "no key is kept for http://127.0.0.1:3001" in again.err) == (3, True)
    assert shell.as_key(None, "key", "forget").code == 0
    assert "no key is kept in " in shell.as_key(None, "key", "kept").err


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o666])
@pytest.mark.parametrize("place", ["kept", "--key-file", "ORACLE_KEY_FILE"])
def test_a_key_file_that_others_can_read_is_refused(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mode: int, place: str
) -> None:
    file = keep(shell, KEY) if place == "kept" else tmp_path / "ana's.key"
    file.write_text(KEY)
    file.chmod(mode)
    words = ["key", "me"] + (["--key-file", str(file)] if place == "--key-file" else [])
    if place == "ORACLE_KEY_FILE":
        monkeypatch.setenv(place, str(file))
    refused = shell.as_key(None, *words)
    assert (refused.code, refused.out) == (1, "")
    assert "other users of this machine can read this key" in refused.err
    assert KEY not in refused.err
    typed = re.search(r"Type: (chmod 600 .*)\. If", refused.err)
    assert typed is not None, refused.err
    subprocess.run(["sh", "-c", typed[1]], check=True)
    assert "can read this key" not in shell.as_key(None, *words).err


def test_the_secrets_of_a_container_are_accepted_where_nobody_can_change_their_mode(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A volume of Kubernetes: links to files of root, 0644 or, with fsGroup, 0440; the volume is read-only."""
    (tmp_path / "..data").mkdir()
    file = tmp_path / "..data" / "key"
    file.write_text(KEY)
    link = tmp_path / "key"
    link.symlink_to("..data/key")
    words = ("key", "me", "--key-file", str(link))
    others = os.geteuid() + 1
    for mode, is_own, is_read_only, is_accepted in (
        (0o440, False, False, True),
        (0o640, False, False, True),
        (0o644, False, False, False),
        (0o644, False, True, True),
        (0o644, True, True, True),
        (0o440, True, False, False),
    ):
        file.chmod(mode)
        flags = os.ST_RDONLY if is_read_only else 0
        with monkeypatch.context() as patch:
            patch.setattr(os, "geteuid", lambda is_own=is_own: others - is_own)
            patch.setattr(os, "fstatvfs", lambda _, flags=flags: os.statvfs_result([0] * 8 + [flags, 0, 0]))
            done = shell.as_key(None, *words)
        assert ("can read this key" not in done.err) == is_accepted, (oct(mode), is_own, is_read_only, done.err)
        assert ("chmod o= " in done.err) == (not is_accepted and not is_own)


def test_a_kept_key_that_is_a_link_or_of_somebody_else_is_refused(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = keep(shell, KEY)
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: os.getuid() + 1)
        foreign = shell.as_key(None, "key", "me")
    assert re.search(r"it belongs to \S+ and not to you", foreign.err), foreign.err
    other = tmp_path / "elsewhere.key"
    file.rename(other)
    file.symlink_to(other)
    assert "it is a link" in shell.as_key(None, "key", "me").err
    assert "it is a link" in shell.as_key(None, "key", "kept").err
    keep(shell, OTHER, "--yes")
    assert (file.is_symlink(), other.read_text()) == (False, f"{KEY}\n")
    file.unlink()
    os.mkfifo(file)
    assert "it is not a file" in shell.as_key(None, "key", "me").err
    with (tmp_path / "empty").open("w"):
        file.unlink()
        file.touch(0o600)
    assert "not a key" in shell.as_key(None, "key", "me").err


def test_without_a_place_for_keys_the_reason_is_one_true_line(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")  # ignored, as its specification says
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert keep(shell, KEY).parent == tmp_path / "home" / ".config" / "alias-oracle" / "keys"
    monkeypatch.setenv("HOME", "")
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000)  # a user of a container without an entry
    for words in (("key", "me"), ("key", "save"), ("key", "kept"), ("key", "forget")):
        homeless = shell.as_key(None, *words, stdin=KEY)
        assert (homeless.code, homeless.err.count("\n")) == (1, 1)
        assert "this user has no home directory. Set HOME" in homeless.err
    (tmp_path / "a file").touch()
    for home, fault in (("/proc", r"the key cannot be kept: .*: .*\. Set XDG_CONFIG_HOME"),
                        (str(tmp_path / "a file"), r"/a file is not a directory\. Set HOME")):  # fmt: skip
        # Nobody can write there, not even root.
        monkeypatch.setenv("HOME", home)
        refused = shell.as_key(None, "key", "save", stdin=KEY)
        assert (refused.code, refused.err.count("\n")) == (1, 1)
        assert re.search(fault, refused.err), refused.err


@pytest.mark.parametrize("words", ["key kept", "key me", "key forget", "key save"])
@pytest.mark.parametrize(
    ("below", "fault"),
    [("file", "{}/file is not a directory"), ("file/deeper", "{}/file is not a directory"),
     ("loop", "{}/loop is a link that leads to itself")],
)  # fmt: skip
@pytest.mark.parametrize("name", ["HOME", "XDG_CONFIG_HOME"])
def test_a_home_that_is_no_directory_is_named_with_what_to_do(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: str, below: str, fault: str, name: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv(name, str(tmp_path / below))
    refused = shell.as_key(None, *words.split(), stdin=f"{KEY}\n")
    assert (refused.code, refused.out) == (1, "")
    assert refused.err == (
        f"oracle: there is no place for kept keys: {fault.format(tmp_path)}. Set {name} to a directory that you can"
        " write to, or put the key into a file and set ORACLE_KEY_FILE to it\n"
    )


def test_the_place_of_an_older_version_is_named_and_not_used(shell: Shell, tmp_path: Path) -> None:
    old = tmp_path / "data" / "admin.key"
    old.parent.mkdir()
    old.write_text(KEY)
    old.chmod(0o600)
    done = shell.as_key(None, "key", "me")
    assert (done.code, done.err.count("\n")) == (4, 1)
    assert f"type: oracle key save < {old} && rm {old}" in done.err
    assert not (tmp_path / "config").exists()
    assert quote("http://127.0.0.1:3001", safe="") in keep(shell, KEY).name


def test_the_greeting_names_the_service_whose_key_is_to_be_saved(capsys: pytest.CaptureFixture[str]) -> None:
    settings = Settings(log_format="text")
    for url, command in (
        ("http://127.0.0.1:3001", "Save it with: oracle key save"),
        ("http://127.0.0.1:4001", "Save it with: ORACLE_ADMIN_URL=http://127.0.0.1:4001 oracle key save"),
        ("http://192.0.2.1:3001", "Save it with: ORACLE_ADMIN_URL=http://192.0.2.1:3001 oracle key save"),
    ):
        print_greeting(settings, {"admin": url}, KEY)
        assert command in capsys.readouterr().out.splitlines()
