"""`oracle audit verifications`, `start-verification` and `stop-verification`: verifications that the service does."""
# ruff: noqa: PLC0415 - imports as in cli

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from oracle.commands.audit_questions import ROOT
from oracle.commands.failures import FOUND, OK
from oracle.commands.output import (
    format_count,
    format_json,
    print_line,
    print_note,
)
from oracle.commands.verbs import (
    Arguments,
    add_call,
    parse_number,
)

if TYPE_CHECKING:
    from oracle.commands.client import Client

WATCH_S: Final = 2.0


def add(verbs: Any) -> None:
    """`verbs` are those of `oracle audit`."""
    add_call(verbs, "verifications", _list_verifications, "list verifications that the service did for people")
    start = add_call(
        verbs, "start-verification", _start_verification, "let the service verify history, and watch it until its end"
    )
    start.add_argument("--log-only", action="store_true", help="do not compare the directory with its events")
    stop = add_call(verbs, "stop-verification", _stop_verification, "stop a verification that waits or runs")
    stop.add_argument("number", type=parse_number, metavar="NUMBER", help="its number, as `verifications` shows it")


def _list_verifications(client: Client, arguments: Arguments) -> None:
    items = client.call("GET", f"{client.url}{ROOT}/verifications").body["items"]
    for item in items:
        if arguments.json:
            print_line(format_json(item))
        else:
            print_line(_describe_verification(item))


def _start_verification(client: Client, arguments: Arguments) -> int:
    """Return 1 if something differs, as `oracle audit verify` does."""
    from time import sleep

    path = f"{client.url}{ROOT}/verifications"
    item = client.call("POST", path, body={"directory": not arguments.log_only}).body
    while item["state"] in ("waiting", "running"):
        print_note(_describe_verification(item))
        sleep(WATCH_S)
        item = client.call("GET", f"{path}/{{number}}", number=item["verificationId"]).body
    if arguments.json:
        print_line(format_json(item))
    else:
        for finding in item["listed"]:
            print_line(f"{finding['kind']}: {finding['text']}")
    print_note(_describe_verification(item))
    return OK if item["state"] == "done" and not item["findings"] else FOUND


def _stop_verification(client: Client, arguments: Arguments) -> None:
    path = f"{client.url}{ROOT}/verifications/{{number}}/stop"
    item = client.call("POST", path, number=arguments.number).body
    print_line(format_json(item) if arguments.json else _describe_verification(item))


def _describe_verification(item: Any) -> str:
    read = f"{format_count(item['leavesRead'], 'event')} of {item['leaves']}"
    rows = f", {format_count(item['rowsRead'], 'row')} of the directory" if item["directory"] else ""
    found = format_count(item["findings"], "difference")
    return f"{item['verificationId']}\t{item['state']}\t{read}{rows}\t{found}"
