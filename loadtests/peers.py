"""The other sides of a comparison: the same lookup from the same Redis, in other languages and without our duties.

c      ceiling/lookup.c: the floor.  Any server of this path costs at least this.  Built with gcc for each run.
nginx  ceiling/nginx.conf: nginx with Lua, what an engineer would reach for who wanted only speed.
bun    ceiling/lookup.bun.js, go ceiling/lookup.go, node ceiling/lookup.node.js: measured where they are installed.

None of them checks an identifier, knows a route, or has a directory behind its cache.  All read `p:{Type}:{ID}`, whose
value is the body of the answer, and answer the same status, content type and body as the oracle.  One worker each.

The environment variables BUN, GO and NODE name these programs where they are not on the PATH.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from loadtests.stack import (
    Cache,
    StackError,
    find_descendants,
    find_free_port,
    is_listening,
    start,
    stop,
    wait_until,
)

HERE: Final = Path(__file__).resolve().parent / "ceiling"
MODULES: Final = (Path("/usr/lib/nginx/modules"), Path("/usr/lib64/nginx/modules"))
LUA_REDIS: Final = Path("/usr/share/lua/5.1/nginx/redis.lua")
BUILD_S: Final = 300.0

FLOOR: Final = "c"
NGINX: Final = "nginx"
OPTIONAL: Final = ("bun", "go", "node")


class Side(NamedTuple):
    """A server that is measured."""

    name: str
    url: str
    pids: list[int]


# Which programs there are -----------------------------------------------------------------------------------


def find_program(name: str) -> str | None:
    """Find a program by the variable with its name (BUN=/path/to/bun), or on the PATH."""
    named = os.environ.get(name.upper())
    return shutil.which(named or name) or shutil.which(named or name, path="/usr/sbin:/usr/local/sbin")


def find_missing_programs() -> list[str]:
    """Return the names of the Debian packages that are missing.  Without them nothing is compared."""
    wanted = {
        "gcc": find_program("gcc") is not None,
        "wrk": shutil.which("wrk") is not None,
        "nginx": find_program("nginx") is not None,
        "libnginx-mod-http-lua": _find_modules() is not None,
        "lua-nginx-redis": LUA_REDIS.exists(),
    }
    return [package for package, there in wanted.items() if not there]


def _find_modules() -> Path | None:
    return next((place for place in MODULES if (place / "ngx_http_lua_module.so").exists()), None)


def find_optional_peers() -> dict[str, str]:
    """Return the programs of the peers that can be measured here besides C and nginx."""
    found = {name: find_program(name) for name in OPTIONAL}
    return {name: program for name, program in found.items() if program is not None}


_VERSIONS: Final = {
    "nginx": ("-v", "nginx version: "),
    "wrk": ("-v", ""),
    "gcc": ("--version", ""),
    "bun": ("--version", ""),
    "go": ("version", "go version "),
    "node": ("--version", ""),
}


def read_versions() -> dict[str, str]:
    """Read the versions.  The programs write them to stderr or stdout, and wrk exits with 1."""
    found = {}
    for name, (option, prefix) in _VERSIONS.items():
        if program := find_program(name):
            outcome = subprocess.run([program, option], capture_output=True, text=True, check=False, timeout=10)
            lines = (outcome.stdout + outcome.stderr).splitlines()
            found[name] = lines[0].partition(" [")[0].removeprefix(prefix) if lines else "unknown"
    return found


# Building and starting --------------------------------------------------------------------------------------


@contextmanager
def run_peers(home: Path, cache: Cache, workers: int, *, optional: bool = True) -> Iterator[list[Side]]:
    """Run C and nginx, and with one worker all others that are installed, if they are wanted."""
    with ExitStack() as stack:
        sides = [stack.enter_context(run_floor(home, cache, workers))]
        if optional and workers == 1:
            for name, program in find_optional_peers().items():
                sides.append(stack.enter_context(run_peer(home, cache, name, program)))
        yield [*sides, stack.enter_context(run_nginx(home, cache, workers))]


def build_floor(home: Path) -> Path:
    program = home / "lookup"
    _build([str(find_program("gcc")), "-O2", "-o", str(program), str(HERE / "lookup.c")])
    return program


def build_go(home: Path, program: str) -> Path:
    built = home / "lookup-go"
    # No module, no download of another toolchain.
    env = {**os.environ, "GO111MODULE": "off", "GOTOOLCHAIN": "local", "GOFLAGS": ""}
    _build([program, "build", "-o", str(built), str(HERE / "lookup.go")], env)
    return built


def _build(command: list[str], env: Mapping[str, str] | None = None) -> None:
    try:
        subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=BUILD_S)
    except subprocess.CalledProcessError as exc:
        raise StackError(f"{command[0]} cannot build {command[-1]}:\n{exc.stderr.strip()}") from exc


@contextmanager
def run_floor(home: Path, cache: Cache, workers: int = 1) -> Iterator[Side]:
    """Run the program in C: a process for each worker, all on one port."""
    program, port = build_floor(home), find_free_port()
    log = home / "lookup.log"
    processes = [start([str(program), str(port), str(cache.port)], log) for _ in range(workers)]
    try:
        _wait_for_port(port, log, lambda: all(process.poll() is None for process in processes), FLOOR)
        yield Side(FLOOR, f"http://127.0.0.1:{port}", [process.pid for process in processes])
    finally:
        for process in processes:
            stop(process)


@contextmanager
def run_peer(home: Path, cache: Cache, name: str, program: str) -> Iterator[Side]:
    """Run the peer in Bun, Go or Node.js with one worker."""
    command = [str(build_go(home, program))] if name == "go" else [program, str(HERE / f"lookup.{name}.js")]
    port, log = find_free_port(), home / f"{name}.log"
    process = start([*command, str(port), str(cache.port)], log)
    try:
        _wait_for_port(port, log, lambda: process.poll() is None, name)
        yield Side(name, f"http://127.0.0.1:{port}", [process.pid, *find_descendants(process.pid)])
    finally:
        stop(process)


@contextmanager
def run_nginx(home: Path, cache: Cache, workers: int) -> Iterator[Side]:
    place = home / f"nginx-{workers}"
    place.mkdir(mode=0o755)
    home.chmod(0o711)  # if root starts it, its workers run as another user
    port, log = find_free_port(), place / "nginx.log"
    words = {"MODULES": _find_modules(), "WORKERS": workers, "PORT": port, "REDIS_PORT": cache.port}
    text = (HERE / "nginx.conf").read_text(encoding="utf-8")
    for word, value in words.items():
        text = text.replace(f"@{word}@", str(value))
    (place / "nginx.conf").write_text(text, encoding="utf-8")
    process = start([str(find_program("nginx")), "-p", str(place), "-c", "nginx.conf", "-e", "stderr"], log)
    try:
        _wait_for_port(port, log, lambda: process.poll() is None, NGINX)
        wait_until(lambda: len(find_descendants(process.pid)) == workers, "nginx's workers", 10)
        yield Side(NGINX, f"http://127.0.0.1:{port}", find_descendants(process.pid))
    finally:
        stop(process)


def _wait_for_port(port: int, log: Path, is_running: Callable[[], bool], name: str) -> None:
    wait_until(lambda: not is_running() or is_listening(port), name)
    if not is_running():
        raise StackError(f"{name} ended:\n{log.read_text()}")
