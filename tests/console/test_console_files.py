"""Files in the console: upload, first mistakes, progress, results, failed rows, and names that want to do harm."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Final

import pytest
from console_people import check_accessible, issue, sign_in
from oracle_process import until
from playwright.async_api import expect

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import httpx
    from admin_service import Service
    from browser import Tab
    from console_people import Person

    MakePerson = Callable[..., Person]

WITHOUT_HUB = True

HEADER: Final = "kind,identifier,sub_id,currency,country,action\n"
GOOD: Final = HEADER + "ALIAS,good1,,,,\nALIAS,good2,,,,\n"
MIXED: Final = HEADER + "ALIAS,mixed1,,,,\nFAX,1,,,,\nMSISDN,55123,,,MX,\n"


@pytest.fixture(scope="module")
def ana(person: MakePerson) -> Person:
    one = person("dfsp-maker", "greenbank")
    one.get("/console/files/new")
    return one


def upload(one: Person, data: str | bytes, name: str = "a.csv", **fields: str) -> httpx.Response:
    one.get("/console/files/new")
    once = {"once": str(abs(hash((data, name))))}
    return one.post("/console/files/new", {**once, **fields}, files={"file": (name, data)})


def settle(one: Person, answer: httpx.Response) -> str:
    """Return the path of an uploaded file, when nothing more happens by itself."""
    assert answer.status_code == 303, answer.text
    path: str = answer.headers["location"]
    until(lambda: "hx-sse:connect" not in one.get(path).text or "Waiting for approval" in one.get(path).text)
    return path


def text_of(answer: httpx.Response) -> str:
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", answer.text)))


def test_a_file_from_its_template_to_its_failed_rows(ana: Person) -> None:
    template = ana.get("/console/file-templates/import.csv")
    assert template.text.startswith(HEADER)
    path = settle(ana, upload(ana, MIXED, note="first"))
    page = text_of(ana.get(path))
    assert "Complete, some failed" in page
    assert re.search(r"Total 3 Success 1 Failed 2", page)
    assert "first" in page
    assert "it has 5 digits, and numbers of MX have 10" in page
    failed = ana.get(f"{path}/results", params={"only": "failed"})
    assert failed.headers["content-disposition"].startswith("attachment")
    lines = failed.text.splitlines()
    assert lines[0] == "line,status,code,message,canonical," + HEADER.strip()
    corrected = failed.text.replace("FAX,1", "ALIAS,mixed2").replace("55123", "5512345678")
    again = settle(ana, upload(ana, corrected, "fixed.csv"))
    assert re.search(r"Total 2 Success 2 Failed 0", text_of(ana.get(again)))
    assert ana.get(f"{path}/file").text == MIXED
    rows = text_of(ana.get(f"{path}/rows"))
    assert "mixed1" in rows
    assert "Added" in rows
    assert "mixed1" not in text_of(ana.get(f"{path}/rows", params={"only": "failed"}))


def test_mistakes_are_explained_in_the_language_of_the_person(ana: Person) -> None:
    data = (
        MIXED + "MSISDN,5.25513E+11,,,MX,\nCLABE,032180000118359718,,MXN,,\nALIAS,x,,MX,,\nALIAS,,,,,\nALIAS,x,,,,del\n"
    )
    for language, text in (("es", "tiene 5 dígitos"), ("my", "ဂဏန်းများကို စစ်ဆေးပါ")):
        answer = ana.post(
            "/console/files/check", files={"file": ("x.csv", data)},
            headers={"hx-request": "true", "accept-language": language},
        )  # fmt: skip
        assert text in text_of(answer)
        assert answer.text.count('<tr><th scope="row">') == 7
        assert '<span lang="en">' not in answer.text
        assert "invalid_for_country" not in answer.text


def test_the_first_mistakes_are_shown_and_nothing_is_stored(ana: Person) -> None:
    before = ana.get("/console/files").text.count('<tr id="file-')
    checked = ana.post("/console/files/check", files={"file": ("x.csv", MIXED)})
    page = text_of(checked)
    assert "2 rows are not valid" in page
    assert "All 3 rows were checked" in page
    long = HEADER + "".join(f"ALIAS,long{number:07},,,,\n" for number in range(60_000))
    part = text_of(ana.post("/console/files/check", files={"file": ("x.csv", long)}))
    assert "No mistake found" in part
    assert re.search(r"The first [45]\d,\d{3} rows were checked", part)
    assert "cannot be read" in text_of(ana.post("/console/files/check", files={"file": ("x.csv", b"PK\x03\x04")}))
    one = text_of(ana.post("/console/files/check", files={"file": ("x.csv", HEADER + "ALIAS,single,,,,\n")}))
    assert " 1 row was checked." in one
    headless = text_of(ana.post("/console/files/check", files={"file": ("x.csv", "a,b\n1,2\n")}))
    assert headless.count("The first line does not contain the column names.") == 1
    assert "Write the column names in the first line" in headless
    only = ana.post("/console/files/check", files={"file": ("x", MIXED)}, headers={"hx-request": "true"})
    assert "<html" not in only.text
    assert ana.get("/console/files").text.count('<tr id="file-') == before


def test_what_the_api_refuses_is_shown_at_its_field(ana: Person) -> None:
    for data, fields, field in ((b"", {}, "file"), (GOOD.encode(), {"country": "XX"}, "country"),
                                (GOOD.encode(), {"note": "x" * 10_000}, "note"),
                                (GOOD.encode(), {"note": "a\0b"}, "note")):  # fmt: skip
        answer = upload(ana, data, **fields)
        assert answer.status_code == 422, answer.text
        assert f'href="#field-{field}"' in answer.text
    other = upload(ana, GOOD, fsp="redbank")
    assert (other.status_code, "There is a problem" in other.text) == (422, True)
    nothing = ana.post("/console/files/new", {"note": "no file"}, files={"other": ("", b"")})
    assert nothing.status_code == 422


HOSTILE: Final = (
    "<script>alert(1)</script>.csv", '"><img src=x onerror=alert(1)>.csv', "'; DROP TABLE batches; --",
    "../../etc/passwd", "C:\\fakepath\\x.csv", "\u202egpj.csv", "a\u200bb.csv", "n" * 300 + ".csv", "{{ 7 * 7 }}",
    "%00%0a\r\nx: y", "ကြေးစာရင်း\u200b၁.csv",
)  # fmt: skip


def test_a_name_of_a_file_does_no_harm(ana: Person) -> None:
    paths = [upload(ana, GOOD, name).headers["location"] for name in HOSTILE]
    for address in ("/console/files", *paths):
        text = ana.get(address).text
        assert "<script>alert" not in text
        assert "<img src=x" not in text
        assert "\u202e" not in text
    assert "{{ 7 * 7 }}" in ana.get("/console/files").text
    for part in ("/file", "/results"):
        disposition = ana.get(paths[0] + part).headers["content-disposition"]
        assert re.fullmatch(r'attachment; filename="(batch|results)-\d+\.csv"', disposition)


def test_the_list_finds_files_by_state_person_and_time(ana: Person, person: MakePerson) -> None:
    number = settle(ana, upload(ana, GOOD, "by filter.csv")).rpartition("/")[2]
    row = f'id="file-{number}"'
    heads = re.findall(r'<th scope="col">([^<]+)<', ana.get("/console/files").text)
    assert heads == [
        "Batch ID", "Name", "Created by", "Created time", "Status", "Total", "Success", "Failed", "Action",
    ]  # fmt: skip
    for query, there in (
        ({"state": "done"}, True), ({"state": "failed"}, False), ({"from": "2000-01-01"}, True),
        ({"from": "2999-01-01"}, False), ({"to": "2000-01-01"}, False), ({"to": "2999-01-01"}, True),
        ({"uploadedBy": "maker of greenbank"}, True),
    ):  # fmt: skip
        answer = ana.get("/console/files", params=query)
        assert (row in answer.text) is there, query
        assert answer.status_code == 200
    for query in ({"uploadedBy": "nobody of this name"}, {"from": "soon"}, {"state": "<b>"}, {"cursor": "x"},
                  {"from": "\0"}, {"uploadedBy": "x" * 10_000}):  # fmt: skip
        answer = ana.get("/console/files", params=query)
        assert answer.status_code == 422, query
        assert "There is a problem" in answer.text
    everywhere = person("auditor").get("/console/files")
    assert row in everywhere.text
    assert "Upload a file" not in everywhere.text
    assert row not in person("auditor").get("/console/files", params={"fsp": "redbank"}).text
    assert row not in person("dfsp-maker", "redbank").get("/console/files").text


def test_what_is_not_there_or_of_another_fsp_looks_the_same(ana: Person, person: MakePerson) -> None:
    path = settle(ana, upload(ana, GOOD, "mine.csv"))
    number = path.rpartition("/")[2]
    stranger = person("dfsp-maker", "redbank")
    for part in ("", "/rows", "/results", "/file", "/cancel"):
        assert stranger.get(path + part).status_code == 403
        there = stranger.get(f"/console/files/redbank/{number}{part}")
        absent = stranger.get(f"/console/files/redbank/999999{part}")
        assert (there.status_code, absent.status_code) == (404, 404)
    for wrong in ("abc", "-1", "9" * 30, "%00", "1%2F2"):
        assert ana.get(f"/console/files/greenbank/{wrong}").status_code in (400, 404)


def test_a_second_person_is_waited_for_and_the_file_can_be_cancelled(service: Service, ana: Person) -> None:
    service.operator.patch("/fsps/greenbank", json={"twoPersons": True}).raise_for_status()
    try:
        path = settle(ana, upload(ana, MIXED, "waits.csv"))
        page = text_of(ana.get(path))
        assert "Nothing is changed until a second person approves it" in page
        assert "The kind is not known" in page  # the mistakes are there before anybody approves it
        assert "Nothing is processed yet" in text_of(ana.get(f"{path}/cancel"))
        bad = ana.post(f"{path}/cancel", {"once": "c1", "reason": "\0"})
        assert bad.status_code == 422
        done = ana.follow(ana.post(f"{path}/cancel", {"once": "c2", "reason": "wrong month"}))
        assert "It is cancelled" in text_of(done)
        again = ana.post(f"{path}/cancel", {"once": "c3"})
        assert again.status_code == 422
        assert "There is a problem" in again.text
    finally:
        service.operator.patch("/fsps/greenbank", json={"twoPersons": False}).raise_for_status()


def test_a_form_that_is_sent_twice_uploads_once(ana: Person) -> None:
    first = upload(ana, GOOD, "twice.csv")
    second = upload(ana, GOOD, "twice.csv")
    assert first.headers["location"] == second.headers["location"]


def test_events_end_with_the_file(ana: Person) -> None:
    path = settle(ana, upload(ana, MIXED, "<b>followed.csv"))
    one = ana.get(f"{path}/events")
    assert one.headers["content-type"] == "text/event-stream"
    assert "data: <p role=" in one.text
    assert one.text.endswith("event: end\ndata: \n\n")
    of = path.removeprefix("/console/files/")
    many = ana.get("/console/files/events", params={"of": [of, "redbank/1", "greenbank/999999", "../x", "a/b/c", "\0"]})
    assert f'hx-target="#file-{of.rpartition("/")[2]}"' in many.text
    assert many.text.count("hx-partial hx-target") == 1
    assert "&lt;b&gt;followed" in many.text
    assert many.text.endswith("event: end\ndata: \n\n")


@pytest.mark.asyncio(loop_scope="module")
async def test_a_file_whose_answer_was_lost_is_the_same_upload_again(
    service: Service, tab: Tab, tmp_path: Path
) -> None:
    """Perhaps it arrived."""
    await sign_in(tab, service, await issue(service, "dfsp-maker", "greenbank"))
    page = tab.page
    (tmp_path / "lost.csv").write_text("no,columns\n1,2\n")
    await page.goto(f"{service.oracle.admin_url}/console/files/new")
    await page.get_by_label("File", exact=True).set_input_files(tmp_path / "lost.csv")
    once = await page.locator("input[name=once]").input_value()
    await page.route("**/console/files/new", lambda route: route.abort(), times=1)
    await page.get_by_role("button", name="Upload").click()
    await expect(page.locator("#sending")).to_contain_text("connection")
    await expect(page.locator("input[name=once]")).to_have_value(once)
    await page.get_by_role("button", name="Upload").click()
    await page.wait_for_url("**/console/files/greenbank/*")
    tab.complaints.clear()  # of the connection that broke


@pytest.mark.asyncio(loop_scope="module")
async def test_a_maker_uploads_corrects_and_uploads_again(service: Service, tab: Tab, tmp_path: Path) -> None:
    await sign_in(tab, service, await issue(service, "dfsp-maker", "greenbank"))
    page = tab.page
    (tmp_path / "new customers.csv").write_text(HEADER + "ALIAS,browser1,,,,\nFAX,2,,,,\n")
    await page.get_by_role("navigation").get_by_role("link", name="Files").click()
    await page.get_by_role("link", name="Upload a file").first.click()
    await page.get_by_label("File", exact=True).set_input_files(tmp_path / "new customers.csv")
    await expect(page.locator("#checked")).to_contain_text("1 row is not valid")
    await expect(page.locator("#checked")).to_contain_text("The kind is not known")
    await check_accessible(page)
    await page.get_by_role("button", name="Upload").click()
    await page.wait_for_url("**/console/files/greenbank/*")
    await expect(page.locator("#state")).to_contain_text("Complete, some failed")
    await expect(page.locator("#state .counts")).to_contain_text("Total")
    await check_accessible(page)
    async with page.expect_download() as download:
        await page.get_by_role("link", name="Download failed rows").click()
    failed = await (await download.value).path()
    (tmp_path / "corrected.csv").write_text(failed.read_text().replace("FAX,2", "ALIAS,browser2"))
    await page.get_by_role("link", name="Upload the corrected file").click()
    await page.get_by_label("File", exact=True).set_input_files(tmp_path / "corrected.csv")
    await expect(page.locator("#checked")).to_contain_text("No mistake found")
    await page.get_by_role("button", name="Upload").click()
    await expect(page.locator("#state")).to_contain_text("Complete")
    await expect(page.locator("#state .badge")).to_have_text("Complete")
    # A stream that has ended, and what a page still loads when a person leaves it, is given up.
    assert [line for line in tab.complaints if "net::ERR_ABORTED" not in line] == []
