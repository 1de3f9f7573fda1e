"""Styles and scripts of the console: read, compressed and named once, when the process starts.

Names.    /console/assets/{version}/{name}: the version is a hash of the content, so a browser keeps a file forever and
          still gets a new one at once.
Origin.   htmx and Pico are the files of their npm packages, unmodified, each with its licence and a SOURCE note beside
          it.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Final, NamedTuple

PATH: Final = "/console/assets"
OWN_STYLE: Final = "console.css"
_FONT: Final = re.compile(rb"asset:([\w.-]+)")
FILES: Final[Mapping[str, tuple[str, str]]] = {
    "pico.css": ("pico/pico.classless.min.css", "text/css; charset=utf-8"),
    "console.css": ("console.css", "text/css; charset=utf-8"),
    "htmx.js": ("htmx/htmx.min.js", "text/javascript; charset=utf-8"),
    "hx-sse.js": ("htmx/hx-sse.min.js", "text/javascript; charset=utf-8"),
    "console.js": ("console.js", "text/javascript; charset=utf-8"),
    "files.css": ("files.css", "text/css; charset=utf-8"),
    "files.js": ("files.js", "text/javascript; charset=utf-8"),
    "icon.svg": ("icon.svg", "image/svg+xml"),
}


class Asset(NamedTuple):
    url: str
    version: str
    media_type: str
    plain: bytes
    zipped: bytes


def load_assets() -> dict[str, Asset]:
    """Read the files.  Fonts are the .woff2 files of the folder `fonts`; our style names one by url("asset:NAME")."""
    folder = files("oracle.api.console").joinpath("assets")
    found: dict[str, Asset] = {}
    fonts = folder.joinpath("fonts")
    if fonts.is_dir():
        for file in fonts.iterdir():
            if file.name.endswith(".woff2"):
                found[file.name] = _make(file.name, file.read_bytes(), "font/woff2")
    for name, (path, media_type) in FILES.items():
        plain = folder.joinpath(*path.split("/")).read_bytes()
        if name == OWN_STYLE:
            plain = _FONT.sub(lambda font: found[font[1].decode()].url.encode(), plain)
        found[name] = _make(name, plain, media_type)
    return found


def _make(name: str, plain: bytes, media_type: str) -> Asset:
    version = hashlib.sha256(plain).hexdigest()[:16]
    is_small = media_type.startswith(("font/", "image/png"))  # already
    zipped = plain if is_small else gzip.compress(plain, 9, mtime=0)
    return Asset(f"{PATH}/{version}/{name}", version, media_type, plain, zipped)
