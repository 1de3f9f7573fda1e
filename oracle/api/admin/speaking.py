"""Problems in the language of the caller: Spanish or Burmese where Accept-Language asks for it, else English.

Everything within makes problems in English, and here is the one place where they leave: so also a problem of no route,
and one that was kept for an Idempotency-Key, which may be sent again in another language.  `type`, `status`, `code` and
`field` stay.  The texts within answers of 200 (of rows and items) stay English.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from oracle.api.languages import SOURCE, choose, language
from oracle.api.texts import translate_problem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from litestar.types import Message, Send

_PROBLEM: Final = b"application/problem+json"
_BYTES_MAX: Final = 65_536  # no problem is longer


def speak(send: Send, headers: Iterable[tuple[bytes, bytes]]) -> Send:
    """Wrap `send`: it notes the language of each problem, and translates its texts."""
    wishes = [value for name, value in headers if name == b"accept-language"]
    code = choose(b",".join(wishes).decode("latin-1")) if wishes else SOURCE
    held: list[Any] = []  # the start of a problem, and its body

    async def send_spoken(message: Message) -> None:
        if message["type"] == "http.response.start" and _is_problem(message["headers"]):
            message["headers"] = [
                *message["headers"], (b"content-language", code.encode()), (b"vary", b"Accept-Language"),
            ]  # fmt: skip
            if code != SOURCE:
                held.append(message)
                return
        elif held:
            held.append(message)
            if message.get("more_body", False):
                return
            start, *parts = held
            held.clear()
            spoken = _translate(b"".join(part.get("body", b"") for part in parts), code)
            start["headers"] = [*_without_length(start["headers"]), _write_length(spoken, start)]
            await send(start)
            await send({"type": "http.response.body", "body": spoken, "more_body": False})
            return
        await send(message)

    return send_spoken


def _is_problem(headers: Any) -> bool:
    return any(name.lower() == b"content-type" and value.startswith(_PROBLEM) for name, value in headers)


def _without_length(headers: Any) -> list[Any]:
    return [each for each in headers if each[0].lower() != b"content-length"]


def _write_length(body: bytes, start: Any) -> tuple[bytes, bytes]:
    """An answer to HEAD has no body: its length stays that of the English one."""
    english = next((value for name, value in start["headers"] if name.lower() == b"content-length"), b"0")
    return b"content-length", str(len(body)).encode() if body else english


def _translate(body: bytes, code: str) -> bytes:
    if not 0 < len(body) <= _BYTES_MAX:
        return body
    try:
        problem = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        return body
    before = language.set(code)
    try:
        return msgspec.json.encode(translate_problem(problem))
    finally:
        language.reset(before)
