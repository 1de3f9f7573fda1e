"""The bytes of an uploaded file as UTF-8: a byte order mark is removed, UTF-16 is converted."""

import codecs
from typing import Final

from oracle.imports.refusals import FileRefused

_SIGNATURE_BYTES: Final = 4

_SIGNATURES: Final = {
    b"PK\x03\x04": "This is an Excel workbook or a ZIP archive.",
    b"\xd0\xcf\x11\xe0": "This is an Excel workbook.",
    b"\x1f\x8b": "This file is compressed.",
    b"\xff\xfe\0\0": "This file is UTF-32.",
}


class Encoding:
    """Converts one file.  `mark` and `name` are known when the first bytes are converted."""

    def __init__(self) -> None:
        self.mark = b""  # the byte order mark that the file begins with
        self.name = "utf-8"
        self._start: bytearray | None = bytearray()  # the first bytes; None once the byte order mark is read
        self._utf16: codecs.IncrementalDecoder | None = None

    def convert(self, data: bytes, *, final: bool = False) -> bytes:
        """Return the next bytes in UTF-8.  Raises FileRefused for what is no text file."""
        if self._start is not None:
            self._start += data
            if len(self._start) < _SIGNATURE_BYTES and not final:
                return b""
            data, self._start = bytes(self._start), None
            data = self._strip_mark(data)
        if self._utf16 is None:
            return data
        # Invalid UTF-16 becomes invalid UTF-8, so that its line is refused.
        try:
            text: str = self._utf16.decode(data, final)
        except UnicodeDecodeError:
            return b"\xff"
        return text.encode("utf-8", "surrogatepass")

    def _strip_mark(self, data: bytes) -> bytes:
        for signature, what in _SIGNATURES.items():
            if data.startswith(signature):
                raise FileRefused("not_text", what, "Save it as CSV UTF-8, then upload it.")
        for mark, name in (
            (codecs.BOM_UTF8, "utf-8"),
            (codecs.BOM_UTF16_LE, "utf-16-le"),
            (codecs.BOM_UTF16_BE, "utf-16-be"),
        ):
            if data.startswith(mark):
                self.mark, self.name = mark, name
                if name != "utf-8":
                    self._utf16 = codecs.getincrementaldecoder(name)("surrogatepass")
                return data[len(mark) :]
        return data


def decode(data: bytes) -> str:
    """Return the text of lines.  Bytes that are not UTF-8 become surrogates, which `rows.check_text` refuses."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode(errors="surrogateescape")
