"""What an operator can choose: `ORACLE_*` environment variables override a TOML file, which overrides the defaults.

Names.     A field `hub_port` is ORACLE_HUB_PORT in the environment and `hub_port` in the file.
Reading.   `load` is the only reader of the environment, and only the command line calls it.  But ORACLE_COMPILED counts
           before any other import, so oracle.compiled looks at it, too.
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
from itertools import combinations
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
from urllib.parse import parse_qsl, quote, unquote, unquote_plus, urlsplit

import msgspec
from msgspec import Meta

from oracle.countries import find_meant_country, is_country

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

Source = Literal["default", "file", "environment"]

PREFIX: Final = "ORACLE_"
MASK: Final = "***"
PORT_MAX: Final = 65_535
KEYS_MAX: Final = 2
PASSWORD_MAX: Final = 1024
RULE_SETS: Final = ("keycloak", "hydra", "thitsaworks")  # as oracle/identity/presets.py has them
WAYS: Final = ("keys", "oidc", "gateway")  # how callers of the admin listener come in
OIDC: Final = "oidc"  # the one table of a file that is no setting
SHARED_SECRET_MIN: Final = 32
KEY_DIGITS: Final = (64, 128)  # 32 to 64 bytes: as many as BLAKE2b takes
BudgetClass = Literal["A", "B", "C", "D", "E"]
# Class, size, refill a minute.  docs/operate.md says where they come from.
BUDGET_SIZES: Final = (
    ("A", 20_000, 12_000),
    ("B", 15_000, 8_000),
    ("C", 8_000, 2_000),
    ("D", 4_000, 500),
    ("E", 3_000, 50),
    ("unknown", 3_000, 50),
)
BUDGET_MAX: Final = 1_000_000_000
DAY_MINUTES: Final = 1_440
MINUTE_SECONDS: Final = 60
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
    """What is wrong with a value, and what to do: the texts need no "use ..." behind them."""

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


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


def _check_certificates(authorities: str, certificate: str, key: str, password: str | None = None) -> Iterator[str]:
    """Yield what is wrong with these files, if they are named."""
    if not authorities and not certificate:
        return
    import ssl  # noqa: PLC0415 - 10 ms, for the few who name certificates

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if authorities:
            context.load_verify_locations(authorities)
    except OSError:
        yield f"the file {authorities} in the URL has no certificate: it must be PEM"
    try:
        if certificate:
            context.load_cert_chain(certificate, key or None, password or "")
    except OSError:
        yield (
            f"the file {certificate} in the URL has no certificate that fits its key, or the key needs another password"
        )


def _require_files(
    given: Mapping[str, str], names: tuple[str, str, str], password: str | None, problems: list[str]
) -> None:
    """Raise Remedied with `problems`, and with those of the files of authorities, certificate and key.

    `given`: the members of a URL, with an empty value for each that is among the problems already.
    """
    authorities, certificate, key = (given.get(name, "") for name in names)
    if names[2] in given and not key:  # the certificate without the key that was meant
        certificate = ""
    problems += _check_certificates(authorities, certificate, key, password)
    if problems:
        raise Remedied(*problems)


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
        kept: dict[str, str] = {}
        problems: list[str] = []
        members: list[str] = []
        for member in query.split("&"):
            name, _, value = member.partition("=")
            value = unquote_plus(value)
            try:
                if name == "sslrootcert" and value == "system":
                    value = _find_system_certificates()
                    member = f"{name}={quote(value)}"  # noqa: PLW2901 - the driver reads files alone
                if not self._is_without_effect(name, value):
                    self._check(name, value)
                    kept[name] = value
                    members.append(member)
            except Remedied as exc:
                problems += exc.problems
                kept[name] = ""
        _require_files(kept, ("sslrootcert", "sslcert", "sslkey"), kept.get("sslpassword"), problems)
        return f"{start}?{'&'.join(members)}" if members else start

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
        problems: list[str] = []
        for name, value in members.items():
            try:
                self._check(scheme, name, value)
            except Remedied as exc:
                problems += exc.problems
                members[name] = ""
        path = rest.partition("/")[2].strip("/")
        if scheme.endswith("+sentinel"):
            name, _, path = path.partition("/")
            if not name:
                problems.append(f"the URL must name the primary as the Sentinels do: {scheme}://HOST:26379/NAME")
        for db in (members.get("db", ""), "" if scheme == "unix" else path):
            if db and not (db.isascii() and db.isdigit()):
                problems.append("the database in the URL must be a number, for example /0")
        _require_files(members, _REDIS_FILES, None, problems)
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


class Port(_Plain):
    """A port that can be left out."""

    allowed = f"a whole number from 0 to {PORT_MAX}"

    def read(self, text: str) -> int:
        if not (text.isascii() and text.isdigit() and int(text) <= PORT_MAX):
            raise ValueError(f"{_quote(text)} is not a port")
        return int(text)


class Words:
    """Words, separated by commas."""

    def __init__(self, allowed: str, choices: Collection[str] = ()) -> None:
        self.allowed = allowed
        self._choices = choices

    def read(self, text: str) -> tuple[str, ...]:
        words = tuple(word.strip() for word in text.split(",") if word.strip())
        for word in words:
            if self._choices and word not in self._choices:
                raise ValueError(f"{_quote(word)} is not allowed")
        return words

    def format(self, value: tuple[str, ...]) -> str:
        return ",".join(value)


class BaseUrls:
    """Base URLs of services, separated by commas."""

    allowed = "base URLs, separated by commas, for example http://oracle-hub:3000"

    def __init__(self, *schemes: str) -> None:
        self._one = Address(*schemes)

    def read(self, text: str) -> tuple[str, ...]:
        urls = tuple(url.strip() for url in text.split(",") if url.strip())
        for url in urls:
            self._one.read(url)
            try:
                parts = urlsplit(url)
                usable = bool(parts.hostname) and parts.port != 0
            except ValueError:
                usable = False
            if not usable or "?" in url or "#" in url:
                raise ValueError("a URL is not a base URL")
        return urls

    def format(self, value: tuple[str, ...]) -> str:
        return ",".join(value)


class CurrencyCodes:
    """Currencies, separated by commas.  Whether ALS knows one is for ALS to say."""

    allowed = "three-letter currency codes, separated by commas"

    def read(self, text: str) -> tuple[str, ...]:
        codes = tuple(code.strip().upper() for code in text.split(",") if code.strip())
        for code in codes:
            if not re.fullmatch("[A-Z]{3}", code):
                raise ValueError(f"{_quote(code)} is not a currency code")
        return tuple(dict.fromkeys(codes))

    def format(self, value: tuple[str, ...]) -> str:
        return ",".join(value)


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


class SharedSecrets:
    """Secrets that somebody else sends us: one, or the old one and the new one while it is replaced."""

    allowed = (
        f"one or two secrets, separated by a comma, each of at least {SHARED_SECRET_MIN} printable ASCII characters"
    )

    def read(self, text: str) -> tuple[str, ...]:
        secrets = tuple(secret.strip() for secret in text.split(",")) if text else ()
        if len(secrets) > KEYS_MAX:
            raise ValueError(f"the value has {len(secrets)} secrets")
        for secret in secrets:
            if len(secret) < SHARED_SECRET_MIN:
                raise ValueError("a secret is too short")
            if re.fullmatch(r"[ -~]+", secret) is None:
                raise ValueError("a secret has a character that a header cannot carry")
        return secrets

    def format(self, value: tuple[str, ...]) -> str:
        return ",".join(MASK for _ in value)


class Password:
    """A password of a server: any characters, because nobody has to write it into a URL."""

    allowed = "a password of 1 to 1,024 characters, as it is: nothing in it is written in another way"

    def read(self, text: str) -> str:
        if len(text) > PASSWORD_MAX or not text.isprintable():
            raise ValueError("the value is too long, or has a character that cannot be seen")
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


# Those that the directory holds aliases of.
PARTY_ID_TYPES: Final = ("MSISDN", "EMAIL", "PERSONAL_ID", "BUSINESS", "DEVICE", "ACCOUNT_ID", "IBAN", "ALIAS")

_HOST_PATTERN = r"\A[A-Za-z0-9.:_-]{1,253}\Z"


def _certificate(listener: str, prefix: str) -> Meta:
    return Meta(
        description=f"PEM file with the certificate of the {listener}, and behind it those of the authorities between"
        " it and the root. Then this listener speaks TLS alone. SIGHUP reads it again. Not set: plain HTTP, for a proxy"
        f" or a mesh with TLS in front. See {prefix}_tls_key."
    )


def _certificate_key(prefix: str) -> Meta:
    return Meta(
        description=f"PEM file with the private key of {prefix}_tls_certificate, without a password. Only its owner can"
        f" be able to read it. Not set: the key is in {prefix}_tls_certificate."
    )


def _client_ca(listener: str) -> Meta:
    return Meta(
        description=f"PEM file with the authorities whose client certificates the {listener} accepts. SIGHUP reads it"
        " again. Not set: it asks for no certificate."
    )


def _require_client(prefix: str, addition: str = "") -> Meta:
    return Meta(
        description=f"on: each client must show a certificate of {prefix}_tls_client_ca, also for /live, /ready and"
        f" /health. off: a client can show one.{addition}"
    )


class BudgetSizes:
    """The size of the bucket of each class of FSPs, and its refill: tokens, and tokens a minute."""

    allowed = "CLASS=SIZE/REFILL, separated by commas, for example C=8000/2000: whole numbers from 1 to 1000000000"

    def read(self, text: str) -> tuple[tuple[str, int, int], ...]:
        sizes = {name: (tokens, refill) for name, tokens, refill in BUDGET_SIZES}
        named: set[str] = set()
        for part in text.split(","):
            found = re.fullmatch(r"\s*([A-Za-z]+)\s*=\s*([0-9]{1,10})\s*/\s*([0-9]{1,10})\s*", part)
            if found is None:
                raise ValueError(f"{_quote(part)} is not CLASS=SIZE/REFILL")
            name, tokens, refill = found[1], int(found[2]), int(found[3])
            if name not in sizes:
                raise ValueError(f"{_quote(name)} is not one of the classes {', '.join(sizes)}")
            if not (1 <= tokens <= BUDGET_MAX and 1 <= refill <= BUDGET_MAX):
                raise ValueError(f"{_quote(part)} has a number out of range")
            if tokens > refill * DAY_MINUTES:
                raise Remedied(f"{_quote(part)}: an empty bucket must be full within a day; use a larger refill")
            if refill > tokens * MINUTE_SECONDS:  # processes correct it once a second, and could not use the rest
                raise Remedied(f"{_quote(part)}: a bucket must hold the refill of a second; use a larger size")
            if name in named:
                raise ValueError(f"{name} is there twice")
            named.add(name)
            sizes[name] = tokens, refill
        return tuple((name, *size) for name, size in sizes.items())

    def format(self, value: tuple[tuple[str, int, int], ...]) -> str:
        return ",".join(f"{name}={tokens}/{refill}" for name, tokens, refill in value)


class BudgetFsps:
    """The class of single FSPs."""

    allowed = "FSP=CLASS, separated by commas, for example greenbank=B,bluebank=D"

    def read(self, text: str) -> tuple[tuple[str, str], ...]:
        classes: dict[str, str] = {}
        for part in text.split(",") if text else ():
            fsp_id, _, name = part.strip().rpartition("=")
            if re.fullmatch(r"[!-~]{1,32}", fsp_id.strip()) is None:
                raise ValueError(f"{_quote(part)} is not FSP=CLASS")
            if name.strip() not in get_args(BudgetClass):
                raise ValueError(f"{_quote(name)} is not one of the classes {', '.join(get_args(BudgetClass))}")
            if fsp_id.strip() in classes:
                raise ValueError(f"{_quote(fsp_id.strip())} is there twice")
            classes[fsp_id.strip()] = name.strip()
        return tuple(classes.items())

    def format(self, value: tuple[tuple[str, str], ...]) -> str:
        return ",".join(f"{fsp_id}={name}" for fsp_id, name in value)


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
    database_password: Annotated[
        str | None,
        Password(),
        Meta(
            description="Password for database_url, if that URL has none. A secret of Kubernetes often holds a password"
            " alone, and in a URL some characters must be written in another way."
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
    database_owner_password: Annotated[
        str | None,
        Password(),
        Meta(description="Password for database_owner_url, if that URL has none."),
    ] = None
    redis_url: Annotated[
        str | None,
        RedisUrl(),
        Meta(
            description="The Redis or Valkey of the cache: one server, Sentinel or a cluster. Not set: `oracle serve`"
            " runs its own Valkey."
        ),
    ] = None
    redis_password: Annotated[
        str | None,
        Password(),
        Meta(description="Password for redis_url, if that URL has none."),
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
    account_lookup: Annotated[
        Literal["off", "on"],
        Meta(
            description="on: DFSPs call this service in place of an account lookup service (ALS), at"
            " account_lookup_port. off, the default: only a hub with its own ALS asks this service."
        ),
    ] = "off"
    account_lookup_host: Annotated[
        str,
        Meta(
            pattern=_HOST_PATTERN,
            title="an address or a host name",
            description="Address of the account lookup listener. A gateway must be in front of it, which knows each"
            " DFSP: see account_lookup_client_id. The default opens nothing to the network; a container sets 0.0.0.0.",
        ),
    ] = "127.0.0.1"
    account_lookup_port: Annotated[
        int,
        Meta(
            ge=0, le=65_535,
            description="Port of the account lookup listener, as ALS has it. 0: any free port, for tests.",
        ),
    ] = 4002  # fmt: skip
    account_lookup_workers: Annotated[
        int,
        Meta(
            ge=1,
            le=256,
            description="Number of processes that answer DFSPs. Use at most one a core, together with workers.",
        ),
    ] = 1
    account_lookup_client_id: Annotated[
        Literal["off", "optional", "required", "certificate"],
        Meta(
            description="Whether the gateway names the caller in the header account_lookup_client_header. optional, as"
            " ALS: fspiop-source must be that caller where the header is there. required: a request without the header"
            " is refused. certificate: the header does not count; the caller is the common name of its client"
            " certificate, which this listener verifies with account_lookup_tls_client_ca. off: the header does not"
            " count, and any caller can name any DFSP as its fspiop-source."
        ),
    ] = "optional"
    account_lookup_client_header: Annotated[
        str,
        Meta(
            pattern=r"\A[A-Za-z0-9-]{1,64}\Z",
            title="the name of a header",
            description="Header in which the gateway names the caller: the FSP id that it knows by a token or by the"
            " subject of a client certificate. The gateway must remove that header from what DFSPs send.",
        ),
    ] = "x-client-id"
    account_lookup_works_max: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="How many accepted requests of DFSPs each worker works on at the same time. It refuses further"
            " ones with 503. Each takes some 10 KB.",
        ),
    ] = 10_000
    account_lookup_admin_host: Annotated[
        str,
        Meta(
            pattern=_HOST_PATTERN,
            title="an address or a host name",
            description="Address of the listener for the admin API of ALS (/oracles). It has no authentication, and"
            " this service calls the URLs that are stored there: only hub operators can be allowed to reach it.",
        ),
    ] = "127.0.0.1"
    account_lookup_admin_port: Annotated[
        int | None,
        Port(),
        Meta(
            description="Port of the admin API of ALS (/oracles); ALS uses 4001. Not set: it is off. 0: any free port,"
            " for tests."
        ),
    ] = None
    account_lookup_own_urls: Annotated[
        tuple[str, ...],
        BaseUrls("http", "https"),
        Meta(
            description="Base URLs of the hub listener of this service, as hub provisioning registers them at /oracles."
            " A party type whose oracle has one of these URLs is answered from the directory, in the process. Without"
            " this setting the service calls its own hub listener: the answers are the same, and cost more."
        ),
    ] = ()
    account_lookup_api_type: Annotated[
        Literal["fspiop", "iso20022"],
        Meta(
            description="Which messages DFSPs use: FSPIOP JSON, or ISO 20022 (acmt.024) for parties. All DFSPs of a"
            " scheme use the same, as with API_TYPE of ALS."
        ),
    ] = "fspiop"
    hub_name: Annotated[
        str,
        Meta(
            pattern=r"\A[A-Za-z0-9._-]{1,32}\Z",
            title="1 to 32 letters, digits, dots, hyphens or underscores",
            description="The name of the hub in fspiop-source, signatures and ISO 20022 messages that this service"
            " sends to DFSPs and to the central ledger.",
        ),
    ] = "Hub"
    ledger_url: Annotated[
        str | None,
        Address("http", "https"),
        Meta(
            description="The central ledger, which knows the participants and their endpoints. Not set: the directory"
            " of this service has them."
        ),
    ] = None
    party_timeout_s: Annotated[
        int,
        Meta(
            ge=0,
            le=86_400,
            description="How long a payer waits for the answer of a payee's DFSP to GET /parties, in seconds. Then it"
            " gets the error 3303. 0, the default: without an end, as with ALS.",
        ),
    ] = 0
    account_lookup_proxies: Annotated[
        Literal["on", "off"],
        Meta(
            description="Whether parties that nobody here has registered are looked up in other schemes, through the"
            " proxies that the scheme names, as with PROXY_CACHE.enabled of ALS."
        ),
    ] = "on"
    discovery_timeout_s: Annotated[
        int,
        Meta(
            ge=1,
            le=3_600,
            description="How long the proxies to other schemes can take to find a party, in seconds. Then the payer"
            " gets the error 3300, as with PROXY_CACHE_EXPIRES_IN_SEC of ALS.",
        ),
    ] = 20
    als_admin_url: Annotated[
        str | None,
        Address("http", "https"),
        Meta(
            description="The admin API of the hub's Account Lookup Service (ALS), without /oracles: the jobs process"
            " checks there that ALS asks this oracle, and registers it again where its row is missing. Not set: it"
            " checks nothing. A person who reaches it can choose the oracle of every FSP, so it must not be public."
        ),
    ] = None
    als_endpoint: Annotated[
        str | None,
        Address("http", "https"),
        Meta(
            description="Base URL at which ALS reaches the hub listener of this service, without a slash at the end,"
            " for example http://als-msisdn-oracle. ALS stores it, and adds /participants to it."
        ),
    ] = None
    als_types: Annotated[
        tuple[str, ...],
        Words(f"party id types, separated by commas: {', '.join(PARTY_ID_TYPES)}", PARTY_ID_TYPES),
        Meta(
            description="The party id types for which ALS must ask this oracle. Name only those that no other oracle of"
            " the hub answers for."
        ),
    ] = ("MSISDN",)
    als_currencies: Annotated[
        tuple[str, ...],
        CurrencyCodes(),
        Meta(
            description="A row of each of these currencies is registered for each type. ALS needs them for bulk"
            " requests with a currency. Not set: one row without a currency. Several need als_default."
        ),
    ] = ()
    als_default: Annotated[
        Literal["on", "off"],
        Meta(
            description="on: the rows must be default ones. ALS asks the default row where a type has several, and"
            " refuses every lookup where none of them is."
        ),
    ] = "off"
    als_replace: Annotated[
        Literal["on", "off"],
        Meta(
            description="on: the jobs process also replaces a row that differs, for example one with another endpoint."
            " Between its removal and its creation, lookups of that type fail. off: it reports such a row, and a person"
            " decides (`oracle als register --replace`)."
        ),
    ] = "off"
    als_check_interval_s: Annotated[
        int,
        Meta(
            ge=1,
            le=86_400,
            description="How often the jobs process checks the rows of ALS, in seconds. So long can lookups fail after"
            " the rows were lost.",
        ),
    ] = 60
    hub_tls_certificate: Annotated[Path | None, FilePath(), _certificate("hub listener", "hub")] = None
    hub_tls_key: Annotated[Path | None, FilePath(), _certificate_key("hub")] = None
    hub_tls_client_ca: Annotated[Path | None, FilePath(), _client_ca("hub listener")] = None
    hub_tls_require_client: Annotated[
        Literal["off", "on"],
        _require_client(
            "hub",
            " ALS 17.16.1 cannot show one: put a sidecar or a proxy that can between it and this listener.",
        ),
    ] = "off"
    admin_tls_certificate: Annotated[Path | None, FilePath(), _certificate("admin listener", "admin")] = None
    admin_tls_key: Annotated[Path | None, FilePath(), _certificate_key("admin")] = None
    admin_tls_client_ca: Annotated[Path | None, FilePath(), _client_ca("admin listener")] = None
    admin_tls_require_client: Annotated[Literal["off", "on"], _require_client("admin")] = "off"
    account_lookup_tls_certificate: Annotated[
        Path | None, FilePath(), _certificate("account lookup listener", "account_lookup")
    ] = None
    account_lookup_tls_key: Annotated[Path | None, FilePath(), _certificate_key("account_lookup")] = None
    account_lookup_tls_client_ca: Annotated[Path | None, FilePath(), _client_ca("account lookup listener")] = None
    account_lookup_tls_require_client: Annotated[Literal["off", "on"], _require_client("account_lookup")] = "off"
    account_lookup_admin_tls_certificate: Annotated[
        Path | None, FilePath(), _certificate("listener of /oracles", "account_lookup_admin")
    ] = None
    account_lookup_admin_tls_key: Annotated[Path | None, FilePath(), _certificate_key("account_lookup_admin")] = None
    account_lookup_admin_tls_client_ca: Annotated[Path | None, FilePath(), _client_ca("listener of /oracles")] = None
    account_lookup_admin_tls_require_client: Annotated[
        Literal["off", "on"], _require_client("account_lookup_admin")
    ] = "off"
    compiled: Annotated[
        Literal["auto", "off"],
        Meta(
            description="auto: lookups run compiled where there is a build of exactly these sources: from `make"
            " compile`, or in the installed package. off: they run as plain Python, for a comparison.",
        ),
    ] = "auto"
    admin_proxies: Annotated[
        tuple[str, ...],
        Networks(),
        Meta(
            description="Proxies in front of the admin listener. The oracle believes X-Forwarded-For from them alone,"
            " and counts failed logins for each client. Not set: all clients of a proxy are one client, and the log of"
            " refused calls cannot name the one that fails."
        ),
    ] = ()
    admin_auth: Annotated[
        tuple[str, ...],
        Words(f"some of {', '.join(WAYS)}, separated by commas", WAYS),
        Meta(
            description="How callers of the admin listener can prove who they are. keys: the keys of this service"
            " (aok_…), which its commands need. oidc: tokens of identity providers, see oidc_issuer and oidc_file."
            " gateway: the headers of a gateway, see gateway_secret and gateway_certificate_names (docs/administer.md)."
        ),
    ] = ("keys",)
    console: Annotated[
        Literal["off", "on"],
        Meta(
            description="on: people can sign in to a web console at /console of the admin listener, with their key or,"
            " where oidc_console_client is set, at their identity provider. off: there is no console."
        ),
    ] = "on"
    console_url: Annotated[
        str | None,
        Address("https", "http"),
        Meta(
            description="The address at which browsers reach the admin listener, for example"
            " https://oracle.example.com. Identity providers send people back there. Not set: the address that the"
            " browser asked for."
        ),
    ] = None
    console_rest_minutes: Annotated[
        int,
        Meta(ge=1, le=1_440, description="A session of the console ends after so many minutes without a request."),
    ] = 30
    console_session_hours: Annotated[
        int, Meta(ge=1, le=168, description="A session of the console ends after so many hours in any case.")
    ] = 12
    gateway_secret: Annotated[
        tuple[str, ...],
        SharedSecrets(),
        Meta(
            description="What the gateway must send in the header X-Gateway-Secret, so that the oracle believes X-User,"
            " X-Roles, X-DFSP-ID and X-Scope. Of two secrets, both are accepted: that is for replacing a secret. The"
            " gateway must also be in admin_proxies. Not set: only a client certificate proves the gateway."
        ),
    ] = ()
    gateway_certificate_names: Annotated[
        tuple[str, ...],
        Words("names, separated by commas"),
        Meta(
            description="Names in the client certificate of the gateway: its common name, a DNS name or a URI. One is"
            " enough. The admin listener must serve TLS and check client certificates. Not set: only gateway_secret"
            " proves the gateway."
        ),
    ] = ()
    oidc_file: Annotated[
        Path | None,
        FilePath(),
        Meta(
            description="TOML file with the issuers of tokens, [[oidc.issuer]], and the rules that give roles,"
            " [[oidc.map]] (docs/administer.md). Not set: the file of --config, if it has these tables."
        ),
    ] = None
    oidc_issuer: Annotated[
        str | None,
        Address("https", "http"),
        Meta(
            description="An issuer of tokens that is in no file: its URL, exactly as its tokens have it in"
            " `iss`. The oracle finds its keys by OpenID Connect discovery. Not set: none but those of the file."
        ),
    ] = None
    oidc_alias: Annotated[
        str,
        Meta(
            pattern=r"\A[a-z0-9][a-z0-9-]{0,31}\Z",
            title="1 to 32 small letters, digits and hyphens",
            description="Name of oidc_issuer in history, where a person is oidc:ALIAS:SUBJECT. Do not change it later:"
            " history would show the same people as other people.",
        ),
    ] = "main"
    oidc_audience: Annotated[
        str,
        Meta(
            pattern=r"\A[!-~]{0,255}\Z",
            title="visible characters without spaces",
            description="What tokens of oidc_issuer must have in `aud`. Not set: tokens need no `aud`, and"
            " oidc_client_ids must list the clients.",
        ),
    ] = ""
    oidc_client_ids: Annotated[
        tuple[str, ...],
        Words("client ids, separated by commas"),
        Meta(
            description="Clients of oidc_issuer whose tokens are accepted. Not set: tokens of all its clients, and"
            " oidc_audience must be set."
        ),
    ] = ()
    oidc_console_client: Annotated[
        str,
        Meta(
            pattern=r"\A[!-~]{0,255}\Z",
            title="visible characters without spaces",
            description="The client of the console at oidc_issuer. Its redirect URL there is"
            " CONSOLE_URL/console/sign-in/ALIAS/back. Not set: nobody signs in to the console at oidc_issuer.",
        ),
    ] = ""
    oidc_console_secret: Annotated[
        str | None,
        Secret(1),
        Meta(description="The secret of oidc_console_client. Not set: it is a public client, which PKCE protects."),
    ] = None
    oidc_rules: Annotated[
        tuple[str, ...],
        Words(f"some of {', '.join(RULE_SETS)}, separated by commas", RULE_SETS),
        Meta(
            description="Ready-made rules that give roles. The oracle tries them after those of [[oidc.map]]. Not set:"
            " all of them if no rules are in the file, else none."
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
            description="The admin key of the commands, or a token of an identity provider (see admin_auth). Better use"
            " key_file: other programs can read the environment."
        ),
    ] = None
    key_file: Annotated[
        Path | None,
        FilePath(),
        Meta(
            description="File with the admin key of the commands, or with a token of an identity provider. Only its"
            " owner can read it. Not set: the key that `oracle key save` kept for admin_url."
        ),
    ] = None

    command_ca_file: Annotated[
        Path | None,
        FilePath(),
        Meta(
            description="PEM file with the authorities that the commands trust where admin_url begins with https. Not"
            " set: those of the system; or, if admin_url is not set, the certificate in admin_tls_certificate itself."
        ),
    ] = None
    command_cert_file: Annotated[
        Path | None,
        FilePath(),
        Meta(
            description="PEM file with the client certificate of the commands, for an admin listener that asks for one."
        ),
    ] = None
    command_cert_key_file: Annotated[
        Path | None,
        FilePath(),
        Meta(
            description="PEM file with the private key of command_cert_file, without a password. Not set: the key is in"
            " command_cert_file."
        ),
    ] = None

    account_lookup_audit: Annotated[
        Literal["on", "off"],
        Meta(
            description="on: the account lookup service writes a line to its log for each request of an FSP: who asked,"
            " for what, and how it ended. A party is a digest there, made with audit_digest_key."
        ),
    ] = "off"
    audit_digest_key: Annotated[
        tuple[str, ...],
        Keys(),
        Meta(
            description="Secret key for the digests of account_lookup_audit: `openssl rand -hex 32` makes one. `oracle"
            " audit digest` needs the same. Of two keys, the service uses the first one. The second one is the earlier"
            " key, so that the command can find older lines."
        ),
    ] = ()
    jws_sign: Annotated[
        Literal["on", "off"],
        Meta(
            description="on: the account lookup service signs every message that the hub originates (JWS, RS256) with"
            " the key of jws_signing_key_file."
        ),
    ] = "off"
    jws_signing_key_file: Annotated[
        Path | None,
        FilePath(),
        Meta(
            description="File of that key: an RSA key of at least 2048 bits in PEM, without a password, that other"
            " users cannot read. The service reads it again within 5 s after it has changed. Give the public key to all"
            " FSPs before that."
        ),
    ] = None
    jws_validate: Annotated[
        Literal["on", "off"],
        Meta(
            description="on: the account lookup service refuses a message of an FSP that is not signed with a key of"
            " that FSP. GET is never signed; for PUT /parties see jws_validate_put_parties."
        ),
    ] = "off"
    jws_validate_put_parties: Annotated[
        Literal["on", "off"],
        Meta(
            description="on: with jws_validate, signatures of PUT /parties and of its errors are verified as well. off,"
            " as in an ALS: the FSP that receives the message verifies it."
        ),
    ] = "off"
    jws_verification_keys_dir: Annotated[
        Path | None,
        FilePath(),
        Meta(
            description="Directory with the public keys of FSPs: a file <fspId>.pem for each, in PEM. A file can hold"
            " several keys while an FSP replaces its key. The service looks for changes every 5 s. Not set: only the"
            " keys of FSPs in the directory count."
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

    budget_mode: Annotated[
        Literal["off", "observe", "enforce"],
        Meta(
            description="What happens to an FSP that asks about too many parties: see `Budgets against scans` in"
            " docs/operate.md. off: nothing. observe, the default: metrics show it, and history has an event when it"
            " lasts for 5 minutes. enforce: its lookups and registrations get 429, until its bucket has tokens again."
        ),
    ] = "observe"
    budget_class: Annotated[
        BudgetClass,
        Meta(description="The class of every FSP that budget_fsps does not name."),
    ] = "C"
    budget_fsps: Annotated[
        tuple[tuple[str, str], ...],
        BudgetFsps(),
        Meta(
            description="The class of single FSPs. A has the largest bucket, E the smallest. An FSP named here has a"
            " bucket of its own although the directory does not know it: for example one of another scheme."
        ),
    ] = ()
    budget_sizes: Annotated[
        tuple[tuple[str, int, int], ...],
        BudgetSizes(),
        Meta(
            description="The size of the bucket of an FSP of each class, in tokens, and how many tokens it gets back in"
            " a minute. A class that is left out keeps its default. unknown: the one bucket of all sources that the"
            " directory does not know."
        ),
    ] = BUDGET_SIZES
    budget_cost_found: Annotated[
        int, Meta(ge=0, le=1_000, description="How many tokens a lookup takes that finds an FSP.")
    ] = 1
    budget_cost_nobody: Annotated[
        int,
        Meta(
            ge=0,
            le=1_000,
            description="How many tokens a lookup takes that finds nobody. More than budget_cost_found, because a"
            " payer knows the number of the payee, and a scan guesses it.",
        ),
    ] = 3
    budget_cost_conflict: Annotated[
        int,
        Meta(
            ge=0,
            le=1_000,
            description="How many tokens it takes to register, change or remove an alias that another FSP holds: the"
            " refusal tells that.",
        ),
    ] = 10
    budget_als_cache_off: Annotated[
        Literal["no", "yes"],
        Meta(
            description="yes: you state that the cache of the ALS in front is off"
            " (GENERAL_CACHE_CONFIG.CACHE_ENABLED is false), or that there is no ALS. With its cache, an ALS joins"
            " equal lookups of different FSPs, and one of them would get the 429 of another. Needed for budget_mode"
            " enforce."
        ),
    ] = "no"
    budget_sources_bound: Annotated[
        Literal["no", "yes"],
        Meta(
            description="yes: you state that each caller can name only itself as fspiop-source, by a gateway, by client"
            " certificates or by signatures, in front of the ALS as well. Else any FSP could use up the budget of"
            " another one. Needed for budget_mode enforce."
        ),
    ] = "no"

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
            description="How long an idle connection of a hub or a DFSP stays open, in seconds. The hub keeps its"
            " connections forever and repeats no request: a connection closed too early is a payment that fails.",
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
            " together; a request beyond that is refused with 503. Each hub worker, each account lookup worker and the"
            " admin process have this limit. An account lookup worker holds a body until its request is done. The"
            " default is enough for 68 of a hub's largest bulks.",
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
    call_timeout_s: Annotated[
        int,
        Meta(
            ge=1,
            le=120,
            description="How long a call to a DFSP, a proxy, a ledger or another oracle can take, in seconds. It"
            " includes the wait for a connection. ALS waits for as long as the default.",
        ),
    ] = 20
    calls_connections_max: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000,
            description="How many connections each process opens to one host that it calls. Further calls to that host"
            " wait. The default is enough for 1,000 calls a second to a DFSP that answers within 100 ms.",
        ),
    ] = 100
    call_ca_file: Annotated[
        Path | None,
        FilePath(),
        Meta(
            description="PEM file with the authorities whose certificates the oracle accepts from https hosts that it"
            " calls. Not set: the authorities of the system."
        ),
    ] = None
    call_cert_file: Annotated[
        Path | None,
        FilePath(),
        Meta(
            description="PEM file with the certificate that the oracle shows to https hosts that ask for one (mutual"
            " TLS). SIGHUP reads it again. Not set: none."
        ),
    ] = None
    call_key_file: Annotated[
        Path | None,
        FilePath(),
        Meta(
            description="PEM file with the private key of call_cert_file, without a password. Not set: the key is in"
            " call_cert_file."
        ),
    ] = None
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
        scheme = "http" if self.admin_tls_certificate is None else "https"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.admin_port}"

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
    """Format all settings with their descriptions and defaults, as a TOML file that `--config` accepts.

    All values are comments.  Otherwise a file from today would keep today's defaults in every later version, and an
    older version would refuse a setting that nobody has set.
    """
    head = (
        "Settings of the oracle: oracle --config FILE serve. All values here are the defaults. An empty value is not"
        " set. To change one, remove the # before its name. The others then follow the defaults of later versions. The"
        " environment overrides this file: hub_port is ORACLE_HUB_PORT there."
    )
    parts = [_comment(head)]
    for one in SETTINGS.values():
        value = one.default if isinstance(one.default, (int, float, tuple)) else str(one.default or "")
        if isinstance(value, tuple) and not all(isinstance(each, str) for each in value):
            value = one.reader.format(value)
        parts.append(
            f"{_comment(one.description, f'Allowed: {one.reader.allowed}.')}\n#{one.name} = {json.dumps(value)}"
        )
    return "\n\n".join(parts)


def _comment(*paragraphs: str) -> str:
    return "\n".join(f"# {line}" for text in paragraphs for line in textwrap.wrap(text, 98, break_on_hyphens=False))


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


class Draft(NamedTuple):
    """What could be read.  A setting that is given, and cannot be read, is in `unread` and has its default."""

    configuration: Configuration
    problems: Sequence[str]
    unread: frozenset[str]


def load(environ: Mapping[str, str], file: Path | None = None) -> Configuration:
    """Read the settings in use.  Raises SettingsError with every problem of both sources."""
    draft = read(environ, file)
    if draft.problems:
        raise SettingsError([*draft.problems])
    return draft.configuration


def read(environ: Mapping[str, str], file: Path | None = None) -> Draft:
    """Read the settings in use, as far as they can be read."""
    problems: list[str] = []
    values: dict[str, object] = {}
    sources: dict[str, Source] = dict.fromkeys(SETTINGS, "default")
    in_file = _read_file(file, problems)
    unread = set(SETTINGS if in_file is None else ())
    given: list[tuple[Source, str, str, str]] = [
        *(("file", name, f"{file}: {name}", text) for name, text in in_file or ()),
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
            problems += [f"{label}: {problem}" for problem in exc.problems]
            unread.add(name)
        except ValueError as exc:
            problems.append(f"{label}: {exc}; use {SETTINGS[name].reader.allowed}")
            unread.add(name)
    if in_file is not None:
        problems += _join_passwords(values, {name for _, name, _, _ in given})
    settings = Settings(**values)  # type: ignore[arg-type]  # the readers return what the fields hold
    # A setting that cannot be read has its default here, so what seems to contradict it says nothing.
    doubtful = {SETTINGS[name].variable for name in unread}
    problems += [each for each in _find_contradictions(settings) if doubtful.isdisjoint(re.findall(r"[A-Z_]+", each))]
    return Draft(Configuration(settings, sources), problems, frozenset(unread))


# The URLs that a password can be given for.
_URLS: Final = {
    "database_password": "database_url",
    "database_owner_password": "database_owner_url",
    "redis_password": "redis_url",
}  # fmt: skip


def _join_passwords(values: dict[str, object], given: Collection[str]) -> list[str]:
    """Write each password into its URL, where everything else finds it.  Return the problems."""
    problems = []
    for name, url_name in _URLS.items():
        password, url = values.get(name), values.get(url_name)
        if not isinstance(password, str):
            continue
        values[name] = MASK  # the URL holds it; a copy that no rule about URLs covers must not travel to the workers
        variable, url_variable = SETTINGS[name].variable, SETTINGS[url_name].variable
        if isinstance(url, str) and _has_password(url):
            problems.append(f"{variable} is set, but {url_variable} has a password, too: remove one of the two")
        elif isinstance(url, str):
            values[url_name] = f"{url}{'&' if '?' in url else '?'}password={quote(password, safe='')}"
        elif url_name not in given:
            problems.append(f"{variable} is set, but {url_variable} is not: set it to a URL without a password")
    return problems


def _has_password(url: str) -> bool:
    parts = urlsplit(url)
    return parts.password is not None or "password" in dict(parse_qsl(parts.query, keep_blank_values=True))


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


def _read_file(file: Path | None, problems: list[str]) -> list[tuple[str, str]] | None:
    """Return the settings of the file; None if it cannot be read at all."""
    if file is None:
        return []
    try:
        table = tomllib.loads(file.read_bytes().decode())
    except OSError as exc:
        problems.append(f"{file}: cannot be read: {exc.strerror}")
        return None
    except UnicodeDecodeError:
        problems.append(f"{file}: is not UTF-8")
        return None
    except tomllib.TOMLDecodeError as exc:
        # Its sentence may quote a character of the file, never a value.
        problems.append(f"{file}: is not valid TOML: {exc}")
        return None
    if isinstance(table.pop(OIDC, None), dict):
        table.setdefault("oidc_file", str(file))
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
    meant = f"; did you mean {spell(SETTINGS[close[0]])}?" if close else "."
    return f"{meant} To list all settings: oracle check-config --example"


def require_database_url(settings: Settings) -> None:
    """Refuse the URL of the owner alone, because the embedded PostgreSQL is another database.  Raises SettingsError."""
    if settings.database_url is None and settings.database_owner_url is not None:
        problem = (
            f"{PREFIX}DATABASE_OWNER_URL is set, but {PREFIX}DATABASE_URL is not. Set {PREFIX}DATABASE_URL to the URL"
            " of the role of the service. To use a PostgreSQL that the service starts itself, set neither"
        )
        raise SettingsError([problem])


_NAMING_CALLERS: Final = ("required", "certificate")  # with these, each request of a DFSP names its caller


def list_warnings(settings: Settings) -> list[str]:
    """List what is allowed and seldom wanted, each with what to do."""
    warnings = [*_find_unverified_databases(settings)]
    if _is_public(settings.hub_host) and _is_public(settings.admin_host):
        warnings.append(
            f"Both listeners are open to every network: {PREFIX}HUB_HOST={settings.hub_host},"
            f" {PREFIX}ADMIN_HOST={settings.admin_host}. The hub listener has no authentication: everybody who reaches"
            f" port {settings.hub_port} can change aliases of every FSP. Set {PREFIX}HUB_HOST to an address that only"
            " the hub can reach. Or set a firewall or a network policy so that only the hub can reach port"
            f" {settings.hub_port}"
        )
    if (
        settings.account_lookup == "on"
        and _is_public(settings.account_lookup_host)
        and settings.account_lookup_client_id not in _NAMING_CALLERS
    ):
        warnings.append(
            f"The account lookup listener is open to every network: {PREFIX}ACCOUNT_LOOKUP_HOST="
            f"{settings.account_lookup_host}. A request without the header {settings.account_lookup_client_header} can"
            f" name any DFSP as its source. Set {PREFIX}ACCOUNT_LOOKUP_CLIENT_ID=required, and let only your gateway"
            f" reach port {settings.account_lookup_port}"
        )
    if (
        settings.budget_mode == "enforce"
        and settings.account_lookup == "on"
        and settings.account_lookup_client_id not in _NAMING_CALLERS
    ):
        warnings.append(
            f"{PREFIX}BUDGET_MODE is enforce, but the account lookup listener accepts requests without the header"
            f" {settings.account_lookup_client_header}: an FSP that names another one uses up its budget. Set"
            f" {PREFIX}ACCOUNT_LOOKUP_CLIENT_ID to required or certificate"
        )
    if "keys" not in settings.admin_auth:
        warnings.append(
            f"{PREFIX}ADMIN_AUTH does not name keys: the commands of this program call with a key, so no command that"
            " needs one works"
        )
    if "oidc" not in settings.admin_auth and settings.oidc_issuer is not None:
        warnings.append(
            f"{PREFIX}OIDC_ISSUER is set, but {PREFIX}ADMIN_AUTH does not name oidc: tokens are refused. Add oidc to"
            f" {PREFIX}ADMIN_AUTH"
        )
    if "gateway" not in settings.admin_auth and (settings.gateway_secret or settings.gateway_certificate_names):
        warnings.append(
            f"{PREFIX}GATEWAY_SECRET or {PREFIX}GATEWAY_CERTIFICATE_NAMES is set, but {PREFIX}ADMIN_AUTH does not name"
            f" gateway: the headers of the gateway are ignored. Add gateway to {PREFIX}ADMIN_AUTH"
        )
    if settings.account_lookup_admin_port is not None and not _is_loopback(settings.account_lookup_admin_host):
        port = settings.account_lookup_admin_port
        warnings.append(
            f"The listener of /oracles is open to other machines: {PREFIX}ACCOUNT_LOOKUP_ADMIN_HOST="
            f"{settings.account_lookup_admin_host}. It has no authentication: everybody who reaches port {port} can"
            " choose which server answers for the parties of every FSP. Set a firewall or a network policy so that only"
            f" hub operators can reach port {port}, or set {PREFIX}ACCOUNT_LOOKUP_ADMIN_HOST to 127.0.0.1"
        )
    return warnings


def _find_unverified_databases(settings: Settings) -> Iterator[str]:
    for name in ("database_url", "database_owner_url"):
        url = getattr(settings, name)
        if url is None:
            continue
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query))
        hosts = parts.netloc.rpartition("@")[2] or options.get("host", "")
        bare = [re.sub(r":\d*$", "", unquote(host)).strip("[]") for host in hosts.split(",")]
        are_here = all(not host or host.startswith("/") or _is_loopback(host) for host in bare)
        if not are_here and options.get("sslmode") not in ("verify-ca", "verify-full"):
            yield (
                f"PostgreSQL is on another machine, and {SETTINGS[name].variable} does not verify it: somebody between"
                " the two can read and change everything. Add sslmode=verify-full and sslrootcert=FILE to the URL"
            )


def _find_contradictions_of_budgets(settings: Settings) -> list[str]:
    if settings.budget_mode != "enforce":
        return []
    problems = []
    if settings.budget_als_cache_off != "yes":
        problems.append(
            f"{PREFIX}BUDGET_MODE is enforce, but {PREFIX}BUDGET_ALS_CACHE_OFF is not yes. With its cache on, an ALS"
            " joins equal lookups of different FSPs, and one of them would get the 429 of another. Switch off"
            f" GENERAL_CACHE_CONFIG.CACHE_ENABLED of your ALS, then set {PREFIX}BUDGET_ALS_CACHE_OFF=yes. Or use"
            f" {PREFIX}BUDGET_MODE=observe"
        )
    if settings.budget_sources_bound != "yes":
        problems.append(
            f"{PREFIX}BUDGET_MODE is enforce, but {PREFIX}BUDGET_SOURCES_BOUND is not yes. If a caller can name another"
            " FSP as fspiop-source, it can use up the budget of that FSP. Bind fspiop-source to the caller, then set"
            f" {PREFIX}BUDGET_SOURCES_BOUND=yes. Or use {PREFIX}BUDGET_MODE=observe"
        )
    return problems


def _is_loopback(host: str) -> bool:
    address = _read_address(host)
    return host == "localhost" if address is None else address.is_loopback


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


def _list_ports(settings: Settings) -> list[str]:
    """List the settings of the ports that this service opens."""
    ports = ["hub_port", "admin_port"]
    if settings.account_lookup == "on":
        ports.append("account_lookup_port")
    if settings.account_lookup_admin_port is not None:
        ports.append("account_lookup_admin_port")
    return ports


def _find_contradictions(settings: Settings) -> list[str]:
    problems = [problem for prefix in TLS_PREFIXES for problem in _find_tls_contradictions(settings, prefix)]
    if not settings.admin_auth:
        problems.append(f"{PREFIX}ADMIN_AUTH names no way in: use some of {', '.join(WAYS)}")
    if "gateway" in settings.admin_auth:
        if not settings.gateway_secret and not settings.gateway_certificate_names:
            problems.append(
                f"{PREFIX}ADMIN_AUTH names gateway, but nothing proves the gateway: an address alone can be that of a"
                f" whole network. Set {PREFIX}GATEWAY_SECRET or {PREFIX}GATEWAY_CERTIFICATE_NAMES"
            )
        if settings.gateway_certificate_names and settings.admin_tls_client_ca is None:
            problems.append(
                f"{PREFIX}GATEWAY_CERTIFICATE_NAMES is set, but the admin listener checks no client certificate: set"
                f" {PREFIX}ADMIN_TLS_CLIENT_CA to the authority of the gateway's certificate"
            )
        if not settings.admin_proxies:
            problems.append(
                f"{PREFIX}ADMIN_AUTH names gateway, but {PREFIX}ADMIN_PROXIES is not set: set it to the addresses of"
                " the gateway"
            )
    if settings.account_lookup_audit == "on":
        if not settings.audit_digest_key:
            problems.append(f"{PREFIX}ACCOUNT_LOOKUP_AUDIT is on, but {PREFIX}AUDIT_DIGEST_KEY is not set: set it")
        if settings.log_level not in ("debug", "info"):
            problems.append(f"{PREFIX}ACCOUNT_LOOKUP_AUDIT is on, but {PREFIX}LOG_LEVEL hides its lines: use info")
    if settings.jws_sign == "on" and settings.jws_signing_key_file is None:
        problems.append(
            f"{PREFIX}JWS_SIGN is on, but {PREFIX}JWS_SIGNING_KEY_FILE is not set: set it to the key's file"
        )
    if settings.account_lookup_client_id == "certificate" and settings.account_lookup_tls_client_ca is None:
        problems.append(
            f"{PREFIX}ACCOUNT_LOOKUP_CLIENT_ID is certificate, but {PREFIX}ACCOUNT_LOOKUP_TLS_CLIENT_CA is not set: set"
            " it to the authorities of the certificates of DFSPs"
        )
    if settings.command_cert_key_file is not None and settings.command_cert_file is None:
        problems.append(
            f"{PREFIX}COMMAND_CERT_KEY_FILE is set, but {PREFIX}COMMAND_CERT_FILE is not: set it to the certificate of"
            " the key"
        )
    if settings.call_key_file is not None and settings.call_cert_file is None:
        problems.append(
            f"{PREFIX}CALL_KEY_FILE is set, but {PREFIX}CALL_CERT_FILE is not: set it to the certificate of the key"
        )
    problems += _find_registration_problems(settings)
    problems += _find_contradictions_of_budgets(settings)
    for one, other in combinations(_list_ports(settings), 2):
        if getattr(settings, one) == getattr(settings, other) != 0:
            names = f"{SETTINGS[one].variable} and {SETTINGS[other].variable}"
            problems.append(f"{names}: both are {getattr(settings, one)}; use two ports, or 0")
    if settings.bodies_max_bytes < settings.body_max_bytes:
        problems.append(
            f"{PREFIX}BODIES_MAX_BYTES: one body of {PREFIX}BODY_MAX_BYTES would not fit; use at least"
            f" {settings.body_max_bytes}"
        )
    return problems


def _find_registration_problems(settings: Settings) -> list[str]:
    """Find what keeps the registration at an ALS from being checked."""
    problems = []
    if settings.als_endpoint is not None and re.search(r"/$|[?#{}]", settings.als_endpoint):
        problems.append(
            f"{PREFIX}ALS_ENDPOINT: ALS adds /participants to this URL: remove the slash at its end, and ? # {{ }}"
        )
    if settings.als_admin_url is None:
        return problems
    if settings.als_endpoint is None:
        problems.append(
            f"{PREFIX}ALS_ADMIN_URL is set, but {PREFIX}ALS_ENDPOINT is not: set it to the URL at which ALS reaches"
            " the hub listener"
        )
    if len(settings.als_currencies) > 1 and settings.als_default == "off":
        problems.append(
            f"{PREFIX}ALS_CURRENCIES names several currencies, but {PREFIX}ALS_DEFAULT is off: ALS would refuse every"
            f" lookup of a type with several rows and no default one. Set {PREFIX}ALS_DEFAULT=on"
        )
    return problems


TLS_PREFIXES: Final = ("hub", "admin", "account_lookup", "account_lookup_admin")  # of the listeners


def _find_tls_contradictions(settings: Settings, prefix: str) -> Iterator[str]:
    certificate, key, client_ca, require_client = (
        SETTINGS[f"{prefix}_tls_{name}"] for name in ("certificate", "key", "client_ca", "require_client")
    )
    if getattr(settings, certificate.name) is None:
        for one in (key, client_ca):
            if getattr(settings, one.name) is not None:
                yield f"{one.variable} is set, but {certificate.variable} is not: set it, too"
    if getattr(settings, require_client.name) == "on" and getattr(settings, client_ca.name) is None:
        yield (
            f"{require_client.variable} is on, but {client_ca.variable} is not set: set it to the authorities of your"
            " clients"
        )
