"""URLs of endpoints that an operator can set."""

from __future__ import annotations

import pytest

from oracle.scheme.base import PARTICIPANT_BATCH_PUT, PARTIES_GET, PARTIES_SUB_ID_GET, PATHS
from oracle.scheme.urls import URL_MAX, BadUrl, check_base_url, check_url, list_placeholders

GOOD = (
    "http://greenbank",
    "http://green_bank:4001/fspiop",
    "https://api.greenbank.example:443/a/b-c_d~e",
    "HTTPS://10.0.0.1/x",
    "http://[2001:db8::1]:8080/x",
    "http://greenbank/%C3%B1",
)
BAD = (
    "",
    "greenbank/parties",
    "ftp://greenbank/x",
    "file:///etc/passwd",
    "javascript:alert(1)",
    "http://",
    "http:///x",
    "http://user:hunter2@greenbank/x",
    "http://hunter2@greenbank/x",
    "http://greenbank:0/x",
    "http://greenbank:65536/x",
    "http://greenbank:80:80/x",
    "http://greenbank:/x",
    "http://[2001:db8::zz]/x",
    "http://2001:db8::1/x",
    "http://green bank/x",
    "http://-greenbank/x",
    "http://greenbank..example/x",
    "http://{{partyIdentifier}}/x",
    "http://greenbank.{{fsp}}/x",
    "http://greenbank/x#y",
    "http://greenbank/x y",
    "http://greenbank/ñ",
    "http://greenbank/x\r\nhost: other",
    "http://greenbank/x\x00",
    "http://greenbank/%zz",
    "http://greenbank/%2",
    "http://greenbank/a/../b",
    "http://greenbank/%2e%2E/b",
    "http://greenbank/a\\b",
    "http://greenbank/<b>",
    "http://greenbank/{x}",
    "http://greenbank/{{password}}",
    "http://greenbank/{{{partyIdType}}}",
    "http://greenbank/" + "x" * URL_MAX,
)


@pytest.mark.parametrize("url", GOOD)
def test_a_url_that_can_be_called_is_accepted(url: str) -> None:
    check_base_url(url)
    check_url(f"{url}/{{{{partyIdType}}}}/{{{{partyIdentifier}}}}?x={{{{fsp}}}}", list_placeholders(PARTIES_GET))


@pytest.mark.parametrize("url", BAD)
def test_any_other_url_is_refused_and_its_password_is_not_repeated(url: str) -> None:
    for check in (check_base_url, lambda url: check_url(url, list_placeholders(PARTIES_GET))):
        with pytest.raises(BadUrl) as refused:
            check(url)
        assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("url", ["http://greenbank/", "http://greenbank/x?y=1", "http://greenbank/{{partyIdType}}"])
def test_a_base_url_has_no_query_no_slash_at_the_end_and_no_placeholder(url: str) -> None:
    with pytest.raises(BadUrl):
        check_base_url(url)


def test_a_type_has_the_placeholders_of_its_messages_alone() -> None:
    for endpoint_type, path in PATHS.items():
        check_url(f"http://greenbank{path}", list_placeholders(endpoint_type))
    with pytest.raises(BadUrl):
        check_url("http://greenbank/{{partySubIdOrType}}", list_placeholders(PARTIES_GET))
    check_url("http://greenbank/{{partySubIdOrType}}", list_placeholders(PARTIES_SUB_ID_GET))
    with pytest.raises(BadUrl):
        check_url("http://greenbank/{{partyIdentifier}}", list_placeholders(PARTICIPANT_BATCH_PUT))
