"""Pages of lists: how many items, where the next page begins, and the link to it.

A cursor holds the position behind the last item of a page.  A position can hold an identifier, and cursors are in URLs,
which many programs write down: so each cursor is encrypted under the secret of its caller.  It is bound to the filters
of the list: with other filters its position would mean nothing.

    cursors = Cursors(call.caller, "aliases", fsp_id, kind)
    position = cursors.open(cursor, Position)      # None: the first page
    page = AliasPage(items=…, next=cursors.close(last))
    return call.read_page(page)                    # with Link: <?…&cursor=…>; rel="next"
"""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import msgspec
from litestar.params import QueryParameter

from oracle.api.admin.encryption import CallerCipher, NotReadable
from oracle.api.admin.problems import Refusal

if TYPE_CHECKING:
    from oracle.api.admin.callers import Caller

P = TypeVar("P")

PAGE: Final = 100
PAGE_MAX: Final = 1_000
Limit = Annotated[int, QueryParameter(ge=1, le=PAGE_MAX, description="The largest number of items of a page")]
Cursor = Annotated[
    str | None, QueryParameter(description="`next` of the page before, with the same filters and the same key")
]


class Cursors:
    """The cursors of one list, as one caller sees it."""

    def __init__(self, caller: Caller, name: str, *filters: Any) -> None:
        """`name` is that of the list; `filters` are all that choose its items, in a form that msgpack has."""
        self._cipher = CallerCipher(caller.secret, "cursor")
        self._context = hashlib.sha256(msgspec.msgpack.encode((name, filters))).digest()

    def close(self, position: Any) -> str:
        """Encode a position, any value that msgspec can encode, as a cursor."""
        encrypted = self._cipher.encrypt(msgspec.msgpack.encode(position), self._context)
        return base64.urlsafe_b64encode(encrypted).rstrip(b"=").decode()

    def open(self, cursor: str | None, of: type[P]) -> P | None:
        """Decode the position of a cursor; None without a cursor.  Raises Refusal."""
        if cursor is None:
            return None
        try:
            encrypted = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
            return msgspec.msgpack.decode(self._cipher.decrypt(encrypted, self._context), type=of)
        except (NotReadable, ValueError, msgspec.DecodeError):
            raise Refusal(
                400, "invalid", "The cursor is not valid",
                "Use `next` of the page before, with the same filters and the same key", field="cursor",
            ) from None  # fmt: skip
