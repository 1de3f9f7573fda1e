"""Settings: where values come from, what is said of bad ones, and that secrets are never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from oracle.settings import READERS, Settings, SettingsError, load, url_masked

PASSWORD = "hush-hush"
KEY = "k" * 32


def problems(environ: dict[str, str], file: Path | None = None) -> list[str]:
    with pytest.raises(SettingsError) as raised:
        load(environ, file)
    return raised.value.problems


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "oracle.toml"
    file.write_text(text)
    return file


def test_nothing_said_is_the_default() -> None:
    loaded = load({"PATH": "/bin", "ORACLE_REDIS_URL": ""})
    assert loaded.settings == Settings()
    assert set(loaded.sources.values()) == {"default"}


def test_every_default_is_a_value_that_may_be_set() -> None:
    for name, reader in READERS.items():
        value = getattr(Settings(), name)
        if value is not None:
            assert reader.read(reader.shown(value)) == value, name


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    file = written(tmp_path, 'hub_port = 4000\nadmin_port = 4001\nhome_countries = ["mx", "US"]\ntrace_ratio = 0.25')
    settings, sources = load({"ORACLE_HUB_PORT": "5000"}, file)
    assert (settings.hub_port, settings.admin_port) == (5000, 4001)
    assert (settings.home_countries, settings.trace_ratio) == (("MX", "US"), 0.25)
    assert (sources["hub_port"], sources["admin_port"], sources["workers"]) == ("environment", "file", "default")


def test_settings_survive_the_way_to_a_worker() -> None:
    settings = Settings(data_dir=Path("/somewhere"), digest_key=KEY, home_countries=("MM",))
    assert Settings.from_json(settings.to_json()) == settings


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("HUB_PORT", "70000", "70000 is out of range; allowed: a whole number from 0 to 65535"),
        ("HUB_PORT", "3_000", "'3_000' is not a whole number; allowed: a whole number from 0 to 65535"),
        ("IDLE_TIMEOUT_S", "599", "599 is out of range; allowed: a whole number from 600 to 604800"),
        ("WORKERS", "0", "0 is out of range; allowed: a whole number from 1 to 256"),
        (
            "ADMIN_PROXIES",
            "10.0.0.1/8",
            "'10.0.0.1/8' is not an address or a network; allowed: addresses or networks, separated by commas",
        ),
        (
            "ADMIN_URL",
            "https://me:secret@oracle.example",
            "it has a user in it; allowed: a URL that begins with http:// or https://",
        ),
        ("TRACE_RATIO", "1.5", "'1.5' is not such a number; allowed: a number from 0 to 1"),
        ("LOG_FORMAT", "xml", "'xml' is not known; allowed: one of auto, json, text"),
        (
            "HOME_COUNTRIES",
            "MX,MEX",
            "'MEX' is not a country code; allowed: two-letter country codes, separated by commas",
        ),
        ("CACHE_PREFIX", "a b", "'a b' is not of that form; allowed: 1 to 32 letters, digits, . _ -"),
        ("DIGEST_KEY", "short", "it is too short; allowed: at least 16 characters"),
        (
            "DATABASE_URL",
            "mysql://x",
            "it does not begin so; allowed: a URL that begins with postgresql:// or postgres://",
        ),
    ],
)
def test_a_bad_value_is_named_with_what_is_allowed(name: str, value: str, said: str) -> None:
    assert problems({f"ORACLE_{name}": value}) == [f"ORACLE_{name}: {said}"]


def test_all_problems_of_both_sources_are_told_at_once(tmp_path: Path) -> None:
    file = written(tmp_path, 'workers = "many"\nhub_prot = 1\ncache_ttl_s = true')
    found = problems({"ORACLE_LOG_LEVEL": "loud", "ORACLE_CACHE_TTL": "5"}, file)
    assert [line.removeprefix(f"{file}: ").split(":")[0] for line in found] == [
        "hub_prot", "ORACLE_CACHE_TTL", "workers", "cache_ttl_s", "ORACLE_LOG_LEVEL",
    ]  # fmt: skip
    assert found[0].endswith("no such setting; did you mean hub_port?")
    assert found[1].endswith("no such setting; did you mean ORACLE_CACHE_TTL_S?")


def test_two_listeners_cannot_share_a_port_unless_it_is_any() -> None:
    assert len(problems({"ORACLE_HUB_PORT": "3001"})) == 1
    assert load({"ORACLE_HUB_PORT": "0", "ORACLE_ADMIN_PORT": "0"}).settings.hub_port == 0


@pytest.mark.parametrize(
    ("text", "said"), [(None, "cannot be read"), ("a = ", "is not valid TOML"), ("a = '\udcff'", "is not UTF-8")]
)
def test_a_bad_file_is_one_line(tmp_path: Path, text: str | None, said: str) -> None:
    file = tmp_path / "oracle.toml"
    if text is not None:
        file.write_bytes(text.encode(errors="surrogateescape"))
    (line,) = problems({}, file)
    assert line.startswith(f"{file}: {said}")


def test_names_that_others_put_into_the_environment_are_left_alone() -> None:
    others = {
        "ORACLE_HOME": "/opt/oracle",
        "ORACLE_SID": "XE",
        # Kubernetes, for Services called oracle and oracle-hub
        "ORACLE_SERVICE_HOST": "10.0.0.1",
        "ORACLE_SERVICE_PORT_HTTP": "3000",
        "ORACLE_PORT": "tcp://10.0.0.1:3000",
        "ORACLE_PORT_3000_TCP_ADDR": "10.0.0.1",
        "ORACLE_HUB_PORT": "tcp://10.0.0.2:3000",
        "ORACLE_HUB_SERVICE_PORT": "3000",
    }
    assert load(others).settings == Settings()


SECRETS = {
    "ORACLE_DATABASE_URL": f"postgresql://oracle:{PASSWORD}@one,two:5433/directory?sslpassword={PASSWORD}",
    "ORACLE_REDIS_URL": f"redis://:{PASSWORD}@cache/0",
    "ORACLE_OTLP_ENDPOINT": f"https://me:{PASSWORD}@collector",
    "ORACLE_DIGEST_KEY": PASSWORD * 3,
}


def test_secrets_are_masked_wherever_settings_are_shown() -> None:
    loaded = load(SECRETS)
    shown = "\n".join([*loaded.rendered(), repr(loaded.settings)])
    assert PASSWORD not in shown
    assert "postgresql://oracle:***@one,two:5433/directory?sslpassword=***" in shown
    assert "redis://:***@cache/0" in shown


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://u:{PASSWORD}/x@host/db",
        f"postgresql://u:{PASSWORD}#x@host/db",
        f"postgresql://u:{PASSWORD} x@host/db",
        f"mysql://u:{PASSWORD}@host/db",
        PASSWORD,
    ],
)
def test_no_complaint_repeats_a_secret(url: str) -> None:
    assert PASSWORD not in str(problems({"ORACLE_DATABASE_URL": url, "ORACLE_DIGEST_KEY": "hush-hush"[:9]}))


@pytest.mark.parametrize("password", ["a:b", "a@b", "@", "a:b@c:d@", "%40"])
def test_a_password_is_masked_whatever_is_in_it(password: str) -> None:
    assert url_masked(f"redis://u:{password}@host:6379/0") == "redis://u:***@host:6379/0"


def test_a_line_a_setting_says_where_it_came_from() -> None:
    lines = load({"ORACLE_HUB_PORT": "4000"}).rendered()
    assert len(lines) == len(READERS)
    (hub,) = [line for line in lines if line.startswith("ORACLE_HUB_PORT=")]
    assert hub.split() == ["ORACLE_HUB_PORT=4000", "#", "environment"]
