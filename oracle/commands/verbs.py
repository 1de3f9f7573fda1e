"""How a command is declared and run; a command that calls the admin API runs with a client.

The key, or the token of an identity provider, is the first of: `--key-file`, ORACLE_KEY, ORACLE_KEY_FILE, the key that
`oracle key save` kept for the address in use (kept_keys).  A token is not kept, because it expires within minutes.
Neither is ever an argument, because everybody on the machine can read the arguments of a process.
"""
# ruff: noqa: PLC0415, T201 - imports as in cli; a command line prints

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from oracle.commands.failures import CommandError, Forbidden, Misused, make_error
from oracle.verifier.printable import escape_text

if TYPE_CHECKING:
    from oracle.commands.client import Client
    from oracle.settings import Settings

UNAUTHORIZED: Final = 401

LIMIT: Final = 100

Arguments = argparse.Namespace
Run = Callable[[Arguments], int | None]  # the exit code; None is OK
Work = Callable[["Client", Arguments], object]

ALL_KINDS: Final = "<kinds>"  # in a help text: all kinds of identifiers, see parser.explain_argument

CONNECTION_HELP: Final = (
    "Environment: ORACLE_ADMIN_URL is the address of the admin API (default: http://127.0.0.1:3001)."
    " ORACLE_KEY holds your key or a token of your identity provider, or ORACLE_KEY_FILE names the file with it"
    " (default: the key that `oracle key save` kept for this address)."
)


def require_consent(fact: str, question: str, nothing: str, *, yes: bool) -> None:
    """Ask the person at the terminal, unless they have agreed already (--yes).

    `fact` is a sentence; `nothing` says what did not happen.  Raises CommandError unless the person agrees.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise CommandError(f"{fact} {nothing[0].upper()}{nothing[1:]}. To agree, add --yes")
    print(escape_text(f"{fact} {question} [y/N]"), file=sys.stderr)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise CommandError(nothing)


def name_user() -> str:
    """Name the person who runs the command, as the machine knows them."""
    import getpass
    import os

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # the user of a container can be without a name
        return f"uid {os.getuid()}"


# Declare ----------------------------------------------------------------------------------------------------------


def add_command(commands: Any, name: str, run: Run, text: str, details: str = "") -> argparse.ArgumentParser:
    """Declare `oracle … NAME`; `text` is a phrase in the imperative, `details` are sentences below the options."""
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=make_sentence(text), epilog=details
    )
    # SUPPRESS: the default of this option must not overwrite a --config that was given before the command.
    command.add_argument(
        "--config", type=Path, metavar="FILE", default=argparse.SUPPRESS, help="file with settings (TOML)"
    )
    command.set_defaults(run=run, parser=command)
    return command


def add_call(
    commands: Any, name: str, work: Work, text: str, details: str = "", *, json: bool = True
) -> argparse.ArgumentParser:
    """Declare a command that calls the admin API.

    Without `json` its output is a file or nothing, and --json is for errors alone.
    """
    details = f"{details} {CONNECTION_HELP}".lstrip()
    parser = add_command(commands, name, partial(_run_local, partial(call_api, work)), text, details)
    add_connection(parser, json=json)
    return parser


def add_connection(parser: argparse.ArgumentParser, *, json: bool = True) -> None:
    """Declare the options that `call_api` reads."""
    parser.add_argument(
        "--key-file",
        type=Path,
        metavar="FILE",
        help="file that holds your key, or a token of your identity provider (default: see Environment below)",
    )
    parser.add_argument(
        "--ca-file", type=Path, metavar="FILE",
        help="file with the authorities to trust, for an address with https (default: ORACLE_COMMAND_CA_FILE)",
    )  # fmt: skip
    text = "print JSON, one object a line; also errors" if json else "print an error as JSON"
    parser.add_argument("--json", action="store_true", help=text)


def make_sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


class Verbs:
    """The commands `oracle NOUN VERB …` of one noun."""

    def __init__(self, commands: Any, noun: str, text: str) -> None:
        parser = commands.add_parser(noun, help=text, description=make_sentence(text))
        self._verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)

    def add_noun(self, noun: str, text: str) -> Verbs:
        """Declare a noun below this one, which has verbs of its own."""
        return Verbs(self._verbs, noun, text)

    def add(self, name: str, work: Work, text: str, details: str = "", *, json: bool = True) -> argparse.ArgumentParser:
        """Declare a verb that calls the API."""
        return add_call(self._verbs, name, work, text, details, json=json)

    def add_local(self, name: str, run: Run, text: str, details: str = "") -> argparse.ArgumentParser:
        """Declare a verb that does not call the API."""
        return add_command(self._verbs, name, partial(_run_local, run), text, details)


# Run --------------------------------------------------------------------------------------------------------------


def _run_local(run: Callable[[Arguments], object], arguments: Arguments) -> None:
    """Run it; a file that cannot be opened, read or written is an expected failure."""
    try:
        run(arguments)
    except OSError as exc:
        if exc.filename is None:
            raise
        raise CommandError(f"{exc.filename}: {exc.strerror}") from exc


def call_api(work: Work, arguments: Arguments) -> None:
    """Do it with a client of the admin API.  Raises CommandError."""
    with _open_client(arguments) as client:
        work(client, arguments)


@contextmanager
def _open_client(arguments: Arguments) -> Iterator[Client]:
    from oracle.commands.certificates import make_context
    from oracle.commands.client import Client, ClientError
    from oracle.commands.database import load_settings

    settings = load_settings(arguments).settings
    key, source = _read_key(settings, arguments.key_file)
    try:
        given = _list_given(arguments)
        tls = make_context(settings, arguments.ca_file)
        with Client(settings.admin_address, key, key_source=source, tls=tls, given=given) as client:
            yield client
    except ClientError as exc:
        if exc.status != UNAUTHORIZED:
            raise make_error(exc.message, exc.hint, exc.code, exc.status, exc.exit_code) from exc
        # In place of the server's hint, which is about a header.
        hint = _explain_unaccepted(settings.admin_address, key, source, exc.code)
        raise Forbidden(exc.message, hint, code=exc.code, status=exc.status) from exc


def _explain_unaccepted(address: str, secret: str, source: str, code: str) -> str:
    from oracle.commands.kept_keys import is_token

    if not is_token(secret):
        fact = f"{address} does not accept the key in {source}: it is unknown there, expired or revoked."
        return f"{fact} Ask an operator for a new one"
    if code == "unauthorized":
        fact = f"{address} accepts no tokens of identity providers, and {source} has one."
        return f"{fact} Use a key, or ask the operator of the service to add oidc to ORACLE_ADMIN_AUTH"
    return f"{address} does not accept the token in {source}. Get a new token from your identity provider, or use a key"


def _list_given(arguments: Arguments) -> dict[str, object]:
    """Return the options and arguments that the command has, by name, and what was typed for each."""
    actions = arguments.parser._actions  # noqa: SLF001 - argparse has no public way to list them
    names = ((name, action.dest) for action in actions for name in action.option_strings or [str(action.metavar)])
    return {name: getattr(arguments, dest, None) for name, dest in names}


# The key -----------------------------------------------------------------------------------------------------------


def _read_key(settings: Settings, named: Path | None) -> tuple[str, str]:
    """Return the key, and the source it was read from.  Raises CommandError and OSError."""
    from oracle.commands import kept_keys

    if named is None and settings.key is not None:
        return kept_keys.parse_secret(settings.key, "ORACLE_KEY"), "ORACLE_KEY"
    file = named or settings.key_file
    if file is not None:
        return kept_keys.read_named(file), str(file)
    path = kept_keys.find_path(settings.admin_address)
    try:
        return kept_keys.read_kept(path), str(path)
    except FileNotFoundError:
        raise _make_no_key(settings) from None


def _make_no_key(settings: Settings) -> Forbidden:
    from oracle.commands.kept_keys import quote_word

    fact = f"no key is kept for {settings.admin_address}"
    old = settings.data_dir / "admin.key"
    if old.is_file():
        return Forbidden(
            fact,
            f"An older version kept a key in {old}, without its address. If it is the key for this address,"
            f" type: oracle key save < {quote_word(old)} && rm {quote_word(old)}",
        )
    return Forbidden(
        fact,
        "Save your key with `oracle key save`, or set ORACLE_KEY_FILE to the file that holds it."
        " Is the address wrong? ORACLE_ADMIN_URL sets it",
    )


# Arguments --------------------------------------------------------------------------------------------------------

REASON: Final = "why; history keeps this text"


def add_limit(parser: argparse.ArgumentParser, all_help: str = "show all items") -> None:
    parser.add_argument(
        "--limit", type=parse_number, default=LIMIT, metavar="N",
        help=f"show at most N items (default: {LIMIT}; 0: all)",
    )  # fmt: skip
    parser.add_argument("--all", dest="limit", action="store_const", const=0, help=all_help)


def add_fsp(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--fsp", metavar="FSP", help="id of the FSP (default: the FSP of your key)")


def add_by(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument(
        "--by", metavar="PERSON",
        help=f"{text}: a name such as Ana or 'Ana (maker of bluebank)', a part of it, or the id of a key",
    )  # fmt: skip


def add_if_match(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--if-match", metavar="VERSION", help="change it only if this is still its version, as `show` prints it"
    )


def add_country(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--country", type=parse_country, metavar="CC",
        help="country of a phone number without country code, for example MX",
    )  # fmt: skip


def parse_country(text: str) -> str:
    """Read a country code.  Raises ArgumentTypeError."""
    from oracle.countries import explain_country, is_country

    country = text.strip().upper()
    if not is_country(country):
        raise argparse.ArgumentTypeError(f"there is no country {text!r}. {explain_country(country)}")
    return country


def add_as_stored(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--as-stored",
        action="store_true",
        help="search for IDENTIFIER exactly as written: an older version may have stored it in another spelling",
    )


def add_sub(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sub", metavar="SUB_ID", help="the SubId (partySubIdOrType), if the identifier has one")


def add_kind(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", type=str.upper, metavar="KIND", help=f"kind of the identifier: {ALL_KINDS}")


def add_party(parser: argparse.ArgumentParser) -> None:
    """KIND and IDENTIFIER, --sub and --country."""
    add_kind(parser)
    parser.add_argument("identifier", metavar="IDENTIFIER", help="in any spelling of its kind")
    add_sub(parser)
    add_country(parser)


def find_fsp(client: Client, arguments: Arguments) -> str:
    """Return the FSP of --fsp, else that of the key."""
    fsp_id: str | None = arguments.fsp or client.me["fspId"]
    if fsp_id is None:
        raise Misused("add --fsp FSP: your key does not belong to one FSP")
    return fsp_id


def parse_number(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return int(text)


def parse_list(text: str) -> list[str]:
    """Read `MXN,USD`; `none` is the empty list."""
    return [word.strip() for word in text.split(",") if word.strip()] if text != "none" else []


def parse_time(text: str) -> str:
    """RFC 3339; a time without an offset is UTC, a date its beginning; `90d` and `12h` count from now on."""
    return _parse_time(text, 1)


def parse_past_time(text: str) -> str:
    """Do the same for commands that look back: `90d` and `12h` ago."""
    return _parse_time(text, -1)


def parse_time_or_never(text: str) -> str:
    return text if text == "never" else parse_time(text)


def _parse_time(text: str, sign: int) -> str:
    distance = re.fullmatch(r"([0-9]{1,5})([dh])", text)
    if distance:
        hours = sign * int(distance[1]) * (24 if distance[2] == "d" else 1)
        return (datetime.now(UTC) + timedelta(hours=hours)).isoformat(timespec="seconds")
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a valid time; examples: 2027-01-31T10:00:00Z, 2027-01-31, 90d, 12h"
        ) from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).isoformat()
