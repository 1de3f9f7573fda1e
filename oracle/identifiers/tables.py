"""Opens the tables in data/.  Every kind opens them here, because `__file__` of a compiled module is elsewhere."""

from pathlib import Path
from typing import Final, TextIO

_DATA: Final = Path(__file__).parent / "data"


def open_table(name: str) -> TextIO:
    return (_DATA / name).open(encoding="utf-8", newline="")
