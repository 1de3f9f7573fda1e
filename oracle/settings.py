"""What an operator can choose: `ORACLE_*` environment variables override a TOML file, which overrides the defaults.

Names.     A field `hub_port` is ORACLE_HUB_PORT in the environment and `hub_port` in the file.
Reading.   `load` is the only reader of the environment, and only the command line calls it.
Meaning.   A setting is described once, in the `description` beside its field.  `oracle check-config --example` and
           docs/settings.md show that text.
Problems.  `load` collects all of them, each with its name, what is wrong and what is allowed.  An unknown name
           is a problem too: otherwise a misspelled setting would silently keep its default.
Secrets.   Passwords in URLs and admin keys are in no message, no repr and no listing.
Empty.     An empty value means "not set": compose files write that for an absent one.
Spaces.    Those around a value, and line ends, do not count.  Quotation marks around it are refused, because a file of
           environment variables keeps them.
Foreign.   Two others name variables ORACLE_*: the clients of a certain database product, and Kubernetes,
           which gives every pod the addresses of a Service called `oracle` (and for one called `oracle-hub`
           an ORACLE_HUB_PORT that is a URL).  `load` ignores both.
"""

from __future__ import annotations

import json
import os
import re
import textwrap
import tomllib
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from socket import inet_aton
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Final,
    Literal,
    NamedTuple,
    Protocol,
    get_args,
    get_origin,
    get_type_hints,
)
from urllib.parse import parse_qsl, quote, unquote_plus

import msgspec
from msgspec import Meta

from oracle.countries import find_meant_country, is_country

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

Source = Literal["default", "file", "environment"]

PREFIX: Final = "ORACLE_"
MASK: Final = "***"
PORT_MAX: Final = 65_535
KEYS_MAX: Final = 2
KEY_DIGITS: Final = (64, 128)  # 32 to 64 bytes: as many as BLAKE2b takes
KEY_DIFFERENT_BYTES_MIN: Final = 16  # 32 random bytes have about 30; a word that is repeated has fewer

_FOREIGN_NAMES = frozenset(
    f"{PREFIX}{name}" for name in ("BASE", "HOME", "HOSTNAME", "OWNER", "PDB_SID", "SID", "TERM", "UNQNAME")
)
_KUBERNETES_NAME = re.compile(r"ORACLE(_\w+)?_(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)")
_KUBERNETES_PORT = re.compile(r"(tcp|udp|sctp)://")


class SettingsError(Exception):
    """Every problem that `load` found, one line each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class Remedied(ValueError):
    """What is wrong with a value, and what to do: the text needs no "use ..." behind it."""


# Reading a value from text ------------------------------------------------------------------------------------


class Reader(Protocol):
    """Turns text into a value and back.  A ValueError says what is wrong, without the value where that is secret."""

    @property
    def allowed(self) -> str: ...
    def read(self, text: str) -> object: ...
    def format(self, value: Any) -> str: ...


class _Plain:
    def format(self, value: Any) -> str:
        return str(value)


class Scalar(_Plain):
    """A number, a word or a pattern: msgspec checks what the field's type and its Meta say."""

    def __init__(self, kind: Any) -> None:
        self._kind = kind
        base = kind.__origin__
        (meta,) = (one for one in kind.__metadata__ if isinstance(one, Meta))
        if get_origin(base) is Literal:
            self.allowed = f"one of {', '.join(get_args(base))}"
        elif base is str:
            self.allowed = meta.title or ""
        else:
            self.allowed = f"{'a whole number' if base is int else 'a number'} from {meta.ge} to {meta.le}"

    def read(self, text: str) -> object:
        try:
            return msgspec.convert(text, self._kind, strict=False)
        except msgspec.ValidationError:
            raise ValueError(f"{_quote(text)} is not allowed") from None


class Countries:
    allowed = "two-letter country codes, separated by commas"

    def read(self, text: str) -> tuple[str, ...]:
        codes = tuple(code.strip().upper() for code in text.split(","))
        for code in codes:
            if not is_country(code):
                meant = find_meant_country(code)
                hint = f": write {meant}" if meant else ""
                raise ValueError(f"{_quote(code)} is not an ISO 3166 country code{hint}")
        return tuple(dict.fromkeys(codes))

    def format(self, value: tuple[str, ...]) -> str:
        return ",".join(value)


class Networks:
    allowed = "addresses or networks, separated by commas"

    def read(self, text: str) -> tuple[str, ...]:
        networks = tuple(network.strip() for network in text.split(",") if network.strip())
        for network in networks:
            try:
                ip_network(network)
            except ValueError:
                raise ValueError(f"{_quote(network)} is not an address or a network") from None
        return networks

    def format(self, value: tuple[str, ...]) -> str:
        return ",".join(value)


class FilePath(_Plain):
    allowed = "a path"

    def read(self, text: str) -> Path:
        if "\0" in text:
            raise ValueError("the path has a zero byte")
        try:
            return Path(text).expanduser()
        except RuntimeError:
            raise ValueError("the home directory behind ~ is not known") from None


class Url:
    """A URL that can hold a password, so no message repeats any part of it."""

    def __init__(self, *schemes: str) -> None:
        self.schemes = schemes
        self.allowed = f"a URL that starts with {_join(f'{scheme}://' for scheme in schemes)}"

    def read(self, text: str) -> str:
        scheme, separator, rest = text.partition("://")
        if not separator or scheme not in self.schemes:
            meant = self._find_meant_scheme(scheme) if separator else ""
            if meant:
                raise Remedied(f"the URL starts with {scheme}://: write {meant}:// in its place")
            raise ValueError("the URL starts with something else")
        if not rest or re.search(r"[\s\x00-\x1f\x7f]", rest):
            raise ValueError(f"the URL has a space, or nothing after {scheme}://")
        # `u:p/w@host` ends the host part at the slash: half the password would pass for a port, in messages.
        if "@" in rest and "@" not in re.split(r"[/?#]", rest, maxsplit=1)[0]:
            raise Remedied(
                "the user name or password in the URL has one of / ? # [ ], which must be %2F, %3F, %23, %5B, %5D"
            )
        return text

    def _find_meant_scheme(self, scheme: str) -> str:
        """Find ours in another spelling: in capitals, with the driver of another program, behind `jdbc:`."""
        plain = re.sub(r"^jdbc:|\+(asyncpg|psycopg\d?|psycopg2cffi|pg8000|aiopg)$", "", scheme.lower())
        return plain if plain in self.schemes else ""

    def format(self, value: str) -> str:
        return mask_url(value)


def _check_hosts(text: str, *, several: bool) -> None:
    """Check the part of a URL before its path.  The texts repeat nothing of it.  Raises Remedied."""
    place = re.split(r"[/?#]", text.partition("://")[2], maxsplit=1)[0]
    credentials, _, hosts = place.rpartition("@")
    if "@" in credentials:
        raise Remedied("the user name or password in the URL has an @, which must be %40")
    if re.search(r"%(?![0-9A-Fa-f]{2})", credentials):
        raise Remedied("the user name or password in the URL has a %, which must be %25")
    if "," in hosts and not several:
        raise Remedied("the URL has several servers: write redis+sentinel or redis+cluster in place of redis")
    for host in hosts.split(","):
        port = re.sub(r"^\[[^\]]*\]", "", host).partition(":")[2]
        if port and not (port.isascii() and port.isdigit() and 0 < int(port) <= PORT_MAX):
            raise Remedied(f"the port in the URL must be a number from 1 to {PORT_MAX}")


def _check_certificates(authorities: str, certificate: str, key: str, password: str | None = None) -> None:
    """Check that the files hold what they must.  Raises Remedied."""
    import ssl  # noqa: PLC0415 - 10 ms, for the few who name certificates

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if authorities:
            context.load_verify_locations(authorities)
    except OSError:
        raise Remedied(f"the file {authorities} in the URL has no certificate: it must be PEM") from None
    try:
        if certificate:
            context.load_cert_chain(certificate, key or None, password or "")
    except OSError:
        raise Remedied(
            f"the file {certificate} in the URL has no certificate that fits its key, or the key needs another password"
        ) from None


# Parameters of a database URL.  The driver would send one that it does not know to the server, which refuses it.
_DRIVER_READS: Final = {
    "dbname", "database", "gsslib", "host", "krbsrvname", "options", "passfile", "password", "port",
    "ssl_max_protocol_version", "ssl_min_protocol_version", "sslcert", "sslcrl", "sslkey", "sslmode", "sslnegotiation",
    "sslpassword", "sslrootcert", "target_session_attrs", "user",
}  # fmt: skip
# libpq's, without effect here: this program has its own time-outs, keepalives, names and encoding.
_WITHOUT_EFFECT: Final = {
    "application_name", "client_encoding", "connect_timeout", "fallback_application_name", "keepalives",
    "keepalives_count", "keepalives_idle", "keepalives_interval", "load_balance_hosts", "sslcompression", "sslsni",
    "tcp_user_timeout",
}  # fmt: skip
# Without effect with these values alone: others ask for something that this program cannot do.
_HARMLESS: Final = {
    "channel_binding": ("disable", "prefer"),
    "gssencmode": ("disable", "prefer"),
    "replication": ("0", "false", "no", "off"),
    "sslcertmode": ("allow", "disable"),
}
_INSTEAD: Final = {
    "channel_binding": "remove it, and use sslmode=verify-full against a man in the middle",
    "gssencmode": "remove it, and use sslmode=verify-full",
    "hostaddr": "write the address as the host",
    "service": "write host, port, user and database into the URL",
}
_PARAMETER: Final = re.compile(r"[a-z_]{1,40}")  # a name that can be shown: it holds no part of a password
_SSL_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_SSL_FILES: Final = ("sslrootcert", "sslcert", "sslkey", "sslcrl")


class DatabaseUrl(Url):
    """A URL of PostgreSQL as libpq and providers write it.  The value is a URL that the driver understands."""

    def __init__(self) -> None:
        super().__init__("postgresql", "postgres")

    def read(self, text: str) -> str:
        if re.match(r"(host|hostaddr|port|user|dbname)\s*=", text):
            raise Remedied("write a URL in place of words: postgresql://USER:PASSWORD@HOST:PORT/DATABASE")
        start, mark, query = super().read(text).partition("?")
        _check_hosts(text, several=True)
        if not mark:
            return text
        files: dict[str, str] = {}
        kept = []
        for member in query.split("&"):
            name, _, value = member.partition("=")
            value = unquote_plus(value)
            if name == "sslrootcert" and value == "system":
                value = _find_system_certificates()
                member = f"{name}={quote(value)}"  # noqa: PLW2901 - the driver reads files alone
            if not self._is_without_effect(name, value):
                self._check(name, value)
                kept.append(member)
                files[name] = value
        _check_certificates(
            files.get("sslrootcert", ""), files.get("sslcert", ""), files.get("sslkey", ""), files.get("sslpassword")
        )
        return f"{start}?{'&'.join(kept)}" if kept else start

    def _is_without_effect(self, name: str, value: str) -> bool:
        return name in _WITHOUT_EFFECT or value in _HARMLESS.get(name, ())

    def _check(self, name: str, value: str) -> None:
        if name not in _DRIVER_READS:
            shown = f", {name}={value}" if name in _HARMLESS else f", {name}" if _PARAMETER.fullmatch(name) else ""
            raise Remedied(f"the URL has a parameter that is not supported{shown}: {_INSTEAD.get(name, 'remove it')}")
        if name == "sslmode" and value not in _SSL_MODES:
            raise Remedied(f"sslmode in the URL must be {_join(iter(_SSL_MODES))}")
        if name in _SSL_FILES and not (Path(value).is_file() and os.access(value, os.R_OK)):
            raise Remedied(f"{name} in the URL: the file {value} does not exist, or cannot be read")


# Members of a Redis URL, with the values that are allowed; none: any.
_REDIS_MEMBERS: Final[dict[str, tuple[str, ...]]] = {
    "db": (), "username": (), "password": (), "sentinel_username": (), "sentinel_password": (),
    "ssl_ca_certs": (), "ssl_certfile": (), "ssl_keyfile": (),
    "ssl_cert_reqs": ("required", "none"), "ssl_check_hostname": ("true", "false"),
}  # fmt: skip
_REDIS_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


class RedisUrl(Url):
    """A URL of Redis, Sentinel or a cluster.  A member that would have no effect is refused."""

    def __init__(self) -> None:
        super().__init__(
            "redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster"
        )

    def read(self, text: str) -> str:
        start, _, query = super().read(text).partition("?")
        scheme, _, rest = start.partition("://")
        if scheme != "unix":
            _check_hosts(text, several="+" in scheme)
        members = dict(parse_qsl(query, keep_blank_values=True))
        for name, value in members.items():
            self._check(scheme, name, value)
        path = rest.partition("/")[2].strip("/")
        if scheme.endswith("+sentinel"):
            name, _, path = path.partition("/")
            if not name:
                raise Remedied(f"the URL must name the primary as the Sentinels do: {scheme}://HOST:26379/NAME")
        for db in (members.get("db", ""), "" if scheme == "unix" else path):
            if db and not (db.isascii() and db.isdigit()):
                raise Remedied("the database in the URL must be a number, for example /0")
        _check_certificates(
            members.get("ssl_ca_certs", ""), members.get("ssl_certfile", ""), members.get("ssl_keyfile", "")
        )
        return text

    def _check(self, scheme: str, name: str, value: str) -> None:
        if name not in _REDIS_MEMBERS:
            shown = f", {name}" if _PARAMETER.fullmatch(name) else ""
            raise Remedied(f"the URL has a member that is not supported{shown}: use {', '.join(_REDIS_MEMBERS)}")
        if name.startswith("ssl_") and not scheme.startswith("rediss"):
            raise Remedied(f"{name} in the URL has no effect without TLS: write rediss in place of redis")
        if name.startswith("sentinel_") and not scheme.endswith("+sentinel"):
            raise Remedied(f"{name} in the URL has no effect without Sentinel: write {scheme}+sentinel")
        allowed = _REDIS_MEMBERS[name]
        if allowed and value not in allowed:
            raise Remedied(f"{name} in the URL must be {_join(iter(allowed))}")
        if name in _REDIS_FILES and not (Path(value).is_file() and os.access(value, os.R_OK)):
            raise Remedied(f"{name} in the URL: the file {value} does not exist, or cannot be read")


def _find_system_certificates() -> str:
    import ssl  # noqa: PLC0415 - 10 ms, for the few who write sslrootcert=system

    found = ssl.get_default_verify_paths()
    for file in (found.cafile, found.openssl_cafile, *_SYSTEM_CERTIFICATES):
        if file and Path(file).is_file():
            return file
    raise Remedied("sslrootcert=system in the URL: no file with the certificates of this system is found; name one")


# Debian and Alpine; Red Hat.
_SYSTEM_CERTIFICATES: Final = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")


class Address(Url):
    """The URL of a service that is called with a key: a user in it would be sent in the key's place."""

    def __init__(self, *schemes: str) -> None:
        super().__init__(*schemes)
        self.allowed += ", without a user name"

    def read(self, text: str) -> str:
        if "@" in super().read(text).partition("://")[2]:
            raise ValueError("the URL has a user name")
        return text


class Secret:
    def __init__(self, length_min: int) -> None:
        self.length_min = length_min
        self.allowed = f"at least {length_min} characters"

    def read(self, text: str) -> str:
        if len(text) < self.length_min:
            raise ValueError("the value is too short")
        return text

    def format(self, value: str) -> str:  # noqa: ARG002 - a secret is shown to nobody
        return MASK


class Keys:
    """Secret keys: the first one signs, all are accepted."""

    allowed = (
        f"one or two keys, separated by a comma, each of {KEY_DIGITS[0]} to {KEY_DIGITS[1]} random hexadecimal digits"
    )

    def read(self, text: str) -> tuple[str, ...]:
        keys = tuple(key.strip().lower() for key in text.split(",")) if text else ()
        if len(keys) > KEYS_MAX:
            raise ValueError(f"the value has {len(keys)} keys")
        for key in keys:
            if re.fullmatch(r"([0-9a-f]{2})*", key) is None:
                raise ValueError("a key has something else than pairs of hexadecimal digits")
            if not KEY_DIGITS[0] <= len(key) <= KEY_DIGITS[1]:
                raise ValueError(f"a key has {len(key)} digits")
            if len(set(bytes.fromhex(key))) < KEY_DIFFERENT_BYTES_MIN:
                raise ValueError("a key repeats itself, so it is not random")
        return keys

    def format(self, value: tuple[str, ...]) -> str:
        return ",".join(MASK for _ in value)


def mask_url(url: str) -> str:
    """Return the URL without passwords: those before the last @, and query members with a name like one."""
    masked = re.sub(r"^([^:]*://[^:@]*):.*@", rf"\1:{MASK}@", url, flags=re.DOTALL)
    return re.sub(r"([?&][^=&]*(?:passw|secret|token)[^=&]*=)[^&]*", rf"\1{MASK}", masked, flags=re.IGNORECASE)


def _quote(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]}…")  # noqa: PLR2004 - one line


def _join(words: Iterator[str]) -> str:
    *some, last = words
    return f"{', '.join(some)} or {last}" if some else last


# The settings ---------------------------------------------------------------------------------------------------


_HOST_PATTERN = r"\A[A-Za-z0-9.:_-]{1,253}\Z"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings; `Settings()` is the start without configuration.  Each description gives the default's reason."""

    database_url: Annotated[
        str | None,
        DatabaseUrl(),
        Meta(
            description="The PostgreSQL of the directory. The URL can name all servers of a cluster: the primary is"
            " found. Not set: `oracle serve` runs its own PostgreSQL in data_dir."
        ),
    ] = None
    database_owner_url: Annotated[
        str | None,
        DatabaseUrl(),
        Meta(
            description="The same database as the owner of its tables, for migrations alone. Then database_url can be"
            " a role that cannot change history. Not set: `oracle migrate` uses database_url, and `oracle serve`"
            " changes no schema but that of its own PostgreSQL."
        ),
    ] = None
    redis_url: Annotated[
        str | None,
        RedisUrl(),
        Meta(
            description="The Redis or Valkey of the cache: one server, Sentinel or a cluster. Not set: `oracle serve`"
            " runs its own Valkey."
        ),
    ] = None
    data_dir: Annotated[
        Path,
        FilePath(),
        Meta(
            description="Directory of the embedded servers, keys and run-time files. By default it is in the working"
            " directory: a trial leaves nothing elsewhere."
        ),
    ] = Path(".oracle")
    audit_key_file: Annotated[
        Path | None,
        FilePath(),
        Meta(
            description="File of the keys that sign the history. All machines that share a database need the same"
            " file. Not set: <data_dir>/audit-keys/signing.keys."
        ),
    ] = None
    audit_waiting_max_s: Annotated[
        int,
        Meta(
            ge=5,
            le=86_400,
            description="How long a change can wait to be sealed. After that, /health and the log report it, and"
            " `oracle audit verify` fails.",
        ),
    ] = 300
    audit_directory_every_s: Annotated[
        int,
        Meta(
            ge=0,
            le=31_536_000,
            description="How long the jobs process waits after it has compared the directory with its history, before"
            " it begins again. 0: it never compares; `oracle audit verify --directory` still does.",
        ),
    ] = 86_400
    audit_directory_rows_per_s: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="How many rows that comparison reads in a second: entries and events together. At 5,000, a"
            " directory of 100 million aliases with one event each takes 11 hours.",
        ),
    ] = 5_000

    hub_host: Annotated[
        str,
        Meta(
            pattern=_HOST_PATTERN,
            title="an address or a host name",
            description="Address of the hub listener, which has no authentication: only the hub can be allowed to"
            " reach it. The default opens nothing to the network; a container sets 0.0.0.0.",
        ),
    ] = "127.0.0.1"
    admin_host: Annotated[
        str,
        Meta(
            pattern=_HOST_PATTERN,
            title="an address or a host name",
            description="Address of the admin listener, which needs a key for everything but /live, /ready, /health,"
            " /metrics, /docs and the public prefix list. The default opens nothing to the network; a container sets"
            " 0.0.0.0.",
        ),
    ] = "127.0.0.1"
    hub_port: Annotated[
        int, Meta(ge=0, le=65_535, description="Port of the hub listener. 0: any free port, for tests.")
    ] = 3000
    admin_port: Annotated[
        int, Meta(ge=0, le=65_535, description="Port of the admin listener. 0: any free port, for tests.")
    ] = 3001
    workers: Annotated[
        int,
        Meta(
            ge=1,
            le=256,
            description="Number of processes that answer the hub. One answers tens of thousands of lookups a second;"
            " use at most one a core.",
        ),
    ] = 1
    admin_proxies: Annotated[
        tuple[str, ...],
        Networks(),
        Meta(
            description="Proxies in front of the admin listener. The oracle believes X-Forwarded-For from them alone,"
            " and counts failed logins for each client. Not set: all clients of a proxy are one client, and the log of"
            " refused calls cannot name the one that fails."
        ),
    ] = ()

    admin_url: Annotated[
        str | None,
        Address("http", "https"),
        Meta(description="The admin listener that the commands call. Not set: the one on this machine, at admin_port."),
    ] = None
    key: Annotated[
        str | None,
        Secret(16),
        Meta(
            description="The admin key of the commands. Better use key_file: other programs can read the environment."
        ),
    ] = None
    key_file: Annotated[
        Path | None,
        FilePath(),
        Meta(
            description="File with the admin key of the commands, which only its owner can read."
            " Not set: the key that `oracle key save` kept for admin_url."
        ),
    ] = None

    home_countries: Annotated[
        tuple[str, ...],
        Countries(),
        Meta(
            description="Phone numbers of these countries must be valid in the numbering plan; other numbers are"
            " checked less strictly. With MM, a PERSONAL_ID can be a Myanmar NRC. The oracle knows the plans of the"
            " two default countries in full."
        ),
    ] = ("MX", "MM")
    msisdn_national: Annotated[
        Literal["refuse", "accept"],
        Meta(
            description="refuse: digits without a country, that are a valid phone number only as a national one of a"
            " home country, are refused, because stored as a foreign number they would give one phone two owners."
            " accept: they are taken for international numbers, as test numbers of a payment scheme can need it."
        ),
    ] = "refuse"
    nrc_townships: Annotated[
        Path | None,
        FilePath(),
        Meta(
            description="CSV file of townships that the lists of the oracle do not have, for the Latin spellings of"
            " Myanmar NRCs: state,township_mm,township_en. Read at start. Not set: the lists alone."
        ),
    ] = None
    account_id_format: Annotated[
        Literal["any", "clabe"],
        Meta(
            description="clabe: every ACCOUNT_ID must be a CLABE. any: an account number is a CLABE only when the"
            " request names the SubId CLABE, because one random 18-digit number in ten has a valid check digit."
        ),
    ] = "any"
    fsp_registration: Annotated[
        Literal["auto", "required"],
        Meta(
            description="required: an operator must create an FSP before it can register aliases. auto: the first"
            " registration creates it, because the hub knows its FSPs already."
        ),
    ] = "auto"

    unknown_fsps_day_max: Annotated[
        int,
        Meta(
            ge=0,
            le=1_000_000,
            description="How many unknown FSPs the hub listener creates in 24 hours, if fsp_registration is auto. It"
            " refuses further ones, because anyone who reaches this listener can invent FSPs. FSPs that an operator has"
            " activated do not count.",
        ),
    ] = 1_000
    ignored_hour_max: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="How many ignored calls of the hub each worker records one by one in an hour, for each FSP."
            " All unknown FSPs together count as one, and all provisional FSPs together as at most ten. Of further"
            " calls, history has one event a minute, with their number.",
        ),
    ] = 1_000

    cache_ttl_s: Annotated[
        int,
        Meta(
            ge=1,
            le=86_400,
            description="How long the cache keeps the entries of an identifier, in seconds. Changes reach the cache at"
            " once, so a longer time makes no answer older.",
        ),
    ] = 300
    cache_degraded_max_s: Annotated[
        int,
        Meta(
            ge=0,
            le=86_400,
            description="How long a process answers from the cache while it cannot reach PostgreSQL, in seconds; then"
            " the answer is 503. An ordinary failover of PostgreSQL takes 30 to 60 s. This limits what two failures at"
            " the same time can do.",
        ),
    ] = 120
    cache_negative_ttl_s: Annotated[
        int,
        Meta(
            ge=1,
            le=86_400,
            description="How long the cache keeps that an identifier has no entry, in seconds. Shorter than"
            " cache_ttl_s, because anyone can ask for unregistered numbers and each takes memory.",
        ),
    ] = 60
    cache_timeout_ms: Annotated[
        int,
        Meta(
            ge=1,
            le=10_000,
            description="How long a lookup waits for the cache before it asks PostgreSQL, in milliseconds. A Redis in"
            " the same network answers in less than 1 ms.",
        ),
    ] = 50
    cache_prefix: Annotated[
        str,
        Meta(
            pattern=r"\A[A-Za-z0-9._-]{1,32}\Z",
            title="1 to 32 letters, digits, . _ -",
            description="First part of every key in the cache, for a Redis that other programs use as well.",
        ),
    ] = "oracle"

    cache_key: Annotated[
        tuple[str, ...],
        Keys(),
        Meta(
            description="Secret key for the tags on what the oracle writes to Redis, the same for all services of a"
            " directory: `openssl rand -hex 32` makes one. Copies without a right tag are not used. Of two keys, the"
            " first one signs and both are accepted: that is for replacing a key. Not set: with a Redis of our own, a"
            " key in <data_dir>/cache.key; else anyone who can write to the Redis can redirect lookups."
        ),
    ] = ()

    lookup_timeout_ms: Annotated[
        int,
        Meta(
            ge=10,
            le=20_000,
            description="How long a lookup can take, in milliseconds; then the answer is 503. The time does not"
            " count while an overloaded worker has not read the lookup. The hub gives up after"
            ' 20 s. After one second, "try again" is a better answer than waiting.',
        ),
    ] = 1_000
    change_timeout_ms: Annotated[
        int,
        Meta(
            ge=3_000,
            le=20_000,
            description="How long a change from the hub can take, in milliseconds, also one of 10,000 items. Below the"
            " hub's 20 s, so that the hub receives the failure; above the 3 s that a change can take without Redis.",
        ),
    ] = 10_000
    idle_timeout_s: Annotated[
        int,
        Meta(
            ge=600,
            le=604_800,
            description="How long an idle hub connection stays open, in seconds. The hub keeps its connections forever"
            " and repeats no request: a connection closed too early is a payment that fails.",
        ),
    ] = 3_600
    body_max_bytes: Annotated[
        int,
        Meta(
            ge=1_024,
            le=1_073_741_824,
            description="Largest request body on the hub listener, in bytes. The largest bulk of a hub has 10,000"
            " items and 0.94 MB.",
        ),
    ] = 4 * 1024 * 1024
    bodies_max_bytes: Annotated[
        int,
        Meta(
            ge=1_048_576,
            le=2**40,
            description="How many bytes of request bodies a process can hold at the same time, in all connections"
            " together; a request beyond that is refused with 503. Each hub worker and the admin process have this"
            " limit. The default is enough for 68 of a hub's largest bulks.",
        ),
    ] = 64 * 1024 * 1024
    import_open_max: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="How many unfinished files an FSP can have; one more is refused with 429. 100 are more than"
            " its people can review.",
        ),
    ] = 100
    import_day_bytes_max: Annotated[
        int,
        Meta(
            ge=1_048_576,
            le=2**50,
            description="How many bytes an FSP can upload in 24 hours. Uploads that break off count as well. The"
            " default is two files of the largest size, or 200 million rows.",
        ),
    ] = 8 * 1024**3
    idempotency_retention_hours: Annotated[
        int,
        Meta(
            ge=1,
            le=168,
            description="How long the answer to a call with an Idempotency-Key is kept, in hours. A repeated call gets"
            " it again; later, the call is done again.",
        ),
    ] = 24
    refusal_retention_days: Annotated[
        int,
        Meta(
            ge=90,
            le=36_500,
            description="How long records of refused calls are kept, in days. Not less than 90: the database refuses to"
            " delete newer ones.",
        ),
    ] = 365
    file_retention_days: Annotated[
        int,
        Meta(
            ge=0,
            le=36_500,
            description="How long an uploaded file and the results of its rows are kept after their batch has ended, in"
            " days. The batch and the changes that it made stay. 0, the default: forever, because nobody can bring a"
            " deleted file back.",
        ),
    ] = 0
    start_wait_s: Annotated[
        int,
        Meta(
            ge=0,
            le=86_400,
            description="How long `oracle serve` waits at its start for a PostgreSQL that does not answer, in seconds;"
            " then it ends. Meanwhile it answers 503.",
        ),
    ] = 300
    stop_timeout_s: Annotated[
        int,
        Meta(
            ge=1,
            le=3_600,
            description="How long requests can take to end after SIGTERM, in seconds. A hub waits 20 s for an answer,"
            " and Kubernetes kills after 30 s.",
        ),
    ] = 20

    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="Lowest level of the log lines. info: starts, stops, failures and recoveries, none a lookup."),
    ] = "info"
    log_format: Annotated[
        Literal["auto", "json", "text"],
        Meta(description="auto: text at a terminal, JSON elsewhere."),
    ] = "auto"
    otlp_endpoint: Annotated[
        str | None,
        Url("http", "https"),
        Meta(description="OpenTelemetry collector that receives trace spans (OTLP over HTTP). Not set: no traces."),
    ] = None
    trace_ratio: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="Share of requests that are traced although their caller does not ask for it. The default is"
            " none, because a trace costs more than its lookup.",
        ),
    ] = 0.0

    @property
    def admin_address(self) -> str:
        """Where the commands find the admin API.  Raises SettingsError."""
        if self.admin_url is not None:
            return self.admin_url
        if self.admin_port == 0:
            raise SettingsError([f"set {PREFIX}ADMIN_URL to the admin listener, because {PREFIX}ADMIN_PORT is 0"])
        host = "127.0.0.1" if is_every_address(self.admin_host) else self.admin_host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.admin_port}"

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{one.name}={one.format(self)}' for one in SETTINGS.values())})"


class Setting(NamedTuple):
    """One setting: its name, how its text is read, and what operators read about it."""

    name: str
    reader: Reader
    description: str

    @property
    def variable(self) -> str:
        return PREFIX + self.name.upper()

    @property
    def default(self) -> object:
        return getattr(Settings(), self.name)

    def format(self, settings: Settings) -> str:
        """Format the value for people, secrets masked."""
        value = getattr(settings, self.name)
        return "" if value is None else self.reader.format(value)


def _list_settings() -> Iterator[tuple[str, Setting]]:
    hints = get_type_hints(Settings, include_extras=True)
    for name in Settings.__struct_fields__:
        metadata = hints[name].__metadata__
        (description,) = (one.description or "" for one in metadata if isinstance(one, Meta))
        reader = metadata[0] if len(metadata) > 1 else Scalar(hints[name])
        yield name, Setting(name, reader, description)


SETTINGS: Final[Mapping[str, Setting]] = dict(_list_settings())


def format_example() -> str:
    """Format all settings with their descriptions and defaults, as a TOML file that `--config` accepts."""
    head = (
        "Settings of the oracle: oracle --config FILE serve. All values here are the defaults. An empty value is not"
        " set. The environment overrides this file: hub_port is ORACLE_HUB_PORT there."
    )
    parts = [_comment(head)]
    for one in SETTINGS.values():
        value = one.default if isinstance(one.default, (int, float, tuple)) else str(one.default or "")
        parts.append(
            f"{_comment(one.description, f'Allowed: {one.reader.allowed}.')}\n{one.name} = {json.dumps(value)}"
        )
    return "\n\n".join(parts)


def _comment(*paragraphs: str) -> str:
    return "\n".join(f"# {line}" for text in paragraphs for line in textwrap.wrap(text, 98))


# Where they come from -------------------------------------------------------------------------------------------


class Configuration(NamedTuple):
    """The settings in use, and where each came from."""

    settings: Settings
    sources: Mapping[str, Source]

    def format_lines(self) -> list[str]:
        """Format a line for each setting: its variable, its value with secrets masked, its source."""
        values = {name: f"{one.variable}={one.format(self.settings)}" for name, one in SETTINGS.items()}
        width = max(map(len, values.values()))
        return [f"{line:{width}}  # {self.sources[name]}" for name, line in values.items()]


def load(environ: Mapping[str, str], file: Path | None = None) -> Configuration:
    """Read the settings in use.  Raises SettingsError with every problem of both sources."""
    problems: list[str] = []
    values: dict[str, object] = {}
    sources: dict[str, Source] = dict.fromkeys(SETTINGS, "default")
    given: list[tuple[Source, str, str, str]] = [
        *(("file", name, f"{file}: {name}", text) for name, text in _read_file(file, problems)),
        *(("environment", name, SETTINGS[name].variable, text) for name, text in _read_environment(environ, problems)),
    ]
    for source, name, label, written in given:
        text = written.strip()  # a line's end, or a space that nobody sees
        if not text:
            continue
        try:
            _refuse_quotes(text)
            values[name] = SETTINGS[name].reader.read(text)
            sources[name] = source
        except Remedied as exc:
            problems.append(f"{label}: {exc}")
        except ValueError as exc:
            problems.append(f"{label}: {exc}; use {SETTINGS[name].reader.allowed}")
    settings = Settings(**values)  # type: ignore[arg-type]  # the readers return what the fields hold
    problems += _find_contradictions(settings)
    if problems:
        raise SettingsError(problems)
    return Configuration(settings, sources)


def _refuse_quotes(text: str) -> None:
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        raise Remedied("the value is in quotation marks: remove them (docker --env-file keeps them)")


def _read_environment(environ: Mapping[str, str], problems: list[str]) -> Iterator[tuple[str, str]]:
    for variable, text in sorted(environ.items()):
        if not variable.startswith(PREFIX) or not text or _is_foreign(variable, text):
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name in SETTINGS and variable.isupper():
            yield name, text
        else:
            problems.append(f"{variable}: no such setting{_suggest(variable, lambda close: close.variable)}")


def _is_foreign(variable: str, text: str) -> bool:
    if variable in _FOREIGN_NAMES or _KUBERNETES_NAME.fullmatch(variable):
        return True
    return variable.endswith("_PORT") and _KUBERNETES_PORT.match(text) is not None


def _read_file(file: Path | None, problems: list[str]) -> list[tuple[str, str]]:
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
    unknown = sorted(table.keys() - SETTINGS.keys())
    problems += [f"{file}: {name}: no such setting{_suggest(name, lambda close: close.name)}" for name in unknown]
    return [(name, text) for name in SETTINGS if (text := _text_of(table.get(name, "")))]


def _text_of(value: object) -> str:
    """Return a TOML value as the environment would spell it, so that there is one way to read it."""
    if isinstance(value, list):
        return ",".join(map(_text_of, value))
    return str(value)


def _suggest(name: str, spell: Callable[[Setting], str]) -> str:
    from difflib import get_close_matches  # noqa: PLC0415 - 5 ms that only a misspelled name costs

    close = get_close_matches(name.upper().removeprefix(PREFIX).lower(), SETTINGS, n=1)
    return f"; did you mean {spell(SETTINGS[close[0]])}?" if close else ""


def require_database_url(settings: Settings) -> None:
    """Refuse the URL of the owner alone, because the embedded PostgreSQL is another database.  Raises SettingsError."""
    if settings.database_url is None and settings.database_owner_url is not None:
        problem = (
            f"{PREFIX}DATABASE_OWNER_URL is set, but {PREFIX}DATABASE_URL is not. Set {PREFIX}DATABASE_URL to the URL"
            " of the role of the service. To use a PostgreSQL that the service starts itself, set neither"
        )
        raise SettingsError([problem])


def list_warnings(settings: Settings) -> list[str]:
    """List what is allowed and seldom wanted, each with what to do."""
    if not (_is_public(settings.hub_host) and _is_public(settings.admin_host)):
        return []
    danger = (
        f"Both listeners are open to every network: {PREFIX}HUB_HOST={settings.hub_host},"
        f" {PREFIX}ADMIN_HOST={settings.admin_host}. The hub listener has no authentication: everybody who reaches port"
        f" {settings.hub_port} can change aliases of every FSP. Set {PREFIX}HUB_HOST to an address that only the hub"
        f" can reach. Or set a firewall or a network policy so that only the hub can reach port {settings.hub_port}"
    )
    return [danger]


def is_every_address(host: str) -> bool:
    """Whether a listener at this host accepts connections at every address of the machine, in any spelling."""
    address = _read_address(host)
    return address is not None and address.is_unspecified


def _is_public(host: str) -> bool:
    address = _read_address(host)
    return address is not None and (address.is_unspecified or address.is_global)


def _read_address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(host)
    except ValueError:
        try:
            address = ip_address(inet_aton(host))  # `0` and `0x0` are 0.0.0.0 for the system
        except OSError:
            return None
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address


def _find_contradictions(settings: Settings) -> list[str]:
    problems = []
    if settings.hub_port == settings.admin_port != 0:
        problems.append(f"{PREFIX}HUB_PORT and {PREFIX}ADMIN_PORT: both are {settings.hub_port}; use two ports, or 0")
    if settings.bodies_max_bytes < settings.body_max_bytes:
        problems.append(
            f"{PREFIX}BODIES_MAX_BYTES: one body of {PREFIX}BODY_MAX_BYTES would not fit; use at least"
            f" {settings.body_max_bytes}"
        )
    return problems
