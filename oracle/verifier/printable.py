"""Text of other people, made safe to show: at a terminal, in JSON that a terminal prints, and in log lines.

A control character can move the cursor, change what was printed before, or type for the reader.  A mark of direction
can show `exe.txt` for `txt.exe`.  Both become escapes; all other letters of all languages stay as they are.
"""

from __future__ import annotations

import re
from typing import Final

# C0, DEL, C1; line and paragraph separators; the marks, embeddings, overrides and isolates of direction.
UNPRINTABLE: Final = "\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
_UNPRINTABLE: Final = re.compile(f"[{UNPRINTABLE}]")
_UNPRINTABLE_IN_LINES: Final = re.compile(f"(?![\t\n])[{UNPRINTABLE}]")


def escape_text(text: str) -> str:
    r"""Write each of these characters as `\x1b` or `\u202e`."""
    return _UNPRINTABLE.sub(_write_escape, text)


def escape_document(text: str) -> str:
    r"""Write each of these characters but line ends and tabs as `\u001b`.  JSON still means the same."""
    return _UNPRINTABLE_IN_LINES.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _write_escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"  # noqa: PLR2004 - two digits are enough
