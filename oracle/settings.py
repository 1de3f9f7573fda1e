"""What an operator can choose: `ORACLE_*` environment variables over a TOML file over the defaults.

Names.     A field `hub_port` is ORACLE_HUB_PORT in the environment and `hub_port` in the file.
Reading.   `load` is the only reader of the environment, and only the command line calls it.
Problems.  All of them are collected, each with its name, what is wrong and what is allowed.  A name that
           nobody knows is one too, else a misspelled setting would silently stay at its default.
Secrets.   Passwords in URLs and the digest key are in no message, no repr and no rendering.
Empty.     A value of nothing is no value: compose files write that for an absent one.
Foreign.   Two others name variables ORACLE_*: the clients of a certain database product, and Kubernetes,
           which gives every pod the addresses of a Service called `oracle` (and for one called `oracle-hub`
           an ORACLE_HUB_PORT that is a URL).  Both are left alone.
"""

from __future__ import annotations

import re
import tomllib
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NamedTuple, Protocol, get_type_hints

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

Source = Literal["default", "file", "environment"]

PREFIX: Final = "ORACLE_"
MASK: Final = "***"

_FOREIGN_NAMES = frozenset(
    f"{PREFIX}{name}" for name in ("BASE", "HOME", "HOSTNAME", "OWNER", "PDB_SID", "SID", "TERM", "UNQNAME")
)
_KUBERNETES_NAME = re.compile(r"ORACLE(_\w+)?_(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)")
_KUBERNETES_PORT = re.compile(r"(tcp|udp|sctp)://")


class SettingsError(Exception):
    """Every problem that was found, one line each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


# How a value is read from text ----------------------------------------------------------------------------


class Reader(Protocol):
    """Text to value and back.  A ValueError says what is wrong, without the value where that is secret."""

    @property
    def allowed(self) -> str: ...
    def read(self, text: str) -> object: ...
    def shown(self, value: Any) -> str: ...


class _Plain:
    def shown(self, value: Any) -> str:
        return str(value)


class Whole(_Plain):
    def __init__(self, least: int, most: int) -> None:
        self.least, self.most = least, most
        self.allowed = f"a whole number from {least} to {most}"

    def read(self, text: str) -> int:
        # Not int() alone, which takes `1_000` and digits of every script.
        if not re.fullmatch(r"-?[0-9]{1,18}", text):
            raise ValueError(f"{_quoted(text)} is not a whole number")
        if not self.least <= int(text) <= self.most:
            raise ValueError(f"{text} is out of range")
        return int(text)


class Share(_Plain):
    allowed = "a number from 0 to 1"

    def read(self, text: str) -> float:
        if not re.fullmatch(r"[0-9]*\.?[0-9]+(e-?[0-9]{1,2})?", text) or float(text) > 1:
            raise ValueError(f"{_quoted(text)} is not such a number")
        return float(text)


class OneOf(_Plain):
    def __init__(self, *words: str) -> None:
        self.words = words
        self.allowed = f"one of {', '.join(words)}"

    def read(self, text: str) -> str:
        if text not in self.words:
            raise ValueError(f"{_quoted(text)} is not known")
        return text


class Matching(_Plain):
    def __init__(self, pattern: str, allowed: str) -> None:
        self.pattern, self.allowed = re.compile(pattern), allowed

    def read(self, text: str) -> str:
        if not self.pattern.fullmatch(text):
            raise ValueError(f"{_quoted(text)} is not of that form")
        return text


class Countries:
    allowed = "two-letter country codes, separated by commas"

    def read(self, text: str) -> tuple[str, ...]:
        codes = tuple(code.strip().upper() for code in text.split(","))
        for code in codes:
            if not re.fullmatch(r"[A-Z]{2}", code):
                raise ValueError(f"{_quoted(code)} is not a country code")
        return tuple(dict.fromkeys(codes))

    def shown(self, value: tuple[str, ...]) -> str:
        return ",".join(value)


class Networks:
    allowed = "addresses or networks, separated by commas"

    def read(self, text: str) -> tuple[str, ...]:
        networks = tuple(network.strip() for network in text.split(",") if network.strip())
        for network in networks:
            try:
                ip_network(network)
            except ValueError:
                raise ValueError(f"{_quoted(network)} is not an address or a network") from None
        return networks

    def shown(self, value: tuple[str, ...]) -> str:
        return ",".join(value)


class Directory(_Plain):
    allowed = "a path"

    def read(self, text: str) -> Path:
        if "\0" in text:
            raise ValueError("it holds a zero byte")
        return Path(text).expanduser()


class Url:
    """A URL that may hold a password, so no message repeats any of it."""

    def __init__(self, *schemes: str) -> None:
        self.schemes = schemes
        self.allowed = f"a URL that begins with {' or '.join(f'{scheme}://' for scheme in schemes)}"

    def read(self, text: str) -> str:
        scheme, separator, rest = text.partition("://")
        if not separator or scheme not in self.schemes:
            raise ValueError("it does not begin so")
        if not rest or re.search(r"[\s\x00-\x1f\x7f]", rest):
            raise ValueError("it is empty behind the scheme, or has spaces in it")
        # `u:p/w@host` ends the host part at the slash: half the password would pass for a port, in messages.
        if "@" in rest and "@" not in re.split(r"[/?#]", rest, maxsplit=1)[0]:
            raise ValueError(
                "a user name or password in it has one of / ? # [ ]: write that as %2F, %3F, %23, %5B, %5D"
            )
        return text

    def shown(self, value: str) -> str:
        return url_masked(value)


class Address(Url):
    """One that is called with a key: a user in it would be sent in the key's place."""

    def read(self, text: str) -> str:
        if "@" in super().read(text).partition("://")[2]:
            raise ValueError("it has a user in it")
        return text


class Secret:
    def __init__(self, length_min: int) -> None:
        self.length_min = length_min
        self.allowed = f"at least {length_min} characters"

    def read(self, text: str) -> str:
        if len(text) < self.length_min:
            raise ValueError("it is too short")
        return text

    def shown(self, value: str) -> str:  # noqa: ARG002 - the point of it
        return MASK


def url_masked(url: str) -> str:
    """The URL without passwords: those before the last @, and query members that are named like one."""
    masked = re.sub(r"^([^:]*://[^:@]*):.*@", rf"\1:{MASK}@", url, flags=re.DOTALL)
    return re.sub(r"([?&][^=&]*(?:passw|secret|token)[^=&]*=)[^&]*", rf"\1{MASK}", masked, flags=re.IGNORECASE)


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]}…")  # noqa: PLR2004 - one line


# The settings ---------------------------------------------------------------------------------------------

_Port = Annotated[int, Whole(0, 65_535)]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All of them; `Settings()` is the zero-configuration start.  Each default has its reason."""

    # Absent: a PostgreSQL (a Valkey) of our own under data_dir.  A PostgreSQL URL may name several hosts.
    database_url: Annotated[str | None, Url("postgresql", "postgres")] = None
    # The owner of the tables, for migrations alone: then database_url can be a role that cannot change history.
    database_owner_url: Annotated[str | None, Url("postgresql", "postgres")] = None
    redis_url: Annotated[
        str | None,
        Url("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster"),
    ] = None
    # Beside the working directory: what `serve` makes on a laptop is seen, and goes when the directory goes.
    data_dir: Annotated[Path, Directory()] = Path(".oracle")

    # Absent: <data_dir>/audit-keys/signing.keys.  Named where several machines seal history: all need the same keys.
    audit_key_file: Annotated[Path | None, Directory()] = None

    # Loopback: a first start on a laptop opens nothing to the network.  A container image sets 0.0.0.0.
    host: Annotated[str, Matching(r"[A-Za-z0-9.:_-]{1,253}", "an address or a host name")] = "127.0.0.1"
    # Absent: the admin listener on this machine, at its port.  For the commands that call it from anywhere else.
    admin_url: Annotated[str | None, Address("http", "https")] = None
    # What these commands call with.  Better a file than the environment, which more can read; never an argument.
    key: Annotated[str | None, Secret(16)] = None
    # Absent: <data_dir>/admin.key, which `oracle key save` writes.
    key_file: Annotated[Path | None, Directory()] = None
    # Proxies in front of the admin listener.  Of theirs X-Forwarded-For is believed; else all that come through one are
    # one caller, and who fails too often would lock out the others.
    admin_proxies: Annotated[tuple[str, ...], Networks()] = ()
    # 0 is any free port, for tests.
    hub_port: _Port = 3000
    admin_port: _Port = 3001
    # Processes that answer the hub.  One answers 10,000s of lookups a second; more than cores is waste.
    workers: Annotated[int, Whole(1, 256)] = 1

    # The two whose numbering plans are known in full.  Without MM a PERSONAL_ID is never read as an NRC.
    home_countries: Annotated[tuple[str, ...], Countries()] = ("MX", "MM")
    # any: one random 18-digit account in ten has a good CLABE check digit, so nothing is guessed.
    account_id_format: Annotated[Literal["any", "clabe"], OneOf("any", "clabe")] = "any"
    # auto: the hub knows its FSPs; asking for each of them twice would only fail first registrations.
    fsp_registration: Annotated[Literal["auto", "required"], OneOf("auto", "required")] = "auto"

    # Changes reach copies by protocol (see store/coherence.py); this bounds what two failures at once may do.
    cache_ttl_s: Annotated[int, Whole(1, 86_400)] = 300
    # Shorter, because anyone can ask for numbers that nobody has, and each takes memory.
    cache_negative_ttl_s: Annotated[int, Whole(1, 86_400)] = 60
    # A Redis in the same network answers in under 1 ms; one that takes 50 is slower than asking PostgreSQL.
    cache_timeout_ms: Annotated[int, Whole(1, 10_000)] = 50
    # The first part of every key, for a Redis that is shared with other programs.
    cache_prefix: Annotated[str, Matching(r"[A-Za-z0-9._-]{1,32}", "1 to 32 letters, digits, . _ -")] = "oracle"

    # The hub gives up after 20 s.  A lookup is one read; after a second the answer "try again" is worth more.
    lookup_timeout_ms: Annotated[int, Whole(10, 20_000)] = 1_000
    # The whole call, with a bulk of 10,000; its commit has a bound of its own.  Below the hub's 20 s, so that
    # the hub hears of a failure; above the 3 s that a change may take while Redis is away.
    change_timeout_ms: Annotated[int, Whole(3_000, 20_000)] = 10_000
    # The hub keeps idle connections for ever and repeats nothing: one that we close is a payment that fails.
    idle_timeout_s: Annotated[int, Whole(600, 604_800)] = 3_600
    # The largest bulk a hub sends has 10,000 items and 0.94 MB.
    body_max_bytes: Annotated[int, Whole(1_024, 1_073_741_824)] = 4 * 1024 * 1024
    # Files of one FSP that are not finished: more than its people can look at.
    import_open_max: Annotated[int, Whole(1, 1_000_000)] = 100
    # What one FSP may upload in 24 hours: 8 GiB are two files of the largest size, or 200 million rows.
    import_day_bytes_max: Annotated[int, Whole(1_048_576, 2**50)] = 8 * 1024**3
    # How long calls in flight may take to end after SIGTERM: as long as a hub waits for them.  With the closing of
    # the rest that stays below the 30 s after which Kubernetes kills.
    stop_timeout_s: Annotated[int, Whole(1, 3_600)] = 20

    log_level: Annotated[Literal["debug", "info", "warning", "error"], OneOf("debug", "info", "warning", "error")] = (
        "info"
    )
    # auto: text at a terminal, JSON elsewhere.
    log_format: Annotated[Literal["auto", "json", "text"], OneOf("auto", "json", "text")] = "auto"
    # Absent: nothing is exported.
    otlp_endpoint: Annotated[str | None, Url("http", "https")] = None
    # The share of calls traced beyond those whose caller asks for it: a trace costs more than its lookup.
    trace_ratio: Annotated[float, Share()] = 0.0
    # Absent: a random one each start; set it to recognise a party in the logs of several starts or machines.
    digest_key: Annotated[str | None, Secret(16)] = None

    @property
    def clabe_only(self) -> bool:
        return self.account_id_format == "clabe"

    @property
    def nrc(self) -> bool:
        return "MM" in self.home_countries

    @property
    def admin_address(self) -> str:
        """Where the commands find the admin API.  Raises SettingsError."""
        if self.admin_url is not None:
            return self.admin_url
        if self.admin_port == 0:
            raise SettingsError([f"{PREFIX}ADMIN_URL: is needed, as {PREFIX}ADMIN_PORT is 0; allowed: a URL"])
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host  # noqa: S104 - compared, not bound
        return f"http://{f'[{host}]' if ':' in host else host}:{self.admin_port}"

    @property
    def key_path(self) -> Path:
        return self.key_file or self.data_dir / "admin.key"

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={shown(self, name)}' for name in READERS)})"

    def to_json(self) -> bytes:
        """For a process of ours, by a pipe: secrets are in it."""
        return msgspec.json.encode(self, enc_hook=str)

    @classmethod
    def from_json(cls, data: bytes) -> Settings:
        return msgspec.json.decode(data, type=cls, dec_hook=lambda kind, value: kind(value))


def _readers() -> Iterator[tuple[str, Reader]]:
    hints = get_type_hints(Settings, include_extras=True)
    for name in Settings.__struct_fields__:
        (reader,) = hints[name].__metadata__
        yield name, reader


READERS: Final[Mapping[str, Reader]] = dict(_readers())


def shown(settings: Settings, name: str) -> str:
    """The value for people, secrets masked."""
    value = getattr(settings, name)
    return "" if value is None else READERS[name].shown(value)


# Where they come from -------------------------------------------------------------------------------------


class Loaded(NamedTuple):
    settings: Settings
    sources: Mapping[str, Source]

    def rendered(self) -> list[str]:
        """A line a setting: its variable, its value with secrets masked, where that came from."""
        values = {name: f"{_variable(name)}={shown(self.settings, name)}" for name in READERS}
        width = max(map(len, values.values()))
        return [f"{line:{width}}  # {self.sources[name]}" for name, line in values.items()]


def load(environ: Mapping[str, str], file: Path | None = None) -> Loaded:
    """The effective settings.  Raises SettingsError with every problem of both sources."""
    problems: list[str] = []
    values: dict[str, object] = {}
    sources: dict[str, Source] = dict.fromkeys(READERS, "default")
    given: list[tuple[Source, str, str, str]] = [
        *(("file", name, f"{file}: {name}", text) for name, text in _from_file(file, problems)),
        *(("environment", name, _variable(name), text) for name, text in _from_environment(environ, problems)),
    ]
    for source, name, label, text in given:
        try:
            values[name] = READERS[name].read(text)
            sources[name] = source
        except ValueError as exc:
            problems.append(f"{label}: {exc}; allowed: {READERS[name].allowed}")
    settings = Settings(**values)  # type: ignore[arg-type]  # the readers return what the fields hold
    problems += _contradictions(settings)
    if problems:
        raise SettingsError(problems)
    return Loaded(settings, sources)


def _from_environment(environ: Mapping[str, str], problems: list[str]) -> Iterator[tuple[str, str]]:
    for variable, text in sorted(environ.items()):
        if not variable.startswith(PREFIX) or not text or _is_foreign(variable, text):
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name in READERS and variable.isupper():
            yield name, text
        else:
            problems.append(f"{variable}: no such setting{_meant(variable, _variable)}")


def _variable(name: str) -> str:
    return PREFIX + name.upper()


def _is_foreign(variable: str, text: str) -> bool:
    if variable in _FOREIGN_NAMES or _KUBERNETES_NAME.fullmatch(variable):
        return True
    return variable.endswith("_PORT") and _KUBERNETES_PORT.match(text) is not None


def _from_file(file: Path | None, problems: list[str]) -> list[tuple[str, str]]:
    if file is None:
        return []
    try:
        table = tomllib.loads(file.read_bytes().decode())
    except OSError as exc:
        problems.append(f"{file}: cannot be read: {exc.strerror}")
        return []
    except UnicodeDecodeError:
        problems.append(f"{file}: is not UTF-8")
        return []
    except tomllib.TOMLDecodeError as exc:
        # Its sentence may quote a character of the file, never a value.
        problems.append(f"{file}: is not valid TOML: {exc}")
        return []
    unknown = sorted(table.keys() - READERS.keys())
    problems += [f"{file}: {name}: no such setting{_meant(name, str)}" for name in unknown]
    return [(name, text) for name in READERS if (text := _text_of(table.get(name, "")))]


def _text_of(value: object) -> str:
    """A TOML value as the environment would spell it, so that there is one way to read it."""
    if isinstance(value, list):
        return ",".join(map(_text_of, value))
    return str(value)


def _meant(name: str, spelling: Callable[[str], str]) -> str:
    from difflib import get_close_matches  # noqa: PLC0415 - 5 ms that only a misspelled name has to pay

    close = get_close_matches(name.upper().removeprefix(PREFIX).lower(), READERS, n=1)
    return f"; did you mean {spelling(close[0])}?" if close else ""


def _contradictions(settings: Settings) -> list[str]:
    if settings.hub_port == settings.admin_port != 0:
        return [f"{PREFIX}HUB_PORT and {PREFIX}ADMIN_PORT: both are {settings.hub_port}; allowed: two ports, or 0"]
    return []
