"""What a check found, and what confirms it."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from .checkpoint import Verifier

Voucher = Literal["key", "checkpoint"]

# More than so many differences are counted, not listed.
LISTED_MAX: Final = 1_000


class Finding(NamedTuple):
    """A difference from what was sealed: what, and where."""

    kind: str
    where: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.where}"


class Verdict(NamedTuple):
    """`vouchers`: what the person gave that confirms the files.  Without one, anybody can have made them."""

    findings: list[Finding]
    leaves: int = 0
    notes: tuple[str, ...] = ()
    vouchers: tuple[Voucher, ...] = ()
    signers: tuple[str, ...] = ()  # vkeys that signed the checkpoints of the files

    @property
    def is_verified(self) -> bool:
        return not self.findings and bool(self.vouchers)


def explain(verdict: Verdict, subject: str, these: str) -> list[str]:
    """Say what is proven, and by what; `these` are the files."""
    if verdict.findings:
        count = len(verdict.findings)
        return [
            f"NOT VERIFIED: {count:,} {'finding' if count == 1 else 'findings'}. Keep all files as they are.",
            "  Then get them again and compare: a copy can be damaged on its way.",
        ]
    ids = ", ".join(Verifier.of(vkey).key_id.hex() for vkey in verdict.signers)
    if not verdict.vouchers:
        lines = [f"NOT VERIFIED: no error was found, but nothing confirms who made {these}."]
        if verdict.signers:
            lines += [f"  The only key is in {these}: {vkey}" for vkey in verdict.signers]
        return [
            *lines,
            "  Anybody can make such files with a key of their own. Get the public key in another way, for example",
            "  from another auditor or by telephone. Then give it with --key, or a checkpoint with --checkpoint.",
        ]
    lines = [f"VERIFIED: {subject}."]
    if "key" in verdict.vouchers:
        lines.append(f"  A key that you gave confirms the signature (key id {ids}).")
    elif ids:
        lines.append(f"  The signature (key id {ids}) comes from the same owner as the checkpoint that you kept.")
    else:
        lines.append("  No key was given: the signature was not checked.")
    if "checkpoint" in verdict.vouchers:
        lines.append("  The history is that of the checkpoint that you kept: nobody has rewritten it since then.")
    else:
        lines += [
            "  No checkpoint was given: the owner of the key could show another history to others. To exclude this,",
            "  give a checkpoint that you kept (--checkpoint), and compare checkpoints with other auditors.",
        ]
    return lines
