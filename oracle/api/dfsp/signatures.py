"""JSON Web Signatures (JWS) of messages: ours are signed, those of FSPs are verified.

Form.      The header fspiop-signature is {"protectedHeader":…,"signature":…}, as Mojaloop's own library writes it.
           The signature is RS256 over `base64url(protected header).base64url(body)`, with the body byte for byte.  The
           protected header repeats fspiop-uri, fspiop-http-method, fspiop-source, fspiop-destination and date.
Order.     Mojaloop's library verifies not the bytes of a body, but what it writes itself after it has read them: JSON
           without spaces, the members of each object sorted.  `arrange` gives a body that form.  Then both agree.
Which.     We sign what the hub originates.  A forwarded message keeps the signature of its FSP.  We verify all methods
           but GET, and PUT /parties only if the settings ask for it.
Strangers. An FSP without a key and a wrong signature get the same text.  No text repeats a header or names a key.
Keys.      Each file is looked at again after some seconds, when it is needed.  So keys change without a restart.
           A file that cannot be used changes nothing: the earlier keys stay in use, and a line in the log says why.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import os
import re
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple, Protocol
from urllib.parse import unquote_to_bytes

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from oracle.api.dfsp.faults import Fault
from oracle.private_files import find_exposure
from oracle.settings import PREFIX, Settings, SettingsError
from oracle.telemetry import logs

Header = tuple[bytes, bytes]

ALGORITHM: Final = "RS256"
KEY_BITS_MIN: Final = 2048  # Mojaloop's library refuses a smaller key
LOOK_AGAIN_S: Final = 5.0
SIGNATURE_BYTES_MAX: Final = 8_192
FILE_BYTES_MAX: Final = 65_536
FILES_MAX: Final = 10_000
KEYS_MAX: Final = 8  # of one FSP

log = logs.Log(__name__)

_PADDING: Final = padding.PKCS1v15()
_HASH: Final = hashes.SHA256()
_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]+")
_PEM: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\r?\n.+?-----END \1-----", re.DOTALL)
_SIGNED: Final = (
    b"fspiop-uri", b"fspiop-http-method", b"fspiop-signature", b"fspiop-source", b"fspiop-destination", b"date",
)  # fmt: skip

# The texts of code 3105 that an FSP can see.
MISSING: Final = "fspiop-uri, fspiop-http-method and fspiop-signature HTTP headers are all required for JWS"
REPEATED: Final = "a header that is part of the signature is there twice"
MALFORMED: Final = "invalid token"
WRONG_ALGORITHM: Final = "alg must be RS256"
UNVERIFIED: Final = "no key of fspiop-source verifies the signature"
_MISMATCH: Final = "{} of the request and of the protected header must be the same"


class BadKey(ValueError):
    """A file has no key that can be used.  The text is a part of one line for the operator: `FILE: text`."""


# Keys -------------------------------------------------------------------------------------------------------------


def read_signing_key(path: Path) -> rsa.RSAPrivateKey:
    """Read an RSA key in PEM.  Raises BadKey."""
    data, status = _read(path)
    exposure = find_exposure(path, status)
    if exposure:
        raise BadKey(exposure)
    try:
        key = serialization.load_pem_private_key(data, None)
    except TypeError:
        raise BadKey("the key has a password: write it without one (openssl rsa -in FILE -out NEW)") from None
    except (ValueError, UnsupportedAlgorithm):
        raise BadKey("is not a private key in PEM: openssl genrsa -out FILE 2048 makes one") from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise BadKey(f"is not an RSA key, and {ALGORITHM} needs one: openssl genrsa -out FILE 2048 makes one")
    if key.key_size < KEY_BITS_MIN:
        raise BadKey(f"the key has {key.key_size} bits: use one of at least {KEY_BITS_MIN}")
    return key


def read_public_keys(data: bytes) -> list[rsa.RSAPublicKey]:
    """Read all RSA public keys and certificates of a PEM text, in their order.  Raises BadKey."""
    keys = [_read_public_key(match[0], match[1]) for match in _PEM.finditer(data)]
    if not keys:
        raise BadKey("is not a public key in PEM")
    if len(keys) > KEYS_MAX:
        raise BadKey(f"has {len(keys)} keys: an FSP can have {KEYS_MAX}")
    return keys


def _read_public_key(pem: bytes, kind: bytes) -> rsa.RSAPublicKey:
    if b"PRIVATE" in kind:
        raise BadKey("holds a private key: only its FSP can have it; write the public key here")
    try:
        if kind == b"CERTIFICATE":
            key = x509.load_pem_x509_certificate(pem).public_key()
        else:
            key = serialization.load_pem_public_key(pem)  # type: ignore[assignment]  # its other kinds are refused here
    except (ValueError, UnsupportedAlgorithm):
        raise BadKey("is not a public key in PEM") from None
    if not isinstance(key, rsa.RSAPublicKey):
        raise BadKey(f"is not an RSA key, and {ALGORITHM} needs one")
    if key.key_size < KEY_BITS_MIN:
        raise BadKey(f"the key has {key.key_size} bits: use one of at least {KEY_BITS_MIN}")
    return key


def _read(path: Path) -> tuple[bytes, os.stat_result]:
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise BadKey("is not a file")
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as exc:
        raise BadKey(f"cannot be read: {exc.strerror}") from None
    if len(data) > FILE_BYTES_MAX:
        raise BadKey(f"is larger than {FILE_BYTES_MAX} bytes")
    return data, status


def _open_at_once(path: str, flags: int) -> int:
    """Open without waiting for the writer of a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)


def check_files(settings: Settings) -> None:
    """Check the files of the settings for JWS, before a process needs them.  Raises SettingsError."""
    problems = []
    if settings.jws_sign == "on" and settings.jws_signing_key_file is not None:
        try:
            read_signing_key(settings.jws_signing_key_file)
        except BadKey as exc:
            problems.append(f"{PREFIX}JWS_SIGNING_KEY_FILE: {settings.jws_signing_key_file}: {exc}")
    if settings.jws_validate == "on" and settings.jws_verification_keys_dir is not None:
        files = KeyDirectory(settings.jws_verification_keys_dir)
        problems += [f"{PREFIX}JWS_VERIFICATION_KEYS_DIR: {problem}" for problem in files.list_problems()]
    if problems:
        raise SettingsError(problems)


class _Stamp(NamedTuple):
    """What changes when a file is written or replaced."""

    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> _Stamp:
        return cls(status.st_ino, status.st_size, status.st_mtime_ns)


class KeyDirectory:
    """The public keys in files `<fspId>.pem`.  A file can hold several keys, so that an FSP can replace its key."""

    def __init__(
        self, path: Path, *, look_again_s: float = LOOK_AGAIN_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.path = path
        self._look_again_s = look_again_s
        self._clock = clock
        self._next = -1.0
        self._stamps: dict[str, _Stamp] = {}
        self._keys: dict[str, list[rsa.RSAPublicKey]] = {}
        self._problems: dict[str, str] = {}  # by path

    def find(self, fsp_id: str) -> Sequence[rsa.RSAPublicKey]:
        """Find the keys of an FSP.  It is never the name of a file that is opened."""
        now = self._clock()
        if now >= self._next:
            self._next = now + self._look_again_s
            self._look()
        return self._keys.get(fsp_id, ())

    def list_problems(self) -> list[str]:
        """List what is wrong with the files, one line each."""
        self._look()
        return [f"{path}: {text}" for path, text in self._problems.items()]

    def _look(self) -> None:
        problems: dict[str, str] = {}
        try:
            found = self._list_files()
        except OSError as exc:
            problems[str(self.path)] = f"cannot be read: {exc.strerror}"
        except BadKey as exc:
            problems[str(self.path)] = str(exc)
        else:
            for fsp_id in self._stamps.keys() - found.keys():
                del self._stamps[fsp_id]
                self._keys.pop(fsp_id, None)
            for fsp_id, (path, stamp) in found.items():
                if self._stamps.get(fsp_id) != stamp:
                    self._stamps[fsp_id] = stamp
                    self._take(fsp_id, path, problems)
                elif path in self._problems:
                    problems[path] = self._problems[path]
        for path, text in problems.items():
            if self._problems.get(path) != text:
                log.warning("A file of JWS keys cannot be used; the earlier keys stay in use", file=path, reason=text)
        self._problems = problems

    def _list_files(self) -> dict[str, tuple[str, _Stamp]]:
        found: dict[str, tuple[str, _Stamp]] = {}
        with os.scandir(self.path) as entries:
            for entry in entries:
                if not entry.name.endswith(".pem") or entry.name.startswith("."):
                    continue
                if len(found) == FILES_MAX:
                    raise BadKey(f"has more than {FILES_MAX} files")
                try:
                    stamp = _Stamp.of(entry.stat())
                except FileNotFoundError:
                    continue  # removed meanwhile
                found[entry.name.removesuffix(".pem")] = (entry.path, stamp)
        return found

    def _take(self, fsp_id: str, path: str, problems: dict[str, str]) -> None:
        try:
            self._keys[fsp_id] = read_public_keys(_read(Path(path))[0])
        except BadKey as exc:
            problems[path] = str(exc)


class KeySource(Protocol):
    """The keys of FSPs in the directory: oracle.scheme.directory."""

    async def find_jws_keys(self, fsp_id: str) -> Sequence[str]:
        """Find the public keys of an FSP, in PEM.  Raises errors.Unavailable."""


# Signing ----------------------------------------------------------------------------------------------------------

_encode_sorted = msgspec.json.Encoder(order="sorted").encode


def arrange(body: bytes) -> bytes:
    """Write a JSON body as Mojaloop's library does before it verifies: without spaces, members sorted."""
    return _encode_sorted(msgspec.json.decode(body))


class Signer:
    """Signs with the key of a file, in a thread of its own: a signature takes 1 ms of CPU, and other FSPs cannot wait.

    One for each process.
    """

    def __init__(
        self, path: Path, *, look_again_s: float = LOOK_AGAIN_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Read the key.  Raises BadKey."""
        self._path = path
        self._look_again_s = look_again_s
        self._clock = clock
        self._key = read_signing_key(path)
        self._stamp = _Stamp.of(path.stat())
        self._next = clock() + look_again_s
        self._thread = ThreadPoolExecutor(1, "jws")

    async def sign_message(self, method: str, uri: str, headers: list[Header], body: bytes) -> bytes:
        """Arrange the body, and sign while the event loop goes on.  Return the body that must be sent."""
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, self._sign_arranged, method, uri, headers, body
        )

    def _sign_arranged(self, method: str, uri: str, headers: list[Header], body: bytes) -> bytes:
        arranged = arrange(body)
        self.sign(method, uri, headers, arranged)
        return arranged

    def sign(self, method: str, uri: str, headers: list[Header], body: bytes) -> None:
        """Add fspiop-uri, fspiop-http-method and fspiop-signature to the headers, in place of those that are there.

        `uri`: from /participants or /parties on, percent-encoded as it is sent.  `body`: see `arrange`.
        """
        self._look()
        headers[:] = [one for one in headers if one[0].lower() not in _SIGNED[:3]]
        values = {name.lower(): value.decode("latin-1") for name, value in headers}
        protected = {
            "alg": ALGORITHM,
            "FSPIOP-URI": uri,
            "FSPIOP-HTTP-Method": method,
            "FSPIOP-Source": values[b"fspiop-source"],
        }
        for name, header in (("FSPIOP-Destination", b"fspiop-destination"), ("Date", b"date")):
            if header in values:
                protected[name] = values[header]
        head = _encode_base64url(msgspec.json.encode(protected))
        signature = self._key.sign(b"%b.%b" % (head, _encode_base64url(body)), _PADDING, _HASH)
        headers += [
            (b"fspiop-uri", uri.encode("latin-1")),
            (b"fspiop-http-method", method.encode()),
            (
                b"fspiop-signature",
                b'{"protectedHeader":"%b","signature":"%b"}' % (head, _encode_base64url(signature)),
            ),
        ]

    def _look(self) -> None:
        now = self._clock()
        if now < self._next:
            return
        self._next = now + self._look_again_s
        try:
            stamp = _Stamp.of(self._path.stat())
            if stamp == self._stamp:
                return
            self._stamp = stamp
            self._key = read_signing_key(self._path)
        except (OSError, BadKey) as exc:
            reason = str(exc) if isinstance(exc, BadKey) else f"cannot be read: {exc.strerror}"
            log.warning("The new key for signatures cannot be used; the old one stays in use", reason=reason)
            return
        log.info("Messages are signed with a new key")

    def close(self) -> None:
        self._thread.shutdown(wait=False)


def _encode_base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


# Verifying --------------------------------------------------------------------------------------------------------


class _Signature(msgspec.Struct, rename="camel"):
    protected_header: str
    signature: str


class _Protected(msgspec.Struct):
    alg: str
    uri: str = msgspec.field(name="FSPIOP-URI")
    method: str = msgspec.field(name="FSPIOP-HTTP-Method")
    source: str = msgspec.field(name="FSPIOP-Source")
    destination: str | None = msgspec.field(name="FSPIOP-Destination", default=None)
    date: str | None = msgspec.field(name="Date", default=None)
    crit: msgspec.Raw | None = None  # extensions that a reader must know (RFC 7515): we know none


_decode_signature = msgspec.json.Decoder(_Signature).decode
_decode_protected = msgspec.json.Decoder(_Protected).decode


class _Signed(NamedTuple):
    """What a signature covers, once it fits its request."""

    source: str
    data: bytes
    signature: bytes


class Validator:
    """Verifies signatures of FSPs.  `files` and `source`: where their keys are; either can be absent."""

    def __init__(self, files: KeyDirectory | None, source: KeySource | None = None, *, put_parties: bool) -> None:
        self._files = files
        self._source = source
        self._put_parties = put_parties
        self._read: dict[str, list[rsa.RSAPublicKey]] = {}  # keys of the directory by their text

    def needs(self, method: str, target: bytes) -> bool:
        """Whether such a request must be signed."""
        if method == "GET":
            return False
        return self._put_parties or method != "PUT" or not target.startswith(b"/parties/")

    def check(self, method: str, target: bytes, headers: Sequence[Header], body: bytes) -> bool:
        """Check the signature of a request by the keys in files.  Raises Fault 3105.

        False: they do not verify it, and there are other keys: call `verify`.
        """
        if not self.needs(method, target):
            return True
        signed = _read_signed(method, target, headers, body)
        if _verifies(signed, self._find_in_files(signed.source)):
            return True
        if self._source is None:
            raise Fault("3105", UNVERIFIED)
        return False

    async def verify(self, method: str, target: bytes, headers: Sequence[Header], body: bytes) -> None:
        """Check the signature of a request by all keys.  Raises Fault 3105, errors.Unavailable."""
        if not self.needs(method, target):
            return
        signed = _read_signed(method, target, headers, body)
        if _verifies(signed, self._find_in_files(signed.source)):
            return
        if self._source is not None:
            texts = await self._source.find_jws_keys(signed.source)
            if _verifies(signed, [key for text in texts for key in self._read_text(text)]):
                return
        raise Fault("3105", UNVERIFIED)

    def _find_in_files(self, fsp_id: str) -> Sequence[rsa.RSAPublicKey]:
        return () if self._files is None else self._files.find(fsp_id)

    def _read_text(self, text: str) -> list[rsa.RSAPublicKey]:
        keys = self._read.get(text)
        if keys is None:
            if len(self._read) == FILES_MAX:
                self._read.clear()
            try:
                keys = read_public_keys(text.encode())
            except BadKey as exc:
                log.warning("A JWS key of the directory cannot be used", reason=str(exc))
                keys = []
            self._read[text] = keys
        return keys


def _verifies(signed: _Signed, keys: Sequence[rsa.RSAPublicKey]) -> bool:
    for key in keys[:KEYS_MAX]:
        try:
            key.verify(signed.signature, signed.data, _PADDING, _HASH)
        except InvalidSignature:
            continue
        return True
    return False


def _read_signed(method: str, target: bytes, headers: Sequence[Header], body: bytes) -> _Signed:
    """Read the signature of a request, and compare what it protects with the request.  Raises Fault 3105."""
    values = _collect(headers)
    if not (values.keys() >= {b"fspiop-uri", b"fspiop-http-method", b"fspiop-signature", b"fspiop-source"}):
        raise Fault("3105", MISSING)
    try:
        signature = _decode_signature(values[b"fspiop-signature"])
        protected = _decode_protected(_decode_base64url(signature.protected_header))
        decoded = _decode_base64url(signature.signature)
    except (msgspec.DecodeError, UnicodeDecodeError, binascii.Error, RecursionError):
        raise Fault("3105", MALFORMED) from None
    if protected.crit is not None:
        raise Fault("3105", MALFORMED)
    if protected.alg != ALGORITHM:
        raise Fault("3105", WRONG_ALGORITHM)
    _compare(protected, method, target, values)
    data = b"%b.%b" % (signature.protected_header.encode(), _encode_base64url(body))
    return _Signed(protected.source, data, decoded)


def _collect(headers: Sequence[Header]) -> Mapping[bytes, bytes]:
    values: dict[bytes, bytes] = {}
    for name, value in headers:
        lower = name.lower()
        if lower in _SIGNED:
            if lower in values:
                raise Fault("3105", REPEATED)
            values[lower] = value.strip()
            if len(value) > SIGNATURE_BYTES_MAX:
                raise Fault("3105", MALFORMED)
    return values


def _compare(protected: _Protected, method: str, target: bytes, values: Mapping[bytes, bytes]) -> None:
    """Compare each protected value with its header, and the two that name the request with the request itself."""
    if values[b"fspiop-http-method"].decode("latin-1") != protected.method or protected.method != method:
        raise Fault("3105", _MISMATCH.format("fspiop-http-method"))
    if values[b"fspiop-uri"].decode("latin-1") != protected.uri or not _names(protected.uri, target):
        raise Fault("3105", _MISMATCH.format("fspiop-uri"))
    for name, value, optional in (
        ("fspiop-source", protected.source, False),
        ("fspiop-destination", protected.destination, False),
        ("date", protected.date, True),
    ):
        sent = values.get(name.encode())
        if (None if sent is None else sent.decode("latin-1")) != value and not (optional and value is None):
            raise Fault("3105", _MISMATCH.format(name))


def _names(uri: str, target: bytes) -> bool:
    """Whether a URI is the path of the request, and its query if the URI has one.

    Mojaloop's library signs a URI before it percent-encodes it, so segments are compared decoded.
    """
    path, _, query = target.partition(b"?")
    signed, mark, signed_query = uri.encode("utf-8", "replace").partition(b"?")
    if mark and signed_query != query:
        return False
    return signed == path or [*map(unquote_to_bytes, signed.split(b"/"))] == [*map(unquote_to_bytes, path.split(b"/"))]


def _decode_base64url(text: str) -> bytes:
    if _BASE64URL.fullmatch(text) is None:
        raise binascii.Error
    return base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
