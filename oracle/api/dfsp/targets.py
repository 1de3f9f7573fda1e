"""Reads the path and the method of a request: which operation it is, and about which party (section 1).

A trailing slash, an empty segment and a path that is not listed are an unknown URI.  A path that is listed, with
another method, is 405.  Segments are decoded exactly once.
"""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple
from urllib.parse import unquote_to_bytes

from oracle.api.dfsp.asked import Party, Resource
from oracle.api.dfsp.faults import Fault

Operation = Literal[
    "get_participant", "post_participant", "put_participant", "delete_participant", "put_participant_error",
    "post_participants", "put_participants", "put_participants_error",
    "get_party", "put_party", "put_party_error",
]  # fmt: skip


class Target(NamedTuple):
    operation: Operation
    resource: Resource
    party: Party | None  # None: of many parties
    query: bytes = b""

    @property
    def is_error(self) -> bool:
        return self.operation.endswith("_error")


_BAD_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_PARTY: Final[dict[str, dict[str, Operation]]] = {
    "participants": {
        "DELETE": "delete_participant",
        "GET": "get_participant",
        "POST": "post_participant",
        "PUT": "put_participant",
    },
    "parties": {"GET": "get_party", "PUT": "put_party"},
}
_PLAIN_SEGMENTS: Final = 4  # '', the resource, the type, the identifier
_PLAIN: Final[dict[tuple[str, bytes], tuple[Operation, Resource]]] = {
    ("GET", b"participants"): ("get_participant", "participants"),
    ("POST", b"participants"): ("post_participant", "participants"),
    ("GET", b"parties"): ("get_party", "parties"),
    ("PUT", b"parties"): ("put_party", "parties"),
}
_ERRORS: Final[dict[str, Operation]] = {"participants": "put_participant_error", "parties": "put_party_error"}
_ERROR: Final = b"error"


def read_target(method: str, target: bytes) -> Target:
    """Read a request about participants or parties.  Raises Fault: 400, 404 or 405."""
    path, _, query = target.partition(b"?")
    if b"%" in path:
        _check_encoding(path)
    segments = path.split(b"/")
    plain = _PLAIN.get((method, segments[1])) if len(segments) == _PLAIN_SEGMENTS else None
    if plain is not None and segments[2] and segments[3] not in (b"", _ERROR):  # nearly all requests
        return Target(*plain, _read_party(segments[2], segments[3]), query)
    first, *rest = segments[1:]
    resource: Resource
    if first == b"participants":
        resource = "participants"
    elif first == b"parties":
        resource = "parties"
    else:
        raise make_unknown()
    if b"" in rest:
        raise make_unknown()
    is_error = bool(rest) and rest[-1] == _ERROR and method == "PUT"
    match rest:
        case []:
            return Target(_read_many(method, resource), resource, None, query)
        case [_] if resource == "participants":
            _require(method, "PUT")
            return Target("put_participants", resource, None, query)
        case [_, b"error"] if resource == "participants" and is_error:
            return Target("put_participants_error", resource, None, query)
        case [kind, identifier, b"error"] if is_error:
            return Target(_ERRORS[resource], resource, _read_party(kind, identifier), query)
        case [kind, identifier, sub_id, b"error"]:
            _require(method, "PUT")
            return Target(_ERRORS[resource], resource, _read_party(kind, identifier, sub_id), query)
        case [kind, identifier] | [kind, identifier, _]:
            operations = _PARTY[resource]
            operation = operations.get(method)
            if operation is None:
                raise make_not_allowed(", ".join(operations))
            return Target(operation, resource, _read_party(kind, identifier, *rest[2:]), query)
    raise make_unknown()


def _read_many(method: str, resource: Resource) -> Operation:
    if resource == "parties":
        raise make_not_allowed("")
    _require(method, "POST")
    return "post_participants"


def _require(method: str, allowed: str) -> None:
    if method != allowed:
        raise make_not_allowed(allowed)


def _check_encoding(path: bytes) -> None:
    if _BAD_ESCAPE.search(path):
        raise Fault("3000", "Bad Request")
    try:
        unquote_to_bytes(path).decode()
    except UnicodeDecodeError:
        raise Fault("3000", "Bad Request") from None


def _read_party(kind: bytes, identifier: bytes, sub_id: bytes | None = None) -> Party:
    return Party(_decode(kind), _decode(identifier), None if sub_id is None else _decode(sub_id))


def _decode(segment: bytes) -> str:
    return (unquote_to_bytes(segment) if b"%" in segment else segment).decode()


def make_unknown() -> Fault:
    return Fault("3002", "Not Found", status=404)


def make_not_allowed(allowed: str) -> Fault:
    return Fault("3000", "Method Not Allowed", status=405, allowed=allowed)
