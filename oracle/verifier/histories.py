"""Compares exports with one another and with checkpoints that somebody kept: are they all of one history?

Claims.   Each export shows the root of its log at some sizes: that of its checkpoint, those within its range, and the
          one that its proof `since` begins with.  Two roots of one size mean that a history was rewritten.
Links.    A log contains another one if it shows the root of that one's checkpoint.  All exports must be contained in
          the newest, or be connected with it by a checkpoint that somebody kept.
Keys.     A kept checkpoint also confirms the keys of an export: the one that signed it, and those connected with it by
          statements that both keys signed (`checkpoint.Trust`).  Without a key and without one, nothing confirms them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from . import merkle
from .verdict import Finding, Voucher

Claims = dict[int, bytes]  # the root of the log at a size


class Kept(NamedTuple):
    size: int
    root: bytes


class History(NamedTuple):
    """What an export shows of the log: leaves [begin, end), under a checkpoint of `size` leaves."""

    name: str
    origin: str
    begin: int
    end: int
    size: int
    claims: Claims
    since: tuple[int, Sequence[bytes]] | None
    is_sound: bool  # its lines are those that were sealed

    def contains(self, size: int, root: bytes) -> bool:
        return self.claims.get(size) == root


def compare_histories(
    histories: Sequence[History], kept: Sequence[Kept], *, by_key: bool
) -> tuple[list[Finding], tuple[Voucher, ...]]:
    """Return the contradictions and what is missing, and what confirms these exports."""
    vouchers: tuple[Voucher, ...] = ("key",) if by_key else ()
    origins = {each.origin for each in histories}
    if len(origins) > 1:
        return [Finding("mixed", "these exports are of different directories: check each of them alone")], vouchers
    found = [*_follow_proofs(histories, kept), *_find_contradictions(histories, kept), *_find_gaps(histories)]
    if all(each.is_sound for each in histories) and not any(each.kind == "rewritten" for each in found):
        unlinked = [*_find_unlinked(histories, kept)]
        found += unlinked
        if kept and not unlinked:
            vouchers = (*vouchers, "checkpoint")
    return found, vouchers


def _follow_proofs(histories: Sequence[History], kept: Sequence[Kept]) -> Iterator[Finding]:
    """Add the claims that follow from the proofs `since`."""
    roots: dict[int, set[bytes]] = {}
    for size, root in [*kept, *(claim for each in histories for claim in each.claims.items())]:
        roots.setdefault(size, set()).add(root)
    for each in histories:
        size, proof = each.since or (0, ())
        if each.since is None or size in each.claims or each.size not in each.claims:
            continue
        for root in roots.get(size, ()):
            if merkle.verify_consistency(size, each.size, root, each.claims[each.size], proof):
                each.claims[size] = root
        if size in roots and size not in each.claims:
            yield Finding("rewritten", f"{each.name} does not prove that it extends the checkpoint of {size} leaves")


def _find_contradictions(histories: Sequence[History], kept: Sequence[Kept]) -> Iterator[Finding]:
    for checkpoint in kept:
        for each in histories:
            if each.claims.get(checkpoint.size, checkpoint.root) != checkpoint.root:
                log = "the log" if len(histories) == 1 else f"the log of {each.name}"
                yield Finding("rewritten", f"{log} does not extend the checkpoint of {checkpoint.size} leaves")
    for checkpoint in kept:
        if any(other.size == checkpoint.size and other.root != checkpoint.root for other in kept):
            yield Finding("rewritten", f"two roots were signed for {checkpoint.size} leaves")
            break
    for number, each in enumerate(histories):
        for other in histories[:number]:
            common = each.claims.keys() & other.claims.keys()
            differing = [size for size in common if each.claims[size] != other.claims[size]]
            if differing:
                yield Finding("rewritten", f"{other.name} and {each.name} differ in the first {min(differing)} leaves")


def _find_gaps(histories: Sequence[History]) -> Iterator[Finding]:
    ranges = sorted((each.begin, each.end) for each in histories if each.begin < each.end)
    reached = ranges[0][0] if ranges else 0
    for begin, end in ranges:
        if begin > reached:
            missing = f"leaf {reached} is" if begin == reached + 1 else f"leaves {reached} to {begin - 1} are"
            yield Finding("gap", f"{missing} in none of these exports")
        reached = max(reached, end)


def _find_unlinked(histories: Sequence[History], kept: Sequence[Kept]) -> Iterator[Finding]:
    newest = max(histories, key=lambda each: each.size)
    reached = [_reach(each, histories) for each in histories]
    for checkpoint in kept:
        if checkpoint.size > newest.size:
            yield Finding(
                "shorter",
                f"the checkpoint that you kept has {checkpoint.size} leaves, but this log has only {newest.size}."
                " If the export is newer, the end of the log was cut off. If it is older, get a newer one",
            )
        elif not any(each.contains(*checkpoint) for each in histories):
            yield Finding(
                "unproved",
                f"the export has no proof from {checkpoint.size} leaves on: fetch it again, with"
                " `oracle audit fetch DIR --since` and that checkpoint",
            )
    for each, logs in zip(histories, reached, strict=True):
        if newest in logs or any(_vouches(checkpoint, each, logs) and newest.contains(*checkpoint)
                                 for checkpoint in kept):  # fmt: skip
            continue
        yield Finding(
            "unproved",
            f"nothing shows that {each.name} and {newest.name} are of one history: fetch the newer one again, with"
            f" `oracle audit fetch DIR --since {each.name}`",
        )


def _vouches(checkpoint: Kept, history: History, logs: Sequence[History]) -> bool:
    """Whether all leaves of the range are below the checkpoint, in a log that contains both."""
    return history.end <= checkpoint.size and any(each.contains(*checkpoint) for each in logs)


def _reach(history: History, histories: Sequence[History]) -> list[History]:
    """Return this log, and all logs that contain it, directly or by others."""
    found, rest = [history], [each for each in histories if each is not history]
    for each in found:  # grows
        if each.size not in each.claims:
            continue
        containing = [other for other in rest if other.contains(each.size, each.claims[each.size])]
        found += containing
        rest = [other for other in rest if other not in containing]
    return found
