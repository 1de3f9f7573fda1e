"""With COMPILE_LOOKUP_PATH=1, a wheel also has the lookup path compiled, for this Python.  All else: pyproject.toml.

Without it, a wheel is the same for every Python, and no compiler is needed.  With it, mypy and the dependencies of the
service must be installed where the wheel is built: `pip wheel --no-build-isolation`, as the Dockerfile does.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.build_py import build_py

TOP = Path(__file__).resolve().parent


class BuildCompiled(build_py):
    """Builds what pyproject.toml lists, and then the compiled modules beside it."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return  # `make compile` is for the tree
        sys.path.insert(0, str(TOP))
        from oracle.compiled import PYTHON  # noqa: PLC0415
        from oracle.compiled.build import build_into  # noqa: PLC0415

        build = Path(self.build_lib).resolve() / "oracle" / "compiled" / PYTHON
        shutil.rmtree(build, ignore_errors=True)  # of an earlier wheel
        build_into(build, TOP)


class ForOnePython(Distribution):
    """Its wheel is named after the Python and the platform."""

    def has_ext_modules(self) -> bool:
        return True


if os.environ.get("COMPILE_LOOKUP_PATH") == "1":
    setup(cmdclass={"build_py": BuildCompiled}, distclass=ForOnePython)
else:
    setup()
