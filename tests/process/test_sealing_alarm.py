"""`/health`, `/metrics`, the log and `oracle audit verify` show that history is not sealed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import httpx
from oracle_process import OracleProcess, run_oracle, start_oracle, until

from oracle.store.migrate import migrate


async def change(url: str, fsp_id: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("INSERT INTO fsps (fsp_id) VALUES ($1)", fsp_id)
    finally:
        await connection.close()


def list_alarms(url: str) -> dict[str, str]:
    services = httpx.get(f"{url}/health").raise_for_status().json()["services"]
    return {service["name"]: service["reason"] for service in services if service["status"] == "DOWN"}


def read_gauge(oracle: OracleProcess, name: str, labels: str = "") -> float:
    """The highest sample of a gauge; -1 if it has none."""
    lines = httpx.get(f"{oracle.admin_url}/metrics").text.splitlines()
    samples = [line for line in lines if line.startswith(f"moja_oracle_{name}{{") and labels in line]
    return max((float(line.rsplit(" ", 1)[1]) for line in samples), default=-1.0)


def test_a_service_without_its_signing_key_raises_the_alarm_everywhere(
    empty_database_url: str, redis_url: str, tmp_path: Path
) -> None:
    asyncio.run(migrate(empty_database_url))
    env = {
        "ORACLE_DATABASE_URL": empty_database_url, "ORACLE_REDIS_URL": redis_url, "ORACLE_WORKERS": "1",
        "ORACLE_AUDIT_WAITING_MAX_S": "5", "ORACLE_AUDIT_KEY_FILE": str(tmp_path / "keys" / "signing.keys"),
    }  # fmt: skip
    with start_oracle(tmp_path, env) as oracle:
        asyncio.run(change(empty_database_url, "greenbank"))
        until((tmp_path / "keys" / "signing.keys.last").exists)
        until(lambda: read_gauge(oracle, "audit_waiting_seconds") == 0)
        until(lambda: list_alarms(oracle.admin_url) == {})  # Redis is used a lease after the start
        until(lambda: read_gauge(oracle, "audit_sealing") == 1)
    (tmp_path / "keys").rename(tmp_path / "away")  # a container that came back without its data directory
    with start_oracle(tmp_path, env) as oracle:
        asyncio.run(change(empty_database_url, "bluebank"))
        until(lambda: read_gauge(oracle, "audit_waiting_seconds") > 5)
        until(lambda: read_gauge(oracle, "job_failing", 'job="sealing"') == 1)
        until(lambda: read_gauge(oracle, "audit_sealing") == 0)
        for url in (oracle.admin_url, oracle.hub_url):
            until(lambda url=url: set(list_alarms(url)) == {"jobs", "sealing"})  # type: ignore[misc]
            assert list_alarms(url)["jobs"].startswith("sealing: ")
        refused = "Sealing of history refused: the key file does not hold the key that signs now"
        late = "Sealing of history is late: see the log of the jobs process, and open transactions"
        until(lambda: [line["level"] for line in oracle.find_log_lines(late)] == ["error"])
        until(lambda: any(refused in line for line in oracle.output.splitlines()))
        verdict = run_oracle(tmp_path, "audit", "verify", env=env)
        assert verdict.returncode == 7
        assert "the oldest unsealed event has waited" in verdict.stdout
        restored = run_oracle(tmp_path, "audit", "verify", "--max-wait", "inf", env=env)
        assert restored.returncode == 0, restored
        (tmp_path / "away").rename(tmp_path / "keys")
        until(lambda: list_alarms(oracle.admin_url) == {})
        until(lambda: read_gauge(oracle, "audit_waiting_seconds") == 0)
