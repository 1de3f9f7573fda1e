"""A running service says everywhere whether lookups run compiled, and obeys ORACLE_COMPILED."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import httpx
import pytest
from oracle_process import run_oracle, start_oracle, until

from oracle.compiled import State, find_state


@pytest.mark.parametrize("setting", ["auto", "off"])
def test_the_form_of_lookups_is_shown_everywhere(
    tmp_path: Path, database_url: str, redis_url: str, setting: str
) -> None:
    """`auto` is what this run of the tests has, compiled or not."""
    expected = find_state(setting)
    (tmp_path / "oracle.toml").write_text(f'compiled = "{setting}"\nworkers = 2\n')
    config = ("--config", "oracle.toml")
    env = {"ORACLE_DATABASE_URL": database_url, "ORACLE_REDIS_URL": redis_url}
    with start_oracle(tmp_path, env, command=(sys.executable, "-m", "oracle", *config, "serve"), cold=True) as oracle:
        until(lambda: len(oracle.workers("jobs")) == 1)
        for url in (oracle.hub_url, oracle.admin_url):
            assert httpx.get(f"{url}/health").json()["compiled"] is expected.compiled
        page = httpx.get(f"{oracle.admin_url}/metrics").text
        shown = dict(re.findall(r'^moja_oracle_compiled\{index="(\d)",role="hub"\} (\S+)$', page, re.MULTILINE))
        assert shown == dict.fromkeys("01", str(float(expected.compiled)))
        for worker in oracle.workers("hub"):
            libraries = [place.path for place in worker.memory_maps() if "oracle__mypyc" in place.path]
            assert bool(libraries) is expected.compiled
        event = "Lookups run compiled" if expected.compiled else "Lookups run as plain Python"
        (line,) = oracle.find_log_lines(event)  # one for all workers
        assert line.get("reason", "") == expected.reason
    checked = run_oracle(tmp_path, *config, "check-config", env=env, cold=True)
    assert checked.stdout.splitlines()[-1] == f"# {expected}"


def test_off_is_a_reason() -> None:
    assert str(find_state("off")) == "compiled: false, because ORACLE_COMPILED is off"
    assert str(State(compiled=True)) == "compiled: true"
