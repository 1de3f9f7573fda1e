"""What the person who started `oracle serve` reads: what it is doing, where it listens, what to try, the first key.

Nothing is printed where the settings ask for JSON logs: a program reads the output there.  The first key is printed
only at a terminal: a file or a collector of logs would keep it, and other people read those.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

from oracle.run.order import Role
from oracle.settings import Settings

_KIND = "-H 'content-type: application/vnd.interoperability.participants+json;version=1.1'"
_CALLER = "-H 'fspiop-source: demo-fsp'"
# No other number of the documents, the templates or the API's examples: who tries those later would meet a conflict.
_NUMBER = "528187654321"


def print_step(settings: Settings, text: str) -> None:
    """Show that the start goes on."""
    _print(settings, f"{text} ...")


def can_show_key(settings: Settings) -> bool:
    """Whether what is printed here reaches a person, and nothing else."""
    return settings.log_format != "json" and sys.stdout.isatty()


def print_greeting(settings: Settings, urls: Mapping[Role, str], first_key: str | None) -> None:
    lines = ["", f"oracle {version('alias-oracle')} is ready. Ctrl-C stops it.", ""]
    lines += [f"  {role:14} {url}" for role, url in urls.items()]
    if "admin" in urls:
        if settings.console == "on":
            lines.append(f"  {'console':14} {urls['admin']}/console")
        lines += [f"  {'documentation':14} {urls['admin']}/docs", f"  {'metrics':14} {urls['admin']}/metrics"]
    if "hub" in urls:
        lines += ["", "Register a phone number and look it up, in another terminal:"]
        party = f"{urls['hub']}/participants/MSISDN/{_NUMBER}"
        curl = "curl -i"
        if settings.hub_tls_certificate is not None:
            curl += f" --cacert {_quote(settings.hub_tls_certificate)}"
        if settings.hub_tls_require_client == "on":
            curl += " --cert CLIENT.pem"
        if settings.fsp_registration == "auto":  # else an unknown FSP is refused
            lines += [f'  {curl} {_KIND} {_CALLER} -d \'{{"fspId":"demo-fsp"}}\' {party}']
        lines += [f"  {curl} {_CALLER} {party}"]
    exports = _list_exports(settings, urls)
    if exports:
        lines += ["", "Commands in another terminal need this address first:"]
        lines += [f"  export {one}" for one in exports]
    if first_key is not None:
        lines += [
            "",
            "The first operator's key. It is shown only now, and expires in a week.",
            f"Save it with: {''.join(f'{one} ' for one in exports)}{_program()} key save",
            "",
            f"  {first_key}",
        ]
    elif "admin" in urls and not can_show_key(settings):
        lines += ["", f"If there is no operator yet, create the first key: {_program()} key bootstrap --out FILE"]
    _print(settings, *lines, "")


def _list_exports(settings: Settings, urls: Mapping[Role, str]) -> list[str]:
    """List what names this service to a command in another terminal; nothing where it finds it by itself."""
    standard, admin = Settings(), urls.get("admin")
    if admin in (None, standard.admin_address):
        return []
    if settings.admin_tls_certificate is None:
        return [f"ORACLE_ADMIN_URL={admin}"]
    exports = [f"ORACLE_ADMIN_TLS_CERTIFICATE={_quote(settings.admin_tls_certificate)}"]
    port = urlsplit(admin).port
    if settings.admin_host != standard.admin_host:
        exports.append(f"ORACLE_ADMIN_HOST={settings.admin_host}")
    if port != standard.admin_port:
        exports.append(f"ORACLE_ADMIN_PORT={port}")
    return exports


def _quote(path: Path) -> str:
    return shlex.quote(str(path.resolve()))


def _print(settings: Settings, *lines: str) -> None:
    if settings.log_format == "json":
        return
    with suppress(OSError):  # a closed pipe behind us is no reason not to serve
        print(*lines, sep="\n", flush=True)  # noqa: T201 - for the person who started it


def _program() -> str:
    """Return the command as this person typed it: the PATH can lack the virtual environment."""
    return sys.argv[0] if Path(sys.argv[0]).name == "oracle" else "oracle"
