"""Names with characters that mean something in a path: percent-encoded they are part of the name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import httpx
    from admin_service import Service

WITHOUT_HUB = True  # see admin_service


@pytest.mark.parametrize(
    "fsp_id", ["a/b", "a?b", "a%b", "a#b", "a%2Fb", "a/logo", "/", "a\\b", '"', "a;b", "a+b", "..x"]
)
def test_an_fsp_may_be_called_anything(service: Service, operator: httpx.Client, fsp_id: str) -> None:
    created = operator.post("/fsps", json={"fspId": fsp_id})
    assert created.status_code == 201, created.text
    path = created.headers["location"].removeprefix("/admin/v1")
    assert operator.get(path).json()["fspId"] == fsp_id
    assert operator.get(f"{path}/logo").json()["detail"] == "The FSP has no logo"
    own = service.client("dfsp-maker", fsp_id)
    assert own.get(path).json()["fspId"] == fsp_id
    refused = own.get("/fsps/a")
    assert (refused.status_code, refused.json()["hint"]) == (403, f"Name your own FSP: {fsp_id}")
    assert service.client("dfsp-maker", "greenbank").get(path).status_code == 403


@pytest.mark.parametrize("fsp_id", [".", "..", "", "a b", "a\0", "é", "x" * 33, "ab\n"])
def test_an_fsp_cannot_have_an_id_that_no_path_can_name(operator: httpx.Client, fsp_id: str) -> None:
    assert operator.post("/fsps", json={"fspId": fsp_id}).status_code == 400


def test_a_slash_in_a_name_leads_nowhere_else(service: Service, operator: httpx.Client) -> None:
    """`greenbank%2Flogo` is no way to greenbank's logo."""
    maker = service.client("dfsp-maker", "greenbank")
    for name in ("greenbank%2Flogo", "greenbank%2flogo", "greenbank%2F..%2Fredbank", "%2Fgreenbank"):
        assert maker.get(f"/fsps/{name}").status_code == 403
        answer = operator.get(f"/fsps/{name}")
        assert (answer.status_code, answer.json()["detail"]) == (404, "No such FSP")
