"""Every command that a newcomer reads works, in the order of reading: the greeting of `make run`, README, docs/try.md.

The commands run in this process, and curl runs as it is.  Only the ports differ from what the reader types.
"""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from oracle_process import PATIENCE_S, environment, run_oracle, until
from servers import free_port
from shell import Shell, key_of

from oracle.run.errors import ServeError
from oracle.run.greeting import print_greeting
from oracle.run.listeners import Place, open_listeners
from oracle.settings import Settings

if TYPE_CHECKING:
    from admin_service import Service

WITH_ACCOUNT_LOOKUP: Final = True  # of the service: see admin_service
TOP: Final = Path(__file__).resolve().parents[2]
README: Final = (TOP / "README.md").read_text(encoding="utf-8")
TRY: Final = (TOP / "docs" / "try.md").read_text(encoding="utf-8")
# What a newcomer can send after the greeting: the commands of both documents, the templates that they name, and the
# examples of the API's page.
LATER: Final = (
    TOP / "README.md",
    TOP / "docs" / "try.md",
    *(TOP / "schemas" / "templates").iterdir(),
    TOP / "schemas" / "admin.openapi.json",
    TOP / "schemas" / "hub.openapi.json",
)


def read_greeting(capsys: pytest.CaptureFixture[str], hub_url: str, admin_url: str, key: str) -> str:
    print_greeting(Settings(log_format="text"), {"hub": hub_url, "admin": admin_url}, key)
    return capsys.readouterr().out


def run_curl(line: str) -> str:
    words = shlex.split(line)
    assert words[0] == "curl"
    done = subprocess.run([*words, "-sS"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def list_blocks(text: str) -> list[list[str]]:
    return [block.strip().splitlines() for block in re.findall(r"^```\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)]


def test_the_number_of_the_greeting_is_in_no_other_example(capsys: pytest.CaptureFixture[str]) -> None:
    greeting = read_greeting(capsys, "http://h:1", "http://a:1", "aok_x")
    (number,) = set(re.findall(r"/participants/MSISDN/(\d+)", greeting))
    for file in LATER:
        assert number not in re.sub(r"(?<=\d)[ -](?=\d)", "", file.read_text(encoding="utf-8")), file.name


@pytest.mark.parametrize(
    ("url", "shows"),
    [("http://127.0.0.1:3001", False), ("http://127.0.0.1:4001", True), ("http://localhost:3001", True)],
)
def test_the_greeting_shows_the_address_that_commands_do_not_know(
    capsys: pytest.CaptureFixture[str], url: str, shows: bool
) -> None:
    lines = read_greeting(capsys, "http://127.0.0.1:3000", url, "aok_x").splitlines()
    assert (f"  export ORACLE_ADMIN_URL={url}" in lines) == shows


def test_the_greeting_and_readme_work_in_order(
    service: Service,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    hub_url, admin_url = service.oracle.hub_url, service.oracle.admin_url
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "HOME": tmp_path,
        "XDG_CONFIG_HOME": tmp_path / "config",
        "ORACLE_ADMIN_URL": admin_url,
    }.items():
        monkeypatch.setenv(name, str(value))
    key = key_of(service)
    shell = Shell("", monkeypatch, capsys)

    greeting = read_greeting(capsys, hub_url, admin_url, key)
    calls = [line for line in greeting.splitlines() if line.strip().startswith("curl ")]
    statuses = [run_curl(call.strip()).split()[1] for call in calls]
    assert statuses == ["201", "200"]

    (start, *blocks) = list_blocks(README)
    assert [line.partition(" ")[0] for line in start] == ["git", "make"]
    ran = []
    (example, *_) = list_blocks(TRY)
    for block in (*blocks, example):
        shown = ""
        for line in block:
            command = line.partition("  #")[0].strip().replace("http://127.0.0.1:3000", hub_url)
            words = shlex.split(command)
            match words:
                case ["export", assignment]:
                    name, _, value = assignment.partition("=")
                    if name != "PATH":
                        monkeypatch.setenv(name, value.replace("$PWD", str(tmp_path)))
                    continue
                case ["unset", name]:
                    monkeypatch.delenv(name)
                    continue
                case ["printf", *_]:
                    subprocess.run(["bash", "-c", command], check=True)
                case ["oracle", *rest, ">", file]:
                    typed = shell.as_key(None, *rest)
                    assert typed.code == 0, (line, typed.err)
                    Path(file).write_text(typed.out, encoding="utf-8")
                case ["oracle", *rest]:
                    typed = shell.as_key(None, *rest, stdin=f"{key}\n" if rest == ["key", "save"] else "")
                    assert typed.code == 0, (line, typed.err)
                    shown = typed.out
                case ["curl", *_]:
                    shown = run_curl(command)
                case _:  # what the command before prints
                    assert json.loads(shown) == json.loads(line), line
                    continue
            ran.append(line)
    assert len(ran) >= 13

    # The file of the walk through the console waits for Ben, with one bad row.  The console asks the same API.
    monkeypatch.setenv("ORACLE_KEY_FILE", "ana.key")
    uploaded = shell.as_key(None, "import", "customers.csv", "--json")
    assert uploaded.code == 0, uploaded.err
    batch = json.loads(uploaded.out)
    assert (batch["state"], batch["rows"]["valid"], batch["rows"]["failed"]) == ("waiting", 1, 1)
    monkeypatch.setenv("ORACLE_KEY_FILE", "ben.key")
    approved = shell.as_key(None, "batch", "approve", str(batch["batchId"]))
    assert approved.code == 0, approved.err


def test_the_ports_of_a_running_oracle_are_taken_by_another_oracle(service: Service) -> None:
    oracle = service.oracle
    places = [Place("hub", "127.0.0.1", oracle.hub_port), Place("admin", "127.0.0.1", oracle.admin_port)]
    with pytest.raises(ServeError) as failure:
        open_listeners(places)
    # Another user than root sees no process that hides: then it is named only if no second oracle runs here.
    assert re.fullmatch(
        rf"the ports {oracle.hub_port} \(hub listener\) and {oracle.admin_port} \(admin listener\) are taken by"
        rf" another oracle( \(process {oracle.pid}\))?: stop it, or set ORACLE_HUB_PORT and ORACLE_ADMIN_PORT to free"
        " ports",
        str(failure.value),
    )


@contextmanager
def run_beside(tmp_path: Path, words: Sequence[str], shows: str) -> Iterator[None]:
    """Run a command until the end of the block, which begins when it has shown this.  Then press Ctrl-C."""
    output = tmp_path / "beside.txt"
    with output.open("wb") as file:
        process = subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT, cwd=TOP, env=environment(tmp_path))
    try:
        until(lambda: shows in output.read_text() or process.poll() is not None)
        assert process.poll() is None, output.read_text()
        yield
    finally:
        process.send_signal(signal.SIGINT)
        code = process.wait(PATIENCE_S)
    assert code == 0, output.read_text()


def test_a_whole_lookup_is_shown_by_the_commands_of_the_document(
    service: Service,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    (ready,) = service.oracle.find_log_lines("The oracle is ready")
    monkeypatch.setenv("ORACLE_ADMIN_URL", ready["admin_url"])
    shell = Shell(key_of(service), monkeypatch, capsys)
    (_, start, first, second) = list_blocks(TRY)  # its FSPs run meanwhile
    assert start == ["ORACLE_ACCOUNT_LOOKUP=on make run"]
    assert first[0] == second[0] == "export PATH=$PWD/.venv/bin:$PATH"
    ports = {"5001": str(free_port()), "5002": str(free_port())}

    def read_words(line: str) -> list[str]:
        """Read a command of the document, with the ports of this test."""
        return shlex.split(re.sub("|".join(ports), lambda found: ports[found[0]], line))

    *prepare, payee = first[1:]
    for line in prepare:
        typed = shell(*read_words(line)[1:])
        assert typed.code == 0, (line, typed.err)
    program = [sys.executable, "-m"]
    where = ["--url", ready["account_lookup_url"]]
    with run_beside(tmp_path, [*program, *read_words(payee), *where], "payeefsp receives PUT /participants/"):
        payer = subprocess.run(
            [*program, *read_words(second[1]), *where], capture_output=True, text=True, check=False, cwd=TOP,
            env=environment(tmp_path), timeout=PATIENCE_S,
        )  # fmt: skip
    received, sent = sorted(payer.stdout.splitlines())  # the answer can be shown before the 202 of the question
    assert (payer.returncode, sent) == (0, "payerfsp sends GET /parties/MSISDN/525587654321: 202"), payer.stderr
    assert received.startswith(
        'payerfsp receives PUT /parties/MSISDN/525587654321 from payeefsp {"party":{"partyIdInfo":'
    )
    shown = (tmp_path / "beside.txt").read_text().splitlines()
    assert {line.partition("525587654321")[0] for line in shown if " sends " in line or " receives " in line} == {
        "payeefsp sends POST /participants/MSISDN/",
        "payeefsp receives PUT /participants/MSISDN/",
        "payeefsp receives GET /parties/MSISDN/",
        "payeefsp sends PUT /parties/MSISDN/",
    }


def test_a_demo_says_what_is_missing(tmp_path: Path) -> None:
    dead = f"http://127.0.0.1:{free_port()}"
    words = ["demo", "dfsp", "--name", "payerfsp", "--port", str(free_port()), "--url", dead, "--ask", "MSISDN/5255"]
    ran = run_oracle(tmp_path, *words)
    assert ran.returncode == 6
    assert ran.stderr.splitlines()[-1] == (
        f"oracle: the account lookup service does not answer at {dead}."
        " Start it with ORACLE_ACCOUNT_LOOKUP=on, or correct --url"
    )
