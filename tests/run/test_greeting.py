"""What a person reads at the start of a service with TLS: commands that work as they stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from oracle.run.greeting import print_greeting
from oracle.run.order import Role
from oracle.settings import Settings


def test_with_tls_the_commands_name_the_certificates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    certificate = tmp_path / "a certificate.pem"
    settings = Settings(
        log_format="text",
        hub_tls_certificate=certificate,
        hub_tls_require_client="on",
        admin_tls_certificate=certificate,
    )
    urls: dict[Role, str] = {"hub": "https://127.0.0.1:3000", "admin": "https://127.0.0.1:4444"}
    print_greeting(settings, urls, "aok_1")
    lines = capsys.readouterr().out.splitlines()
    assert f"  export ORACLE_ADMIN_TLS_CERTIFICATE='{certificate}'" in lines
    assert "  export ORACLE_ADMIN_PORT=4444" in lines
    assert any(line.startswith(f"  curl -i --cacert '{certificate}' --cert CLIENT.pem ") for line in lines)
    assert any(f"ORACLE_ADMIN_TLS_CERTIFICATE='{certificate}' ORACLE_ADMIN_PORT=4444 " in line for line in lines)
