"""Which form of the lookup path runs: a build of exactly these sources, or the sources themselves.

The tests build a small package of the same kind once, and spoil a copy of it in every way.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from oracle import compiled
from oracle.compiled import MANIFEST, MODULES, PYTHON, Finder, State, Unusable, find_build
from oracle.compiled import build as building

TOP: Final = Path(__file__).resolve().parent.parent
SMALL: Final = ("small.deep.counting", "small.using")
LIBRARY: Final = compiled.LIBRARY
SUFFIX: Final = f".{PYTHON}.so"
SOURCES: Final = {
    "small/__init__.py": "",
    "small/limits.py": "from typing import Final\nMOST: Final = 3\n",
    "small/deep/__init__.py": "",
    "small/deep/counting.py": (
        "from __future__ import annotations\n"
        "from typing import TYPE_CHECKING\n"
        "from small.limits import MOST\n"
        "if TYPE_CHECKING:\n    from small.shapes import Shape\n"
        "class Counter:\n"
        "    def __init__(self, shape: Shape | None = None) -> None:\n        self.count, self.shape = 0, shape\n"
        "    def add(self) -> None:\n"
        "        if self.count == MOST:\n            raise ValueError('too many')\n"
        "        self.count += 1\n"
    ),
    "small/shapes.py": "class Shape:\n    sides: int = 4\n",
    "small/using.py": (
        "from small.deep.counting import Counter\n"
        "def count(times: int) -> int:\n"
        "    counter = Counter()\n"
        "    for _ in range(times):\n        counter.add()\n"
        "    return counter.count\n"
    ),
    "small/other.py": "",  # nobody imports it
}
BUILD: Final = (
    "import sys; from pathlib import Path; from oracle.compiled.build import build_into;"
    f"build_into(Path(sys.argv[2]), Path(sys.argv[1]), {SMALL}, level='0')"
)
# Prints what `decide` says, the files of both modules, and the traceback of an error in one.
RUN: Final = (
    "import sys, traceback; from oracle.compiled import Finder; top = sys.argv[1]; sys.path.insert(0, top);"
    f"finder = Finder(top + '/builds', top, {SMALL}, {LIBRARY!r}); sys.meta_path.insert(0, finder);"
    "import small.using as using, small.deep.counting as counting;"
    "print(finder.decide(), using.__file__, counting.__file__, using.count(3), sep='\\n');"
    "exec('try: using.count(9)\\nexcept ValueError: print(traceback.format_exc())')"
)


class Tree:
    """A tree of sources with a build."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.builds = top / "builds"
        self.build = self.builds / PYTHON
        self.shared = self.build / f"{LIBRARY}{SUFFIX}"
        self.using = self.build / f"small/using{SUFFIX}"
        self.manifest = self.build / MANIFEST

    def find_reason(self, modules: tuple[str, ...] = SMALL) -> str:
        """Return why the build is not used.  A process that refuses it imports the sources."""
        with pytest.raises(Unusable) as caught:
            find_build(str(self.builds), str(self.top), modules)
        finder = Finder(str(self.builds), str(self.top), modules)
        assert finder.decide() == State(compiled=False, reason=str(caught.value))
        assert [finder.find_spec(name) for name in (*modules, LIBRARY)] == [None] * (len(modules) + 1)
        return str(caught.value)

    def change_manifest(self, **members: Any) -> None:
        self.manifest.write_text(json.dumps(json.loads(self.manifest.read_text()) | members))

    def run(self, **env: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", RUN, str(self.top)], env={**os.environ, **env}, check=True, capture_output=True,
            text=True,
        )  # fmt: skip
        return done.stdout.splitlines()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("small")
    for name, text in SOURCES.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(text)
    tree = Tree(top)
    subprocess.run([sys.executable, "-c", BUILD, str(top), str(tree.build)], check=True, capture_output=True)
    return top


@pytest.fixture
def tree(built: Path, tmp_path: Path) -> Tree:
    return Tree(shutil.copytree(built, tmp_path / "tree"))


def test_a_build_of_the_present_sources_runs_with_tracebacks_into_them(tree: Tree) -> None:
    state, using, counting, count, *traceback = tree.run()
    assert state == "compiled: true"
    assert using == str(tree.using)
    assert counting == str(tree.build / f"small/deep/counting{SUFFIX}")
    assert count == "3"
    assert '  File "small/deep/counting.py", line 11, in add' in traceback


def test_the_setting_off_runs_the_sources(tree: Tree) -> None:
    state, using, counting, count, *_ = tree.run(ORACLE_COMPILED="off")
    assert state == "compiled: false, because ORACLE_COMPILED is off"
    assert (using, counting) == (f"{tree.top}/small/using.py", f"{tree.top}/small/deep/counting.py")
    assert count == "3"


def test_a_stale_build_runs_the_changed_sources(tree: Tree) -> None:
    """A constant that mypyc has copied into the code of another module."""
    (tree.top / "small/limits.py").write_text("MOST = 2 + 1\n")
    state, using, *_ = tree.run()
    assert state == "compiled: false, because small/limits.py was changed after the build: run `make compile`"
    assert using == f"{tree.top}/small/using.py"


def test_a_library_that_cannot_be_loaded_runs_the_sources(tree: Tree) -> None:
    tree.shared.write_bytes(bytes(tree.shared.stat().st_size))
    state, using, *_ = tree.run()
    assert state.startswith("compiled: false, because the build cannot be loaded: ")
    assert using == f"{tree.top}/small/using.py"


@pytest.mark.parametrize("source", sorted(SOURCES.keys() - {"small/other.py"}))
def test_every_source_that_mypyc_read_counts(tree: Tree, source: str) -> None:
    """Those of the modules, of what they import, also for types alone, and of the packages around them."""
    path = tree.top / source
    times = path.stat()
    path.write_text(path.read_text() + " ")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # the content counts, not the time
    assert tree.find_reason() == f"{source} was changed after the build: run `make compile`"
    path.unlink()
    unread = f"{source}, of which it was built, cannot be read"
    assert tree.find_reason() == f"{unread} (No such file or directory): run `make compile`"
    path.mkdir()
    assert tree.find_reason() == f"{unread} (Is a directory): run `make compile`"


def test_another_source_does_not_count(tree: Tree) -> None:
    (tree.top / "small/other.py").write_text("1 + 1\n")
    os.utime(tree.top / "small/using.py", (0, 0))
    assert find_build(str(tree.builds), str(tree.top), SMALL).keys() == {LIBRARY, *SMALL}


def _remove_build(tree: Tree) -> str:
    shutil.rmtree(tree.build)
    return f"there is no build for this Python ({PYTHON}): run `make compile`"


def _build_for_another_python(tree: Tree) -> str:
    tree.build.rename(tree.builds / "cpython-399-x86_64-linux-gnu")
    return f"there is no build for this Python ({PYTHON}): run `make compile`"


def _rename_build_of_another_python(tree: Tree) -> str:
    tree.change_manifest(python="cpython-399-x86_64-linux-gnu")
    return "the build is for another Python (cpython-399-x86_64-linux-gnu): run `make compile`"


def _remove_manifest(tree: Tree) -> str:
    """As long as a build is being written, it has none."""
    tree.manifest.unlink()
    return f"there is no build for this Python ({PYTHON}): run `make compile`"


def _remove_library(tree: Tree) -> str:
    tree.shared.unlink()
    return f"{tree.shared} cannot be read (No such file or directory): run `make compile`"


def _cut_library(tree: Tree) -> str:
    tree.shared.write_bytes(tree.shared.read_bytes()[:-1])
    return f"{tree.shared} is damaged: run `make compile`"


def _remove_module(tree: Tree) -> str:
    tree.using.unlink()
    return f"{tree.using} cannot be read (No such file or directory): run `make compile`"


def _cut_module(tree: Tree) -> str:
    tree.using.write_bytes(b"")
    return f"{tree.using} is damaged: run `make compile`"


def _link_module_to_itself(tree: Tree) -> str:
    tree.using.unlink()
    tree.using.symlink_to(tree.using)
    return f"{tree.using} cannot be read (Too many levels of symbolic links): run `make compile`"


def _forget_module(tree: Tree) -> str:
    files = json.loads(tree.manifest.read_text())["files"]
    del files[f"small/using{SUFFIX}"]
    tree.change_manifest(files=files)
    return "the build was made without small.using: run `make compile`"


def _replace_manifest_by_directory(tree: Tree) -> str:
    tree.manifest.unlink()
    tree.manifest.mkdir()
    return f"{tree.manifest} cannot be read (Is a directory): run `make compile`"


@pytest.mark.parametrize(
    "spoil",
    [
        _remove_build, _build_for_another_python, _rename_build_of_another_python, _remove_manifest, _remove_library,
        _cut_library, _remove_module, _cut_module, _link_module_to_itself, _forget_module,
        _replace_manifest_by_directory,
    ],
)  # fmt: skip
def test_an_unfit_build_is_not_used(tree: Tree, spoil: Callable[[Tree], str]) -> None:
    expected = spoil(tree)
    assert tree.find_reason() == expected


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"\xff", b"null", b"[]", b"3", b'"x"', b"{}", b'{"python": "x"}', b"[" * 100_000,
        b'{"python": "x", "sources": [], "files": {}}', b'{"python": "x", "sources": {"a": 1}, "files": null}',
        b'{"python": "x", "sources": {}, "files": 3}', b'{"python": "x", "sources": {"\\u0000": ""}, "files": {}}',
    ],
    ids=lambda content: content.decode(errors="replace")[:40],
)  # fmt: skip
def test_a_damaged_manifest_is_one_reason(tree: Tree, content: bytes) -> None:
    tree.manifest.write_bytes(content)
    reason = tree.find_reason()
    assert reason.endswith("run `make compile`")
    assert "\n" not in reason


def test_a_manifest_of_other_modules_is_not_used(tree: Tree) -> None:
    """The list of modules grew after the build, but no source changed."""
    reason = tree.find_reason((*SMALL, "small.limits"))
    assert reason == "the build was made without small.limits: run `make compile`"


@pytest.fixture
def shared_tree(built: Path) -> Iterator[Tree]:
    """A tree in a directory that every user can enter."""
    with tempfile.TemporaryDirectory(prefix="oracle-tree-") as place:
        Path(place).chmod(0o755)
        yield Tree(shutil.copytree(built, Path(place) / "tree"))


@pytest.mark.parametrize("name", ["shared", "using", "manifest"])
def test_a_build_that_this_user_cannot_read_is_not_used(shared_tree: Tree, name: str) -> None:
    file: Path = getattr(shared_tree, name)
    shared_tree.top.chmod(0o755)
    file.chmod(0)
    me = os.geteuid()
    if me == 0:  # root can read everything
        os.seteuid(65_534)
    try:
        assert shared_tree.find_reason() == f"{file} cannot be read (Permission denied): run `make compile`"
    finally:
        os.seteuid(me)


def test_nothing_is_opened_before_a_module_of_the_list_is_imported() -> None:
    code = "import oracle.cli, oracle.compiled; assert oracle.compiled._finder._state is None"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_each_module_of_the_list_has_a_source_and_no_build_lies_beside_it() -> None:
    assert len(set(MODULES)) == len(MODULES)
    for module in MODULES:
        source = TOP / f"{module.replace('.', '/')}.py"
        assert source.is_file()
        assert not list(source.parent.glob(f"{source.stem}.*.so"))


def test_this_process_has_one_form_of_all_modules() -> None:
    state = compiled.find_state()
    origins = {module: importlib.util.find_spec(module) for module in MODULES}
    suffix = ".so" if state.compiled else ".py"
    assert [module for module, spec in origins.items() if not str(spec and spec.origin).endswith(suffix)] == []


# Building.


def test_without_a_compiler_one_sentence_says_what_to_do() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "oracle.compiled.build"], env={**os.environ, "CC": "no-such-compiler -x"},
        capture_output=True, text=True, check=False, cwd=TOP,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "make compile: there is no C compiler (no-such-compiler): install one (Debian: apt install gcc), or set CC."
        " You can go on without: the oracle runs the same sources uncompiled, with more CPU for each lookup\n"
    )


def test_a_build_takes_the_place_of_the_old_one_and_of_what_a_killed_one_left(tree: Tree, built: Path) -> None:
    (tree.builds / ".unfinished-of-a-killed-one").mkdir()
    with building._claim(tree.builds):
        assert [path.name for path in tree.builds.iterdir()] == [PYTHON]
        work = tree.builds / ".unfinished-1"
        work.mkdir()
        shutil.copytree(built / "builds" / PYTHON, work / "new")
        (work / "new" / "newer").touch()
        building._put_in_place(work / "new", tree.build, work / "old")
        with (
            pytest.raises(building.BuildError, match="another `make compile` is at work here"),
            building._claim(tree.builds),
        ):
            pass
    assert (tree.build / "newer").exists()
    assert find_build(str(tree.builds), str(tree.top), SMALL).keys() == {LIBRARY, *SMALL}


def test_the_sources_of_a_build_are_all_that_its_modules_import(built: Path) -> None:
    assert building.list_sources(built, SMALL) == sorted(SOURCES.keys() - {"small/other.py"})
    ours = building.list_sources(TOP, MODULES)
    assert {f"{module.replace('.', '/')}.py" for module in MODULES} < set(ours)
    assert {"oracle/__init__.py", "oracle/compiled/__init__.py", "oracle/errors.py"} < set(ours)
