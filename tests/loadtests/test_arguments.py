"""What load.py refuses before it starts a server: wrong numbers, wrong baselines, wrong hosts."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from loadtests import ceiling, load, machine, overload
from loadtests.keys import Keys
from loadtests.load import CONDITIONS, Target, check_host, list_asked, name_final, parse, save_baseline
from loadtests.stack import StackError


def list_refusals(words: list[str], capsys: pytest.CaptureFixture[str], program: object = load) -> str:
    with pytest.raises(SystemExit) as caught:
        program.parse(words)  # type: ignore[attr-defined]
    assert caught.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("option", ["--duration", "--users", "--processes", "--workers", "--aliases"])
@pytest.mark.parametrize("value", ["0", "-3", "5s", "20k", "1.5", ""])
def test_a_number_that_no_run_can_use_is_refused_in_words(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = list_refusals([f"{option}={value}"], capsys)
    assert text.endswith(f"argument {option}: {value!r} is not a whole number of at least 1, without a unit")


@pytest.mark.parametrize("option", ["--busy", "--slow"])
@pytest.mark.parametrize("value", ["-1", "two", ""])
def test_what_can_be_left_out_is_a_whole_number_or_0(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ceiling.parse([f"{option}=0"]) != ceiling.parse([f"{option}=1"])
    text = list_refusals([f"{option}={value}"], capsys, ceiling)
    assert text.endswith(f"{value!r} is not a whole number of at least 1, without a unit; or 0")


@pytest.mark.parametrize(("program", "option"), [(ceiling, "--sweep"), (overload, "--connections")])
@pytest.mark.parametrize("value", ["a,2", "0", "1,,2"])
def test_a_list_with_a_wrong_number_is_refused_in_words(
    program: object, option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "is not a list of positive numbers; write 1,2" in list_refusals([f"{option}={value}"], capsys, program)


def test_numbers_and_profiles_are_read_as_people_write_them() -> None:
    arguments = parse(["--profiles", "hot, mixed", "--aliases", "200,000"])
    assert (arguments.profiles, arguments.aliases) == (["hot", "mixed"], 200_000)


def make_baseline(folder: Path, *profiles: str) -> Path:
    save_baseline(folder, [], list_asked(parse([])))
    for profile in profiles:
        name_final(folder, profile).touch()
    return folder


@pytest.mark.parametrize(
    ("profiles", "words", "reason"),
    [
        ((), [], "no run is saved there; save one with --save-baseline DIR and give the same folder"),
        (("hot",), ["--profiles", "hot,mixed"], "it does not have mixed; use --profiles hot"),
        (("hot",), ["--profiles", "hot", "--users", "64"], "it was measured with --users 32; run with the same"),
        (("hot",), ["--profiles", "hot", "--aliases", "5"], "it was measured with --aliases 200000; run with the same"),
    ],
)
def test_a_baseline_that_cannot_be_compared_is_refused_before_the_run(
    tmp_path: Path, profiles: tuple[str, ...], words: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_baseline(tmp_path / "before", *profiles)
    text = list_refusals(["--baseline", str(folder), *words], capsys)
    assert text.endswith(f"--baseline {folder}: {reason}")


@pytest.mark.parametrize(("fact", "name"), [("cpu", "processor"), ("cores", "cores"), ("memory", "memory")])
def test_a_baseline_of_another_machine_is_refused(
    tmp_path: Path, fact: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_baseline(tmp_path, "hot")
    words = ["--profiles", "hot", "--baseline", str(folder)]
    assert parse(words).baseline == folder
    other = {"machine": machine.collect_facts() | {fact: "another"}, "asked": {}}
    (folder / CONDITIONS).write_text(json.dumps(other), encoding="utf-8")
    assert f"it is of a machine with another {name}; save one on this machine" in list_refusals(words, capsys)


def test_a_baseline_that_is_saved_again_keeps_no_profile_of_the_first_run(tmp_path: Path) -> None:
    make_baseline(tmp_path, "hot", "mixed")
    save_baseline(tmp_path, [], {})
    assert not name_final(tmp_path, "hot").exists()


def test_a_folder_that_cannot_be_made_is_refused_before_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    text = list_refusals(["--save-baseline", str(tmp_path / "file" / "before")], capsys)
    assert text.endswith("cannot make this folder: Not a directory")


def test_a_host_without_a_scheme_is_refused_with_the_url(capsys: pytest.CaptureFixture[str]) -> None:
    assert list_refusals(["--host", "localhost:3000"], capsys).endswith("is not a URL; write http://localhost:3000")


def test_a_host_where_nothing_answers_is_refused_before_the_run() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(StackError, match="does not answer: is the service running, and on this port"):
        check_host(Target(f"http://127.0.0.1:{port}", 100))


def test_a_host_without_the_dataset_is_refused_before_the_run() -> None:
    alias = Keys().make_alias(99)
    right = {"fspId": alias.fsp_id, **({"partySubIdOrType": alias.sub_id} if alias.sub_id else {})}
    with serve({"partyList": [right]}) as url:
        check_host(Target(url, 100))
        with pytest.raises(StackError, match="does not hold a dataset of 101 aliases"):
            check_host(Target(url, 101))
        with pytest.raises(StackError, match=r"\(HTTP 404\): --host needs the port for the hub"):
            check_host(Target(f"{url}/elsewhere", 100))


@contextmanager
def serve(answer: object) -> Iterator[str]:
    """Answer every lookup so, and 404 to everything else."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path.startswith("/participants/") else 404)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
