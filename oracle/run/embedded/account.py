"""The user account that PostgreSQL runs under: ours, or another one when we are root, which it refuses.

Owner.     Root runs PostgreSQL as the owner of the data, and as `nobody` where root owns it; the data then
           becomes nobody's.
Closed.    That user may be unable to enter a directory above the data or above the binaries: /root has mode 0700,
           and so can a home with the virtual environment in it.  A second account then keeps one capability,
           DAC_OVERRIDE, to enter them; containers grant it to root by default.  no_setuid_fixup goes with it:
           PostgreSQL looks for its own files with access(2), which ignores a user's capabilities otherwise.
Choice.    By trial: PostgreSQL prints a setting.  The first account that manages this gets the work.
"""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from oracle.run.embedded.errors import POSTGRES_REMEDY, EmbeddedError, add_remedy
from oracle.run.embedded.process import find_complaint

TRIAL_S: Final = 30.0  # a cold disk reads the binaries slowly

_CHANGE_USER: Final = "setpriv --reuid {uid} --regid {gid} --clear-groups"
_PLAIN: Final = "--inh-caps=-all"
_ENTERS_CLOSED: Final = (
    "--inh-caps=-all,+dac_override --ambient-caps=-all,+dac_override --bounding-set=-all,+dac_override"
    " --securebits +no_setuid_fixup"
)


class Account(NamedTuple):
    """The command prefix that becomes this user, and the user and group ids (None: we keep ours)."""

    prefix: tuple[str, ...] = ()
    owner: tuple[int, int] | None = None

    def take_over(self, path: Path) -> None:
        """Give this user one of our directories with all that is in it."""
        if self.owner is None or path.stat().st_uid == self.owner[0]:
            return
        for each in (path, *path.rglob("*")):
            os.chown(each, *self.owner, follow_symlinks=False)


ListAccounts = Callable[[os.stat_result], Sequence[Account]]


def list_accounts(owner: os.stat_result) -> list[Account]:
    """List the accounts that can run PostgreSQL on data of this owner, the least privileged first."""
    if os.geteuid() != 0:
        return [Account()]
    uid, gid = owner.st_uid, owner.st_gid
    if uid == 0:
        nobody = pwd.getpwnam("nobody")
        uid, gid = nobody.pw_uid, nobody.pw_gid
    change = _CHANGE_USER.format(uid=uid, gid=gid)
    return [Account(tuple(f"{change} {rights} --".split()), (uid, gid)) for rights in (_PLAIN, _ENTERS_CLOSED)]


def choose_account(accounts: Sequence[Account], binaries: Path, data: Path) -> Account:
    """Return the first account that reaches the binaries and the data.  Raises EmbeddedError."""
    _check_is_known(accounts[0].owner[0] if accounts[0].owner else os.geteuid())
    question = [str(binaries / "postgres"), "-D", str(data), "-c", "config_file=/dev/null", "-C", "data_directory"]
    answer = ""
    for account in accounts:
        answer = try_command([*account.prefix, *question])
        if str(data) in answer.splitlines():
            return account
    if os.geteuid() != 0:
        raise EmbeddedError(f"PostgreSQL cannot use {data}: {add_remedy(find_complaint(answer))}")
    raise EmbeddedError(
        "PostgreSQL does not run as root, and the oracle cannot start it as another user"
        f" ({find_complaint(answer)}): run the oracle as a plain user, or {POSTGRES_REMEDY.partition(', or ')[2]}"
    )


def _check_is_known(uid: int) -> None:
    """Check that the user has a name, which PostgreSQL asks for; a container can run as any number."""
    try:
        pwd.getpwuid(uid)
    except KeyError:
        raise EmbeddedError(
            f"PostgreSQL does not run as user {uid}, who has no line in /etc/passwd: run the oracle as another user, or"
            f" {POSTGRES_REMEDY.partition(', or ')[2]}"
        ) from None


def try_command(command: Sequence[str]) -> str:
    """Run a short command and return what it printed, or why it could not run."""
    try:
        outcome = subprocess.run(
            command,
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TRIAL_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        return str(exc)
    return outcome.stdout + outcome.stderr
