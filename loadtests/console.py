"""Measures every page of the console: `python -m loadtests.console [--aliases 10,000,000]`.

Who.      A directory of 10 million aliases of one FSP (made at first, in --data-dir; some minutes), and people of each
          role.  There are files with failed rows, a change that waits, routes, and a history.
Pages.    From the route table.  The addresses are those that the pages themselves link to, so a page is asked for a
          thing that exists.  Forms that only ask are measured, too.  Downloads, events and changes are not; but the
          first byte of each download and page that a link leads to must come within FIRST_BYTE_MAX_S.
Figures.  Each page is asked --rounds times on one connection: the time until its last byte (p50, p95), the CPU time
          of the admin process, and its bytes, as sent and compressed.  A first visit is the page to sign in with its
          styles and scripts, compressed, without fonts.
Verdict.  A p95 above 50 ms, a first visit above 60 kB, or a page that is not answered is a failure; times only if
          nothing else used the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import re
import statistics
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from html import unescape
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode, urlsplit

import httpx
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from rich.console import Console
from rich.table import Table

from loadtests import machine
from loadtests.arguments import parse_count
from loadtests.dataset import Refused, count_aliases, fill_embedded
from loadtests.keys import Keys, list_fsp_ids
from loadtests.stack import StackError, make_room, read_exact_cpu, run_oracle, wait_until
from oracle.api.console.declarations import ROOT, Page, list_pages
from oracle.run.bootstrap import bootstrap
from oracle.run.embedded import EmbeddedError

OK: Final = 200
SEE_OTHER: Final = 303
P95_MAX_MS: Final = 50.0
FIRST_VISIT_MAX_BYTES: Final = 60_000
FIRST_BYTE_MAX_S: Final = 1.0  # of whatever a link leads to, also when it is asked for the first time
ALIASES: Final = 10_000_000
ROUNDS: Final = 50
FILE_MAX_S: Final = 600.0  # the jobs process gives way to all others
ROUTES: Final = 300  # with one prefix
DATA_DIR: Final = Path(".oracle/console")
LARGE: Final = list_fsp_ids()[0]  # has all aliases
SMALL: Final = list_fsp_ids()[1]  # two persons
PEOPLE: Final = (
    ("operator", None), ("dfsp-maker", LARGE), ("dfsp-checker", SMALL), ("dfsp-maker", SMALL), ("auditor", None)
)  # fmt: skip
KNOWN: Final = "+525512345678"
# Forms that only ask, with what people fill in.  One that leads to a list is measured as the list there.
FORMS: Final = {
    "search_for": {"identifier": KNOWN, "kind": "MSISDN"},
    "filter_aliases": {"fsp": LARGE, "kind": "MSISDN", "prefix": "+5255"},
    "check_aliases": {"fsp": LARGE, "kind": "MSISDN", "items": "\n".join(f"+5255123456{n:02d}" for n in range(50))},
    "explain_lookup": {"kind": "MSISDN", "identifier": KNOWN},
    "find_routes": {"kind": "MSISDN", "prefix": "+5255"},
    "show_coverage": {"kind": "MSISDN", "prefix": "+95"},
}
# Addresses to which no page links as they are measured here.
EXTRA: Final = (f"{ROOT}?fsp={LARGE}", f"{ROOT}/aliases?fsp={LARGE}", f"{ROOT}/aliases?fsp={LARGE}&kind=MSISDN")
_HREF: Final = re.compile(r'(?:href|hx-get|src)="(/console[^"#]*)"')
_CSRF: Final = re.compile(r'name="csrf" (?:value|content)="([^"]+)"')
_LINKS_MAX: Final = 3  # addresses of one page that are followed; one, if somebody else has opened the page before


class Answer(NamedTuple):
    status: int
    media_type: str
    location: str
    body: bytes
    sent_bytes: int
    seconds: float


class Person:
    """Somebody who is signed in, on one connection."""

    def __init__(self, url: str, role: str) -> None:
        self.role = role
        self._connection = HTTPConnection(urlsplit(url).netloc, timeout=60)
        self._cookies: dict[str, str] = {}
        self.csrf = ""
        self.slowest: dict[str, float] = {}  # seconds until the first byte, by the name of the page

    def ask(self, path: str, form: dict[str, str] | None = None) -> Answer:
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self._cookies.items()),
                   "Accept-Encoding": "gzip", "Sec-Fetch-Site": "same-origin"}  # fmt: skip
        body = None
        if form is not None:
            body = urlencode({"csrf": self.csrf, **form})
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        began = time.perf_counter()
        self._connection.request("GET" if form is None else "POST", path, body, headers)
        reply = self._connection.getresponse()
        page = find_page(path) if form is None else None
        if page is not None:
            self.slowest[page.name] = max(self.slowest.get(page.name, 0.0), time.perf_counter() - began)
        self._keep_cookies(reply.headers.get_all("set-cookie", []))
        media_type = reply.getheader("content-type", "")
        if media_type and not media_type.startswith(("text/html", "text/css", "text/javascript", "image/")):
            self._connection.close()  # a file or events: not of interest, and perhaps without an end
            return Answer(reply.status, media_type, "", b"", 0, 0.0)
        sent = reply.read()
        seconds = time.perf_counter() - began
        text = gzip.decompress(sent) if reply.getheader("content-encoding") == "gzip" else sent
        token = _CSRF.search(text.decode("utf-8", "replace")) if media_type.startswith("text/html") else None
        self.csrf = token[1] if token else self.csrf
        return Answer(reply.status, media_type, reply.getheader("location", ""), text, len(sent), seconds)

    def _keep_cookies(self, lines: Sequence[str]) -> None:
        for line in lines:
            cookie, _, rest = line.partition(";")
            name, _, value = cookie.partition("=")
            self._cookies[name] = "" if "Max-Age=0" in rest else value

    def sign_in(self, key: str) -> None:
        self.ask(f"{ROOT}/sign-in")
        answer = self.ask(f"{ROOT}/sign-in", {"key": key})
        if answer.status != SEE_OTHER:
            raise StackError(f"nobody can sign in as {self.role}: status {answer.status}")


# What the directory has, besides aliases --------------------------------------------------------------------------


def prepare(admin_url: str, key: str) -> list[Person]:
    """Make people, files, a change that waits, and routes; return the people, signed in.  Raises StackError."""
    api = httpx.Client(base_url=f"{admin_url}/admin/v1", headers={"authorization": f"Bearer {key}"}, timeout=60)
    _set_two_persons(api)
    _add_jws_key(api)
    _verify(api)
    keys = {}
    for role, fsp_id in PEOPLE:
        body = {"role": role, "fspId": fsp_id, "label": f"load test: {role}"}
        keys[role, fsp_id] = _read(api.post("/credentials", json=body))["key"]
    _upload(api, keys["dfsp-maker", SMALL], SMALL, "+52556", rows=2_000, bad=200)
    _upload(api, keys["dfsp-maker", LARGE], LARGE, "+52557", rows=20_000, bad=200)
    maker = {"authorization": f"Bearer {keys['dfsp-maker', SMALL]}"}
    change = {"kind": "MSISDN", "identifier": f"+5255{time.time_ns() % 10**8:08d}", "currency": "MXN"}
    _read(api.post(f"/fsps/{SMALL}/aliases", json=change, headers=maker))
    for number in range(ROUTES):
        body = {"kind": "MSISDN", "prefix": f"+95{number + 100}", "fspId": list_fsp_ids()[number]}
        api.post("/routes", json=body)  # of an earlier run, it is refused
    people = []
    for (role, _), secret in keys.items():
        one = Person(admin_url, role)
        one.sign_in(secret)
        people.append(one)
    return people


def _set_two_persons(api: httpx.Client) -> None:
    answer = api.get(f"/fsps/{SMALL}")
    _read(api.patch(f"/fsps/{SMALL}", json={"twoPersons": True}, headers={"if-match": answer.headers["etag"]}))


def _add_jws_key(api: httpx.Client) -> None:
    path = f"/fsps/{LARGE}/jws-keys"
    if _read(api.get(path))["items"]:
        return
    key = rsa.generate_private_key(65_537, 2_048).public_key()
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
    _read(api.post(path, json={"label": "load test", "pem": pem}))


def _verify(api: httpx.Client) -> None:
    """Start a verification, without the directory: its aliases have no events."""
    path = "/audit/v1/verifications"
    if not _read(api.get(api.base_url.copy_with(path=path)))["items"]:
        _read(api.post(api.base_url.copy_with(path=path), json={"directory": False}))


def _upload(api: httpx.Client, key: str, fsp_id: str, prefix: str, *, rows: int, bad: int) -> None:
    """Upload a file with rows that are not valid, and wait until the service has done its part."""
    lines = ["kind,identifier,sub_id,currency,country,action"]
    lines += [f"MSISDN,{prefix}{number:07d},,MXN,,add" for number in range(rows)]
    lines += ["MSISDN,not a number,,MXN,,add"] * bad
    headers = {"authorization": f"Bearer {key}", "content-type": "text/csv"}
    sent = api.post(f"/fsps/{fsp_id}/batches", params={"fileName": "load-test.csv"}, content="\n".join(lines),
                    headers=headers)  # fmt: skip
    number = _read(sent)["batchId"]
    wait_until(
        lambda: _read(api.get(f"/fsps/{fsp_id}/batches/{number}"))["state"] not in ("validating", "applying"),
        "a file", FILE_MAX_S,
    )  # fmt: skip


def _read(answer: httpx.Response) -> Any:
    if answer.is_error:
        raise StackError(f"{answer.request.method} {answer.request.url.path}: {answer.status_code} {answer.text[:200]}")
    return answer.json()


# Pages ------------------------------------------------------------------------------------------------------------


class Case(NamedTuple):
    page: Page
    person: Person
    path: str
    form: dict[str, str] | None


class Figure(NamedTuple):
    page: str
    role: str
    status: int
    p50_ms: float
    p95_ms: float
    cpu_ms: float  # of the admin process, for each time it is asked
    sent_bytes: int
    zipped_bytes: int


def find_page(path: str) -> Page | None:
    """Find the page at an address; a path without parameters wins, as in the listener."""
    plain = urlsplit(path).path
    fitting = [page for page in list_pages().values() if page.method == "GET" and _make_pattern(page).fullmatch(plain)]
    return min(fitting, key=lambda page: len(page.parameters)) if fitting else None


def _make_pattern(page: Page) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(page.url)))


def crawl(person: Person, known: Collection[str]) -> Iterator[tuple[Page, str]]:
    """Follow the links of the pages, a few for each page; yield each address that shows a page.

    `known`: the names of pages that others have opened.
    """
    left = [*EXTRA, *(page.url for page in list_pages().values() if page.method == "GET" and not page.parameters)]
    seen: set[str] = set()
    counts: dict[str, int] = {}
    while left:
        path = left.pop(0)
        page = find_page(path)
        if page is None or path in seen or page.is_open:
            continue
        if counts.get(page.name, 0) >= (1 if page.name in known else _LINKS_MAX):
            continue
        seen.add(path)
        answer = person.ask(path)
        if answer.status != OK or not answer.media_type.startswith("text/html"):
            continue
        counts[page.name] = counts.get(page.name, 0) + 1
        yield page, path
        left += [unescape(found) for found in _HREF.findall(answer.body.decode())]


def list_cases(people: list[Person]) -> list[Case]:
    """List what is measured: each page with the first address, for the first person who can open it; also EXTRA."""
    found: dict[tuple[str, str], Case] = {}
    for person in people:
        for page, path in crawl(person, {name for name, _ in found}):
            extra = path if path in EXTRA else ""
            found.setdefault((page.name, extra), Case(page, person, path, None))
    for name, form in FORMS.items():
        asking = list_pages().get(name)
        if asking is not None:
            found[name, ""] = _make_form_case(asking, people[0], form)
    return list(found.values())


def _make_form_case(page: Page, person: Person, form: dict[str, str]) -> Case:
    answer = person.ask(page.url, form)
    return Case(page, person, answer.location, None) if answer.location else Case(page, person, page.url, form)


def measure(case: Case, rounds: int, pids: Sequence[int]) -> Figure:
    """`pids`: the processes whose CPU time a page costs."""
    case.person.ask(case.path, case.form)
    before = read_exact_cpu(pids)
    answers = [case.person.ask(case.path, case.form) for _ in range(rounds)]
    cpu_s = read_exact_cpu(pids).since(before).total
    times = sorted(1_000 * answer.seconds for answer in answers)
    last = answers[-1]
    return Figure(
        case.page.name + (f" {case.path.removeprefix(ROOT)}" if case.path in EXTRA else ""), case.person.role,
        max(answer.status for answer in answers), statistics.median(times),
        times[min(len(times) - 1, int(0.95 * len(times)))], 1_000 * cpu_s / rounds, last.sent_bytes,
        len(gzip.compress(last.body)),
    )  # fmt: skip


def weigh_first_visit(admin_url: str) -> int:
    """Add up the compressed bytes of the page to sign in, with its styles and scripts."""
    visitor = Person(admin_url, "visitor")
    page = visitor.ask(f"{ROOT}/sign-in")
    assets = {found for found in _HREF.findall(page.body.decode()) if "/assets/" in found}
    zipped = len(gzip.compress(page.body))
    return zipped + sum(visitor.ask(path).sent_bytes for path in sorted(assets))


# The program ------------------------------------------------------------------------------------------------------


class Measured(NamedTuple):
    figures: list[Figure]
    first_visit_bytes: int
    missed: list[str]  # pages that nothing led to
    slow: list[str]  # what came later than FIRST_BYTE_MAX_S, with the time


def run(home: Path, arguments: argparse.Namespace) -> Measured:
    """Raises StackError, Refused."""
    keys = Keys(one_fsp=True)
    if not arguments.data_dir.exists():
        asyncio.run(fill_embedded(arguments.data_dir, keys, arguments.aliases, machine.count_cores()))
    with run_oracle(home, {"ORACLE_CONSOLE": "on"}, data_dir=arguments.data_dir) as service:
        present = asyncio.run(count_aliases(service.database_url, keys))
        print(f"{present:,} aliases of {LARGE}")
        key = asyncio.run(bootstrap(service.database_url, forced_by="load test of the console"))
        people = prepare(service.admin_url, str(key))
        cases = list_cases(people)
        figures = [measure(case, arguments.rounds, service.admin_pids) for case in cases]
        reached = {case.page.name for case in cases}
        pages = [page for page in list_pages().values() if page.method == "GET" and not page.is_part]
        missed = [page.name for page in pages if not page.is_open and page.name not in reached]
        firsts = [one for person in people for one in person.slowest.items()]
        slow = {f"{name}: first byte after {seconds:.1f} s (limit {FIRST_BYTE_MAX_S:.0f} s)"
                for name, seconds in firsts if seconds > FIRST_BYTE_MAX_S}  # fmt: skip
        return Measured(figures, weigh_first_visit(service.admin_url), missed, sorted(slow))


def show(measured: Measured) -> None:
    table = Table("page", "as", "status", "p50 ms", "p95 ms", "CPU ms", "bytes", "compressed")
    for one in sorted(measured.figures, key=lambda one: -one.p95_ms):
        table.add_row(one.page, one.role, str(one.status), f"{one.p50_ms:.1f}", f"{one.p95_ms:.1f}",
                      f"{one.cpu_ms:.1f}", f"{one.sent_bytes:,}", f"{one.zipped_bytes:,}")  # fmt: skip
    Console(width=140).print(table)
    first_visit = measured.first_visit_bytes
    print(f"first visit: {first_visit:,} bytes, compressed, without fonts (limit {FIRST_VISIT_MAX_BYTES:,})")
    if measured.missed:
        print(f"nothing led to: {', '.join(measured.missed)}")


def list_failures(measured: Measured, *, times: bool) -> list[str]:
    """List what is not as promised.  `times`: also of the times."""
    found = [f"{one.page}: status {one.status}" for one in measured.figures if one.status != OK]
    if times:
        found += [f"{one.page}: p95 {one.p95_ms:.1f} ms (limit {P95_MAX_MS:.0f})" for one in measured.figures
                  if one.p95_ms > P95_MAX_MS]  # fmt: skip
        found += measured.slow
    if measured.first_visit_bytes > FIRST_VISIT_MAX_BYTES:
        found.append(f"first visit: {measured.first_visit_bytes:,} bytes (limit {FIRST_VISIT_MAX_BYTES:,})")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--aliases", type=parse_count, default=ALIASES, help=f"to be made (default {ALIASES:,})")
    parser.add_argument("--rounds", type=parse_count, default=ROUNDS, help=f"of each page (default {ROUNDS})")
    parser.add_argument("--data-dir", type=Path, default=DATA_DIR,
                        help=f"is filled if it does not exist (default {DATA_DIR})")  # fmt: skip
    arguments = parser.parse_args()
    watch = machine.Watch()
    try:
        with make_room() as home:
            watch.begin()
            measured = run(home, arguments)
            surroundings = watch.end()
    except (StackError, Refused, EmbeddedError, OSError) as exc:
        print(f"console: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    show(measured)
    machine.show(surroundings)
    failures = list_failures(measured, times=not surroundings.find_disturbance())
    print(*(f"! {failure}" for failure in failures), sep="\n")
    kept = {**measured._asdict(), "pages": [one._asdict() for one in measured.figures]}
    del kept["figures"]
    print(f"saved: {machine.save('console', vars(arguments), kept, surroundings=surroundings)}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
