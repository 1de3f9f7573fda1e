"""Problems of the admin listener are in the language of the caller; everything else of them stays."""

from __future__ import annotations

import re
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Final

import pytest

from oracle.api import languages
from oracle.api.problem_texts import list_texts
from oracle.api.texts import find_message, translate
from oracle.scheme.urls import BadUrl, check_url

if TYPE_CHECKING:
    import httpx
    from admin_service import Service

WITHOUT_HUB = True
TEXTS: Final = ("title", "detail", "hint")
# Calls that are refused: method, path, body.
REFUSED: Final[list[tuple[str, str, Any]]] = [
    ("GET", "/fsps/nobody", None),
    ("GET", "/nothing", None),
    ("PUT", "/fsps", {}),
    ("POST", "/fsps", {"fspId": "greenbank"}),
    ("POST", "/fsps", {}),
    ("POST", "/fsps", {"fspId": "x", "unknown": 1}),
    ("POST", "/fsps", {"fspId": 7}),
    ("POST", "/fsps", {"fspId": "x y"}),
    ("GET", "/fsps?curency=MXN", None),
    ("GET", "/fsps?cursor=x", None),
    ("GET", "/routes/99", None),
    ("POST", "/routes", {"prefix": "12", "fspId": "greenbank", "kind": "IBAN"}),
    ("GET", "/fsps/greenbank/batches/99", None),
    ("POST", "/credentials", {"name": "a", "role": "maker"}),
    ("GET", "/fsps/greenbank/logo", None),
]


def ask(caller: httpx.Client, call: tuple[str, str, Any], accepted: str | None) -> httpx.Response:
    method, path, body = call
    headers = {} if accepted is None else {"Accept-Language": accepted}
    return caller.request(method, path, json=body, headers=headers)


def speak(code: str, text: str) -> str:
    def run() -> str:
        languages.language.set(code)
        return translate(text)

    return copy_context().run(run)


@pytest.mark.parametrize("code", ["es", "my"])
def test_problems_are_in_the_language_of_the_caller(service: Service, code: str) -> None:
    for call in REFUSED:
        english = ask(service.operator, call, None)
        spoken = ask(service.operator, call, code)
        assert english.status_code >= 400, call
        assert (spoken.status_code, spoken.headers["content-language"]) == (english.status_code, code)
        assert english.headers["content-language"] == "en"
        assert "Accept-Language" in spoken.headers["vary"]
        assert "Accept-Language" in english.headers["vary"]
        before, after = english.json(), spoken.json()
        assert after.keys() == before.keys()
        assert {name: after[name] for name in after if name not in TEXTS} == {
            name: before[name] for name in before if name not in TEXTS
        }
        same = [before[name] for name in TEXTS if before.get(name) and after[name] == before[name]]
        assert same == [], call


def test_who_is_not_known_is_answered_in_their_language(service: Service) -> None:
    found = service.as_key(None).get("/fsps", headers={"Accept-Language": "es-MX, en;q=0.5"})
    assert found.status_code == 401
    assert found.json()["title"] == "Se requiere una clave válida"


def test_values_are_put_in_as_they_are(service: Service) -> None:
    found = ask(service.operator, ("GET", "/routes?{n}={fspId}", None), "es")
    assert found.json()["detail"] == "Un parámetro de la consulta es desconocido"
    assert speak("es", "The FSP {n}%s{0} is closed") == "El FSP {n}%s{0} está cerrado"


@pytest.mark.parametrize(
    ("accepted", "code"),
    [
        ("*", "en"), ("", "en"), ("q=", "en"), ("es;q=0, my;q=0.1", "my"), ("fr, my;q=0.5, es;q=0.4", "my"),
        ("my" * 5_000, "en"), ("," * 10_000, "en"), ("es;q=nan", "es"), ("es;q=1e999", "es"), ("../../my", "en"),
        ("\u00f1", "en"), ("ES-mx", "es"), ("my_MM", "my"),
    ],
)  # fmt: skip
def test_any_header_gets_an_answer(service: Service, accepted: str, code: str) -> None:
    raw: Any = accepted.encode("latin-1")
    found = service.operator.get("/fsps/nobody", headers={"Accept-Language": raw})
    assert found.status_code == 404
    assert found.headers["content-language"] == code or accepted == "es;q=nan"


def test_a_kept_answer_is_in_the_language_of_each_call(service: Service) -> None:
    headers = {"Idempotency-Key": "languages-1"}
    body = {"fspId": "greenbank"}
    first = service.operator.post("/fsps", json=body, headers=headers)
    again = service.operator.post("/fsps", json=body, headers={**headers, "Accept-Language": "es"})
    assert (first.status_code, again.status_code) == (409, 409)
    assert first.json()["title"] == "The FSP already exists"
    assert again.json()["title"] == "El FSP ya existe"


def test_texts_within_answers_are_in_the_language_of_the_caller(service: Service) -> None:
    """Of rows of a file, and why a lookup is answered so.  What is no text for people stays."""
    operator = service.operator
    data = b"kind,identifier\nCLABE,032180000118359718\nALIAS,\n"
    question = {"kind": "ALIAS", "identifier": "nobody.has.this"}
    for code, wrong, why in (
        ("es", "CLABE: el último dígito es el de control: es 8 y, para los otros 17, debe ser 9.", "Nadie lo registró"),
        ("my", "CLABE - နောက်ဆုံးဂဏန်းသည် စစ်ဆေးဂဏန်း ဖြစ်ပါသည်", "မည်သူမျှ မှတ်ပုံမတင်ထားပါ။"),
    ):
        english = check_file(operator, data, "en")
        assert (english.headers["content-language"], english.headers["vary"]) == ("en", "Accept-Language")
        spoken = check_file(operator, data, code)
        assert (spoken.status_code, spoken.headers["content-language"]) == (200, code)
        assert int(spoken.headers["content-length"]) == len(spoken.content)
        before, after = english.json()["failed"], spoken.json()["failed"]
        assert len(before) == 2
        assert after[0]["message"].startswith(wrong)
        assert [row.pop("message") for row in before] != [row.pop("message") for row in after]
        assert before == after
        found = ask(operator, ("POST", "/routes/what-if", question), code)
        assert found.json()["explanation"].startswith(why)
        assert found.json()["kind"] == "ALIAS"


def check_file(caller: httpx.Client, data: bytes, code: str) -> httpx.Response:
    headers = {"Content-Type": "text/csv", "Accept-Language": code}
    return caller.post("/fsps/greenbank/batches/check", content=data, headers=headers)


def test_what_people_wrote_is_never_translated(service: Service) -> None:
    """A note of a route that is a text of the API, and an FSP with such a name."""
    text = "Try again later"
    made = service.operator.post("/routes", json={"kind": "ALIAS", "prefix": "la.", "fspId": "greenbank", "note": text})
    assert made.status_code == 201, made.text
    spoken = service.operator.get(f"/routes/{made.json()['route']['routeId']}", headers={"Accept-Language": "es"})
    assert spoken.json()["note"] == text
    assert speak("es", "The FSP text is closed") == "El FSP text está cerrado"


def test_a_text_that_is_made_of_several_is_translated_as_a_whole_or_not_at_all() -> None:
    assert speak("es", "The hub refuses it today. EMAIL: it has no @") == "Hoy el hub lo rechaza. EMAIL: no tiene @"
    assert speak("es", "The hub refuses it today. Somebody knows why").startswith("The hub refuses")
    assert speak("my", "The route can never answer. IBAN prefix: no identifier begins with it").count("။") == 1


def test_answers_that_are_no_problems_are_as_they_were(service: Service) -> None:
    spoken = service.operator.get("/fsps", headers={"Accept-Language": "es"})
    assert spoken.status_code == 200
    assert "content-language" not in spoken.headers


def test_every_text_of_the_sources_is_found() -> None:
    """As itself: `Write {form}` fits each text that begins with Write."""
    texts = list_texts()
    assert len(texts) > 450
    assert [text for text in texts if drop_names(find_message(text) or "") != drop_names(text)] == []


def drop_names(message: str) -> str:
    return re.sub(r"\{\w+\}", "{}", message)


@pytest.mark.parametrize("code", ["es", "my"])
def test_no_text_of_the_sources_stays_english(code: str) -> None:
    assert [text for text in list_texts() if speak(code, text) == text] == []


@pytest.mark.parametrize("url", [
    "http://a b", "http://a#x", "ftp://a", "http://u:p@a", "http://{a}/x", "http://-", "http://a:0", "http://a/{x}", "http://a/%g",
    "http://a/../x", "http://" + "a" * 3_000,
])  # fmt: skip
def test_what_is_wrong_with_a_url_is_said_in_each_language(url: str) -> None:
    with pytest.raises(BadUrl) as caught:
        check_url(url, frozenset())
    text = str(caught.value)
    text = text[0].upper() + text[1:]
    assert text not in (speak("es", text), speak("my", text))
