"""URLs of endpoints: what a DFSP sent stays one segment of the path, and never chooses the host."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracle.api.dfsp.templates import BadTemplate, compile_template, encode_segment

VALUES = {"partyIdType": "PERSONAL_ID", "partyIdentifier": "12/OUKAMA(N)123456", "partySubIdOrType": "caja/1&x=2"}
PARTY = "/{{partyIdType}}/{{partyIdentifier}}"


@pytest.mark.parametrize(
    ("template", "url", "uri"),
    [
        (
            "http://dfsp:3000/participants" + PARTY,
            "http://dfsp:3000/participants/PERSONAL_ID/12%2FOUKAMA(N)123456",
            "/participants/PERSONAL_ID/12%2FOUKAMA(N)123456",
        ),
        (
            "https://dfsp/a/b/parties" + PARTY + "/{{partySubIdOrType}}/error",
            "https://dfsp/a/b/parties/PERSONAL_ID/12%2FOUKAMA(N)123456/caja%2F1&x=2/error",
            "/parties/PERSONAL_ID/12%2FOUKAMA(N)123456/caja%2F1&x=2/error",
        ),
        (  # the last one is the resource: a base path can have the same word
            "http://dfsp/participants/v1/participants/{{requestId}}",
            "http://dfsp/participants/v1/participants/",
            "/participants/",
        ),
        (  # in a query nothing that means something there stays
            "http://dfsp/callback?sub={{partySubIdOrType}}&id={{partyIdentifier}}",
            "http://dfsp/callback?sub=caja%2F1%26x%3D2&id=12%2FOUKAMA%28N%29123456",
            "/callback",
        ),
        ("http://dfsp", "http://dfsp", ""),
        (
            "  http://dfsp/parties/{{ partyIdType }}#x{{fsp}} ",
            "http://dfsp/parties/PERSONAL_ID",
            "/parties/PERSONAL_ID",
        ),
        (
            "http://dfsp/parties/{{{partyIdType}}}/{{&nothing}}",
            "http://dfsp/parties/PERSONAL_ID/",
            "/parties/PERSONAL_ID/",
        ),
        ("http://dfsp/a b/ñ/parties", "http://dfsp/a%20b/%C3%B1/parties", "/parties"),
    ],
)
def test_a_template_is_filled_with_percent_encoded_values(template: str, url: str, uri: str) -> None:
    assert compile_template(template).render(VALUES) == (url, uri)


@pytest.mark.parametrize("text", ["", "dfsp/parties", "/parties", "http:/x", "http://{{partyIdentifier}}/parties"])
def test_a_template_without_a_host_of_its_own_is_refused(text: str) -> None:
    with pytest.raises(BadTemplate):
        compile_template(text)


def test_the_host_can_have_the_name_of_the_fsp_and_nothing_else() -> None:
    template = compile_template("http://{{fsp}}.scheme:4000/parties" + PARTY)
    assert template.render({**VALUES, "fsp": "bank-1"}).url.startswith("http://bank-1.scheme:4000/parties/")
    for name in ("", "evil.example/x", "a:b@c", "a b", "a%2Fb", "a?b"):
        with pytest.raises(BadTemplate):
            template.render({**VALUES, "fsp": name})


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20))
def test_any_value_stays_one_segment(value: str) -> None:
    encoded = encode_segment(value)
    assert encoded.isascii()
    assert not set(encoded) & set('/?#\\ \r\n&<>"{}') - {"&"}
    assert encoded not in {".", ".."}


def test_html_is_not_escaped_and_a_plus_stays() -> None:
    assert encode_segment("+525512345678") == "+525512345678"
    assert encode_segment("tom&jerry's=shop") == "tom&jerry's=shop"
    assert encode_segment("100%") == "100%25"
    assert encode_segment("..") == "%2E%2E"
