"""JWS: what we sign is what Mojaloop's library signs, what it signs is accepted, and nothing else is.

data/jws.json holds messages that @mojaloop/sdk-standard-components 19.19.1 has signed.  RS256 has no random part, so
ours must be the same to the last character.  tests/interop runs that library itself.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import asyncpg
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from harness import WAIT_S, open_bench, row

from oracle import errors
from oracle.api.dfsp import signatures
from oracle.api.dfsp.faults import Fault
from oracle.api.dfsp.signatures import BadKey, KeyDirectory, Signer, Validator, arrange, check_files, read_signing_key
from oracle.scheme.directory import DirectoryScheme
from oracle.settings import Settings, SettingsError, load

MADE = json.loads((Path(__file__).parent / "data" / "jws.json").read_text())
MESSAGES = MADE["messages"]
NAMES = [message["name"] for message in MESSAGES]
PEM = serialization.Encoding.PEM
PLAIN = serialization.NoEncryption()

Headers = list[tuple[bytes, bytes]]


def write_private(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return write_private(tmp_path / "hub.key", MADE["private key"])


@pytest.fixture
def keys_dir(tmp_path: Path) -> Path:
    directory = tmp_path / "keys"
    directory.mkdir()
    for fsp_id in ("Hub", "payerfsp"):
        (directory / f"{fsp_id}.pem").write_text(MADE["public key"])
    return directory


def list_headers(headers: dict[str, str]) -> Headers:
    return [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@cache
def make_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


def write_public(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    return key.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


def write_key(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, encryption: Any = PLAIN) -> str:
    return key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, encryption).decode()


MINE = serialization.load_pem_private_key(MADE["private key"].encode(), None)
BODY = b'{"fspId":"payerfsp"}'
TARGET = b"/participants/MSISDN/525512345678"
SENT = {
    "fspiop-source": "payerfsp",
    "fspiop-destination": "Hub",
    "date": "Sat, 28 Nov 2026 10:00:00 GMT",
    "fspiop-uri": TARGET.decode(),
    "fspiop-http-method": "POST",
}
PROTECTED = {
    "alg": "RS256",
    "FSPIOP-URI": TARGET.decode(),
    "FSPIOP-HTTP-Method": "POST",
    "FSPIOP-Source": "payerfsp",
    "FSPIOP-Destination": "Hub",
    "Date": "Sat, 28 Nov 2026 10:00:00 GMT",
}


def make_signature(protected: object = PROTECTED, body: bytes = BODY, *, raw: str | None = None) -> str:
    """Sign as an FSP does that has the key.  `raw`: the protected header as it stands."""
    assert isinstance(MINE, rsa.RSAPrivateKey)
    head = encode(json.dumps(protected).encode()) if raw is None else raw
    signature = MINE.sign(f"{head}.{encode(body)}".encode(), padding.PKCS1v15(), hashes.SHA256())
    return json.dumps({"signature": encode(signature), "protectedHeader": head})


def refuse(
    keys_dir: Path,
    *,
    signature: str | None = None,
    sent: dict[str, str] | None = None,
    more: Headers | None = None,
    method: str = "POST",
    target: bytes = TARGET,
    body: bytes = BODY,
) -> str:
    """Return the description of the refusal."""
    headers = list_headers((SENT if sent is None else sent) | {"fspiop-signature": signature or make_signature()})
    with pytest.raises(Fault) as raised:
        Validator(KeyDirectory(keys_dir), put_parties=False).check(method, target, headers + (more or []), body)
    assert (raised.value.status, raised.value.code, raised.value.extensions) == (400, "3105", ())
    return raised.value.description.removeprefix("Invalid signature - ")


# Signing ----------------------------------------------------------------------------------------------------------


@row("J01", "J02")
@pytest.mark.parametrize("message", MESSAGES, ids=NAMES)
def test_a_signed_message_is_what_the_library_of_mojaloop_makes(message: dict[str, Any], key_file: Path) -> None:
    body = arrange(json.dumps(message["sent"]["body"]).encode())
    assert body.decode() == message["signed"]["body"]
    headers = list_headers(message["sent"]["headers"])
    Signer(key_file).sign(message["method"], message["uri"], headers, body)
    assert dict(headers) == dict(list_headers(message["signed"]["headers"]))


async def test_signing_aside_makes_the_same_and_replaces_what_the_request_had(key_file: Path) -> None:
    signer = Signer(key_file)
    message = MESSAGES[0]
    headers = list_headers(message["sent"]["headers"])
    headers += [(b"FSPIOP-URI", b"/old"), (b"Fspiop-Signature", b"old"), (b"fspiop-http-method", b"GET")]
    body = json.dumps(message["sent"]["body"], indent=1).encode()
    assert (await signer.sign_message("PUT", message["uri"], headers, body)).decode() == message["signed"]["body"]
    assert dict(headers) == dict(list_headers(message["signed"]["headers"]))
    signer.close()


async def test_the_event_loop_goes_on_while_a_message_is_signed(key_file: Path) -> None:
    signer = Signer(key_file)
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    turning = asyncio.create_task(turn())
    await signer.sign_message("PUT", "/participants/1", [(b"fspiop-source", b"Hub")], b"{}")
    assert turns > 1
    turning.cancel()
    signer.close()


@row("J04")
def test_a_new_key_is_used_without_a_restart_and_a_bad_one_is_not(key_file: Path) -> None:
    now = [0.0]
    signer = Signer(key_file, look_again_s=5, clock=lambda: now[0])

    def sign() -> bytes:
        headers: Headers = [(b"fspiop-source", b"Hub")]
        signer.sign("PUT", "/participants/1", headers, b"{}")
        return dict(headers)[b"fspiop-signature"]

    first = sign()
    write_private(key_file, write_key(make_key()))
    assert sign() == first, "the file is not looked at for each message"
    now[0] += 5
    second = sign()
    assert second != first
    for spoil in (lambda: key_file.write_text("no key"), key_file.unlink):
        spoil()
        now[0] += 5
        assert sign() == second
    write_private(key_file, MADE["private key"])
    now[0] += 5
    assert sign() == first


def replace_by_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


@row("J05")
@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (
            lambda path: path.chmod(0o644),
            "other users of this machine can read or change it (mode 0644): run chmod 600",
        ),
        (Path.unlink, "cannot be read: No such file or directory"),
        (replace_by_directory, "cannot be read: Is a directory"),
        (replace_by_pipe, "is not a file"),
        (lambda path: path.write_text("x"), "is not a private key in PEM"),
        (lambda path: path.write_text(MADE["public key"]), "is not a private key in PEM"),
        (lambda path: path.write_text(write_key(make_key(1024))), "the key has 1024 bits: use one of at least 2048"),
        (lambda path: path.write_text(write_key(ec.generate_private_key(ec.SECP256R1()))), "is not an RSA key"),
        (
            lambda path: path.write_text(write_key(make_key(1024), serialization.BestAvailableEncryption(b"secret"))),
            "the key has a password",
        ),
        (lambda path: path.write_text("x" * 70_000), "is larger than 65536 bytes"),
    ],
    ids=["mode", "missing", "directory", "pipe", "garbage", "public", "small", "curve", "password", "large"],
)
def test_a_signing_key_that_cannot_be_used_is_one_line(
    spoil: Callable[[Path], object], text: str, key_file: Path
) -> None:
    spoil(key_file)
    with pytest.raises(BadKey) as raised:
        read_signing_key(key_file)
    assert str(raised.value).startswith(text)
    with pytest.raises(SettingsError) as refused:
        check_files(Settings(jws_sign="on", jws_signing_key_file=key_file))
    (line,) = refused.value.problems
    assert line == f"ORACLE_JWS_SIGNING_KEY_FILE: {key_file}: {raised.value}"


def test_signing_needs_a_key_file() -> None:
    with pytest.raises(SettingsError, match="ORACLE_JWS_SIGN is on, but ORACLE_JWS_SIGNING_KEY_FILE is not set"):
        load({"ORACLE_JWS_SIGN": "on"})


# Verifying --------------------------------------------------------------------------------------------------------


@row("J10")
@pytest.mark.parametrize("message", MESSAGES, ids=NAMES)
def test_a_message_that_the_library_of_mojaloop_signed_is_accepted(message: dict[str, Any], keys_dir: Path) -> None:
    headers = list_headers(message["signed"]["headers"])
    body = message["signed"]["body"].encode()
    validator = Validator(KeyDirectory(keys_dir), put_parties=True)
    validator.check(message["method"], message["uri"].encode(), headers, body)
    with pytest.raises(Fault):
        validator.check(message["method"], message["uri"].encode(), headers, body + b" ")


@row("J12", "D802")
@pytest.mark.parametrize("absent", ["fspiop-uri", "fspiop-http-method", "fspiop-signature", "fspiop-source"])
def test_a_request_without_a_signature_is_refused_and_its_headers_are_not_repeated(absent: str, keys_dir: Path) -> None:
    headers = list_headers({**SENT, "fspiop-signature": make_signature(), "cookie": "secret"})
    headers = [header for header in headers if header[0].decode() != absent]
    with pytest.raises(Fault) as raised:
        Validator(KeyDirectory(keys_dir), put_parties=False).check("POST", TARGET, headers, BODY)
    assert raised.value.description == (
        "Invalid signature - fspiop-uri, fspiop-http-method and fspiop-signature HTTP headers are all required for JWS"
    )


@row("J13", "D802")
def test_a_stranger_does_not_learn_who_has_keys(keys_dir: Path) -> None:
    unknown = {"fspiop-source": "nobody"}
    of_nobody = make_signature({**PROTECTED, "FSPIOP-Source": "nobody"})
    texts = {
        refuse(keys_dir, sent=SENT | unknown, signature=of_nobody),  # no key
        refuse(keys_dir, signature=make_signature(body=b"{}")),  # a key, and another body
    }
    (keys_dir / "payerfsp.pem").write_text(write_public(make_key()))
    texts.add(refuse(keys_dir))  # another key
    assert texts == {"no key of fspiop-source verifies the signature"}


@pytest.mark.parametrize("name", ["../hub", "/etc/passwd", "payerfsp.pem", "", ".", "PAYERFSP", "payerfsp\x00"])
def test_a_source_is_never_the_name_of_a_file(name: str, keys_dir: Path) -> None:
    (keys_dir.parent / "hub.pem").write_text(MADE["public key"])
    assert KeyDirectory(keys_dir).find(name) == ()


@row("J14")
@pytest.mark.parametrize("name", ["fspiop-uri", "fspiop-http-method", "fspiop-source", "fspiop-destination", "date"])
def test_a_header_that_differs_from_the_protected_one_is_refused(name: str, keys_dir: Path) -> None:
    (keys_dir / "Hub2.pem").write_text(MADE["public key"])
    text = f"{name} of the request and of the protected header must be the same"
    assert refuse(keys_dir, sent=SENT | {name: "Hub2"}) == text
    assert refuse(keys_dir, more=[(name.upper().encode(), SENT[name].encode())]) == (
        "a header that is part of the signature is there twice"
    )


def test_the_destination_is_in_both_or_in_none(keys_dir: Path) -> None:
    text = "fspiop-destination of the request and of the protected header must be the same"
    without = {name: value for name, value in SENT.items() if name != "fspiop-destination"}
    assert refuse(keys_dir, sent=without) == text
    protected = {name: value for name, value in PROTECTED.items() if name != "FSPIOP-Destination"}
    assert refuse(keys_dir, signature=make_signature(protected)) == text


def test_a_date_that_is_not_protected_is_accepted_as_the_library_does(keys_dir: Path) -> None:
    protected = {name: value for name, value in PROTECTED.items() if name != "Date"}
    headers = list_headers(SENT | {"fspiop-signature": make_signature(protected)})
    Validator(KeyDirectory(keys_dir), put_parties=False).check("POST", TARGET, headers, BODY)


@row("J15", "D803")
@pytest.mark.parametrize(
    ("signed", "target"),
    [
        ("/participants/MSISDN/525512345678", b"/participants/MSISDN/525512345679"),
        ("/participants/MSISDN/525512345678", b"/participants/MSISDN/525512345678/S"),
        ("/participants/ALIAS/a%2Fb", b"/participants/ALIAS/a/b"),
        ("/participants/ALIAS/a?currency=MXN", b"/participants/ALIAS/a?currency=USD"),
        ("/parties/ALIAS/a", b"/participants/ALIAS/a"),
        ("//error", b"/participants/ALIAS/a"),
    ],
)
def test_a_signature_is_only_good_for_its_own_path(signed: str, target: bytes, keys_dir: Path) -> None:
    signature = make_signature({**PROTECTED, "FSPIOP-URI": signed})
    text = refuse(keys_dir, sent=SENT | {"fspiop-uri": signed}, signature=signature, target=target)
    assert text == "fspiop-uri of the request and of the protected header must be the same"


@pytest.mark.parametrize(
    ("signed", "target"),
    [
        ("/participants/EMAIL/juan@ejemplo.mx", b"/participants/EMAIL/juan%40ejemplo.mx"),
        ("/participants/ALIAS/a%2fb", b"/participants/ALIAS/a%2Fb"),
        ("/participants/ALIAS/a", b"/participants/ALIAS/a?currency=MXN"),
        ("/participants/ALIAS/a?currency=MXN", b"/participants/ALIAS/a?currency=MXN"),
    ],
)
def test_a_path_can_be_written_in_several_ways(signed: str, target: bytes, keys_dir: Path) -> None:
    headers = list_headers(
        SENT | {"fspiop-uri": signed, "fspiop-signature": make_signature({**PROTECTED, "FSPIOP-URI": signed})}
    )
    Validator(KeyDirectory(keys_dir), put_parties=False).check("POST", target, headers, BODY)


@row("J16", "D804")
@pytest.mark.parametrize("algorithm", ["none", "HS256", "ES256", "RS512", "rs256", ""])
def test_only_rs256_is_accepted(algorithm: str, keys_dir: Path) -> None:
    signature = make_signature({**PROTECTED, "alg": algorithm})
    assert refuse(keys_dir, signature=signature) == "alg must be RS256"


GOOD = json.loads(make_signature())


@row("J17")
@pytest.mark.parametrize(
    "signature",
    [
        "x",
        "{}",
        "[]",
        "null",
        '"x"',
        "[" * 8_000,
        "{" * 8_000,
        '{"signature":' * 600,
        '{"signature":"\\ud800","protectedHeader":"a"}',
        json.dumps({**GOOD, "signature": 5}),
        json.dumps({**GOOD, "signature": None}),
        json.dumps({**GOOD, "signature": [GOOD["signature"]]}),
        json.dumps({**GOOD, "signature": ""}),
        json.dumps({**GOOD, "signature": "a"}),
        json.dumps({**GOOD, "signature": "*" * 342}),
        json.dumps({**GOOD, "signature": GOOD["signature"] + "=="}),
        json.dumps({**GOOD, "signature": GOOD["signature"] + "\n"}),
        json.dumps({**GOOD, "protectedHeader": GOOD["protectedHeader"] + "."}),
        json.dumps({**GOOD, "protectedHeader": "é"}),
        json.dumps({**GOOD, "x": "x" * 9_000}),
        make_signature(raw=encode(b"\xff\xfe")),
        make_signature(raw=encode(b"[" * 5_000)),
        make_signature(raw=encode(b"null")),
        make_signature({}),
        make_signature({**PROTECTED, "FSPIOP-URI": None}),
        make_signature({**PROTECTED, "alg": ["RS256"]}),
        make_signature({**PROTECTED, "crit": ["exp"]}),
    ],
    ids=range(27),
)
def test_a_crafted_signature_is_refused_with_one_text(signature: str, keys_dir: Path) -> None:
    assert refuse(keys_dir, signature=signature) == "invalid token"


@row("J17")
def test_whatever_is_changed_in_a_signed_request_is_refused(keys_dir: Path, complete: bool) -> None:
    """One byte of a header or of the body; never another exception, and never an acceptance."""
    random = Random(16)
    validator = Validator(KeyDirectory(keys_dir), put_parties=True)
    good = [*list_headers(SENT | {"fspiop-signature": make_signature()}), (b"", BODY)]
    codes = []
    for _ in range(20_000 if complete else 1_000):
        changed = list(good)
        place = random.randrange(len(changed))
        name, value = changed[place]
        at = random.randrange(len(value))
        other = bytes([random.randrange(256)])
        new = random.choice((value[:at] + other + value[at + 1 :], value[:at] + other + value[at:], value[:at]))
        changed[place] = (name, new)
        *headers, (_, body) = changed
        try:
            validator.check("POST", TARGET, headers, body)
        except Fault as fault:
            codes.append(fault.code)
        else:
            # JSON with a space more, or the same byte again, or the last bits of base64 that mean nothing.
            assert new.strip() == value or name == b"fspiop-signature"
    assert len(codes) > 900
    assert set(codes) == {"3105"}


def test_random_bytes_in_place_of_a_signature_are_refused(keys_dir: Path) -> None:
    texts = {
        refuse(keys_dir, signature=json.dumps({**GOOD, "signature": encode(os.urandom(size))}))
        for size in (1, 255, 256, 257, 4_000)
    }
    assert texts == {"no key of fspiop-source verifies the signature"}


def test_the_key_of_another_fsp_does_not_help(keys_dir: Path) -> None:
    (keys_dir / "payerfsp.pem").write_text(write_public(make_key()))
    (keys_dir / "thief.pem").write_text(MADE["public key"])
    assert refuse(keys_dir) == "no key of fspiop-source verifies the signature"


@row("J11")
def test_which_requests_must_be_signed(keys_dir: Path) -> None:
    """All but GET; PUT /parties only if that is set.  A DELETE is signed over an empty body."""
    usual, strict = (Validator(KeyDirectory(keys_dir), put_parties=put) for put in (False, True))
    assert not any(one.needs("GET", target) for one in (usual, strict) for target in (TARGET, b"/parties/MSISDN/1"))
    for target in (b"/parties/MSISDN/1", b"/parties/MSISDN/1/S/error"):
        assert not usual.needs("PUT", target)
        assert strict.needs("PUT", target)
    for method, target in (("POST", TARGET), ("PUT", TARGET), ("DELETE", TARGET), ("POST", b"/participants")):
        assert usual.needs(method, target)
        assert strict.needs(method, target)
    usual.check("GET", TARGET, [], b"")
    headers = list_headers(
        SENT
        | {
            "fspiop-http-method": "DELETE",
            "fspiop-signature": make_signature({**PROTECTED, "FSPIOP-HTTP-Method": "DELETE"}, b""),
        }
    )
    usual.check("DELETE", TARGET, headers, b"")


# Keys of FSPs -----------------------------------------------------------------------------------------------------


@row("J18", "D805")
def test_files_of_keys_are_looked_at_again_after_some_seconds(keys_dir: Path) -> None:
    """A key is added, replaced by a file with two keys, spoilt and removed."""
    now = [0.0]
    files = KeyDirectory(keys_dir, look_again_s=5, clock=lambda: now[0])
    file = keys_dir / "newfsp.pem"

    def count(after_s: float = 5) -> int:
        now[0] += after_s
        return len(files.find("newfsp"))

    assert count() == 0
    file.write_text(write_public(make_key()))
    assert count(after_s=4.9) == 0
    assert count() == 1
    other = file.with_suffix(".new")
    other.write_text(write_public(make_key()) + MADE["public key"])
    other.replace(file)
    assert count() == 2
    file.write_text("garbage")
    assert count() == 2
    assert files.list_problems() == [f"{file}: is not a public key in PEM"]
    assert count() == 2
    file.unlink()
    assert count() == 0
    assert files.list_problems() == []
    keys_dir.rename(keys_dir.with_name("away"))
    now[0] += 5
    assert len(files.find("payerfsp")) == 1, "a directory that cannot be read changes nothing"


def test_a_directory_of_keys_that_cannot_be_used_is_one_line_a_file(keys_dir: Path) -> None:
    (keys_dir / "a.pem").write_text(MADE["private key"])
    (keys_dir / "b.pem").write_text(write_public(ec.generate_private_key(ec.SECP256R1())))
    (keys_dir / "c.pem").write_text(MADE["public key"] * 9)
    (keys_dir / "d.pem").mkdir()
    (keys_dir / "notes.txt").write_text("not looked at")
    settings = Settings(jws_validate="on", jws_verification_keys_dir=keys_dir)
    with pytest.raises(SettingsError) as raised:
        check_files(settings)
    texts = {re.sub(r".*/(\w)\.pem: ", r"\1 ", line) for line in raised.value.problems}
    assert texts == {
        "a holds a private key: only its FSP can have it; write the public key here",
        "b is not an RSA key, and RS256 needs one",
        "c has 9 keys: an FSP can have 8",
        "d cannot be read: Is a directory",
    }
    with pytest.raises(SettingsError, match="cannot be read: No such file or directory"):
        check_files(Settings(jws_validate="on", jws_verification_keys_dir=keys_dir / "absent"))


class Directory:
    """The keys of FSPs in the directory, as oracle.scheme has them."""

    def __init__(self, keys: dict[str, list[str]] | None) -> None:
        self.keys = keys

    async def find_jws_keys(self, fsp_id: str) -> list[str]:
        if self.keys is None:
            raise errors.Unavailable
        return self.keys.get(fsp_id, [])


@row("J19", "D805")
async def test_keys_of_the_directory_count_as_well_as_files(keys_dir: Path) -> None:
    """Several keys of one FSP, one of which cannot be read."""
    headers = list_headers(SENT | {"fspiop-signature": make_signature()})
    assert Validator(KeyDirectory(keys_dir), Directory(None), put_parties=False).check("POST", TARGET, headers, BODY)
    assert not Validator(None, Directory({}), put_parties=False).check("POST", TARGET, headers, BODY)
    rotated = Directory({"payerfsp": ["garbage", write_public(make_key()), MADE["public key"]]})
    await Validator(None, rotated, put_parties=False).verify("POST", TARGET, headers, BODY)
    await Validator(KeyDirectory(keys_dir), Directory(None), put_parties=False).verify("POST", TARGET, headers, BODY)
    with pytest.raises(errors.Unavailable):
        await Validator(None, Directory(None), put_parties=False).verify("POST", TARGET, headers, BODY)
    with pytest.raises(Fault) as raised:
        await Validator(None, Directory({}), put_parties=False).verify("POST", TARGET, headers, BODY)
    assert raised.value.detail == signatures.UNVERIFIED
    await Validator(None, Directory(None), put_parties=False).verify("GET", TARGET, [], b"")


# Through the listener ---------------------------------------------------------------------------------------------


@row("J01", "J02", "J03", "J12", "D801")
async def test_the_listener_verifies_requests_and_signs_callbacks(
    database_url: str, redis_url: str, key_file: Path, keys_dir: Path
) -> None:
    settings = {
        "jws_sign": "on",
        "jws_signing_key_file": key_file,
        "jws_validate": "on",
        "jws_verification_keys_dir": keys_dir,
    }
    async with open_bench(database_url, redis_url, **settings) as bench:
        refused = await bench.ask("POST", TARGET.decode(), BODY)
        assert (refused.status, refused.error) == (400, ("3105", f"Invalid signature - {signatures.MISSING}"))
        signed = SENT | {"fspiop-signature": make_signature()}
        assert (await bench.ask("POST", TARGET.decode(), BODY, headers=signed)).status == 202
        await bench.settle()
        for sub_id in ("", "/a%2Fb"):
            assert (await bench.ask("GET", f"/parties/MSISDN/525500000000{sub_id}")).status == 202
        await bench.settle()
        callback, *found = await bench.payer.received(3)
        assert callback.body == (
            b'{"partyList":[{"fspId":"payerfsp","partyIdType":"MSISDN","partyIdentifier":"525512345678"}]}'
        )
        validator = Validator(KeyDirectory(keys_dir), put_parties=True)
        uris = set()
        for message in (callback, *found):
            uri = message.target.removeprefix("/payerfsp")
            uris.add(uri)
            assert message.headers["fspiop-uri"] == uri
            assert validator.check("PUT", uri.encode(), list_headers(message.headers), message.body)
        assert "/parties/MSISDN/525500000000/a%2Fb/error" in uris


@row("J19")
async def test_the_listener_accepts_a_key_of_the_directory(database_url: str, redis_url: str) -> None:
    signed = SENT | {"fspiop-signature": make_signature()}
    async with open_bench(database_url, redis_url) as bench:
        await bench.register("MSISDN", "525500000000", source="payerfsp")  # so the directory has the FSP
        scheme = DirectoryScheme(bench.store.postgres, every_s=0.01)
        await scheme.open()
        bench.listener._validator = Validator(None, scheme, put_parties=False)
        refused = await bench.ask("POST", TARGET.decode(), BODY, headers=signed)
        assert (refused.status, refused.error) == (400, ("3105", f"Invalid signature - {signatures.UNVERIFIED}"))
        connection = await asyncpg.connect(database_url)
        await connection.execute(
            "INSERT INTO fsp_jws_keys (fsp_id, label, pem, sha256) VALUES ('payerfsp', 'one', $1, $2)",
            MADE["public key"], "a" * 64,
        )  # fmt: skip
        await connection.close()
        async with asyncio.timeout(WAIT_S):
            while not await scheme.find_jws_keys("payerfsp"):  # noqa: ASYNC110 - it follows the directory by itself
                await asyncio.sleep(0.01)
        assert (await bench.ask("POST", TARGET.decode(), BODY, headers=signed)).status == 202
        await scheme.close()

        bench.listener._validator = Validator(None, Directory(None), put_parties=False)
        away = await bench.ask("POST", TARGET.decode(), BODY, headers=signed)
        assert (away.status, away.error[0]) == (503, "2003")
