"""Hostile strings in every field of every form of the console: they stay texts, on each page that shows them.

Found.     The forms come from the pages themselves: each page of the route table that a person can open.  A page with
           POST whose form is nowhere is a failure.
Compared.  Harmless strings come first, the same way: then all pages are known by their elements and attributes.  With
           hostile strings there must be no other.  A browser, too, reads these pages: it runs nothing and asks nobody.
Sample.    The usual run gives each field a few of the strings, others to each field.  `--complete` gives each field
           that a person writes 200 of them, and prints what it counted.
"""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections import Counter
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlencode
from uuid import uuid4

import httpx
import pytest
from console_examples import fill
from console_people import sign_in
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hostile_strings import HOSTILE, TURNED, fit, fit_fsp_id, fit_identifier, twin
from oracle_process import until
from page_reader import Field, Form, Read, clean, find_page_name

from oracle.api.console.declarations import ROOT, list_pages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from admin_service import Service
    from browser import Tab
    from console_people import Person

    MakePerson = Callable[..., Person]

WITHOUT_HUB = True

ROUNDS: Final = 20  # of the complete form: each gives each field that a person writes EACH strings
EACH: Final = 10
STRINGS: Final = ROUNDS * EACH
WRITTEN: Final = frozenset({"free", "named", "typed"})
SHOWN_MIN: Final = 0.9
HEADER: Final = "kind,identifier,sub_id,currency,country,action\n"
OK: Final = 200
SEE_OTHER: Final = 303
DEFECT: Final = 500
BUSY: Final = 503
PAGES_MAX: Final = 40  # of one list
EVENTS: Final = 30  # that are looked at, for each other thing
TEXTS_MAX: Final = 2_000
STEP: Final = 37  # between the strings of two fields of a form
# What a person writes freely, with the most characters: it must be stored as it is, and shown.
FREE: Final[dict[str, dict[str, int]]] = {
    "create_fsp": {"name": 128, "localeName": 128, "dfspType": 64, "contactName": 128, "contactPhone": 32,
                   "additionalInfo": 1024},
    "save_fsp": {"name": 128, "localeName": 128, "dfspType": 64, "contactName": 128, "contactPhone": 32,
                 "additionalInfo": 1024},
    "add_alias": {"reason": 256},
    "do_change_alias": {"reason": 256},
    "do_remove_alias": {"note": 200},
    "upload_file": {"note": 256, "file": 255},
    "cancel_file_now": {"reason": 256},
    "reject_task": {"reason": 256},
    "create_route": {"note": 256, "reason": 256},
    "save_route": {"note": 256, "reason": 256},
    "stop_route": {"reason": 256},
    "do_import_routes": {"reason": 256},
    "create_key": {"label": 128},
    "change_key": {"label": 128},
    "do_revoke_key": {"reason": 256},
    "add_jws_key": {"label": 128},
    "set_fsp_status": {"reason": 256},
}  # fmt: skip
# The other fields that a person writes: which string of its kind is accepted.
NAMED: Final[dict[str, dict[str, Callable[[str, int], str]]]] = {
    "create_fsp": {"fspId": fit_fsp_id},
    "add_alias": {"identifier": fit_identifier, "subId": fit_identifier},
    "create_route": {"prefix": fit_identifier},
}
# Harmless strings that are refused, or say nothing, so that these pages are known as well.
DULL: Final = (
    "harmless", "", "a b", "x" * 300, "x" * 2_000, "a\tb", "MXN", "ooo", "0", "o" * 33, "2026-01-01",
    "2026-01-01T00:00", "a@b.example", "https://o.example/o", "+525512345678",
)  # fmt: skip
HEADERS: Final = frozenset(
    [
        "content-type",
        "content-length",
        "content-security-policy",
        "x-content-type-options",
        "referrer-policy",
        "cache-control",
        "cross-origin-opener-policy",
        "location",
        "set-cookie",
        "content-disposition",
        "date",
        "server",
        "x-request-id",
        "vary",
        "retry-after",
        "x-accel-buffering",
        "transfer-encoding",
        "etag",
        "hx-redirect",
        "content-encoding",
        "traceparent",
        "strict-transport-security",
        "server-timing",
        "allow",
        "content-language",
    ]
)
_DISPOSITION: Final = re.compile(r"attachment; filename(\*=UTF-8'')?=?\"?[\w.%~!$&+^`|-]+\"?")
_LINE: Final = re.compile("[ -~]*")
_LOCATION: Final = re.compile(r"/console([/?][!-~]*)?")
_COOKIE: Final = re.compile(r"__Host-oracle-\w+=[\w.~%-]*; Path=/; Max-Age=\d+; Secure(; HttpOnly)?; SameSite=\w+")


class Sent(NamedTuple):
    form: str
    field: str
    text: str


class Stray(NamedTuple):
    """A page with elements that no harmless string has shown yet."""

    place: str
    parts: frozenset[tuple[str, str]]


class House:
    """A service with some of everything, its people, its forms, and what its pages are made of."""

    def __init__(self, service: Service, person: MakePerson, visitor: MakePerson) -> None:
        self.service, self.person, self.visitor = service, person, visitor
        self.api = service.operator
        self.numbers = itertools.count(1)
        self.change("greenbank", twoPersons=True)
        self.chief = person("operator")
        self.clerk = person("dfsp-maker", "greenbank")
        self.checker = person("dfsp-checker", "greenbank")
        self.auditor = person("auditor")
        self.seller = person("dfsp-maker", "redbank")
        self.people = (self.chief, self.clerk, self.checker, self.auditor, self.seller)
        self.clerk_api = service.as_key(self.clerk.key)
        self.forms: dict[str, tuple[Person, str, Form]] = {}  # who, where, and the form, by the page it is sent to
        self.parts: set[tuple[str, str]] = set()  # of pages with harmless strings
        self.kinds: set[str] = set()  # of the same
        self.is_learning = True
        self.counts: Counter[str] = Counter()
        self.filled: set[tuple[str, str]] = set()
        self.stored: list[Sent] = []
        self.seen: set[str] = set()  # texts and values that hostile pages showed
        self.findings: list[str] = []
        self.texts: dict[str, str] = {}  # pages for the browser
        self.stray: list[Stray] = []
        self.places = itertools.count(0, 2)

    # -- what there is -----------------------------------------------------------------------------------------------

    def change(self, fsp_id: str, **members: Any) -> None:
        self.api.patch(f"/fsps/{fsp_id}", json=members).raise_for_status()

    def create(self, path: str, body: dict[str, Any], client: httpx.Client | None = None) -> Any:
        def ask() -> bool:
            answers.append((client or self.api).post(path, json=body))
            return answers[-1].status_code != BUSY

        answers: list[httpx.Response] = []
        until(ask)
        assert answers[-1].is_success, answers[-1].text
        return answers[-1].json()

    def ask_for_change(self) -> str:
        body = {"kind": "ALIAS", "identifier": f"waits{next(self.numbers)}", "reason": "asked"}
        return str(self.create("/fsps/greenbank/aliases", body, self.clerk_api)["batchId"])

    def add_route(self) -> str:
        body = {"kind": "ACCOUNT_ID", "prefix": f"r{next(self.numbers)}", "fspId": "greenbank"}
        return str(self.create("/routes", body)["route"]["routeId"])

    def add_key(self) -> str:
        body = {"role": "dfsp-maker", "fspId": "redbank", "label": "a key"}
        return str(self.create("/credentials", body)["credential"]["credentialId"])

    def make_room_for_a_key(self) -> None:
        """Remove the older half of the keys: an FSP has 8 at most."""
        for key in self.api.get("/fsps/redbank/jws-keys").json()["items"][4:]:
            self.api.delete(f"/fsps/redbank/jws-keys/{key['keyId']}").raise_for_status()

    def find_new_jws_key(self) -> tuple[Person, str]:
        self.make_room_for_a_key()
        return self.chief, "/fsps/redbank/jws-keys/new"

    def add_jws_key(self) -> str:
        self.make_room_for_a_key()
        body = {"label": "a key", "pem": _make_pem(next(self.numbers))}
        return str(self.create("/fsps/redbank/jws-keys", body)["keyId"])

    def add_alias(self) -> str:
        """Return the address of the new alias, which is sealed for one person."""
        _, _, form = self.find_form("add_alias")
        values = {"fsp": "redbank", "kind": "ALIAS", "identifier": f"shop{next(self.numbers)}"}
        answer = self.send(self.chief, form, values)
        assert answer.status_code == SEE_OTHER, answer.text
        return str(answer.headers["location"])

    @cached_property
    def changed(self) -> str:
        return self.add_alias()

    @cached_property
    def sources(self) -> dict[str, Callable[[], tuple[Person, str]]]:
        """List the forms that need something new each time."""
        return {
            "add_alias": lambda: (self.chief, "/aliases/new?fsp=redbank"),
            "do_change_alias": lambda: (self.chief, f"{self.changed}/change"),
            "do_remove_alias": lambda: (self.chief, f"{self.add_alias()}/remove"),
            "reject_task": lambda: (self.checker, f"/tasks/greenbank/{self.ask_for_change()}"),
            "approve_task": lambda: (self.checker, f"/tasks/greenbank/{self.ask_for_change()}"),
            "cancel_file_now": lambda: (self.clerk, f"/files/greenbank/{self.ask_for_change()}/cancel"),
            "upload_file": lambda: (self.chief, "/files/new?fsp=greenbank"),
            "check_file": lambda: (self.chief, "/files/new?fsp=greenbank"),
            "save_route": lambda: (self.chief, f"/routes/{self.add_route()}/change"),
            "stop_route": lambda: (self.chief, f"/routes/{self.add_route()}/end"),
            "change_key": lambda: (self.chief, f"/keys/{self.add_key()}"),
            "make_secret": lambda: (self.chief, f"/keys/{self.add_key()}/rotate"),
            "do_revoke_key": lambda: (self.chief, f"/keys/{self.add_key()}/revoke"),
            "drop_jws_key": lambda: (self.chief, f"/fsps/redbank/jws-keys/{self.add_jws_key()}/remove"),
            "add_jws_key": self.find_new_jws_key,
            "save_fsp": lambda: (self.chief, "/fsps/redbank/change"),
            "set_endpoints": lambda: (self.chief, "/fsps/redbank/endpoints"),
            "set_fsp_status": self.find_status,
            "end_session": lambda: (self.sign_in_twice(), "/account"),
            "remove_logo": lambda: (self.chief, f"/fsps/{self.add_logo()}/logo"),
            "sign_in_by_key": lambda: (self.visitor(), "/sign-in"),
            "make_own_secret": lambda: (self.person("reader"), "/account/key"),
            "sign_out": lambda: (self.person("reader"), "/account"),
            "end_sessions": lambda: (self.person("reader"), "/account"),
        }  # fmt: skip

    def find_source(self, page: str) -> tuple[Person, str]:
        """Return who fills in a form, and a page that has it, with something new that it is about."""
        if page not in self.sources:
            who, where, _ = self.forms[page]
            return who, where
        who, where = self.sources[page]()
        return who, where if where.startswith(ROOT) else ROOT + where

    def sign_in_twice(self) -> Person:
        one, other = self.person("reader"), self.visitor()
        other.sign_in(one.key)
        return one

    def add_logo(self) -> str:
        image = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR\0\0\0\1\0\0\0\1\x08\6\0\0\0\x1f\x15\xc4\x89"
        answer = self.api.put("/fsps/closebank/logo", content=image, headers={"content-type": "image/png"})
        assert answer.is_success, answer.text
        return "closebank"

    def find_status(self) -> tuple[Person, str]:
        now = self.api.get("/fsps/closebank").json()["status"]
        return self.chief, f"/fsps/closebank/status/{'suspended' if now == 'active' else 'active'}"

    # -- forms -------------------------------------------------------------------------------------------------------

    def discover(self) -> None:
        """Open each page of the route table, as each person, and keep the forms."""
        extra = ["/aliases?fsp=redbank", "/files/new?fsp=redbank", "/aliases/check?fsp=redbank"]
        opened: set[str] = set()
        for one in self.people:
            left = [*(fill(page) for page in list_pages().values() if page.method == "GET" and not page.is_part),
                    *(ROOT + place for place in extra)]  # fmt: skip
            done: set[str] = set()
            while left:
                address = left.pop(0)
                name = find_page_name(address)
                if not name or list_pages()[name].is_part or address in done:
                    continue
                if name in opened and "fsp=" not in address:
                    continue
                done.add(address)
                answer = one.get(address)
                if answer.status_code != OK or "text/html" not in answer.headers.get("content-type", ""):
                    continue
                opened.add(name)
                read = self.look(answer, name)
                for form in read.forms:
                    self.forms.setdefault(form.page, (one, address, form))
                left += [link for link in read.links if link.startswith(ROOT) and "fsp=" not in link]
        for name in self.sources:
            who, where = self.find_source(name)
            for form in self.look(who.get(where), find_page_name(where)).forms:
                self.forms.setdefault(form.page, (who, where, form))
        self.discover_verification()
        who, where, form = self.forms["check_routes"]
        checked = self.look(self.send(who, form, {}), "check_routes")
        self.forms.update({form.page: (who, where, form) for form in checked.forms if form.page == "do_import_routes"})

    def discover_verification(self) -> None:
        """Look at a verification in each of its states: a real one is done too soon."""
        (row,) = self.service.fetch(
            "INSERT INTO verifications (state, directory, asked_by, begun_at, seen_at, runner)"
            " VALUES ('running', true, 'somebody', now(), now() + interval '1 hour', gen_random_uuid())"
            " RETURNING verification_id"
        )
        where = f"{ROOT}/audit/verifications/{row[0]}"
        for state in ("running", "waiting", "stopped", "failed"):
            self.service.fetch("UPDATE verifications SET state = $1 WHERE verification_id = $2", state, row[0])
            for form in self.look(self.auditor.get(where), "verification").forms:
                self.forms.setdefault(form.page, (self.auditor, where, form))
            self.look(self.auditor.get(f"{ROOT}/audit/verifications"), "verifications")

    def find_form(self, page: str) -> tuple[Person, str, Form]:
        """Open a page that has this form, and return it as it is now."""
        who, where = self.find_source(page)
        answer = who.get(where)
        found = [form for form in self.look(answer, find_page_name(where)).forms if form.page == page]
        if found:
            return who, where, max(found, key=lambda form: len(form.fields))
        kept = self.forms.get(page)
        assert kept is not None, f"{page} is not on {where}: {answer.status_code}"
        return kept

    def send(self, who: Person, form: Form, values: dict[str, str]) -> httpx.Response:
        """Send a form with some of its values replaced."""
        pairs = {one.name: one.value for one in form.fields if one.type not in ("checkbox", "file", "button", "radio")}
        pairs |= {"once": str(uuid4())} if "once" in pairs else {}
        pairs |= {name: value for name, value in values.items() if name != "file"}
        if form.method == "GET":
            pairs.pop("csrf", None)
            query = urlencode(pairs, errors="surrogatepass")
            return who.get(f"{form.address}?{query}")
        pairs["csrf"] = who.csrf
        if not form.uploads:
            content = urlencode(pairs, errors="surrogatepass").encode()
            return who.send(form.address, content, "application/x-www-form-urlencoded")
        content, media_type = _write_multipart(pairs, values.get("file", "a.csv"), self.make_file(form.page))
        return who.send(form.address, content, media_type)

    def make_file(self, page: str) -> bytes:
        number = next(self.numbers)
        if page in ("do_import_routes", "check_routes"):
            return f"kind,prefix,fspId\nACCOUNT_ID,i{number},greenbank\n".encode()
        return f"{HEADER}ALIAS,file{number},,,,\nFAX,1,,,,\n".encode()

    def list_groups(self, page: str, form: Form) -> Iterator[tuple[str, list[Field]]]:
        """List the fields that are filled together: those that store anything, those that a person writes, the rest."""
        kept = [one for one in form.fields if one.name not in ("csrf", "once")]
        if page in FREE:
            yield "free", [one for one in kept if one.name in FREE[page]]
        if page in NAMED:
            yield "named", [one for one in kept if one.name in NAMED[page]]
        yield "typed", [one for one in kept if one.is_typed or one.type == "file"]
        yield "chosen", [one for one in kept if one.type in ("select", "checkbox", "radio", "button")]
        for one in kept:
            if one.type == "hidden":
                yield "hidden", [one]

    def make_values(self, page: str, group: str, fields: list[Field], choose: Callable[[int], str]) -> dict[str, str]:
        """Choose the values of a group: another string for each field, by its place."""
        number = next(self.numbers)
        values = {} if group in ("typed", "hidden") else self.make_valid(page, number)
        for place, one in enumerate(fields):
            text = choose(place)
            if group == "free":
                # The names and notes of files take no signs that are not seen; all else can turn text round.
                turn = "\u05d0" if page == "upload_file" else "\u202e"
                text = fit(text, FREE[page][one.name] - 1, f"o{number}") + turn * (number % 2)
                text = "".join(filter(str.isprintable, text)) or "o" if page == "upload_file" else text
            elif group == "named":
                text = NAMED[page][one.name](text, number)
            values[one.name] = text
        return values

    def make_valid(self, page: str, number: int) -> dict[str, str]:
        """Return valid values of the other fields."""
        return {
            "create_fsp": {"fspId": f"f{number}"},
            "add_alias": {"kind": "ALIAS", "identifier": f"v{number}"},
            "do_change_alias": {"currency": ("MXN", "USD")[number % 2]},
            "do_remove_alias": {"reason": "fraud"},
            "create_route": {"kind": "ACCOUNT_ID", "prefix": f"v{number}", "fspId": "greenbank", "step": "create"},
            "create_key": {"role": "dfsp-maker", "fspId": "redbank"},
            "add_jws_key": {"pem": _make_pem(number)},
        }.get(page, {})  # fmt: skip

    def list_forms(self) -> list[str]:
        """List the forms that have anything to fill in."""
        return [name for name, (_, _, form) in self.forms.items()
                if name and any(one.name not in ("csrf", "once") for one in form.fields)]  # fmt: skip

    def begin(self) -> None:
        """Store harmless strings everywhere, and look at all pages that show them."""
        for prefix, fsp_id in (("+52551", "greenbank"), ("+52552", "closebank")):
            self.create("/routes", {"kind": "MSISDN", "prefix": prefix, "fspId": fsp_id})
        coverage = Filler(self, "show_coverage")
        coverage.fill_in({"kind": "MSISDN", "prefix": "+525"})
        for name in self.list_forms():
            if name in FREE or name in NAMED:
                filler = Filler(self, name)
                for group, fields in self.list_groups(name, filler.form()):
                    if group in ("free", "named"):
                        filler.fill(group, fields, lambda place: f"harmless {place}")
        verifying = Filler(self, "start_verification")
        verifying.fill("chosen", [], str)
        until(lambda: self._list_verifications()[0]["state"] == "done")
        self.look(self.chief.get(f"{ROOT}/audit/verifications/{self._list_verifications()[0]['verificationId']}"), "")
        coverage.fill_in({"kind": "MSISDN", "prefix": "+525"})  # closebank is suspended by now
        own = self.service.as_key(self.chief.key).get("/me").json()["credentialId"]
        self.look(self.chief.get(f"{ROOT}/keys/{own}"), "key")
        self.walk(4)
        self.is_learning = False

    def _list_verifications(self) -> Any:
        return self.api.get(str(self.api.base_url).replace("/admin/", "/audit/") + "verifications").json()["items"]

    def try_form(self, page: str, count: Callable[[str], int]) -> None:
        """Fill in each group of fields of a form with as many hostile strings as `count` says."""
        filler = Filler(self, page)
        groups = [(group, fields) for group, fields in self.list_groups(page, filler.form()) if fields]
        written = {group: {one.name for one in fields} for group, fields in groups}
        for group, fields in groups:
            again = group == "typed" and written["typed"] == written.get("free")
            for _ in range(1 if again else count(group)):
                at = next(self.places)
                self.stray = []
                filler.fill(group, fields, lambda place, at=at: HOSTILE[(at + place * STEP) % len(HOSTILE)])  # type: ignore[misc]
                if self.stray:
                    self.learn(filler, group, fields, at)

    def learn(self, filler: Filler, group: str, fields: list[Field], at: int) -> None:
        """Make harmless strings show the pages that a hostile one showed; what none of them shows is a finding."""
        self.is_learning = True
        stray, self.stray = self.stray, []
        twins = [twin(HOSTILE[(at + place * STEP) % len(HOSTILE)]) for place in range(len(fields))]
        tries: list[tuple[str, list[Field], Callable[[int], str]]] = [(group, fields, twins.__getitem__)]
        tries += [(group, fields, lambda _, text=text: text) for text in DULL]  # type: ignore[misc]
        # An error of one field can hide the error of another.
        tries += [("alone", [one], lambda _, text=text: text) for one in fields for text in DULL]  # type: ignore[misc]
        for how, those, choose in tries:
            if all(one.parts <= self.parts for one in stray):
                break
            filler.fill(how, those, choose)
        self.is_learning = False
        self.findings += [self.describe(one) for one in stray if one.parts - self.parts]

    def note(self, page: str, group: str, fields: list[Field], values: dict[str, str], answer: httpx.Response) -> None:
        """Count what was sent; what is free must be stored."""
        if self.is_learning:
            return
        self.filled.update((page, one.name) for one in fields)
        self.counts["sent"] += len(fields)
        stores = answer.status_code in (OK, SEE_OTHER)
        self.counts["accepted" if stores else "refused"] += len(fields)
        if group in ("free", "named"):
            if not stores:
                self.findings.append(f"{page} refuses {values!r}: {answer.status_code} {_read_errors(answer)}")
            for one in fields:
                text = _name_file(values[one.name]) if one.name == "file" else values[one.name]
                self.stored.append(Sent(page, one.name, text))

    # -- pages -------------------------------------------------------------------------------------------------------

    def look(self, answer: httpx.Response, page: str) -> Read:
        """Check an answer, whatever it is; keep or compare what it is made of."""
        place = f"{answer.request.method} {page} {answer.status_code}"
        if answer.status_code >= DEFECT:
            self.findings.append(f"{place}: a defect, after {answer.request.url}")
        self.findings += [f"{place}: header {line!r}" for line in find_bad_headers(answer)]
        if answer.headers.get("content-type", "").partition(";")[0] not in ("text/html", "text/event-stream"):
            return Read("")
        read = Read(answer.text)
        if self.is_learning:
            self.parts |= read.parts
            self.kinds |= read.kinds
        else:
            self.check_texts(place, read)
            if not read.parts <= self.parts:
                self.stray.append(Stray(place, frozenset(read.parts)))
            if len(self.texts) < TEXTS_MAX:
                self.texts.setdefault(f"{place} {self.counts['pages'] % 4}", answer.text)
        return read

    def describe(self, one: Stray) -> str:
        return f"{one.place}: unknown elements {sorted(one.parts - self.parts)[:4]}"

    def check_texts(self, place: str, read: Read) -> None:
        self.counts["pages"] += 1
        if read.strange:
            self.findings.append(f"{place}: {read.strange[:3]}")
        for one, is_apart in read.texts:
            self.seen.add(clean(one))
            if not is_apart and not TURNING.isdisjoint(_ISOLATED.sub("", one)):
                self.findings.append(f"{place}: not isolated: {one!r}")
        self.seen.update(map(clean, read.values))

    def walk(self, details_max: int) -> None:
        """Open each list to its end, some things of it, and their files."""
        self.look(self.chief.get(self.changed), "alias")
        for who, (places, followed) in WALKS.items():
            one: Person = getattr(self, who)
            left = [ROOT + place.removesuffix("/") for place in places.split()]
            names = followed.split()
            opened: Counter[str] = Counter()
            done: set[str] = set()
            while left:
                address = left.pop(0)
                name = find_page_name(address)
                most = PAGES_MAX if "cursor=" in address else details_max * (EVENTS if name == "audit_event" else 1)
                if address in done or opened[name] >= most:
                    continue
                done.add(address)
                opened[name] += "cursor=" not in address
                if list_pages()[name].is_part:
                    self.read_file(one, address, name)
                    continue
                read = self.look(one.get(address), name)
                left += [link for link in read.links if find_page_name(link) in names and "/assets/" not in link]

    def read_event(self, one: Person, address: str, name: str) -> None:
        """Read the first event of a stream: its data is a part of a page."""
        headers = {"cookie": "; ".join(f"{key}={value}" for key, value in one.cookies.items())}
        with one.client.stream("GET", address, headers=headers) as answer:
            event = next((event for event in _split_events(answer.iter_text()) if event), "")
        lines = event.split("\n")
        assert all(line.startswith("data: ") for line in lines), event
        text = "\n".join(line.removeprefix("data: ") for line in lines)
        self.look(httpx.Response(OK, headers=answer.headers, text=text, request=answer.request), name)

    def read_file(self, one: Person, address: str, name: str) -> None:
        if name == "file_events":
            self.read_event(one, address, name)
            return
        answer = one.get(address)
        self.counts["files"] += not self.is_learning
        self.look(answer, name)
        if answer.status_code == OK and "csv" in answer.headers.get("content-type", ""):
            self.findings += [f"{name}: a cell is a formula: {cell!r}" for cell in find_formulas(answer.text)]


# Who looks where, and which of the pages that are linked there.
WALKS: Final = {
    "chief": (
        "/fsps /keys /routes /refused-calls /aliases?fsp=redbank /account /fsps/redbank/routes /aliases/new",
        (
            "fsps fsp change_fsp fsp_status keys key revoke_key new_key routes route change_route end_route aliases"
            " alias change_alias remove_alias remove_jws_key export_aliases fsp_routes"
        ),
    ),
    "clerk": (
        "/files /tasks/decisions /",
        "files file cancel_file file_events file_results file_original decisions",
    ),
    "checker": ("/tasks /", "tasks task"),
    "auditor": (
        "/audit /audit/reads /audit/export/filtered?format=csv",
        "audit audit_event event_proof reads",
    ),
}
_ISOLATED: Final = re.compile("\u2068[^\u202a-\u202e\u2066-\u2069]*\u2069")
TURNING: Final = frozenset("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def _split_events(pieces: Iterable[str]) -> Iterator[str]:
    waiting = ""
    for piece in pieces:
        *events, waiting = (waiting + piece).split("\n\n")
        yield from events


class Filler:
    """Somebody who fills in one form, again and again."""

    def __init__(self, house: House, page: str) -> None:
        self.house, self.page = house, page
        self.found: tuple[Person, Form] | None = None

    def form(self) -> Form:
        return self._find()[1]

    def _find(self) -> tuple[Person, Form]:
        if self.found is None:
            who, _, form = self.house.find_form(self.page)
            self.found = who, form
        return self.found

    def fill_in(self, values: dict[str, str]) -> httpx.Response:
        who, form = self._find()
        answer = self.house.send(who, form, values)
        self.house.look(answer, self.page)
        return answer

    def fill(self, group: str, fields: list[Field], choose: Callable[[int], str]) -> None:
        house, page = self.house, self.page
        values = house.make_values(page, group, fields, choose)
        answer = self.fill_in(values)
        who, _ = self._find()
        house.note(page, group, fields, values, answer)
        if answer.status_code == SEE_OTHER:
            to = answer.headers["location"]
            if not to.startswith(f"{ROOT}/sign-in"):
                shown = who.follow(answer)
                house.look(shown, find_page_name(to))
                if group in ("free", "named") and shown.status_code != OK:
                    house.findings.append(f"{page} leads to {to}, which is {shown.status_code}")
            if page in house.sources:
                self.found = None


def find_bad_headers(answer: httpx.Response) -> Iterator[str]:
    forms = {"location": _LOCATION, "set-cookie": _COOKIE, "content-disposition": _DISPOSITION}
    for name, value in answer.headers.multi_items():
        if name not in HEADERS or not re.fullmatch(forms.get(name, _LINE), value):
            yield f"{name}: {value}"
    if "frame-ancestors 'none'" not in answer.headers.get("content-security-policy", ""):
        yield "no content-security-policy"


def find_formulas(text: str) -> Iterator[str]:
    """Find the cells that a spreadsheet would compute."""
    for cells in csv.reader(io.StringIO(text.removeprefix("\ufeff"))):
        for cell in cells:
            if cell[:1] in ("=", "@", "\t", "\r") or (cell[:1] in ("+", "-") and not re.fullmatch(r"[+-][\d.]*", cell)):
                yield cell


def _read_errors(answer: httpx.Response) -> str:
    found = re.search(r'<section class="errors".*?</section>', answer.text, re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", found[0])) if found else ""


def _name_file(name: str) -> str:
    """Return the name of a file as it is shown: without its folder, and without signs that nobody sees."""
    return "".join(letter for letter in name.replace("\\", "/").rpartition("/")[2] if letter.isprintable()).strip()


def _write_multipart(fields: dict[str, str], file_name: str, content: bytes) -> tuple[bytes, str]:
    """Write a form with a file as browsers do."""
    boundary = uuid4().hex
    lines: list[bytes] = []
    for name, value in fields.items():
        lines += [f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode(),
                  value.encode("utf-8", "surrogatepass"), b"\r\n"]  # fmt: skip
    written = file_name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A").encode("utf-8", "surrogatepass")
    lines += [f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="'.encode(), written,
              b'"\r\nContent-Type: text/csv\r\n\r\n', content, f"\r\n--{boundary}--\r\n".encode()]  # fmt: skip
    return b"".join(lines), f"multipart/form-data; boundary={boundary}"


def _make_pem(number: int) -> str:
    """Make a public key that nobody has the other half of: to find primes takes long."""
    key = rsa.RSAPublicNumbers(65537, 2**2047 + 2 * number + 1).public_key()
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


@pytest.fixture(scope="module")
def house(service: Service, person: MakePerson, visitor: MakePerson) -> House:
    made = House(service, person, visitor)
    made.create("/fsps", {"fspId": "closebank", "name": "closebank"})
    made.add_jws_key()
    made.discover()
    return made


def test_each_form_of_the_route_table_is_found(house: House) -> None:
    pages = {page.name for page in list_pages().values() if page.method == "POST"}
    assert pages - set(house.forms) == set()


@pytest.mark.timeout(7_200)
def test_hostile_texts_change_no_page(house: House, complete: bool) -> None:
    house.begin()
    for _ in range(ROUNDS if complete else 1):
        for name in house.list_forms():
            house.try_form(name, (lambda group: EACH if group in WRITTEN else 1) if complete else lambda _: 1)
        print(f"sent {house.counts['sent']}, findings {house.findings}", flush=True)
    house.is_learning, house.stray = False, []
    house.walk(250 if complete else 3)
    house.findings += [house.describe(one) for one in house.stray if one.parts - house.parts]
    print(f"{len(house.list_forms())} forms, {len(house.filled)} fields, {len(HOSTILE)} strings: {dict(house.counts)}")
    assert "\n".join(sorted(set(house.findings))) == ""
    fields = {(name, one.name) for name in house.list_forms() for one in house.forms[name][2].fields}
    assert {one for one in fields if one[1] not in ("csrf", "once")} - house.filled == set()
    assert len(HOSTILE) >= STRINGS


def test_what_is_stored_is_shown_as_it_is(house: House) -> None:
    whole = "\n".join(house.seen)
    shown = [sent for sent in house.stored if clean(sent.text) in house.seen or clean(sent.text) in whole]
    print(f"{len(shown)} of {len(house.stored)} stored strings are shown")
    # The sample looks at the newest events alone: an older reason can be missing.
    assert len(shown) >= SHOWN_MIN * len(house.stored) > 0


# Asks a browser's own parser for the elements of pages, each with the names of its attributes, without running them.
_PARSE: Final = """pages => [...new Set(pages.flatMap(page =>
  [...new DOMParser().parseFromString(page, "text/html").querySelectorAll("*")].map(one =>
    [one.localName.toLowerCase(), ...one.getAttributeNames().map(name => name.toLowerCase()).sort()].join(" "))))]"""
# Adds a line with a text of a person in the middle, and returns the texts that move their neighbours.
_TURN: Final = """texts => texts.filter(text => {
  const line = document.createElement("p");
  const [first, given, next, last] = ["i", "bdi", "i", "i"].map(tag => document.createElement(tag));
  [first.textContent, given.textContent, next.textContent, last.textContent] = ["first", text, "next", "last"];
  line.append(first, " ", given, " ", next, " ", last);
  line.style.whiteSpace = "nowrap";
  document.querySelector("main").append(line);
  const left = one => one.getBoundingClientRect().left;
  const wrong = left(first) > left(next) || left(next) > left(last);
  line.remove();
  return wrong;
})"""
_LOOSE: Final = """[...document.querySelectorAll("bdi")].filter(one => getComputedStyle(one).display !== "inline-block")
  .length"""
SHOWING: Final = (
    ("chief", ("/fsps", "/keys", "/routes", "/aliases?fsp=redbank", "/fsps/redbank", "/aliases", "")),
    ("clerk", ("/files", "/tasks/decisions", "")),
    ("checker", ("/tasks",)),
    ("auditor", ("/audit", "/audit/reads")),
)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.timeout(3_600)
async def test_a_browser_runs_nothing_of_it(service: Service, house: House, tab: Tab, complete: bool) -> None:
    dialogs: list[str] = []
    tab.page.on("dialog", lambda dialog: dialogs.append(dialog.message))
    looked = 0
    for who, places in SHOWING:
        await tab.page.goto("about:blank")  # see test_each_page in test_console_looks
        await tab.page.context.clear_cookies()
        await sign_in(tab, service, getattr(house, who).key)
        for place in places:
            await tab.page.goto(service.oracle.admin_url + ROOT + place)
            for _ in range(20 if complete else 2):
                looked += 1
                assert await tab.page.evaluate("window.__hit") is None, tab.page.url
                assert await tab.page.evaluate(_LOOSE) == 0, tab.page.url
                following = tab.page.locator("main a[rel=next]")
                if not await following.count():
                    break
                await tab.page.goto(service.oracle.admin_url + str(await following.first.get_attribute("href")))
    turned = [text for text in TURNED if len(text) < 200 and "\ud800" not in text]
    assert await tab.page.evaluate(_TURN, turned) == []
    found: set[str] = set()
    texts = list(house.texts.values())
    for at in range(0, len(texts), 20):
        found.update(await tab.page.evaluate(_PARSE, texts[at : at + 20]))
    print(f"{looked} pages opened, {len(texts)} read by the browser's parser")
    # A browser adds what a part of a page leaves out.
    assert found - house.kinds - {"html", "head", "body", "tbody"} == set()
    assert dialogs == []
    # A part of the page before that came too late is none of its faults.
    assert [line for line in tab.complaints if "status of 4" not in line and "ERR_ABORTED" not in line] == []
    assert [url for url in tab.asked if not url.startswith((service.oracle.admin_url, "data:"))] == []
