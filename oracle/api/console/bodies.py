"""What a form sends: values of fields, and files that are passed on as they arrive.

Values.   `application/x-www-form-urlencoded`, at most 1 MiB and 1,000 fields.
Files.    `multipart/form-data` with one file, behind all other fields.  The file is never whole in memory.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from email.message import Message
from typing import Any, Final
from urllib.parse import parse_qsl

from multipart import MultipartError, MultipartSegment, PushMultipartParser

from oracle.api.admin.problems import Refusal

FIELDS_MAX: Final = 1_000
FIELD_BYTES_MAX: Final = 65_536  # of all fields before a file
URLENCODED: Final = "application/x-www-form-urlencoded"
MULTIPART: Final = "multipart/form-data"


class Form(Mapping[str, str]):
    """The fields of a form, or of a query.  A name that is not there has the value ''; one that is there several times,
    the last of its values.
    """

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self.pairs = list(pairs)
        self._last = dict(self.pairs)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Form:
        """Make a form of values that exist, for a page that changes them."""
        return cls([(name, str(value)) for name, value in values.items() if value not in (None, False)])

    def __getitem__(self, name: str) -> str:
        return self._last.get(name, "")

    def __contains__(self, name: object) -> bool:
        return name in self._last

    def __iter__(self) -> Iterator[str]:
        return iter(self._last)

    def __len__(self) -> int:
        return len(self._last)

    def text(self, name: str) -> str:
        """Return a value without the spaces around it; '': it is not there."""
        return self._last.get(name, "").strip()

    def list(self, name: str) -> list[str]:
        """List all values of a name, without empty ones."""
        return [value.strip() for key, value in self.pairs if key == name and value.strip()]

    def has(self, name: str) -> bool:
        """Whether a box is ticked."""
        return bool(self._last.get(name))


class Upload:
    """A file that arrives: its name, the fields before it, and its content, which can be read once."""

    def __init__(self, form: Form, file_name: str, content_type: str, pieces: AsyncIterator[bytes]) -> None:
        self.form = form
        self.file_name = file_name
        self.content_type = content_type
        self.pieces = pieces


def read_form(body: bytes, content_type: str) -> Form:
    """Raises Refusal."""
    if not body:
        return Form()
    if content_type.partition(";")[0].strip().lower() != URLENCODED:
        raise Refusal(415, "unsupported_media_type", "This is not a form", f"Send the form as {URLENCODED}")
    try:
        pairs = parse_qsl(
            body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=FIELDS_MAX, errors="replace"
        )
    except ValueError:
        raise Refusal(400, "invalid", "The form has too many fields", f"Send at most {FIELDS_MAX} fields") from None
    return Form(pairs)


async def read_upload(stream: AsyncIterator[bytes], content_type: str) -> Upload:
    """Read a form up to its file.  Raises Refusal, also while the file is read."""
    header = Message()
    header["content-type"] = content_type
    boundary = header.get_param("boundary")
    if header.get_content_type() != MULTIPART or not isinstance(boundary, str) or not boundary.isascii():
        raise Refusal(415, "unsupported_media_type", "This is not a form with a file", f"Send the form as {MULTIPART}")
    events = _parse(stream, boundary)
    pairs: list[tuple[str, str]] = []
    value, name, length = bytearray(), "", 0
    async for event in events:
        if isinstance(event, MultipartSegment):
            name, value = event.name, bytearray()
            if event.filename is not None:
                return Upload(
                    Form(pairs), event.filename[-255:], event.content_type or "application/octet-stream",
                    _read_file(events),
                )  # fmt: skip
        elif event is None:
            pairs.append((name, value.decode("utf-8", "replace")))
        else:
            value += event
            length += len(event)
        if length > FIELD_BYTES_MAX or len(pairs) > FIELDS_MAX:
            raise Refusal(413, "too_large", "The fields of the form are too long", "Send shorter texts")
    return Upload(Form(pairs), "", "", _read_nothing())


async def _parse(stream: AsyncIterator[bytes], boundary: str) -> AsyncIterator[Any]:
    try:
        with PushMultipartParser(boundary) as parser:
            async for piece in stream:
                for event in parser.parse(piece):
                    yield event
                if parser.closed:
                    return
    except MultipartError:
        raise Refusal(400, "invalid", "The form with the file is broken", "Send it again") from None


async def _read_file(events: AsyncIterator[Any]) -> AsyncIterator[bytes]:
    async for event in events:
        if event is None:
            return
        if not isinstance(event, MultipartSegment):
            yield bytes(event)


async def _read_nothing() -> AsyncIterator[bytes]:
    return
    yield b""
