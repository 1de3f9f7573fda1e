"""No worker has a secret in its environment, and no process of the service writes a core dump."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import psutil
from oracle_process import SERVE, start_oracle

from oracle.run.secrecy import drop_settings

SECRET: Final = "hush-hush-hush-hush"


def test_workers_get_no_setting_in_their_environment_and_nobody_dumps_core(
    tmp_path: Path, database_url: str, redis_url: str
) -> None:
    """The URL of the owner, the key of the commands, a URL with a token, and a setting of a later version."""
    with_password = database_url.replace("oracle@", f"oracle:{SECRET}@")
    settings = {
        "ORACLE_DATABASE_URL": with_password.replace("oracle:", "oracle_service:"),
        "ORACLE_DATABASE_OWNER_URL": with_password,
        "ORACLE_REDIS_URL": redis_url,
        "ORACLE_KEY": f"aok_{SECRET}",
        "ORACLE_OTLP_ENDPOINT": f"http://127.0.0.1:1/v1?token={SECRET}",
        "ORACLE_COMPILED": "off",  # what workers must know before they import
        "ORACLE_SERVICE_HOST": SECRET,  # of Kubernetes, for a Service called `oracle`
        "PGAPPNAME": "kept",  # what is not ours stays: the driver reads PGPASSFILE, PGSSLROOTCERT and others
    }
    soft = "import os, resource, sys; h = resource.getrlimit(resource.RLIMIT_CORE)[1];"
    soft += "resource.setrlimit(resource.RLIMIT_CORE, (h, h)); os.execv(sys.argv[1], sys.argv[1:])"
    with start_oracle(tmp_path, settings, command=(sys.executable, "-c", soft, *SERVE)) as oracle:
        workers = [worker for role in ("hub", "admin", "jobs") for worker in oracle.workers(role)]
        assert len(workers) == 3
        for worker in workers:
            environ = worker.environ()
            assert [name for name in environ if name.upper().startswith("ORACLE_")] == ["ORACLE_COMPILED"]
            assert SECRET not in str(environ) + str(worker.cmdline())
            assert environ["PGAPPNAME"] == "kept"
        for process in (psutil.Process(oracle.pid), *workers):
            assert process.rlimit(psutil.RLIMIT_CORE) == (0, 0)


def test_the_environment_of_the_supervisor_is_hidden_from_processes_of_its_user() -> None:
    code = "import ctypes, oracle.run.secrecy as s; s.hide_process(); print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "0\n"


def test_only_our_own_names_are_dropped() -> None:
    environ = {"ORACLE_KEY": "1", "oracle_key": "2", "ORACLE": "3", "MY_ORACLE_KEY": "4", "PATH": "5"}
    assert drop_settings(environ) == {"ORACLE": "3", "MY_ORACLE_KEY": "4", "PATH": "5"}
