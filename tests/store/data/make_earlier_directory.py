"""Make `earlier_directory.sql`: a directory as the version before the stricter rules (migration 0004) left it.

It has aliases, routes and currencies that later versions refuse, beside ordinary ones of every kind.  They came through
every channel: the hub, ALS's self-heal, the admin API, a file.  Every identifier is invented.  The history is sealed.

Run it with the program and the tests of that version:

    cd OLDER_TREE && PYTHONPATH=tests:tests/audit .venv/bin/python THIS_FILE > earlier_directory.sql
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import sealing
import servers
from oracle_process import PATIENT, start_oracle, until

from oracle.run.bootstrap import bootstrap
from oracle.run.embedded.binaries import find_postgres_binaries
from oracle.store.migrate import migrate

FSPS = ("bluebank", "whitebank", "mangobank", "farfsp")

# How the hub registers: FSP, path below /participants, currency, content type.
HUB: list[tuple[str, str, str | None]] = [
    ("bluebank", "MSISDN/525512340001", "MXN"),
    ("bluebank", "MSISDN/525588887777", "MXN"),
    ("whitebank", "MSISDN/5588887777", "MXN"),  # the same phone, without its country
    ("whitebank", "MSISDN/3312340006", None),
    ("mangobank", "MSISDN/9250000012", "MMK"),
    ("mangobank", "MSISDN/959250000013", "MMK"),
    ("mangobank", "MSISDN/123456789", None),  # valid nowhere: test data of the scheme
    ("mangobank", "PERSONAL_ID/12-OUKAMA-N-654321", "MMK"),
    ("farfsp", "PERSONAL_ID/12/OUKAMA(N)654321", "MMK"),  # a proxy has decoded %2F
    ("farfsp", "PERSONAL_ID/9/ဥကမ(နိုင်)654322", "MMK"),
    ("bluebank", "ACCOUNT_ID/000000356", "MXN"),
    ("bluebank", "ACCOUNT_ID/000000356/savings", "ZZZ"),
    ("bluebank", "EMAIL/ana@example.org", "NAN"),
    ("bluebank", "ALIAS/tía-lupe", None),
    ("bluebank", "DEVICE/till-1", "MXX"),
    ("bluebank", "BUSINESS/shop-7", "CUC"),  # a retired code, which ALS lets through
]
# How ALS caches what another scheme has answered.
HEALED = [("farfsp", "MSISDN/254700000001", "KES"), ("farfsp", "MSISDN/254700000002", None)]
# How people register: FSP, kind, identifier, SubId, currencies (the first becomes the default entry).
DESK: list[tuple[str, str, str, str | None, list[str | None]]] = [
    ("bluebank", "MSISDN", "+52 55 1234 0002", None, ["MXN", "ZZZ", "USD"]),
    ("bluebank", "MSISDN", "+52 55 1234 0003", None, ["MXX", "MXN"]),
    ("whitebank", "CLABE", "032180000118359719", None, ["MXN"]),
    ("whitebank", "IBAN", "GB82 WEST 1234 5698 7654 32", None, ["GBP", "NAN"]),
    ("mangobank", "NRC", "12/OUKAMA(N)123456", None, [None]),
    ("mangobank", "PERSONAL_ID", "G20012345", None, ["MMK"]),
    ("bluebank", "ALIAS", "shared", None, ["MXN"]),
    ("whitebank", "ALIAS", "shared", None, ["ZZZ"]),  # beside another FSP's default entry
]
FILE = """\
kind,identifier,sub_id,currency,country,action
MSISDN,55 8888 7778,,,,add
MSISDN,+525512340101,,nan,,add
MSISDN,+525512340102,nan,MXN,,add
ALIAS,None,,MXN,,add
ACCOUNT_ID,1.23457e17,,MXN,,add
ACCOUNT_ID,3.4e5,,,,add
MSISDN,+525512340105,,MXN,,add
"""
ROUTES = [
    ("ACCOUNT_ID", "012", "bluebank"),
    ("ACCOUNT_ID", "646", "whitebank"),
    ("ACCOUNT_ID", "6461570", "bluebank"),
    ("ACCOUNT_ID", "0123", "whitebank"),
    ("ACCOUNT_ID", "55", "mangobank"),
    ("CLABE", "021", "whitebank"),
    ("MSISDN", "52155", "bluebank"),
    ("MSISDN", "9509", "mangobank"),
    ("MSISDN", "95979", "mangobank"),
    ("EMAIL", "info@", "bluebank"),
]
PER_CURRENCY = "UPDATE key_policies SET policy = 'per-currency' WHERE party_id_type = 'ALIAS'"
# Without a valid operator, the next bootstrap makes one.
NO_OPERATOR = "UPDATE credentials SET revoked_at = now()"
_NOISE = re.compile(r"^(?:\\(?:un)?restrict .*|--.*|SET .*|SELECT pg_catalog\.set_config.*)?\n", re.MULTILINE)


def fill(hub_url: str, admin: httpx.Client) -> None:
    for fsp_id in FSPS:
        admin.post("/fsps", json={"fspId": fsp_id, "name": fsp_id.capitalize()}).raise_for_status()
    with httpx.Client(base_url=f"{hub_url}/participants", timeout=60) as hub:
        for entries, noun in ((HUB, "participants"), (HEALED, "parties")):
            for fsp_id, path, currency in entries:
                headers = {
                    "fspiop-source": fsp_id,
                    "content-type": f"application/vnd.interoperability.{noun}+json;version=1.1",
                }
                body = {"fspId": fsp_id, **({"currency": currency} if currency else {})}
                _show(hub.post(f"/{path}", headers=headers, json=body), path)
    for fsp_id, kind, identifier, sub_id, currencies in DESK:
        for currency in currencies:
            alias: dict[str, Any] = {"kind": kind, "identifier": identifier, "subId": sub_id, "currency": currency}
            _show(admin.post(f"/fsps/{fsp_id}/aliases", json={**alias, "reason": "an example"}), identifier)
    for kind, prefix, fsp_id in ROUTES:
        route = {"kind": kind, "prefix": prefix, "fspId": fsp_id, "reason": "an example"}
        _show(admin.post("/routes", json=route), prefix)
    headers = {"content-type": "text/csv"}
    posted = admin.post("/fsps/bluebank/batches", params={"fileName": "e.csv"}, content=FILE.encode(), headers=headers)
    _show(posted, "the file")
    batch = f"/fsps/bluebank/batches/{posted.json()['batchId']}"
    until(lambda: admin.get(batch).json()["state"] == "done")
    print(admin.get(batch).text, file=sys.stderr)
    admin.patch("/fsps/whitebank", json={"currencies": ["MXN", "GBP"]}).raise_for_status()
    gone = "/fsps/bluebank/aliases/MSISDN/525512340105"
    admin.delete(gone, params={"reason": "correction", "note": "an example"}).raise_for_status()


def _show(answer: httpx.Response, about: str) -> None:
    print(answer.status_code, about, "" if answer.is_success else answer.text, file=sys.stderr)


async def execute(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


def main() -> None:
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="oracle-", dir="/tmp")))
        server = asyncio.run(servers.start_postgres(stack.enter_context(servers.temporary_home())))
        stack.callback(lambda: asyncio.run(server.stop()))
        asyncio.run(migrate(server.url()))
        asyncio.run(execute(server.url(), PER_CURRENCY))
        key = asyncio.run(bootstrap(server.url()))
        env = {**PATIENT, "ORACLE_DATABASE_URL": server.url(), "ORACLE_ADMIN_PORT": "0"}
        with start_oracle(home, env) as oracle:
            headers = {"Authorization": f"Bearer {key}"}
            with httpx.Client(base_url=f"{oracle.admin_url}/admin/v1", headers=headers, timeout=60) as admin:
                fill(oracle.hub_url, admin)
        asyncio.run(execute(server.url(), NO_OPERATOR, "DELETE FROM idempotency"))
        asyncio.run(sealing.seal(server.url(), home / "data" / "audit-keys" / "signing.keys"))
        command = [str(find_postgres_binaries(server.data) / "pg_dump"), "--no-owner", "--no-privileges"]
        dump = subprocess.run([*command, "--dbname", server.url()], check=True, capture_output=True, text=True).stdout
        print(shorten(dump), end="")


def shorten(dump: str) -> str:
    """Remove what a restore does not need: settings, comments, indentation, the schema's name."""
    short = re.sub("^ +", " ", _NOISE.sub("", dump).replace(" public.", " "), flags=re.MULTILINE)
    return f"SET check_function_bodies = false;\n{short}"


if __name__ == "__main__":
    main()
