"""The pages of the admin listener for people: both contracts to read and try, and the error codes.

    /                        leads to the console, or to /docs where there is none
    /docs                    the admin contract, where a person can try a call; /docs?contract=hub the hub's, to read
    /docs/errors             every error code, its cause and its remedy; a problem's `type` leads here
    /openapi.json            the admin contract as a file
    /.authz/openapi          the same, where gateways look for what they can grant
    /docs/hub.openapi.json   the contract of the hub listener
    /docs/assets/…           scripts and styles

The viewer is swagger-ui-dist, unmodified, under assets/swagger-ui.  The pages load nothing from elsewhere, have no
inline script or style, and address everything relative to themselves, for proxies that add to the path.
"""

from __future__ import annotations

import html
import re
from functools import cache
from importlib.resources import files
from typing import Any, Final

from litestar import Request, Response
from litestar.datastructures import State
from litestar.handlers import HTTPRouteHandler, get
from litestar.params import FromPath

from oracle.api.admin.access import PUBLIC
from oracle.api.admin.bodies import SharedBody
from oracle.api.admin.codes import INTRODUCTION, MEANINGS, TABLES
from oracle.api.admin.problems import Refusal

_HTML: Final = "text/html"
_JSON: Final = "application/json"
_OPTIONS: Final[dict[str, Any]] = {"opt": {"access": PUBLIC, "streams": False}, "include_in_schema": False}
ASSETS: Final = {
    "docs.css": ("docs.css", "text/css"),
    "docs.js": ("docs.js", "text/javascript"),
    "swagger-ui.css": ("swagger-ui/swagger-ui.css", "text/css"),
    "swagger-ui-bundle.js": ("swagger-ui/swagger-ui-bundle.js", "text/javascript"),
}
# Asked for again after a day at the latest, and then only if it has changed.
_KEEP: Final = "public, max-age=86400"
_CODE: Final = re.compile(r"`([^`]+)`")


def handlers() -> list[HTTPRouteHandler]:
    return [
        _lead_home,
        _show_docs,
        _show_errors,
        _send_contract,
        _send_contract_to_gateway,
        _send_hub_contract,
        _send_asset,
    ]


@get("/", sync_to_thread=False, **_OPTIONS)
def _lead_home(state: State) -> Response[bytes]:
    return Response(b"", status_code=302, headers={"Location": state.services.home})


@get("/docs", **_OPTIONS)
async def _show_docs(request: Request[Any, Any, Any]) -> Response[bytes]:
    return await _load("oracle.api.admin", "assets/docs.html", _HTML).answer(request)


@get("/docs/errors", **_OPTIONS)
async def _show_errors(request: Request[Any, Any, Any]) -> Response[bytes]:
    return await _load_errors().answer(request)


@get("/openapi.json", **_OPTIONS)
async def _send_contract(request: Request[Any, Any, Any]) -> Response[bytes]:
    return await _load("oracle.schemas", "admin.openapi.json", _JSON).answer(request)


@get("/.authz/openapi", **_OPTIONS)
async def _send_contract_to_gateway(request: Request[Any, Any, Any]) -> Response[bytes]:
    return await _load("oracle.schemas", "admin.openapi.json", _JSON).answer(request)


@get("/docs/hub.openapi.json", **_OPTIONS)
async def _send_hub_contract(request: Request[Any, Any, Any]) -> Response[bytes]:
    return await _load("oracle.schemas", "hub.openapi.json", _JSON).answer(request)


@get("/docs/assets/{name:str}", **_OPTIONS)
async def _send_asset(request: Request[Any, Any, Any], name: FromPath[str]) -> Response[bytes]:
    if name not in ASSETS:
        raise Refusal(404, "not_found", "No such resource")
    path, media_type = ASSETS[name]
    return await _load("oracle.api.admin", f"assets/{path}", media_type).answer(request, _KEEP)


@cache
def _load(package: str, path: str, media_type: str) -> SharedBody:
    return SharedBody(files(package).joinpath(*path.split("/")).read_bytes(), media_type)


@cache
def _load_errors() -> SharedBody:
    return SharedBody(errors_page().encode(), _HTML)


@cache
def errors_page() -> str:
    """Write the list of `codes` as HTML."""
    body = [f"<h1>Error codes</h1>\n<p>{_markup(INTRODUCTION)}</p>"]
    for code, meaning in MEANINGS.items():
        statuses = " or ".join(map(str, meaning.statuses))
        body.append(
            f'<section id="{code}"><h2><code>{code}</code></h2>\n'
            f"<p><b>{_markup(meaning.title)}.</b> Status {statuses}.</p>\n"
            f"<p>Cause: {_markup(meaning.cause)}</p>\n<p>Remedy: {_markup(meaning.remedy)}</p></section>"
        )
    for title, text, rows in TABLES:
        lines = "\n".join(f"<dt><code>{code}</code></dt><dd>{_markup(said)}</dd>" for code, said in rows)
        body.append(f"<section><h2>{title}</h2>\n<p>{_markup(text)}</p>\n<dl>\n{lines}\n</dl></section>")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<title>Alias oracle: error codes</title>\n"
        '<link rel="icon" href="data:,">\n<link rel="stylesheet" href="assets/docs.css">\n</head>\n<body>\n'
        '<header><nav><a href="../docs">Administration and audit</a> <a href="../docs?contract=hub">Payment hub</a>'
        ' <a href="errors" aria-current="page">Error codes</a></nav></header>\n'
        '<main class="errors">\n' + "\n".join(body) + "\n</main>\n</body>\n</html>\n"
    )


def _markup(text: str) -> str:
    return _CODE.sub(r"<code>\1</code>", html.escape(text, quote=False))
