"""Every form of request that an ALS was seen to send to an oracle, byte for byte, and the answer it needs.

A case is one request on the wire.  `given` is asked first (to register what the case is about) and has to
succeed; `then` is looked up afterwards.  Each case has identifiers of its own, so the cases can share one
directory.

    HEADERS   the blocks of headers, verbatim; ALS forwards whatever the DFSP sent, so most variety is here
    LOOKUPS, REGISTRATIONS, REMOVALS
              the calls, among them the removals that nobody asked for; the bulk has a file of its own
    PATHS     identifiers on the wire: decoded once, HTML-escaped, never percent-encoded again
    FORWARDED headers of DFSPs that arrive as they are, hop-by-hop ones included

A `#` in an identifier cuts the path without a trace, and `%41` in an identifier arrives as if it were an
escape: such identifiers cannot be saved, and the cases below say what happens to them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

PartyList = list[dict[str, str]]


@dataclass(frozen=True, kw_only=True)
class Case:
    name: str
    raw: bytes
    status: int
    given: tuple[bytes, ...] = ()
    codes: tuple[str, ...] = ()  # a refusal has one of these
    party_list: PartyList | None = None  # a lookup answers exactly this
    sub_id: str | None = None  # the SubId that the DFSP asked for
    then: tuple[tuple[bytes, PartyList], ...] = ()
    closes: bool = False  # the oracle may end the connection after its answer


def request(line: bytes, headers: bytes, body: bytes | None = None) -> bytes:
    """Assemble a message; Content-Length where axios puts it, before its other headers."""
    if body is not None:
        headers = headers.replace(b"User-Agent:", b"Content-Length: %d\r\nUser-Agent:" % len(body), 1)
    return line + b" HTTP/1.1\r\n" + headers + b"\r\n" + (body or b"")


def block(text: bytes) -> bytes:
    return text.strip().replace(b"\n", b"\r\n") + b"\r\n"


# GET, POST and DELETE of a participant.
PARTICIPANTS: Final = block(b"""
content-type: application/vnd.interoperability.participants+json;version=2.0
date: Sat, 21 Nov 2026 19:14:11 GMT
fspiop-source: payerfsp
accept: application/vnd.interoperability.participants+json;version=2
fspiop-destination: Hub
User-Agent: axios/1.18.1
Accept-Encoding: gzip, compress, deflate, br
Host: 127.0.0.1:18444
Connection: keep-alive
""")

# A lookup that began as GET /parties: the type says parties, the path participants.
PARTIES: Final = PARTICIPANTS.replace(b"participants+json", b"parties+json")

# PUT has no accept.
PUT: Final = b"".join(line for line in PARTICIPANTS.splitlines(keepends=True) if not line.startswith(b"accept:"))

# What a proxy's PUT /parties becomes: no accept, and the FSP of the other scheme as the source.
INTER_SCHEME: Final = b"".join(
    line for line in PARTIES.splitlines(keepends=True) if not line.startswith(b"accept:")
).replace(b"fspiop-source: payerfsp", b"fspiop-source: remotefsp")

STRANGER: Final = PARTICIPANTS.replace(b"fspiop-source: payerfsp", b"fspiop-source: strangerfsp")

# The removal that any DFSP can set off: GET /parties with an FSPIOP-Destination nobody knows.
NO_SUCH_DESTINATION: Final = PARTIES.replace(b"fspiop-source: payerfsp", b"fspiop-source: strangerfsp").replace(
    b"fspiop-destination: Hub", b"fspiop-destination: nosuch"
)

# The same from a hub that speaks ISO 20022 to its DFSPs.
ISO: Final = PARTICIPANTS.replace(b"vnd.interoperability.", b"vnd.interoperability.iso20022.")
ISO_PARTIES: Final = PARTIES.replace(b"vnd.interoperability.", b"vnd.interoperability.iso20022.")


def with_headers(headers: bytes, *more: bytes) -> bytes:
    """DFSP headers are forwarded in front of those that axios adds."""
    return headers.replace(b"User-Agent:", b"".join(line + b"\r\n" for line in more) + b"User-Agent:", 1)


def get(target: bytes, headers: bytes = PARTICIPANTS) -> bytes:
    return request(b"GET " + target, headers)


def post(target: bytes, body: bytes, headers: bytes = PARTICIPANTS) -> bytes:
    return request(b"POST " + target, headers, body)


def put(target: bytes, body: bytes, headers: bytes = PUT) -> bytes:
    return request(b"PUT " + target, headers, body)


def delete(target: bytes, headers: bytes = PARTICIPANTS) -> bytes:
    return request(b"DELETE " + target, headers)


PAYER: Final = b'{"fspId":"payerfsp"}'
MINE: Final[PartyList] = [{"fspId": "payerfsp"}]
NOBODY: Final[PartyList] = []
SUB: Final = b'{"fspId":"payerfsp","partySubIdOrType":"%s"}'

# A path, query or body that cannot be read; a surplus query member may be called one element too many.
UNREADABLE: Final = ("3100", "3101")
QUERY: Final = ("3101", "3103")

BURMESE: Final = "၁၂-ဥကမ(နိုင်)".encode()


def quoted(text: bytes) -> bytes:
    """Percent-encode what is not ASCII, as a WHATWG URL does with a path."""
    return b"".join(b"%%%02X" % byte if byte > 127 else bytes([byte]) for byte in text)


LOOKUPS: Final = (
    Case(
        name="GET T/I of an alias nobody holds",
        raw=get(b"/participants/MSISDN/525512345600"),
        status=200,
        party_list=NOBODY,
    ),
    Case(
        name="GET T/I",
        given=(post(b"/participants/MSISDN/525512345601", PAYER),),
        raw=get(b"/participants/MSISDN/525512345601"),
        status=200,
        party_list=MINE,
    ),
    Case(
        name="GET T/I that began as GET /parties",
        given=(post(b"/participants/MSISDN/525512345602", PAYER),),
        raw=get(b"/participants/MSISDN/525512345602", PARTIES),
        status=200,
        party_list=MINE,
    ),
    Case(
        name="GET T/I/SUB arrives as a query",
        given=(post(b"/participants/BUSINESS/acme-601", SUB % b"till7"),),
        raw=get(b"/participants/BUSINESS/acme-601?partySubIdOrType=till7"),
        status=200,
        sub_id="till7",
        party_list=[{"fspId": "payerfsp", "partySubIdOrType": "till7"}],
    ),
    Case(
        name="GET with a SubId that nobody holds, though the identifier has an entry without one",
        given=(post(b"/participants/BUSINESS/acme-602", PAYER),),
        raw=get(b"/participants/BUSINESS/acme-602?partySubIdOrType=till7"),
        status=200,
        sub_id="till7",
        party_list=NOBODY,
    ),
    Case(
        name="GET with a SubId in another case",
        given=(post(b"/participants/BUSINESS/acme-603", SUB % b"till7"),),
        raw=get(b"/participants/BUSINESS/acme-603?partySubIdOrType=TILL7"),
        status=200,
        sub_id="TILL7",
        party_list=NOBODY,
    ),
    Case(
        name="GET without SubId does not answer an entry that has one",
        given=(post(b"/participants/BUSINESS/acme-604", SUB % b"till7"),),
        raw=get(b"/participants/BUSINESS/acme-604"),
        status=200,
        party_list=NOBODY,
    ),
    Case(
        name="GET with one of two SubIds",
        given=(
            post(b"/participants/BUSINESS/acme-605", PAYER),
            post(b"/participants/BUSINESS/acme-605", SUB % b"till7"),
            post(b"/participants/BUSINESS/acme-605", SUB % b"till8"),
        ),
        raw=get(b"/participants/BUSINESS/acme-605?partySubIdOrType=till8"),
        status=200,
        sub_id="till8",
        party_list=[{"fspId": "payerfsp", "partySubIdOrType": "till8"}],
        then=((get(b"/participants/BUSINESS/acme-605"), MINE),),
    ),
    Case(
        name="GET with a currency, of an entry that has it",
        given=(post(b"/participants/MSISDN/525512345603", b'{"fspId":"payerfsp","currency":"MXN"}'),),
        raw=get(b"/participants/MSISDN/525512345603?currency=MXN"),
        status=200,
        party_list=[{"fspId": "payerfsp", "currency": "MXN"}],
    ),
    Case(
        name="GET with a currency, of an entry that has none and so answers for all",
        given=(post(b"/participants/MSISDN/525512345604", PAYER),),
        raw=get(b"/participants/MSISDN/525512345604?currency=MXN"),
        status=200,
        party_list=MINE,
    ),
    Case(
        name="GET with another currency than the entry's",
        given=(post(b"/participants/MSISDN/525512345605", b'{"fspId":"payerfsp","currency":"MXN"}'),),
        raw=get(b"/participants/MSISDN/525512345605?currency=USD"),
        status=200,
        party_list=NOBODY,
        then=((get(b"/participants/MSISDN/525512345605"), [{"fspId": "payerfsp", "currency": "MXN"}]),),
    ),
    Case(
        name="GET with a currency in lower case, which ALS does not check",
        given=(post(b"/participants/MSISDN/525512345606", b'{"fspId":"payerfsp","currency":"MXN"}'),),
        raw=get(b"/participants/MSISDN/525512345606?currency=mxn"),
        status=200,
        party_list=[{"fspId": "payerfsp", "currency": "MXN"}],
    ),
    Case(
        name="GET with currency and SubId, in the order of ALS",
        given=(
            post(
                b"/participants/BUSINESS/acme-606",
                b'{"fspId":"payerfsp","currency":"MXN","partySubIdOrType":"till7"}',
            ),
        ),
        raw=get(b"/participants/BUSINESS/acme-606?currency=MXN&partySubIdOrType=till7"),
        status=200,
        sub_id="till7",
        party_list=[{"fspId": "payerfsp", "currency": "MXN", "partySubIdOrType": "till7"}],
    ),
    Case(
        name="GET with SubId and currency, the other way round",
        given=(
            post(
                b"/participants/BUSINESS/acme-607",
                b'{"fspId":"payerfsp","currency":"MXN","partySubIdOrType":"till7"}',
            ),
        ),
        raw=get(b"/participants/BUSINESS/acme-607?partySubIdOrType=till7&currency=MXN"),
        status=200,
        sub_id="till7",
        party_list=[{"fspId": "payerfsp", "currency": "MXN", "partySubIdOrType": "till7"}],
    ),
    Case(
        name="GET with the SubId in the path",
        given=(post(b"/participants/BUSINESS/acme-608", SUB % b"till7"),),
        raw=get(b"/participants/BUSINESS/acme-608/till7"),
        status=200,
        sub_id="till7",
        party_list=[{"fspId": "payerfsp", "partySubIdOrType": "till7"}],
    ),
    Case(
        name="GET with the same SubId in path and query",
        given=(post(b"/participants/BUSINESS/acme-609", SUB % b"till7"),),
        raw=get(b"/participants/BUSINESS/acme-609/till7?partySubIdOrType=till7"),
        status=200,
        sub_id="till7",
        party_list=[{"fspId": "payerfsp", "partySubIdOrType": "till7"}],
    ),
    Case(
        name="GET with one SubId in the path and another in the query",
        raw=get(b"/participants/BUSINESS/acme-610/till7?partySubIdOrType=till8"),
        status=400,
        codes=UNREADABLE,
    ),
    Case(
        name="GET of a CLABE with SubId CLABE, which is echoed",
        given=(post(b"/participants/ACCOUNT_ID/002010077777777771", SUB % b"CLABE"),),
        raw=get(b"/participants/ACCOUNT_ID/002010077777777771?partySubIdOrType=CLABE"),
        status=200,
        sub_id="CLABE",
        party_list=[{"fspId": "payerfsp", "partySubIdOrType": "CLABE"}],
        then=((get(b"/participants/ACCOUNT_ID/002010077777777771"), MINE),),
    ),
    Case(
        name="GET of a CLABE without SubId",
        given=(post(b"/participants/ACCOUNT_ID/032180000118359719", PAYER),),
        raw=get(b"/participants/ACCOUNT_ID/032180000118359719"),
        status=200,
        party_list=MINE,
        then=(
            (
                get(b"/participants/ACCOUNT_ID/032180000118359719?partySubIdOrType=CLABE"),
                [{"fspId": "payerfsp", "partySubIdOrType": "CLABE"}],
            ),
        ),
    ),
    Case(
        name="GET of a CLABE whose check digit does not fit",
        raw=get(b"/participants/ACCOUNT_ID/032180000118359710?partySubIdOrType=CLABE"),
        status=400,
        codes=UNREADABLE,
    ),
    Case(
        name="GET of an IBAN",
        given=(post(b"/participants/IBAN/DE89370400440532013000", PAYER),),
        raw=get(b"/participants/IBAN/DE89370400440532013000"),
        status=200,
        party_list=MINE,
    ),
    Case(
        name="GET of an IBAN in lower case",
        given=(post(b"/participants/IBAN/GB82WEST12345698765432", PAYER),),
        raw=get(b"/participants/IBAN/gb82west12345698765432"),
        status=200,
        party_list=MINE,
    ),
    Case(
        name="GET of an e-mail address in another case",
        given=(post(b"/participants/EMAIL/Juan.Perez@Ejemplo.mx", PAYER),),
        raw=get(b"/participants/EMAIL/juan.perez@EJEMPLO.MX"),
        status=200,
        party_list=MINE,
    ),
    Case(
        name="GET of a Mexican number as it was dialled until 2019",
        given=(post(b"/participants/MSISDN/525512345607", PAYER),),
        raw=get(b"/participants/MSISDN/+5215512345607"),
        status=200,
        party_list=MINE,
    ),
    Case(
        name="GET of a passport, whose SubId is part of the key",
        given=(post(b"/participants/PERSONAL_ID/G12345678", SUB % b"PASSPORT"),),
        raw=get(b"/participants/PERSONAL_ID/G12345678?partySubIdOrType=PASSPORT"),
        status=200,
        sub_id="PASSPORT",
        party_list=[{"fspId": "payerfsp", "partySubIdOrType": "PASSPORT"}],
        then=((get(b"/participants/PERSONAL_ID/G12345678"), NOBODY),),
    ),
    Case(
        name="GET of an account that looks like a CLABE with a bad check digit, but is not called one",
        given=(post(b"/participants/ACCOUNT_ID/032180000118359711", PAYER),),
        raw=get(b"/participants/ACCOUNT_ID/032180000118359711"),
        status=200,
        party_list=MINE,
    ),
    Case(
        name="GET of a device",
        given=(post(b"/participants/DEVICE/352099001761481", PAYER),),
        raw=get(b"/participants/DEVICE/352099001761481"),
        status=200,
        party_list=MINE,
    ),
    Case(
        name="GET of a type that ALS does not know",
        raw=get(b"/participants/CLABE/032180000118359719"),
        status=400,
        codes=UNREADABLE,
    ),
    Case(
        name="GET of a type in lower case",
        raw=get(b"/participants/msisdn/525512345601"),
        status=400,
        codes=UNREADABLE,
    ),
)

REGISTRATIONS: Final = (
    Case(
        name="POST T/I",
        raw=post(b"/participants/MSISDN/525512345610", b'{"fspId":"payerfsp","currency":"MXN"}'),
        status=201,
        then=(
            (get(b"/participants/MSISDN/525512345610"), [{"fspId": "payerfsp", "currency": "MXN"}]),
            (get(b"/participants/MSISDN/525512345610", STRANGER), [{"fspId": "payerfsp", "currency": "MXN"}]),
        ),
    ),
    Case(
        name="POST T/I/SUB arrives with the SubId in its body",
        raw=post(
            b"/participants/BUSINESS/acme-611",
            b'{"fspId":"payerfsp","currency":"MXN","partySubIdOrType":"till7"}',
        ),
        status=201,
        then=(
            (
                get(b"/participants/BUSINESS/acme-611?partySubIdOrType=till7"),
                [{"fspId": "payerfsp", "currency": "MXN", "partySubIdOrType": "till7"}],
            ),
            (get(b"/participants/BUSINESS/acme-611"), NOBODY),
        ),
    ),
    Case(
        name="POST with unknown members and an extensionList",
        raw=post(
            b"/participants/MSISDN/525512345611",
            b'{"fspId":"payerfsp","extensionList":{"extension":[{"key":"a","value":"b"}]},"foo":{"a":1}}',
        ),
        status=201,
        then=((get(b"/participants/MSISDN/525512345611"), MINE),),
    ),
    Case(
        name="POST in a second currency: the first goes on being the default",
        given=(post(b"/participants/MSISDN/525512345608", b'{"fspId":"payerfsp","currency":"MXN"}'),),
        raw=post(b"/participants/MSISDN/525512345608", b'{"fspId":"payerfsp","currency":"USD"}'),
        status=201,
        then=(
            (get(b"/participants/MSISDN/525512345608"), [{"fspId": "payerfsp", "currency": "MXN"}]),
            (get(b"/participants/MSISDN/525512345608?currency=USD"), [{"fspId": "payerfsp", "currency": "USD"}]),
        ),
    ),
    Case(
        name="POST again by the FSP that holds it, as after a timeout",
        given=(post(b"/participants/MSISDN/525512345612", PAYER),),
        raw=post(b"/participants/MSISDN/525512345612", PAYER),
        status=201,
        then=((get(b"/participants/MSISDN/525512345612"), MINE),),
    ),
    Case(
        name="POST over the alias of another FSP",
        given=(post(b"/participants/MSISDN/525512345613", PAYER),),
        raw=post(b"/participants/MSISDN/525512345613", b'{"fspId":"strangerfsp"}', STRANGER),
        status=409,
        codes=("3003",),
        then=((get(b"/participants/MSISDN/525512345613"), MINE),),
    ),
    Case(
        name="POST in the name of another FSP, which ALS does not check",
        raw=post(b"/participants/MSISDN/525512345614", PAYER, STRANGER),
        status=400,
        codes=UNREADABLE,
        then=((get(b"/participants/MSISDN/525512345614"), NOBODY),),
    ),
    Case(
        name="POST whose fspId differs from the source in case only",
        raw=post(b"/participants/MSISDN/525512345615", b'{"fspId":"PayerFSP"}'),
        status=400,
        codes=UNREADABLE,
        then=((get(b"/participants/MSISDN/525512345615"), NOBODY),),
    ),
    Case(
        name="POST without fspId",
        raw=post(b"/participants/MSISDN/525512345616", b'{"currency":"MXN"}'),
        status=400,
        codes=("3102",),
    ),
    Case(
        name="POST without a body",
        raw=request(b"POST /participants/MSISDN/525512345617", PARTICIPANTS),
        status=400,
        codes=("3100", "3101", "3102"),
    ),
    Case(
        name="POST whose body is not JSON",
        raw=post(b"/participants/MSISDN/525512345617", b'{"fspId":"payerfsp"'),
        status=400,
        codes=UNREADABLE,
    ),
    Case(
        name="POST without fspiop-source",
        raw=post(
            b"/participants/MSISDN/525512345618",
            PAYER,
            PARTICIPANTS.replace(b"fspiop-source: payerfsp\r\n", b""),
        ),
        status=400,
        codes=("3102",),
        then=((get(b"/participants/MSISDN/525512345618"), NOBODY),),
    ),
    Case(
        name="POST with the SubId in path and body alike",
        raw=post(b"/participants/BUSINESS/acme-612/till7", SUB % b"till7"),
        status=201,
        then=(
            (
                get(b"/participants/BUSINESS/acme-612?partySubIdOrType=till7"),
                [{"fspId": "payerfsp", "partySubIdOrType": "till7"}],
            ),
        ),
    ),
    Case(
        name="POST with one SubId in the path and another in the body",
        raw=post(b"/participants/BUSINESS/acme-613/till7", SUB % b"till8"),
        status=400,
        codes=UNREADABLE,
        then=((get(b"/participants/BUSINESS/acme-613?partySubIdOrType=till8"), NOBODY),),
    ),
    Case(
        name="POST of a SubId that no lookup could ask for",
        raw=post(b"/participants/BUSINESS/acme-614", SUB % b"caja/1&x=2"),
        status=400,
        codes=UNREADABLE,
    ),
    Case(
        name="POST by a proxy, to remember where a party of another scheme is",
        raw=post(b"/participants/MSISDN/525512345619", b'{"fspId":"remotefsp"}', INTER_SCHEME),
        status=201,
        then=((get(b"/participants/MSISDN/525512345619"), [{"fspId": "remotefsp"}]),),
    ),
    Case(
        name="POST by a proxy again: a duplicate is no error, the payer would hear nothing",
        given=(post(b"/participants/BUSINESS/acme-615", b'{"fspId":"remotefsp"}', INTER_SCHEME),),
        raw=post(b"/participants/BUSINESS/acme-615", b'{"fspId":"remotefsp"}', INTER_SCHEME),
        status=201,
        then=((get(b"/participants/BUSINESS/acme-615"), [{"fspId": "remotefsp"}]),),
    ),
    Case(
        name="POST by a proxy with a SubId",
        raw=post(
            b"/participants/BUSINESS/acme-616",
            b'{"fspId":"remotefsp","partySubIdOrType":"till7"}',
            INTER_SCHEME,
        ),
        status=201,
        then=(
            (
                get(b"/participants/BUSINESS/acme-616?partySubIdOrType=till7"),
                [{"fspId": "remotefsp", "partySubIdOrType": "till7"}],
            ),
        ),
    ),
    Case(
        name="PUT T/I",
        given=(post(b"/participants/MSISDN/525512345620", PAYER),),
        raw=put(b"/participants/MSISDN/525512345620", b'{"fspId":"payerfsp","currency":"MXN"}'),
        status=200,
        then=((get(b"/participants/MSISDN/525512345620"), [{"fspId": "payerfsp", "currency": "MXN"}]),),
    ),
    Case(
        name="PUT T/I/SUB",
        given=(post(b"/participants/BUSINESS/acme-617", SUB % b"till7"),),
        raw=put(b"/participants/BUSINESS/acme-617", SUB % b"till7"),
        status=200,
        then=(
            (
                get(b"/participants/BUSINESS/acme-617?partySubIdOrType=till7"),
                [{"fspId": "payerfsp", "partySubIdOrType": "till7"}],
            ),
        ),
    ),
    Case(
        name="PUT with an empty object, which ALS lets through",
        given=(post(b"/participants/MSISDN/525512345621", PAYER),),
        raw=put(b"/participants/MSISDN/525512345621", b"{}"),
        status=400,
        codes=("3102",),
        then=((get(b"/participants/MSISDN/525512345621"), MINE),),
    ),
    Case(
        name="PUT of an alias nobody holds",
        raw=put(b"/participants/MSISDN/525512345622", PAYER),
        status=404,
        codes=("3204",),
        then=((get(b"/participants/MSISDN/525512345622"), NOBODY),),
    ),
    Case(
        name="PUT of the alias of another FSP",
        given=(post(b"/participants/MSISDN/525512345623", PAYER),),
        raw=put(
            b"/participants/MSISDN/525512345623",
            b'{"fspId":"strangerfsp"}',
            PUT.replace(b"source: payerfsp", b"source: strangerfsp"),
        ),
        status=403,
        codes=("3003", "3040"),
        then=((get(b"/participants/MSISDN/525512345623"), MINE),),
    ),
    Case(
        name="PUT that would hand the alias to another FSP",
        given=(post(b"/participants/MSISDN/525512345624", PAYER),),
        raw=put(b"/participants/MSISDN/525512345624", b'{"fspId":"payeefsp"}'),
        status=400,
        codes=UNREADABLE,
        then=((get(b"/participants/MSISDN/525512345624"), MINE),),
    ),
)

REMOVALS: Final = (
    Case(
        name="DELETE T/I",
        given=(post(b"/participants/MSISDN/525512345630", PAYER),),
        raw=delete(b"/participants/MSISDN/525512345630"),
        status=204,
        then=((get(b"/participants/MSISDN/525512345630"), NOBODY),),
    ),
    Case(
        name="DELETE T/I/SUB arrives without its SubId and means the only entry there is",
        given=(post(b"/participants/BUSINESS/acme-630", SUB % b"till7"),),
        raw=delete(b"/participants/BUSINESS/acme-630"),
        status=204,
        then=((get(b"/participants/BUSINESS/acme-630?partySubIdOrType=till7"), NOBODY),),
    ),
    Case(
        name="DELETE without SubId takes the entry without SubId and leaves the others",
        given=(
            post(b"/participants/BUSINESS/acme-631", PAYER),
            post(b"/participants/BUSINESS/acme-631", SUB % b"till7"),
        ),
        raw=delete(b"/participants/BUSINESS/acme-631"),
        status=204,
        then=(
            (get(b"/participants/BUSINESS/acme-631"), NOBODY),
            (
                get(b"/participants/BUSINESS/acme-631?partySubIdOrType=till7"),
                [{"fspId": "payerfsp", "partySubIdOrType": "till7"}],
            ),
        ),
    ),
    Case(
        name="DELETE that may mean either of two entries",
        given=(
            post(b"/participants/BUSINESS/acme-632", SUB % b"till7"),
            post(b"/participants/BUSINESS/acme-632", SUB % b"till8"),
        ),
        raw=delete(b"/participants/BUSINESS/acme-632"),
        status=409,
        codes=("3040",),
        then=(
            (
                get(b"/participants/BUSINESS/acme-632?partySubIdOrType=till7"),
                [{"fspId": "payerfsp", "partySubIdOrType": "till7"}],
            ),
            (
                get(b"/participants/BUSINESS/acme-632?partySubIdOrType=till8"),
                [{"fspId": "payerfsp", "partySubIdOrType": "till8"}],
            ),
        ),
    ),
    Case(
        name="DELETE with the SubId in the query, which ALS does not send but others may",
        given=(
            post(b"/participants/BUSINESS/acme-633", SUB % b"till7"),
            post(b"/participants/BUSINESS/acme-633", SUB % b"till8"),
        ),
        raw=delete(b"/participants/BUSINESS/acme-633?partySubIdOrType=till7"),
        status=204,
        then=(
            (get(b"/participants/BUSINESS/acme-633?partySubIdOrType=till7"), NOBODY),
            (
                get(b"/participants/BUSINESS/acme-633?partySubIdOrType=till8"),
                [{"fspId": "payerfsp", "partySubIdOrType": "till8"}],
            ),
        ),
    ),
    Case(
        name="DELETE with the SubId in the path",
        given=(
            post(b"/participants/BUSINESS/acme-634", SUB % b"till7"),
            post(b"/participants/BUSINESS/acme-634", SUB % b"till8"),
        ),
        raw=delete(b"/participants/BUSINESS/acme-634/till8"),
        status=204,
        then=((get(b"/participants/BUSINESS/acme-634?partySubIdOrType=till8"), NOBODY),),
    ),
    Case(
        name="DELETE takes all currencies of an entry",
        given=(
            post(b"/participants/MSISDN/525512345640", b'{"fspId":"payerfsp","currency":"MXN"}'),
            post(b"/participants/MSISDN/525512345640", b'{"fspId":"payerfsp","currency":"USD"}'),
        ),
        raw=delete(b"/participants/MSISDN/525512345640"),
        status=204,
        then=(
            (get(b"/participants/MSISDN/525512345640"), NOBODY),
            (get(b"/participants/MSISDN/525512345640?currency=USD"), NOBODY),
        ),
    ),
    Case(
        name="DELETE of one currency, which ALS does not send but others may",
        given=(
            post(b"/participants/MSISDN/525512345641", b'{"fspId":"payerfsp","currency":"MXN"}'),
            post(b"/participants/MSISDN/525512345641", b'{"fspId":"payerfsp","currency":"USD"}'),
        ),
        raw=delete(b"/participants/MSISDN/525512345641?currency=MXN"),
        status=204,
        then=((get(b"/participants/MSISDN/525512345641"), [{"fspId": "payerfsp", "currency": "USD"}]),),
    ),
    Case(
        name="DELETE of an alias nobody holds",
        raw=delete(b"/participants/MSISDN/525512345631"),
        status=404,
        codes=("3204",),
    ),
    Case(
        name="DELETE of the alias of another FSP",
        given=(post(b"/participants/MSISDN/525512345632", PAYER),),
        raw=delete(b"/participants/MSISDN/525512345632", STRANGER),
        status=403,
        codes=("3040",),
        then=((get(b"/participants/MSISDN/525512345632"), MINE),),
    ),
    Case(
        name="DELETE without fspiop-source",
        given=(post(b"/participants/MSISDN/525512345633", PAYER),),
        raw=delete(b"/participants/MSISDN/525512345633", PARTICIPANTS.replace(b"fspiop-source: payerfsp\r\n", b"")),
        status=400,
        codes=("3102",),
        then=((get(b"/participants/MSISDN/525512345633"), MINE),),
    ),
    Case(
        name="DELETE because a stranger named a destination nobody knows",
        given=(post(b"/participants/MSISDN/525512345634", PAYER),),
        raw=delete(b"/participants/MSISDN/525512345634", NO_SUCH_DESTINATION),
        status=204,
        then=((get(b"/participants/MSISDN/525512345634"), MINE),),
    ),
    Case(
        name="DELETE because the ledger did not answer, in the name of the payer who holds the alias",
        given=(post(b"/participants/MSISDN/525512345635", PAYER),),
        raw=delete(b"/participants/MSISDN/525512345635", PARTIES),
        status=204,
        then=((get(b"/participants/MSISDN/525512345635"), MINE),),
    ),
    Case(
        name="DELETE because of a proxy's error, source and destination swapped",
        given=(post(b"/participants/MSISDN/525512345636", PAYER),),
        raw=delete(
            b"/participants/MSISDN/525512345636",
            PARTIES.replace(b"fspiop-destination: Hub", b"fspiop-destination: remotefsp"),
        ),
        status=204,
        then=((get(b"/participants/MSISDN/525512345636"), MINE),),
    ),
    Case(
        name="DELETE that nobody asked for, from an ISO 20022 hub",
        given=(post(b"/participants/MSISDN/525512345637", PAYER),),
        raw=delete(b"/participants/MSISDN/525512345637", ISO_PARTIES),
        status=204,
        then=((get(b"/participants/MSISDN/525512345637"), MINE),),
    ),
    Case(
        name="DELETE that nobody asked for, of an alias nobody holds: an error would reach the payer",
        raw=delete(b"/participants/MSISDN/525512345638", NO_SUCH_DESTINATION),
        status=204,
    ),
    Case(
        name="DELETE from an ISO 20022 hub",
        given=(post(b"/participants/MSISDN/525512345639", PAYER, ISO),),
        raw=delete(b"/participants/MSISDN/525512345639", ISO),
        status=204,
        then=((get(b"/participants/MSISDN/525512345639", ISO), NOBODY),),
    ),
)

# What a DFSP sent, what it meant, and what is left of it.
PATHS: Final = (
    Case(
        name="MSISDN with a plus sign, which stays one",
        given=(post(b"/participants/MSISDN/+525512345650", PAYER),),
        raw=get(b"/participants/MSISDN/+525512345650"),
        status=200,
        party_list=MINE,
        then=(
            (get(b"/participants/MSISDN/525512345650"), MINE),
            (get(b"/participants/MSISDN/%2B525512345650"), MINE),
        ),
    ),
    Case(
        name="e-mail address with plus and at sign",
        given=(post(b"/participants/EMAIL/juan.perez+pagos@ejemplo.com.mx", PAYER),),
        raw=get(b"/participants/EMAIL/juan.perez+pagos@ejemplo.com.mx"),
        status=200,
        party_list=MINE,
        then=(
            (get(b"/participants/EMAIL/juan.perez%2Bpagos%40ejemplo.com.mx"), MINE),
            (get(b"/participants/EMAIL/juan.perezpagos@ejemplo.com.mx"), NOBODY),
        ),
    ),
    *(
        Case(name=f"NRC cut at its slash: {line.split()[0].decode()}", raw=raw, status=400, codes=UNREADABLE)
        for line, raw in (
            (b"GET", get(b"/participants/PERSONAL_ID/12&")),
            (b"POST", post(b"/participants/PERSONAL_ID/12&", SUB % b"NATIONAL_REGISTRATION")),
            (b"PUT", put(b"/participants/PERSONAL_ID/12&", SUB % b"NATIONAL_REGISTRATION")),
            (b"DELETE", delete(b"/participants/PERSONAL_ID/12&")),
        )
    ),
    Case(
        name="Burmese NRC cut at its slash",
        raw=get(b"/participants/PERSONAL_ID/%E1%81%81%E1%81%82&"),
        status=400,
        codes=UNREADABLE,
    ),
    Case(
        name="Burmese NRC with a hyphen, parentheses literal",
        given=(post(b"/participants/PERSONAL_ID/12-OUKAMA-N-123450", SUB % b"NATIONAL_REGISTRATION"),),
        raw=get(
            b"/participants/PERSONAL_ID/"
            + quoted(BURMESE + "၁၂၃၄၅၀".encode())
            + b"?partySubIdOrType=NATIONAL_REGISTRATION"
        ),
        status=200,
        sub_id="NATIONAL_REGISTRATION",
        party_list=[{"fspId": "payerfsp", "partySubIdOrType": "NATIONAL_REGISTRATION"}],
    ),
    Case(
        name="NRC whose slash the DFSP encoded twice",
        given=(post(b"/participants/PERSONAL_ID/12%2FOUKAMA(N)123451", SUB % b"NATIONAL_REGISTRATION"),),
        raw=get(b"/participants/PERSONAL_ID/12%2FOUKAMA(N)123451?partySubIdOrType=NATIONAL_REGISTRATION"),
        status=200,
        sub_id="NATIONAL_REGISTRATION",
        party_list=[{"fspId": "payerfsp", "partySubIdOrType": "NATIONAL_REGISTRATION"}],
        then=(
            (get(b"/participants/PERSONAL_ID/12%2fOUKAMA(N)123451"), MINE),
            (get(b"/participants/PERSONAL_ID/12-OUKAMA-N-123451"), MINE),
            (get(b"/participants/PERSONAL_ID/12-250019-N-123451"), MINE),
            (
                get(b"/participants/PERSONAL_ID/12OUKAMAN123451?partySubIdOrType=NATIONAL_ID_CARD"),
                [{"fspId": "payerfsp", "partySubIdOrType": "NATIONAL_ID_CARD"}],
            ),
            (
                get(b"/participants/PERSONAL_ID/12-OUKAMA-N-123451?partySubIdOrType=NRC"),
                [{"fspId": "payerfsp", "partySubIdOrType": "NRC"}],
            ),
        ),
    ),
    *(
        Case(
            name=f"alias cut or escaped: {meant}",
            raw=get(b"/participants/ALIAS/" + left),
            status=400,
            codes=codes,
        )
        for meant, left, codes in (
            ("d'oro", b"d&", UNREADABLE),
            ("a=b", b"a&", UNREADABLE),
            ("x/y", b"x&", UNREADABLE),
            ("tom&jerry", b"tom&amp;jerry", UNREADABLE),
            ('say"hi"', b"say&quot;hi&quot;", UNREADABLE),
            ("a<b>", b"a&lt;b&gt;", UNREADABLE),
            ("tom&jerry's=shop", b"tom&amp;jerry&", UNREADABLE),
            ("a?b", b"a?b", QUERY),
            ("100%", b"100%", UNREADABLE),
            ("a%zz", b"a%zz", UNREADABLE),
            ("a%4", b"a%4", UNREADABLE),
            ("not UTF-8", b"%ff", UNREADABLE),
            ("a surrogate", b"%ED%A0%80", UNREADABLE),
            ("an overlong slash", b"%C0%AF", UNREADABLE),
            ("../../x", b"..&", UNREADABLE),
        )
    ),
    *(
        Case(
            name=f"alias cut or escaped: {method.decode()} {left.decode()}",
            raw=request(method + b" /participants/ALIAS/" + left, headers, body),
            status=400,
            codes=UNREADABLE,
        )
        for left in (b"d&", b"tom&amp;jerry", b"100%")
        for method, headers, body in (
            (b"POST", PARTICIPANTS, PAYER),
            (b"PUT", PUT, PAYER),
            (b"DELETE", PARTICIPANTS, None),
        )
    ),
    Case(
        name="alias cut at # without a trace: a#b is asked for as a",
        raw=get(b"/participants/ALIAS/a"),
        status=200,
        party_list=NOBODY,
    ),
    Case(
        name="alias 50%41 is decoded once more than it was encoded",
        given=(post(b"/participants/ALIAS/50A", PAYER),),
        raw=get(b"/participants/ALIAS/50%41"),
        status=200,
        party_list=MINE,
    ),
    Case(
        name="decoded exactly once: 50%2541 is a percent sign and no A",
        given=(post(b"/participants/ALIAS/51A", PAYER),),
        raw=get(b"/participants/ALIAS/51%2541"),
        status=400,
        codes=UNREADABLE,
    ),
    Case(
        name="alias with brackets, bar and caret, raw",
        given=(post(b"/participants/ALIAS/[x]|y^z", PAYER),),
        raw=get(b"/participants/ALIAS/[x]|y^z"),
        status=200,
        party_list=MINE,
        then=((get(b"/participants/ALIAS/%5Bx%5D%7Cy%5Ez"), MINE),),
    ),
    Case(
        name="alias with the punctuation that arrives as it is",
        given=(post(b"/participants/ALIAS/a;b,c:d@e$f!*~", PAYER),),
        raw=get(b"/participants/ALIAS/a;b,c:d@e$f!*~"),
        status=200,
        party_list=MINE,
    ),
    Case(
        name="SubId cut at its slash",
        raw=get(b"/participants/BUSINESS/acme-650?partySubIdOrType=caja&"),
        status=400,
        codes=QUERY,
    ),
    Case(
        name="SubId with a plus, which is no space",
        given=(post(b"/participants/BUSINESS/acme-651", SUB % b"a+b"),),
        raw=get(b"/participants/BUSINESS/acme-651?partySubIdOrType=a+b"),
        status=200,
        sub_id="a+b",
        party_list=[{"fspId": "payerfsp", "partySubIdOrType": "a+b"}],
        then=(
            (
                get(b"/participants/BUSINESS/acme-651?partySubIdOrType=a%2Bb"),
                [{"fspId": "payerfsp", "partySubIdOrType": "a+b"}],
            ),
        ),
    ),
    Case(
        name="SubId with a broken escape",
        raw=get(b"/participants/BUSINESS/acme-652?partySubIdOrType=a%b"),
        status=400,
        codes=UNREADABLE,
    ),
    Case(
        name="SubId beyond ASCII, echoed",
        given=(post(b"/participants/BUSINESS/acme-653", SUB % "ñ".encode()),),
        raw=get(b"/participants/BUSINESS/acme-653?partySubIdOrType=%C3%B1"),
        status=200,
        sub_id="ñ",
        party_list=[{"fspId": "payerfsp", "partySubIdOrType": "ñ"}],
    ),
    *(
        Case(
            name=f"query {query.decode()}",
            raw=get(b"/participants/MSISDN/525512345651?" + query),
            status=400,
            codes=QUERY,
        )
        for query in (
            b"fspId=payerfsp",
            b"currency=MXN&currency=MXN",
            b"partySubIdOrType=a&partySubIdOrType=a",
            b"currency=MXN&partySubIdOrType=a&b=c",
            b"currency=MXN&&partySubIdOrType=a",
            b"currency=MXN&amp;partySubIdOrType=a",
        )
    ),
    Case(
        name="oracle registered with a trailing slash",
        given=(post(b"//participants/MSISDN/525512345652", PAYER),),
        raw=get(b"//participants/MSISDN/525512345652"),
        status=200,
        party_list=MINE,
        then=((get(b"/participants/MSISDN/525512345652"), MINE),),
    ),
    Case(
        name="path that is not the oracle's",
        raw=get(b"/nowhere/MSISDN/525512345653"),
        status=404,
        codes=("3002",),
    ),
)

# Registers with the headers in question, then asks with them.
_HEADERS: Final = (
    (
        "version 1.0",
        PARTICIPANTS.replace(b"version=2.0", b"version=1.0").replace(b"version=2\r", b"version=1\r"),
    ),
    (
        "version 1.1",
        PARTICIPANTS.replace(b"version=2.0", b"version=1.1").replace(b"version=2\r", b"version=1\r"),
    ),
    ("ISO 20022", ISO),
    ("plain JSON", PARTICIPANTS.replace(b"vnd.interoperability.participants+json;version=2.0", b"json")),
    ("charset", PARTICIPANTS.replace(b"version=2.0", b"version=2.0;charset=utf-8")),
    ("no content-type", PARTICIPANTS.replace(b"content-type", b"x-was-content-type")),
    ("no accept", PARTICIPANTS.replace(b"accept:", b"x-was-accept:")),
    ("an accept nobody can serve", PARTICIPANTS.replace(b"accept: application/vnd", b"accept: image/vnd")),
    ("authorization", with_headers(PARTICIPANTS, b"authorization: Bearer not.for.us")),
    (
        "basic credentials of the oracle's URL",
        with_headers(PARTICIPANTS, b"Authorization: Basic dXNlcjpwYXNz"),
    ),
    ("cookie", with_headers(PARTICIPANTS, b"cookie: a=b; c=d")),
    ("x-forwarded-for", with_headers(PARTICIPANTS, b"x-forwarded-for: 192.0.2.1, 198.51.100.7")),
    (
        "traceparent",
        with_headers(
            PARTICIPANTS,
            b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            b"tracestate: acmevendor=eyJzcGFuSWQiOiI2Njg2",
            b"baggage: userId=alice",
        ),
    ),
    (
        "a traceparent that is none",
        with_headers(PARTICIPANTS, b"traceparent: 00-zz-zz-zz", b"tracestate: ,,,"),
    ),
    (
        "JWS headers",
        with_headers(
            PARTICIPANTS,
            b'fspiop-signature: {"signature":"abc","protectedHeader":"def"}',
            b"fspiop-uri: /participants/MSISDN/525512345678",
            b"fspiop-http-method: GET",
            b"fspiop-encryption: x",
            b"fspiop-proxy: proxy1",
        ),
    ),
    ("if-none-match", with_headers(PARTICIPANTS, b"if-none-match: *")),
    (
        "if-match",
        with_headers(PARTICIPANTS, b'if-match: "x"', b"if-unmodified-since: Thu, 01 Jan 1970 00:00:00 GMT"),
    ),
    ("if-modified-since", with_headers(PARTICIPANTS, b"if-modified-since: Sat, 21 Nov 2099 19:14:11 GMT")),
    ("range", with_headers(PARTICIPANTS, b"range: bytes=0-0", b"if-range: x")),
    ("te", with_headers(PARTICIPANTS, b"te: trailers")),
    ("upgrade: h2c", with_headers(PARTICIPANTS, b"upgrade: h2c").replace(b"keep-alive", b"upgrade")),
    (
        "upgrade: websocket",
        with_headers(PARTICIPANTS, b"upgrade: websocket").replace(b"keep-alive", b"Upgrade"),
    ),
    (
        "upgrade with HTTP2-Settings",
        with_headers(PARTICIPANTS, b"upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA").replace(
            b"keep-alive", b"Upgrade, HTTP2-Settings"
        ),
    ),
    (
        "hop-by-hop headers",
        with_headers(PARTICIPANTS, b"keep-alive: timeout=3", b"proxy-authorization: x", b"trailer: x"),
    ),
    ("another user-agent", PARTICIPANTS.replace(b"axios/1.18.1", b"")),
    ("custom headers", with_headers(PARTICIPANTS, b"x-custom: " + b"v" * 4000, b"x-empty:")),
    ("no accept-encoding", PARTICIPANTS.replace(b"Accept-Encoding", b"x-accept-encoding")),
    ("no host", PARTICIPANTS.replace(b"Host: 127.0.0.1:18444\r\n", b"")),
    ("connection: close", PARTICIPANTS.replace(b"keep-alive", b"close")),
    ("content-encoding: gzip over a plain body", with_headers(PARTICIPANTS, b"content-encoding: gzip")),
    ("x-http-method-override", with_headers(PARTICIPANTS, b"x-http-method-override: DELETE")),
)

# A DFSP's chunked body arrives really chunked, with its length beside it.
CHUNKED: Final = with_headers(PARTICIPANTS, b"transfer-encoding: chunked", b"Content-Length: 20")
CHUNKS: Final = b"14\r\n" + PAYER + b"\r\n0\r\n\r\n"

FORWARDED: Final = (
    *(
        Case(
            name=f"{verb} with {name}",
            given=given,
            raw=raw,
            status=status,
            party_list=MINE if verb == "GET" else None,
            then=((get(target), NOBODY if verb == "DELETE" else MINE),),
            closes=b"Connection: close" in headers,
        )
        for number, (name, headers) in enumerate(_HEADERS)
        for verb, target in (
            (verb, b"/participants/MSISDN/5255123%05d" % (46000 + 10 * number + at))
            for at, verb in enumerate(("GET", "POST", "PUT", "DELETE"))
        )
        for given, raw, status in (
            {
                "GET": ((post(target, PAYER),), get(target, headers), 200),
                "POST": ((), post(target, PAYER, headers), 201),
                "PUT": ((post(target, PAYER),), put(target, PAYER, headers), 200),
                "DELETE": ((post(target, PAYER),), delete(target, headers), 204),
            }[verb],
        )
    ),
    Case(
        name="POST with Transfer-Encoding and Content-Length",
        raw=request(b"POST /participants/MSISDN/525512347001", CHUNKED) + CHUNKS,
        status=201,
        closes=True,
        then=((get(b"/participants/MSISDN/525512347001"), MINE),),
    ),
    Case(
        name="PUT with Transfer-Encoding and Content-Length",
        given=(post(b"/participants/MSISDN/525512347002", PAYER),),
        raw=request(b"PUT /participants/MSISDN/525512347002", CHUNKED) + CHUNKS,
        status=200,
        closes=True,
        then=((get(b"/participants/MSISDN/525512347002"), MINE),),
    ),
    Case(
        name="POST with Content-Length before Transfer-Encoding",
        raw=request(
            b"POST /participants/MSISDN/525512347003",
            with_headers(PARTICIPANTS, b"Content-Length: 20", b"transfer-encoding: chunked"),
        )
        + CHUNKS,
        status=201,
        closes=True,
        then=((get(b"/participants/MSISDN/525512347003"), MINE),),
    ),
    Case(
        name="POST chunked, in one-byte chunks and with a trailer",
        raw=request(
            b"POST /participants/MSISDN/525512347004",
            with_headers(PARTICIPANTS, b"transfer-encoding: chunked"),
        )
        + b"".join(b"1\r\n%c\r\n" % byte for byte in PAYER)
        + b"0\r\nx-trailer: y\r\n\r\n",
        status=201,
        closes=True,
        then=((get(b"/participants/MSISDN/525512347004"), MINE),),
    ),
    Case(
        name="POST with Upgrade and a body, which is not the next request",
        raw=post(
            b"/participants/MSISDN/525512347005",
            PAYER,
            with_headers(PARTICIPANTS, b"upgrade: h2c").replace(b"keep-alive", b"upgrade"),
        ),
        status=201,
        then=((get(b"/participants/MSISDN/525512347005"), MINE),),
    ),
    Case(
        name="GET with a body that ALS would have dropped",
        given=(post(b"/participants/MSISDN/525512347006", PAYER),),
        raw=request(b"GET /participants/MSISDN/525512347006", PARTICIPANTS, PAYER),
        status=200,
        party_list=MINE,
    ),
    Case(
        name="DELETE with a body that ALS would have dropped",
        given=(post(b"/participants/MSISDN/525512347007", PAYER),),
        raw=request(b"DELETE /participants/MSISDN/525512347007", PARTICIPANTS, b"{}"),
        status=204,
        then=((get(b"/participants/MSISDN/525512347007"), NOBODY),),
    ),
    Case(
        name="GET without fspiop-source",
        given=(post(b"/participants/MSISDN/525512347008", PAYER),),
        raw=get(b"/participants/MSISDN/525512347008", PARTICIPANTS.replace(b"fspiop-source: payerfsp\r\n", b"")),
        status=200,
        party_list=MINE,
    ),
    Case(
        name="GET with parties+json from an ISO 20022 hub",
        given=(post(b"/participants/MSISDN/525512347009", PAYER, ISO),),
        raw=get(b"/participants/MSISDN/525512347009", ISO_PARTIES),
        status=200,
        party_list=MINE,
    ),
)

CASES: Final = (*LOOKUPS, *REGISTRATIONS, *REMOVALS, *PATHS, *FORWARDED)
