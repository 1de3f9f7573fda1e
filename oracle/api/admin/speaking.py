"""What people read of an answer in the language of the caller: Spanish or Burmese where Accept-Language asks for it.

Problems.  Their `title`, `detail` and `hint`.  `type`, `status`, `code` and `field` stay.
Answers.   The members that are declared as `Sentence` (`oracle.sentences`): what is wrong with a row of a file, what is
           doubtful about an alias, why a lookup is answered so, what a verification found.  Those are in JSON; files
           of results, events and exports stay English, and have a `code` beside each text.

Everything within makes and keeps English, and here is the one place where it leaves: so also a problem of no route, and
an answer that was kept for an Idempotency-Key, which may be sent again in another language.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import inspect

from oracle.api.findings import translate_finding
from oracle.api.languages import SOURCE, choose, language
from oracle.api.texts import translate, translate_problem

if TYPE_CHECKING:
    from litestar.types import Message, Scope, Send

_PROBLEM: Final = b"application/problem+json"
_ANSWER: Final = b"application/json"
_PROBLEM_BYTES_MAX: Final = 65_536  # no problem is longer
_ANSWER_BYTES_MAX: Final = 4_194_304  # a page of the most rows has a quarter of it; what is longer stays English

# Where an answer has sentences: below these members, or (a kind of them) here.
Sentences = dict[str, "Sentences | str"]
_KINDS: Final[Mapping[str, Callable[[str], str]]] = {"text": translate, "finding": translate_finding}


def speak(send: Send, scope: Scope) -> Send:
    """Wrap `send`: it notes the language of what has texts for people, and translates them."""
    return _Speaker(send, scope).send


class _Speaker:
    """Sends one answer.  If it must be translated, it is held until its body is complete."""

    def __init__(self, send: Send, scope: Scope) -> None:
        wishes = [value for name, value in scope["headers"] if name == b"accept-language"]
        self._send = send
        self._scope = scope
        self._code = choose(b",".join(wishes).decode("latin-1")) if wishes else SOURCE
        self._work: Callable[[bytes], bytes | None] | None = None  # translates the body
        self._held: list[Any] = []  # the start of the answer, and its body

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._begin(message)
        elif self._held:
            self._held.append(message)
            if not message.get("more_body", False):
                await self._end()
        else:
            await self._send(message)

    async def _begin(self, start: Any) -> None:
        self._work = _choose_work(start, self._scope)
        vary = (b"vary", b"Accept-Language")
        if self._work is None:
            await self._send(start)
        elif self._code == SOURCE:
            start["headers"] = [*start["headers"], (b"content-language", SOURCE.encode()), vary]
            await self._send(start)
        else:
            start["headers"] = [*start["headers"], vary]
            self._held.append(start)

    async def _end(self) -> None:
        """Send the whole answer: translated, or in English if that does not work."""
        start, *parts = self._held
        self._held = []
        body = b"".join(part.get("body", b"") for part in parts)
        spoken = None if self._work is None else _translate(body, self._code, self._work)
        start["headers"].append((b"content-language", (SOURCE if spoken is None else self._code).encode()))
        if spoken is not None:
            start["headers"] = [*_without_length(start["headers"]), _write_length(spoken, start)]
        await self._send(start)
        body = body if spoken is None else spoken
        await self._send({"type": "http.response.body", "body": body, "more_body": False})


def _choose_work(start: Any, scope: Scope) -> Callable[[bytes], bytes | None] | None:
    """Return what translates the body of an answer; None: it has nothing for people."""
    media_type = next((value for name, value in start["headers"] if name.lower() == b"content-type"), b"")
    if media_type.startswith(_PROBLEM):
        return _translate_problem
    sentences = getattr(scope.get("route_handler"), "opt", {}).get("sentences")
    if not sentences or not media_type.startswith(_ANSWER):
        return None
    return lambda body: _translate_answer(body, sentences)


def _without_length(headers: Any) -> list[Any]:
    return [each for each in headers if each[0].lower() != b"content-length"]


def _write_length(body: bytes, start: Any) -> tuple[bytes, bytes]:
    """An answer to HEAD has no body: its length stays that of the English one."""
    english = next((value for name, value in start["headers"] if name.lower() == b"content-length"), b"0")
    return b"content-length", str(len(body)).encode() if body else english


def _translate(body: bytes, code: str, work: Callable[[bytes], bytes | None]) -> bytes | None:
    """Translate a body; None: it stays as it is."""
    before = language.set(code)
    try:
        return work(body)
    except (msgspec.DecodeError, RecursionError):
        return None
    finally:
        language.reset(before)


def _translate_problem(body: bytes) -> bytes | None:
    if len(body) > _PROBLEM_BYTES_MAX:
        return None
    return body and msgspec.json.encode(translate_problem(msgspec.json.decode(body, type=dict[str, Any])))


def _translate_answer(body: bytes, sentences: Sentences) -> bytes | None:
    if len(body) > _ANSWER_BYTES_MAX:
        return None
    if not body:
        return body
    found = msgspec.json.decode(body)
    _translate_members(found, sentences)
    return msgspec.json.encode(found)


def _translate_members(value: Any, sentences: Sentences) -> None:
    """Translate the sentences within a value, in their places."""
    if isinstance(value, list):
        for each in value:
            _translate_members(each, sentences)
    elif isinstance(value, dict):
        for name, below in sentences.items():
            if not isinstance(below, str):
                _translate_members(value.get(name), below)
            elif isinstance(value.get(name), str):
                value[name] = _KINDS[below](value[name])


def find_sentences(answers: Any) -> Sentences:
    """Find where a type of answers has sentences; empty: nowhere."""
    found = {} if answers is None else _find(inspect.type_info(answers), frozenset())
    return {} if isinstance(found, str) else found


def _find(info: inspect.Type, above: frozenset[type]) -> Sentences | str:
    """Return where a type has sentences, {} for nowhere, their kind if it is one."""
    if isinstance(info, inspect.Metadata):
        kind = (info.extra or {}).get("sentence")
        return kind or _find(info.type, above)
    if isinstance(info, inspect.UnionType):
        found = [_find(each, above) for each in info.types]
        kind = next((each for each in found if isinstance(each, str)), None)
        return kind or {name: below for each in found if isinstance(each, dict) for name, below in each.items()}
    if isinstance(info, inspect.ListType | inspect.VarTupleType):
        return _find(info.item_type, above)
    if isinstance(info, inspect.StructType) and info.cls not in above:
        below = {field.encode_name: _find(field.type, above | {info.cls}) for field in info.fields}
        return {name: each for name, each in below.items() if each}
    return {}
