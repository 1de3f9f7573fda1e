"""Makes hostile requests from a seed: bytes that a DFSP, a broken proxy or an attacker could put on the wire.

A `Shot` is the bytes of one request.  Framed shots are valid HTTP with hostile contents: they are sent one after
another on a connection that must stay open.  Lone shots can break the framing or end the connection, so each is the
last on its connection, and the sending side is closed after it.

No request acts for VICTIM.  Every write here tries to change an alias of VICTIM; none may succeed.
"""

# ruff: noqa: E501 - tables of bytes, a row a line

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from hub import captured
from hub.messages import PARTICIPANTS, PARTIES, percent_encode, request, with_headers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from random import Random

VICTIM: Final = "payeefsp"
ATTACKER: Final = b"mallory"


@dataclass(frozen=True)
class Shot:
    family: str
    raw: bytes
    lone: bool = False


@dataclass(frozen=True)
class Alias:
    party_id_type: str
    identifier: str
    sub_id: str
    spellings: tuple[bytes, ...]  # of the identifier on the path

    def item(self, fsp_id: str) -> dict[str, str]:
        sub_id = {"partySubIdOrType": self.sub_id} if self.sub_id else {}
        return {
            "partyIdType": self.party_id_type,
            "partyIdentifier": self.identifier,
            "fspId": fsp_id,
            **sub_id,
        }


def _every_byte(text: str) -> bytes:
    return b"".join(b"%%%02x" % byte for byte in text.encode())


def _victims() -> Iterator[Alias]:
    for n in range(40):
        number = f"5255199{n:05}"
        old = b"521" + number[2:].encode()
        spellings = (b"%s", b"+%s", b"%%2B%s", b"%%2b%s")
        written = tuple(form % number.encode() for form in spellings)
        yield Alias("MSISDN", number, "", (*written, old, _every_byte(number)))
        business = f"acme-{n}"
        yield Alias("BUSINESS", business, "till7", (business.encode(), _every_byte(business)))
        yield Alias(
            "ALIAS", f"café-{n}", "", (percent_encode(f"café-{n}".encode()), percent_encode(f"cafe\u0301-{n}".encode()))
        )
        nrc = f"12/OUKAMA(N)9900{n:02}"
        yield Alias(
            "PERSONAL_ID",
            nrc,
            "NATIONAL_REGISTRATION",
            (
                nrc.replace("/", "%2F").encode(),
                f"12-250019-n-9900{n:02}".encode(),
                f"12OUKAMAN9900{n:02}".encode(),
                percent_encode(f"၁၂-ဥကမ(နိုင်)9900{n:02}".encode()),
            ),
        )
        mail = f"juan.{n}@ejemplo.mx"
        yield Alias("EMAIL", mail, "", (mail.encode(), mail.upper().encode(), _every_byte(mail)))


VICTIMS: Final = tuple(_victims())

HEADERS: Final = PARTICIPANTS.replace(b"fspiop-source: payerfsp", b"fspiop-source: " + ATTACKER)
SELF_HEAL: Final = PARTIES.replace(b"fspiop-source: payerfsp", b"fspiop-source: " + ATTACKER)
OWN: Final = b'{"fspId":"' + ATTACKER + b'"}'

TYPES: Final = (
    b"MSISDN", b"EMAIL", b"PERSONAL_ID", b"BUSINESS", b"DEVICE", b"ACCOUNT_ID", b"IBAN", b"ALIAS",
)  # fmt: skip

# Some program has read each of these as another character, or has ended a string there.
TRICKS: Final = tuple(
    text.encode(errors="surrogatepass")
    for text in (
        *("\u200b", "\u200d", "\ufeff", "\u00ad", "\u2060", "\u202e", "\u2066", "\u061c", "\u180e"),
        *("e\u0301", "\u00e9", "\u1e9e", "\u0130", "\u017f", "\u212a", "\uff11", "\u0661", "\u1041", "\u2460"),
        *("\ufb01", "\u1fef", "\u226e", "<\u0338", "\u2044", "\uff0f", "\u2215", "\u29f8", "\uff05", "\uff06"),
        *("\u00a0", "\u2028", "\u3000", "\u0085", "\u0000", "\u001b", "\u007f", "\ue000", "\ufffe", "\U0010ffff"),
        *("\U0001f600", "\U000e0041", "\u0300" * 40, "\ud800", "\udfff", "\ud83d\ude00", "K\u0327", "\ufdfa"),
    )
)

ESCAPES: Final = (
    *(b"%", b"%%", b"%2", b"%zz", b"%u0041", b"%x41", b"%-1", b"%+1", b"% 1".replace(b" ", b"+"), b"%%32F"),
    *(b"%00", b"%0a", b"%0d%0a", b"%20", b"%25", b"%2525", b"%252F", b"%2F", b"%2f", b"%5C", b"%26", b"%3F", b"%23"),
    *(b"%C0%AF", b"%E0%80%AF", b"%F8%80%80%80%AF", b"%C0%80", b"%ED%A0%80", b"%F4%90%80%80", b"%80", b"%FF", b"%E1%81"),
    *(b"%EF%BC%8F", b"%2e%2e", b"%2E%2E%2F", b"..", b".", b"...", b"&", b"&amp;", b"&#x2F;", b";", b";a=b", b"+"),
    *(b"=", b"'", b'"', b"<", b">", b"`", b"{", b"}", b"|", b"^", b"\\", b"[", b"]", b"*", b"~", b"$(id)", b"' OR 1=1--"),
)  # fmt: skip
SEGMENT_ESCAPES: Final = tuple(escape.replace(b" ", b"%20") for escape in ESCAPES)


def identifier(random: Random) -> bytes:
    """Make an identifier, valid or not, that is safe in a request line."""
    base = random.choice(
        (b"", b"525512345678", b"+525512345678", b"032180000118359719", b"12-OUKAMA-N-123456", b"a", b"x" * 128)
    )
    parts = [base]
    for _ in range(random.choice((0, 1, 1, 2, 4))):
        part = random.choice(SEGMENT_ESCAPES) if random.random() < 0.6 else _percent(random.choice(TRICKS))
        parts.insert(random.randrange(len(parts) + 1), part)
    return b"".join(parts) * (random.choice((2, 10, 40)) if random.random() < 0.1 else 1)


def _percent(text: bytes) -> bytes:
    return b"".join(b"%%%02X" % byte for byte in text)


def write(random: Random, target: bytes, headers: bytes = HEADERS, body: bytes = OWN) -> bytes:
    method = random.choice((b"POST", b"PUT", b"DELETE"))
    return request(method + b" " + target, headers, None if method == b"DELETE" else body)


def ask(random: Random, target: bytes) -> bytes:
    if random.random() < 0.4:
        return write(random, target)
    return request(random.choice((b"GET", b"GET", b"GET", b"HEAD")) + b" " + target, HEADERS)


# Framed -------------------------------------------------------------------------------------------------------


def path(random: Random) -> Shot:
    party_id_type = random.choice(
        (*TYPES, b"msisdn", b"CLABE", b"NRC", b"TAX_ID", b"", b"MSISDN%00", b"%4DSISDN", b"MSISDN;", identifier(random))
    )
    target = random.choice((b"/participants/", b"//participants/", b"/participants//", b"/participants/./")) + (
        party_id_type + b"/" + identifier(random)
    )
    for _ in range(random.choice((0, 0, 0, 1, 1, 2, 5))):
        target += b"/" + identifier(random)
    if random.random() < 0.1:
        target += random.choice((b"/", b"//", b"/" * 500, b"/.", b"/..", b"#", b"#/x", b"?", b"/?"))
    if random.random() < 0.05:
        target = random.choice((b"http://a", b"http://user:pass@a:1", b"HTTPS://[::1]:3000", b"x://")) + target
    return Shot("path", ask(random, target[:15_000]))


def odd_path(random: Random) -> Shot:
    target = random.choice(
        (
            *(b"/", b"//", b"/..", b"/participants", b"/participants/", b"/participantsx", b"/Participants/MSISDN/1"),
            *(b"/parties/MSISDN/525512345678", b"/admin", b"/metrics", b"/oracle.toml", b"/.env", b"/etc/passwd"),
            *(b"/participants/../health", b"/participants/%2e%2e/health", b"/health/", b"/health?x", b"/docs/../x"),
            *(b"*", b"/*", b"/participants\\MSISDN\\1", b"/%70articipants/MSISDN/525512345678", b"/openapi.json%00"),
            *(b"http://a", b"http://a?x", b"http:", b"://", b"/" + b"a" * 10_000, b"/" + b"/a" * 5_000, b"/health#x"),
        )
    )
    return Shot("odd path", ask(random, target))


def query(random: Random) -> Shot:
    names = (
        *(b"currency", b"partySubIdOrType", b"Currency", b"%63urrency", b"currency%00", b"currency[]", b"fspId", b""),
        *(b"partySubIdOrType.x", b"__proto__", b"currency+", b"amp;currency", b"partysubidortype"),
    )
    values = (b"", b"MXN", b"mxn", b"MXNN", b"%4DXN", b"null", b"%00", b"MXN,USD", b"-1", b"NATIONAL_REGISTRATION")
    members = [
        random.choice(names)
        + random.choice((b"=", b"=", b"=", b"==", b""))
        + random.choice((*values, identifier(random)))
        for _ in range(random.choice((1, 1, 2, 2, 3, 40)))
    ]
    glue = random.choice((b"&", b"&", b"&", b"&&", b";", b"&amp;", b"?"))
    target = random.choice((b"/participants/MSISDN/525512345678", b"/participants/BUSINESS/acme-1", b"/participants"))
    return Shot("query", ask(random, (target + b"?" + glue.join(members))[:15_000]))


def headers(random: Random) -> Shot:
    source = random.choice(
        (
            *(b"", b" ", b"mallory ", b"\tmallory", b"mallory,payeefsp", b"MALLORY", b"x" * 32, b"x" * 33, b"x" * 5000),
            *(
                b"mal lory",
                "mallöry".encode(),
                b"mallory\xff",
                b"mallory\x7f",
                b"mallory;payeefsp",
                b"' OR 1=1--",
                b"null",
            ),
        )
    )
    more = random.choice(
        (
            (b"fspiop-source: " + ATTACKER,),
            (b"FSPIOP-Source: strangerfsp", b"fspiop_source: payeefsp"),
            (
                b"X-Forwarded-For: 127.0.0.1",
                b"X-HTTP-Method-Override: DELETE",
                b"X-Original-URL: /participants/MSISDN/1",
            ),
            (b"Host: payeefsp", b"Host: b", b":authority: x".replace(b":a", b"a")),
            (b"content-type: application/json", b"content-type: " + b"parties+json" * 300),
            (b"content-type:", b"accept:", b"date: never", b"date: " + b"9" * 3000),
            (b"traceparent: 00-" + b"f" * 32 + b"-" + b"0" * 16 + b"-ff", b"tracestate: " + b"a=b," * 500),
            (b"traceparent: " + b"\xff" * 55,),
            (b"expect: 100-continue",),
            (b"expect: 200-ok",),
            (b"upgrade: h2c", b"connection: upgrade, http2-settings", b"http2-settings: AAA"),
            (b"upgrade: websocket", b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==", b"connection: Upgrade"),
            tuple(b"x-%d: %d" % (n, n) for n in range(200)),
            (b"content-encoding: br, gzip, deflate", b"range: bytes=0-,0-,0-", b"if-match: x"),
            (b"cookie: " + b"a" * 12_000, b"authorization: Basic " + b"QQ==" * 2000),
        )
    )
    target = b"/participants/MSISDN/" + random.choice(VICTIMS).spellings[0]
    changed = with_headers(HEADERS.replace(b"fspiop-source: mallory", b"fspiop-source: " + source), *more)
    return Shot("headers", write(random, target, changed))


def _values(random: Random) -> bytes:
    return random.choice(
        (
            *(
                b"null",
                b"true",
                b"1",
                b"-0",
                b"1e400",
                b"-1e-400",
                b"0.1e1",
                b"9" * 5000,
                b'""',
                b'"mallory"',
                b"{}",
                b"[]",
            ),
            *(
                b'"\\ud800"',
                b'"\\udc00\\ud800"',
                b'"\\u0000"',
                b'"\xff"',
                b'"\xed\xa0\x80"',
                b'"\n"',
                b'"\\x"',
                b'"\\u12"',
            ),
            *(
                b"NaN",
                b"Infinity",
                b"-Infinity",
                b"undefined",
                b"'mallory'",
                b"01",
                b"+1",
                b".5",
                b"1.",
                b"0x1",
                b"nul",
            ),
            *(
                b'"' + b"x" * 33 + b'"',
                b'"' + b"x" * 3000 + b'"',
                b'["mallory"]',
                b'{"$gt":""}',
                b'"mallory',
                b"mallory",
            ),
            *(b"[" * 2000 + b"]" * 2000, b'{"a":' * 1500 + b"1" + b"}" * 1500, b'"\\u006dallory"', b'"mallory\\u0000"'),
            *(b'"payeefsp"', b'"MXN"', b'"mxn"', b'"\xc3\xa9"', b'"e\xcc\x81"', b'" "', b'"NATIONAL_REGISTRATION"'),
        )
    )


def body(random: Random) -> Shot:
    """Write to a victim's alias, so that a body that is read too leniently would show."""
    names = (
        b"fspId",
        b"currency",
        b"partySubIdOrType",
        b"fspid",
        b"FspId",
        b"fsp\\u0049d",
        b"",
        b"__proto__",
        b"extensionList",
    )
    members = [b'"%s":%s' % (random.choice(names), _values(random)) for _ in range(random.randint(0, 4))]
    if random.random() < 0.6:
        members.insert(random.randrange(len(members) + 1), b'"fspId":"mallory"')
    text = b"{" + b",".join(members) + b"}"
    match random.randrange(12):
        case 0:
            text = b"\xef\xbb\xbf" + text
        case 1:
            text = text.decode(errors="replace").encode(random.choice(("utf-16", "utf-16-le", "utf-32", "utf-7")))
        case 2:
            text += random.choice((b"x", b"{}", b",", b"\x00", b"}", b" " * 5000, b"//", b"/*x*/"))
        case 3:
            text = random.choice(
                (b"", b" ", b"\x00", b"null", b"[]", b'"x"', b"1", b"{", b"[" * 100_000, b'{"a":' * 50_000)
            )
        case 4:
            text = text[: random.randrange(len(text) + 1)]
        case 5:
            text = b"{" + b'"fspId":"mallory",' * 2000 + text[1:]
    victim = random.choice(VICTIMS)
    target = b"/participants/%s/%s" % (victim.party_id_type.encode(), random.choice(victim.spellings))
    if victim.sub_id and random.random() < 0.5:
        target += b"?partySubIdOrType=" + victim.sub_id.encode()
    return Shot("body", request(random.choice((b"POST", b"PUT")) + b" " + target, HEADERS, text))


def bulk(random: Random) -> Shot:
    """Make items with every kind of error; valid items name a victim's alias."""

    def item() -> bytes:
        if random.random() < 0.4:
            return json.dumps(random.choice(VICTIMS).item(random.choice(("mallory", VICTIM)))).encode()
        names = (b"partyIdType", b"partyIdentifier", b"fspId", b"partySubIdOrType", b"currency", b"partyId")
        kinds = b'"%s"' % random.choice(TYPES)
        members = [b'"%s":%s' % (name, random.choice((_values(random), kinds, b'"mallory"'))) for name in names]
        return random.choice((b"{" + b",".join(random.sample(members, 4)) + b"}", _values(random)))

    items = b",".join(item() for _ in range(random.choice((0, 1, 2, 5, 50))))
    text = random.choice(
        (
            b'{"partyList":[%s]}' % items,
            b'{"requestId":%s,"partyList":[%s],"currency":%s}' % (_values(random), items, _values(random)),
            b'{"partyList":[%s],"partyList":[%s]}' % (items, items),
            b'{"partyList":%s}' % _values(random),
            b"[%s]" % items,
        )
    )
    return Shot("bulk", request(b"POST /participants", HEADERS, text))


def theft(random: Random) -> Shot:
    """Make a valid request for another FSP's alias, in any of its spellings."""
    victim = random.choice(VICTIMS)
    target = random.choice((b"/participants/", b"//participants/")) + victim.party_id_type.encode()
    target += b"/" + random.choice(victim.spellings)
    fsp_id = random.choice((b"mallory", b"mallory", VICTIM.encode(), b"Mallory", b"mallory "))
    text = b'{"fspId":"%s"}' % fsp_id
    sub_id = victim.sub_id.encode()
    match random.randrange(4 if sub_id else 1):
        case 1:
            target += b"/" + sub_id
        case 2:
            target += b"?partySubIdOrType=" + sub_id
        case 3:
            text = b'{"fspId":"%s","partySubIdOrType":"%s"}' % (fsp_id, sub_id)
    return Shot("theft", write(random, target, random.choice((HEADERS, HEADERS, SELF_HEAL)), text))


def method(random: Random) -> Shot:
    name = random.choice((b"PATCH", b"OPTIONS", b"TRACE", b"PROPFIND", b"MKCOL", b"PURGE", b"LINK", b"SEARCH", b"HEAD"))
    target = random.choice((b"/participants/MSISDN/525512345678", b"/participants", b"/health", b"/docs", b"/nowhere"))
    return Shot("method", request(name + b" " + target, HEADERS))


# Lone ---------------------------------------------------------------------------------------------------------

_PLAIN: Final = b"POST /participants/ALIAS/framed HTTP/1.1\r\nfspiop-source: mallory\r\n"
_INNER: Final = b"DELETE /participants/MSISDN/525519900000 HTTP/1.1\r\nfspiop-source: mallory\r\n\r\n"


def framing(random: Random) -> Shot:
    return Shot("framing", random.choice(_FRAMINGS), lone=True)


_FRAMINGS: Final = (
    *(b"\r\n" * 3, b"\x00", b"\xff" * 50, b"GET", b"GET /", b"GET / HTTP", b"GET / HTTP/1.1", b"GET / HTTP/1.1\r\n"),
    *(b"GET /health\r\n\r\n", b"GET /health HTTP/0.9\r\n\r\n", b"GET /health HTTP/1.0\r\n\r\n", b"GET /health HTTP/1.2\r\n\r\n"),
    *(b"GET /health HTTP/2.0\r\n\r\n", b"GET /health HTTP/1.1\n\n", b"GET /health HTTP/1.1\r\r", b"get /health HTTP/1.1\r\n\r\n"),
    *(b"GET  /health HTTP/1.1\r\n\r\n", b"GET\t/health HTTP/1.1\r\n\r\n", b" GET /health HTTP/1.1\r\n\r\n"),
    *(b"GET /he alth HTTP/1.1\r\n\r\n", b"GET /h\xc3\xa9 HTTP/1.1\r\n\r\n", b"GET /\x00 HTTP/1.1\r\n\r\n"),
    *(b"GET /health HTTP/1.1 x\r\n\r\n", b"GET health HTTP/1.1\r\n\r\n", b"FOO / HTTP/1.1\r\n\r\n", b"G" * 100_000),
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00" * 9,
    b"CONNECT a:1 HTTP/1.1\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 500,
    b"*1\r\n$4\r\nPING\r\n",
    *(
        _PLAIN + header + b"\r\n\r\n" + OWN
        for header in (
            *(b"content-length: 19", b"content-length: 18", b"content-length: 20", b"content-length: 0"),
            *(b"content-length: -1", b"content-length: +19", b"content-length: 0x13", b"content-length: 19, 19"),
            *(b"content-length: 19\r\ncontent-length: 19", b"content-length: 19\r\ncontent-length: 0"),
            *(b"content-length: 99999999999999999999", b"content-length: 4294967315", b"content-length: 1e1"),
            *(b"content-length:", b"content-length: 19 ", b"content-length : 19", b"content_length: 19", b"content-length: 5000000"),
            *(b"transfer-encoding: gzip", b"transfer-encoding: identity", b"transfer-encoding: chunked, gzip"),
            *(b"transfer-encoding: xchunked", b"transfer-encoding:", b"transfer-encoding: \x0bchunked"),
            *(b"a: b\r\n c", b"a: b\r\n\tc", b": x", b"a b: c", b"a\x00: c", b"a: \x00", b"nocolon", b"a:b\rc", b"a:b\nc: d"),
            *(b"a" * 70_000 + b": b", b"a: " + b"b" * 70_000, b"\r\n".join([b"a: b"] * 300), b"connection: close"),
            *(b"upgrade: h2c\r\nconnection: upgrade\r\ncontent-length: 19", b"connection: content-length\r\ncontent-length: 19"),
        )
    ),
    *(
        _PLAIN + b"transfer-encoding: " + coding + b"\r\n\r\n" + chunks
        for coding in (b"chunked", b"Chunked", b"chunked\r\ncontent-length: 5", b"chunked\r\ntransfer-encoding: chunked")
        for chunks in (
            *(b"13\r\n" + OWN + b"\r\n0\r\n\r\n", b"0\r\n\r\n", b"", b"13\r\n" + OWN, b"zz\r\n", b"-1\r\n\r\n", b"13;a=b\r\n" + OWN),
            *(b"0x13\r\n" + OWN + b"\r\n0\r\n\r\n", b"FFFFFFFFFFFFFFFF1\r\n", b"fffffff\r\nx", b"13\r\n" + OWN + b"0\r\n\r\n"),
            *(b"13\n" + OWN + b"\n0\n\n", b"00000000000000000013\r\n" + OWN + b"\r\n0\r\n\r\n", b"13 \r\n" + OWN + b"\r\n0\r\n\r\n"),
            *(b"1;" + b"x" * 70_000, b"0\r\n" + b"t: x\r\n" * 30_000, b"0\r\n\r\n" + _INNER, b"13\r\n" + OWN + b"\r\n0\r\n" + _INNER),
        )
    ),
    _PLAIN + b"content-length: 0\r\n\r\n" + _INNER,
    _PLAIN + b"content-length: 100\r\n\r\n" + _INNER + OWN * 3,
    _PLAIN + b"upgrade: h2c\r\nconnection: upgrade\r\ncontent-length: %d\r\n\r\n" % len(_INNER) + _INNER,
    b"GET /health HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % len(_INNER) + _INNER,
    b"POST /participants/ALIAS/framed HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 5000,
)  # fmt: skip


def large(random: Random) -> Shot:
    target = b"/participants/ALIAS/" + random.choice(
        (b"x" * 17_000, _percent(b"\xc3\xa9" * 4000), b"%" * 20_000, b"/" * 30_000)
    )
    big = b'{"fspId":"mallory","x":"' + b"x" * random.choice((4_194_000, 4_194_305, 6_000_000)) + b'"}'
    victim = b"/participants/MSISDN/" + VICTIMS[0].spellings[0]
    return Shot(
        "large",
        random.choice(
            (
                request(b"GET " + target, HEADERS),
                request(b"POST " + victim, HEADERS, big),
                request(b"POST " + victim, HEADERS, b"[" * 4_000_000),
                request(b"POST " + victim, HEADERS, b'{"a":' * 800_000),
                request(b"POST /participants", HEADERS, b'{"partyList":[' + b"1," * 1_000_000 + b"1]}"),
                request(b"POST /participants", HEADERS, b'{"partyList":[' + b"[" * 1_000_000),
                request(b"POST " + victim, with_headers(HEADERS, b"x-large: " + b"x" * 1_000_000), OWN),
            )
        ),
        lone=True,
    )


_FORMS: Final = tuple(case.raw.replace(b"payerfsp", b"mallory") for case in captured.CASES)
_INSERTS: Final = (
    *(b"\x00", b"\r", b"\n", b"\r\n", b"\r\n\r\n", b" ", b"\t", b":", b"%", b"&", b"/", b"?", b"#", b"\xff", b"\x80"),
    *(b"fspiop-source: payeefsp\r\n", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 3\r\n", b"{", b'"', b"\\", b"9" * 400),
)  # fmt: skip


def mutations() -> Callable[[Random], Shot]:
    """Take every captured form in turn and change other bytes each time."""
    forms = itertools.cycle(_FORMS)

    def mutate(random: Random) -> Shot:
        raw = bytearray(next(forms))
        for _ in range(random.choice((1, 1, 1, 2, 4, 8))):
            # Half of the changes are in the first line, which has the meaning.
            end = raw.find(b"\r\n") if random.random() < 0.5 else len(raw)
            at = random.randrange(max(end, 0) + 1)
            match random.randrange(7):
                case 0 if at < len(raw):
                    raw[at] ^= 1 << random.randrange(8)
                case 1:
                    raw[at:at] = random.choice(_INSERTS)
                case 2:
                    del raw[at : at + random.choice((1, 1, 2, 10))]
                case 3:
                    raw[at:at] = raw[at : at + random.randrange(1, 40)]
                case 4:
                    raw[at:at] = random.choice(SEGMENT_ESCAPES)
                case 5 if random.random() < 0.3:
                    del raw[at:]
                case _:
                    other = random.choice(_FORMS)
                    raw[at:] = other[random.randrange(len(other)) :]
        return Shot("mutated", bytes(raw), lone=True)

    return mutate


def stream(random: Random, count: int) -> Iterator[Shot]:
    """Make `count` shots; the same seed makes the same shots."""
    mutate = mutations()
    makers: tuple[tuple[Callable[[Random], Shot], float], ...] = (
        *((path, 24), (odd_path, 4), (query, 12), (headers, 8), (body, 16), (bulk, 6), (theft, 12), (method, 2)),
        *((framing, 5), (mutate, 11), (large, 0.06)),
    )
    kinds, weights = zip(*makers, strict=True)
    for maker in itertools.islice(iter(lambda: random.choices(kinds, weights)[0], None), count):
        yield maker(random)
