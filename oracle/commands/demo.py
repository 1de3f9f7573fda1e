"""`oracle demo dfsp`: a tiny FSP that uses the account lookup service, so that a person can watch a whole lookup.

It is a payer (`--ask`) or a payee (`--party`), or both.  Everything that it sends and receives is one line.  Those
lines show identifiers: they are its own, on its own terminal.
"""
# ruff: noqa: PLC0415 - imports as in cli

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, Final

from oracle.commands.verbs import Arguments, Verbs

if TYPE_CHECKING:
    from oracle.api.dfsp.asked import Party

ANSWERS_S: Final = 30.0
URL: Final = "http://127.0.0.1:4002"


def add(commands: Any) -> None:
    demos = Verbs(commands, "demo", "run a tiny FSP, to see how lookups work")
    dfsp = demos.add_local(
        "dfsp", _run, "run a tiny FSP that answers and asks the account lookup service",
        "Create the FSP first, and its endpoints: oracle fsp create, oracle fsp endpoints. With --ask the command ends"
        " when all answers are there; without it, when you press Ctrl-C. A party is TYPE/IDENTIFIER or"
        " TYPE/IDENTIFIER/SUBID, for example MSISDN/525512345678; write %2F for a slash inside a part.",
    )  # fmt: skip
    dfsp.add_argument("--name", required=True, metavar="FSP", help="FSP ID of the tiny FSP, for example payerfsp")
    dfsp.add_argument("--port", required=True, type=int, help="port of the tiny FSP, for example 5001")
    dfsp.add_argument("--host", default="127.0.0.1", help="address on which it listens (default: 127.0.0.1)")
    dfsp.add_argument("--url", default=URL, help=f"address of the account lookup service (default: {URL})")
    dfsp.add_argument(
        "--party", action="append", default=[], type=_parse_party, metavar="TYPE/ID",
        help="customer that it registers and answers for; can be given several times",
    )  # fmt: skip
    dfsp.add_argument(
        "--ask", action="append", default=[], type=_parse_party, metavar="TYPE/ID",
        help="party that it asks for; can be given several times",
    )  # fmt: skip


def _parse_party(text: str) -> Party:
    from urllib.parse import unquote

    from oracle.api.dfsp.asked import Party

    parts = [unquote(part) for part in text.split("/")]
    if len(parts) not in (2, 3) or not all(parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not TYPE/IDENTIFIER, for example MSISDN/525512345678")
    return Party(*parts)


def _run(arguments: Arguments) -> None:
    import asyncio

    asyncio.run(_play(arguments))


async def _play(arguments: Arguments) -> None:
    """Serve, register the parties, ask; then end or wait for Ctrl-C."""
    import asyncio
    import signal

    from oracle.api.http import HttpServer
    from oracle.calls import Calls
    from oracle.commands.demo_fsp import DemoFsp
    from oracle.commands.failures import CommandError, NotFound
    from oracle.commands.output import print_line, print_note
    from oracle.telemetry.metrics import Metrics

    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    calls = Calls(Metrics.open(None, "demo", 0))
    fsp = DemoFsp(arguments.name, arguments.url.rstrip("/"), arguments.party, calls, print_line, timeout_s=ANSWERS_S)
    defects: list[BaseException] = []
    server = HttpServer(fsp.serve, on_error=defects.append)
    try:
        await server.start(_listen(arguments.host, arguments.port))
        print_note(f"{arguments.name} listens on http://{arguments.host}:{arguments.port}")
        for party in arguments.party:
            await fsp.register(party)
        answers = [await fsp.ask(party) for party in arguments.ask]
        if not arguments.ask:
            print_note("Press Ctrl-C to end it")
            await stop.wait()
    finally:
        await server.drain(1)
        await fsp.close()
        await calls.close()
    if defects:
        raise CommandError("the tiny FSP failed", "Send the lines above with a report of this defect") from defects[0]
    if not all(answers):
        raise NotFound("not all parties were found", "The lines above show what was answered")


def _listen(host: str, port: int) -> Any:
    import socket

    from oracle.commands.failures import CommandError

    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
    except OSError as exc:
        sock.close()
        raise CommandError(f"cannot listen on {host}:{port}: {exc.strerror}", "Choose another --port") from exc
    return sock
