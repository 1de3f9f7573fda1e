"""The history of a run: calls, faults, the events of the directory, and the answers of every process at the end.

Times are those of time.monotonic() of the one machine on which all of it ran.  An owner is the id of an FSP; '' is
nobody.  Every registration is by an FSP of its own, so an answer says which registration it saw.
"""

from __future__ import annotations

from math import inf
from typing import Literal

import msgspec

NOBODY = ""
Kind = Literal["look", "register", "remove", "set"]
CallResult = Literal["ok", "refused", "unknown"]


class Call(msgspec.Struct):
    """`owner`: of a look the answer, of a change whom it makes or unmakes the owner.

    unknown: it can have happened, or happen, at any time after `start`, or never.  A look whose answer is unknown says
    nothing.  refused: it has not happened; `status` says what the directory had against it.
    """

    kind: Kind
    key: str
    owner: str
    start: float
    end: float
    outcome: CallResult
    where: str = ""
    status: int = 0


class Event(msgspec.Struct):
    """A line of the history in the database, in the order of the commits of its key (see checker)."""

    event_id: int
    key: str
    before: str
    after: str
    committed_at: float


class Fault(msgspec.Struct):
    """`recovered`: when every service was itself again; `promised_s`: how long after the end that may take."""

    kind: str
    target: str
    start: float
    end: float
    recovered: float


class Move(msgspec.Struct):
    """The generation was moved: when that was committed, and by which service."""

    at: float
    generation: int
    who: str


class Said(msgspec.Struct):
    """Whom somebody named as the owner of a key when all was over."""

    who: str
    key: str
    owner: str


class History(msgspec.Struct):
    seed: int
    calls: list[Call] = []
    events: list[Event] = []
    faults: list[Fault] = []
    said: list[Said] = []
    odd: list[str] = []  # what no fault explains: a status that is none of the contract's, a service that died
    moves: list[Move] = []
    calm: list[tuple[float, float]] = []  # when nothing failed: the generation did not move, and there was no fault
    overlapping_from: float = inf  # when faults began to overlap
