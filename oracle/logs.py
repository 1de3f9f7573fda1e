"""Structured logs: one JSON object a line on stderr, or text for a person at a terminal.

Use.       `log = logs.Log(__name__)`, then `log.warning("cache unreachable", server=..., exc=error)`: the event is a
           constant, what varies is a field.  Loggers of the standard library and their `extra` end up here as well.
Privacy.   A party identifier is personal data.  It is logged as `digest(...)` or not at all, never for a lookup.
           Exceptions are written as type, code and frames: their messages hold identifiers (PostgreSQL's
           `DETAIL: Key (identifier)=(...) already exists`, a driver's `invalid input ... $1: '...'`).
           Libraries that put requests or callback arguments into messages are cut down to their fixed words.
Quantity.  No line a request.  What can be wrong for a while is a `Condition`: said when it changes.
Loss.      A line that cannot be written is dropped: stderr is no reason to fail a payment.
"""

from __future__ import annotations

import errno
import json
import logging
import re
import secrets
import sys
import threading
import time
import traceback
from datetime import UTC, datetime
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, Literal, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

type_of_layout = Literal["auto", "json", "text"]
