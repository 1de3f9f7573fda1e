"""Settings: where values come from, what a bad value causes, and that secrets are never shown."""

from __future__ import annotations

import re
import tomllib
from argparse import ArgumentTypeError
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from oracle.api.admin.problems import Refusal
from oracle.api.admin.values import require_country
from oracle.commands.verbs import parse_country
from oracle.run.order import Order
from oracle.run.supervisor import log_warnings
from oracle.settings import SETTINGS, Settings, SettingsError, format_example, list_warnings, load, mask_url

PASSWORD = "hush-hush"
SYSTEM_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"


def find_problems(environ: dict[str, str], file: Path | None = None) -> list[str]:
    with pytest.raises(SettingsError) as raised:
        load(environ, file)
    return raised.value.problems


def write_file(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "oracle.toml"
    file.write_text(text)
    return file


def test_without_any_value_the_defaults_apply() -> None:
    configuration = load({"PATH": "/bin", "ORACLE_REDIS_URL": ""})
    assert configuration.settings == Settings()
    assert set(configuration.sources.values()) == {"default"}


def test_every_default_is_an_allowed_value() -> None:
    for name, setting in SETTINGS.items():
        value = getattr(Settings(), name)
        if value is not None:
            assert setting.reader.read(setting.reader.format(value)) == value, name


def test_every_setting_says_what_it_does_and_what_is_allowed() -> None:
    for setting in SETTINGS.values():
        assert setting.description.endswith("."), setting.name
        assert setting.reader.allowed, setting.name


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    file = write_file(tmp_path, 'hub_port = 4000\nadmin_port = 4001\nhome_countries = ["mx", "US"]\ntrace_ratio = 0.25')
    settings, sources = load({"ORACLE_HUB_PORT": "5000"}, file)
    assert (settings.hub_port, settings.admin_port) == (5000, 4001)
    assert (settings.home_countries, settings.trace_ratio) == (("MX", "US"), 0.25)
    assert (sources["hub_port"], sources["admin_port"], sources["workers"]) == ("environment", "file", "default")


def test_the_example_sets_nothing_so_that_later_defaults_take_effect(tmp_path: Path) -> None:
    file = write_file(tmp_path, format_example())
    assert tomllib.loads(file.read_text()) == {}
    assert set(load({}, file).sources.values()) == {"default"}


def test_each_line_of_the_example_can_be_turned_on_and_has_the_default(tmp_path: Path) -> None:
    lines = (line.removeprefix("#") if line[:2] != "# " else line for line in format_example().splitlines())
    file = write_file(tmp_path, "\n".join(lines))
    assert list(tomllib.loads(file.read_text())) == list(SETTINGS)
    assert load({}, file).settings == Settings()


def test_the_example_explains_every_setting() -> None:
    words = " ".join(line.removeprefix("#").strip() for line in format_example().splitlines())
    for setting in SETTINGS.values():
        assert f"{setting.description} Allowed: {setting.reader.allowed}." in words


def test_settings_survive_the_way_to_a_worker() -> None:
    settings = Settings(data_dir=Path("/somewhere"), key="k" * 32, home_countries=("MM",), trace_ratio=0.5)
    order = Order(settings, Path("/run"))
    assert Order.decode(order.encode()) == order


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("HUB_PORT", "70000", "'70000' is not allowed; use a whole number from 0 to 65535"),
        ("HUB_PORT", "3_000", "'3_000' is not allowed; use a whole number from 0 to 65535"),
        ("HUB_PORT", "٣", "'٣' is not allowed; use a whole number from 0 to 65535"),
        ("IDLE_TIMEOUT_S", "599", "'599' is not allowed; use a whole number from 600 to 604800"),
        ("WORKERS", "0", "'0' is not allowed; use a whole number from 1 to 256"),
        (
            "ADMIN_PROXIES",
            "10.0.0.1/8",
            "'10.0.0.1/8' is not an address or a network; use addresses or networks, separated by commas",
        ),
        (
            "ADMIN_URL",
            "https://me:secret@oracle.example",
            "the URL has a user name; use a URL that starts with http:// or https://, without a user name",
        ),
        ("TRACE_RATIO", "1.5", "'1.5' is not allowed; use a number from 0 to 1"),
        ("TRACE_RATIO", "nan", "'nan' is not allowed; use a number from 0 to 1"),
        ("LOG_FORMAT", "xml", "'xml' is not allowed; use one of auto, json, text"),
        (
            "HOME_COUNTRIES",
            "MX,MEX",
            "'MEX' is not an ISO 3166 country code: write MX; use two-letter country codes, separated by commas",
        ),
        (
            "HOME_COUNTRIES",
            "MX,UK",
            "'UK' is not an ISO 3166 country code: write GB; use two-letter country codes, separated by commas",
        ),
        (
            "HOME_COUNTRIES",
            "XX",
            "'XX' is not an ISO 3166 country code; use two-letter country codes, separated by commas",
        ),
        ("CACHE_PREFIX", "a b", "'a b' is not allowed; use 1 to 32 letters, digits, . _ -"),
        ("HUB_HOST", "a/b", "'a/b' is not allowed; use an address or a host name"),
        ("KEY", "short", "the value is too short; use at least 16 characters"),
        (
            "DATABASE_URL",
            "mysql://x",
            "the URL starts with something else; use a URL that starts with postgresql:// or postgres://",
        ),
    ],
)
def test_a_bad_value_is_named_with_what_is_allowed(name: str, value: str, problem: str) -> None:
    assert find_problems({f"ORACLE_{name}": value}) == [f"ORACLE_{name}: {problem}"]


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        ("connect_timeout=3&keepalives=1&keepalives_idle=5&gssencmode=disable&channel_binding=prefer", ""),
        ("application_name=x&sslmode=require&tcp_user_timeout=3", "?sslmode=require"),
        ("host=/run/pg&port=5433&dbname=a", "?host=/run/pg&port=5433&dbname=a"),
        ("options=endpoint%3Dblue", "?options=endpoint%3Dblue"),
        ("sslrootcert=system&sslmode=verify-ca", f"?sslrootcert={SYSTEM_CERTIFICATES}&sslmode=verify-ca"),
    ],
)  # fmt: skip
def test_a_database_url_is_read_as_providers_write_it(query: str, kept: str) -> None:
    settings = load({"ORACLE_DATABASE_URL": f"postgresql://u@one,two/db?{query}"}).settings
    assert settings.database_url == f"postgresql://u@one,two/db{kept}"


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("channel_binding=require", "not supported, channel_binding=require: remove it, and use sslmode=verify-full"),
        ("gssencmode=require", "not supported, gssencmode=require: remove it"),
        ("hostaddr=10.0.0.1", "not supported, hostaddr: write the address as the host"),
        ("service=oracle", "not supported, service: write host, port, user and database into the URL"),
        ("statement_timeout=5", "not supported, statement_timeout: remove it"),
        (f"Pass-{PASSWORD}", "not supported: remove it"),
        ("sslmode=yes", "sslmode in the URL must be disable, allow, prefer, require, verify-ca or verify-full"),
        ("sslmode=verify-ca&sslrootcert=/nowhere/ca.pem", "sslrootcert in the URL: the file /nowhere/ca.pem does not"),
        ("sslmode=require&sslcert=/nowhere/c.pem", "sslcert in the URL: the file /nowhere/c.pem does not exist"),
        ("sslmode=require&sslkey=/nowhere", "sslkey in the URL: the file /nowhere does not exist"),
    ],
)
def test_what_cannot_be_done_with_a_database_url_is_named(query: str, problem: str) -> None:
    (found,) = find_problems({"ORACLE_DATABASE_OWNER_URL": f"postgresql://u:{PASSWORD}@host/db?{query}"})
    assert problem in found
    assert PASSWORD not in found


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("rediss://h?ssl_ca_certs=/nowhere/ca.pem", "ssl_ca_certs in the URL: the file /nowhere/ca.pem does not exist"),
        ("rediss://h?ssl_cert_reqs=optional", "ssl_cert_reqs in the URL must be required or none"),
        ("rediss://h?ssl_check_hostname=0", "ssl_check_hostname in the URL must be true or false"),
        ("redis://h?ssl_cert_reqs=none", "ssl_cert_reqs in the URL has no effect without TLS: write rediss"),
        ("redis+cluster://h?ssl_cert_reqs=none", "has no effect without TLS"),
        ("rediss://h?sentinel_password=x", "has no effect without Sentinel: write rediss+sentinel"),
        ("redis://h?socket_timeout=3", "not supported, socket_timeout: use db, username, password"),
        (f"redis://h?Pass{PASSWORD}=1", "not supported: use db"),
    ],
)
def test_a_member_of_a_redis_url_works_or_is_refused(url: str, problem: str) -> None:
    (found,) = find_problems({"ORACLE_REDIS_URL": url})
    assert problem in found
    assert PASSWORD not in found


def test_a_redis_url_keeps_its_members() -> None:
    url = f"rediss+sentinel://u:p@a,b/main?sentinel_username=s&sentinel_password={PASSWORD}&ssl_cert_reqs=none"
    configuration = load({"ORACLE_REDIS_URL": url})
    assert configuration.settings.redis_url == url
    assert PASSWORD not in repr(configuration.settings)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        (
            "postgresql+asyncpg://u:{}@h/d",
            "the URL starts with postgresql+asyncpg://: write postgresql:// in its place",
        ),
        ("jdbc:postgresql://u:{}@h/d", "the URL starts with jdbc:postgresql://: write postgresql:// in its place"),
        ("POSTGRES://u:{}@h/d", "the URL starts with POSTGRES://: write postgres:// in its place"),
        ("host=h user=u password={}", "write a URL in place of words: postgresql://USER:PASSWORD@HOST:PORT/DATABASE"),
        ("postgresql://u:{}@b@h/d", "the user name or password in the URL has an @, which must be %40"),
        ("postgresql://u:{}%zz@h/d", "the user name or password in the URL has a %, which must be %25"),
        ("postgresql://u:{}#x@h/d", "the user name or password in the URL has one of / ? # [ ]"),
        ("postgresql://u:{}@h:54x/d", "the port in the URL must be a number from 1 to 65535"),
        ("postgresql://u:{}@h:1,[::1]:99999/d", "the port in the URL must be a number from 1 to 65535"),
        ('"postgresql://u:{}@h/d"', "the value is in quotation marks: remove them"),
        ("postgresql://u:{}@h/d?sslrootcert=/etc/passwd", "the file /etc/passwd in the URL has no certificate"),
        ("postgresql://u:{}@h/d?sslcert=/etc/passwd", "the file /etc/passwd in the URL has no certificate that fits"),
    ],
)
def test_a_database_url_that_cannot_be_used_is_explained_at_the_start(url: str, problem: str) -> None:
    (found,) = find_problems({"ORACLE_DATABASE_URL": url.format(PASSWORD)})
    assert found.startswith(f"ORACLE_DATABASE_URL: {problem}")
    assert PASSWORD not in found


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("REDIS://:{}@h", "the URL starts with REDIS://: write redis:// in its place"),
        ("redis://:{}@h:x/0", "the port in the URL must be a number from 1 to 65535"),
        ("redis://:{}@h:1,h:2/0", "the URL has several servers: write redis+sentinel or redis+cluster"),
        ("redis://:{}@h/abc", "the database in the URL must be a number, for example /0"),
        ("redis://:{}@h?db=abc", "the database in the URL must be a number, for example /0"),
        ("redis+sentinel://:{}@h:26379", "the URL must name the primary as the Sentinels do: redis+sentinel://HOST"),
        ("redis+sentinel://:{}@h/main/x", "the database in the URL must be a number, for example /0"),
        ("rediss://:{}@h?ssl_ca_certs=/etc/passwd", "the file /etc/passwd in the URL has no certificate"),
        ("'redis://:{}@h'", "the value is in quotation marks: remove them"),
    ],
)
def test_a_redis_url_that_cannot_be_used_is_explained_at_the_start(url: str, problem: str) -> None:
    (found,) = find_problems({"ORACLE_REDIS_URL": url.format(PASSWORD)})
    assert found.startswith(f"ORACLE_REDIS_URL: {problem}")
    assert PASSWORD not in found


GATEWAY = {
    "ORACLE_ADMIN_AUTH": "keys,gateway",
    "ORACLE_ADMIN_PROXIES": "10.0.0.0/8",
    "ORACLE_GATEWAY_SECRET": "s" * 32,
}


@pytest.mark.parametrize(
    ("without", "more", "problem"),
    [
        ("ORACLE_GATEWAY_SECRET", {}, "nothing proves the gateway"),
        ("ORACLE_ADMIN_PROXIES", {}, "ORACLE_ADMIN_PROXIES is not set"),
        ("ORACLE_GATEWAY_SECRET", {"ORACLE_GATEWAY_CERTIFICATE_NAMES": "gw"}, "ORACLE_ADMIN_TLS_CLIENT_CA"),
        ("", {"ORACLE_ADMIN_AUTH": ","}, "names no way in"),
        ("", {"ORACLE_ADMIN_AUTH": "keys,password"}, "use some of keys, oidc, gateway"),
        ("", {"ORACLE_GATEWAY_SECRET": "short"}, "at least 32 printable ASCII characters"),
        ("", {"ORACLE_GATEWAY_SECRET": "s" * 32 + ",short"}, "too short"),
        ("", {"ORACLE_GATEWAY_SECRET": "s" * 32 + ","}, "too short"),
        ("", {"ORACLE_GATEWAY_SECRET": ",".join("s" * 32 for _ in range(3))}, "has 3 secrets"),
        ("", {"ORACLE_GATEWAY_SECRET": "ñ" * 32}, "a header cannot carry"),
    ],
)
def test_a_gateway_that_nothing_proves_is_refused(without: str, more: dict[str, str], problem: str) -> None:
    load(GATEWAY)
    environ = {name: value for name, value in GATEWAY.items() if name != without} | more
    with pytest.raises(SettingsError, match=problem):
        load(environ)


def test_a_value_that_cannot_be_read_is_one_problem_and_does_not_count_as_missing() -> None:
    wrong = {"ORACLE_GATEWAY_SECRET": "short", "ORACLE_ADMIN_PROXIES": "10.1"}
    with pytest.raises(SettingsError) as caught:
        load(GATEWAY | wrong)
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "ORACLE_ADMIN_PROXIES", "ORACLE_GATEWAY_SECRET",
    ]  # fmt: skip


def test_a_way_in_that_nobody_can_use_is_a_warning() -> None:
    assert not any("ADMIN_AUTH" in warning for warning in list_warnings(load(GATEWAY).settings))
    unused = [
        {"ORACLE_ADMIN_AUTH": "oidc"},
        {"ORACLE_OIDC_ISSUER": "https://id.example"},
        {"ORACLE_GATEWAY_SECRET": "s" * 32},
    ]
    for environ in unused:
        assert any("ADMIN_AUTH does not name" in warning for warning in list_warnings(load(environ).settings))


@pytest.mark.parametrize(
    ("place", "are_warned"),
    [
        ("db.example", 1), ("127.0.0.1,10.0.0.2:5433", 1), ("db.example/d?sslmode=require", 1),
        ("/d?host=db.example", 1), ("db.example/d?sslmode=verify-full", 0), ("localhost:5432", 0), ("[::1]:5432", 0),
        ("/d?host=/run/postgresql", 0),
    ],
)  # fmt: skip
def test_a_postgres_elsewhere_that_is_not_verified_is_a_warning(place: str, are_warned: int) -> None:
    for name in ("DATABASE_URL", "DATABASE_OWNER_URL"):
        warnings = list_warnings(load({f"ORACLE_{name}": f"postgresql://{place}"}).settings)
        assert sum(f"ORACLE_{name} does not verify" in warning for warning in warnings) == are_warned


@pytest.mark.parametrize("mark", ["\n", "\r\n", " ", "\t"])
def test_spaces_and_line_ends_around_a_value_do_not_count(mark: str) -> None:
    url = "postgresql://u:secret@one:5432,two/directory"
    settings = load(
        {"ORACLE_DATABASE_URL": f"{mark}{url}{mark}", "ORACLE_WORKERS": f"2{mark}", "ORACLE_KEY": mark}
    ).settings
    assert (settings.database_url, settings.workers, settings.key) == (url, 2, None)


@pytest.mark.parametrize(("code", "meant"), [("UK", "GB"), ("el", "GR"), ("BU", "MM"), ("MEX", "MX")])
def test_a_country_that_people_mean_is_named(code: str, meant: str) -> None:
    (found,) = find_problems({"ORACLE_HOME_COUNTRIES": f"MX,{code}"})
    assert f"'{code.upper()}' is not an ISO 3166 country code: write {meant};" in found
    with pytest.raises(ArgumentTypeError, match=f"Write {meant}$"):
        parse_country(code)
    with pytest.raises(Refusal) as refused:
        require_country(code.upper(), "country")
    assert refused.value.hint == f"Write {meant}"


def test_a_home_directory_that_nobody_knows_is_one_line() -> None:
    (found,) = find_problems({"ORACLE_DATA_DIR": "~nobody-of-this-name/data"})
    assert found == "ORACLE_DATA_DIR: the home directory behind ~ is not known; use a path"


def test_all_problems_of_both_sources_are_reported_at_once(tmp_path: Path) -> None:
    file = write_file(tmp_path, 'workers = "many"\nhub_prot = 1\ncache_ttl_s = true')
    found = find_problems({"ORACLE_LOG_LEVEL": "loud", "ORACLE_CACHE_TTL": "5"}, file)
    assert [line.removeprefix(f"{file}: ").split(":")[0] for line in found] == [
        "hub_prot", "ORACLE_CACHE_TTL", "workers", "cache_ttl_s", "ORACLE_LOG_LEVEL",
    ]  # fmt: skip
    way = "To list all settings: oracle check-config --example"
    assert found[0].endswith(f": no such setting; did you mean hub_port? {way}")
    assert found[1].endswith(f": no such setting; did you mean ORACLE_CACHE_TTL_S? {way}")
    (unlike,) = find_problems({"ORACLE_XYZZY": "1"})
    assert unlike == f"ORACLE_XYZZY: no such setting. {way}"


def test_every_problem_of_a_url_is_reported_at_once(tmp_path: Path) -> None:
    text = tmp_path / "text.pem"
    text.write_text("no certificate")
    found = find_problems({
        "ORACLE_DATABASE_URL": f"postgresql://u@h/d?sslmode=loud&sslrootcert={text}&sslcert=/a.pem&sslkey=/b.pem",
        "ORACLE_REDIS_URL": f"rediss+sentinel://h?ssl_certfile=/a.pem&ssl_keyfile=/b.pem&ssl_ca_certs={text}&db=x",
    })  # fmt: skip
    assert [re.sub(r": |,", "", found[at].partition(": ")[2])[:27] for at in range(len(found))] == [
        "sslmode in the URL must be ", "sslcert in the URLthe file ", "sslkey in the URLthe file /",
        f"the file {text}"[:27],
        "ssl_certfile in the URLthe ", "ssl_keyfile in the URLthe f", "the URL must name the prima",
        "the database in the URL mus", f"the file {text}"[:27],
    ]  # fmt: skip


def test_a_file_that_cannot_be_read_contradicts_nothing(tmp_path: Path) -> None:
    (problem,) = find_problems({"ORACLE_REDIS_PASSWORD": "secret", "ORACLE_JWS_SIGN": "on"}, tmp_path / "absent.toml")
    assert problem.endswith("absent.toml: cannot be read: No such file or directory")


def test_two_listeners_cannot_share_a_port_unless_it_is_any() -> None:
    assert len(find_problems({"ORACLE_HUB_PORT": "3001"})) == 1
    assert load({"ORACLE_HUB_PORT": "0", "ORACLE_ADMIN_PORT": "0"}).settings.hub_port == 0


def test_the_bodies_of_a_process_have_room_for_one_of_the_largest_size() -> None:
    limits = {"ORACLE_BODY_MAX_BYTES": "4194304", "ORACLE_BODIES_MAX_BYTES": "4194303"}
    assert find_problems(limits) == [
        "ORACLE_BODIES_MAX_BYTES: one body of ORACLE_BODY_MAX_BYTES would not fit; use at least 4194304"
    ]
    assert load(limits | {"ORACLE_BODIES_MAX_BYTES": "4194304"}).settings.bodies_max_bytes == 4_194_304


@pytest.mark.parametrize(
    ("text", "problem"), [(None, "cannot be read"), ("a = ", "is not valid TOML"), ("a = '\udcff'", "is not UTF-8")]
)
def test_a_bad_file_is_one_line(tmp_path: Path, text: str | None, problem: str) -> None:
    file = tmp_path / "oracle.toml"
    if text is not None:
        file.write_bytes(text.encode(errors="surrogateescape"))
    (line,) = find_problems({}, file)
    assert line.startswith(f"{file}: {problem}")


def test_variables_of_other_programs_are_ignored() -> None:
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
    "ORACLE_KEY": PASSWORD * 3,
    "ORACLE_GATEWAY_SECRET": f"{PASSWORD * 4},{PASSWORD * 5}",
}


def test_secrets_are_masked_wherever_settings_are_shown() -> None:
    configuration = load(SECRETS)
    shown = "\n".join([*configuration.format_lines(), repr(configuration.settings)])
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
def test_no_problem_repeats_a_secret(url: str) -> None:
    assert PASSWORD not in str(find_problems({"ORACLE_DATABASE_URL": url, "ORACLE_KEY": "hush-hush"[:9]}))


# Passwords of their own ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "url"), [
    ("DATABASE", "postgresql://me@one:5432,two/directory?sslmode=require"),
    ("DATABASE_OWNER", "postgresql://me@one/directory"),
    ("REDIS", "redis://cache:6379/0"),
])  # fmt: skip
def test_a_password_can_be_given_beside_its_url(name: str, url: str) -> None:
    """In any characters: whoever makes the password knows nothing of URLs."""
    given = {f"ORACLE_{name}_URL": url, f"ORACLE_{name}_PASSWORD": "p@:/?#&=%41+ x"}
    environ = {"ORACLE_DATABASE_URL": "postgresql://me@one/directory", **given}
    configuration = load(environ)
    joined: str = getattr(configuration.settings, f"{name.lower()}_url")
    assert parse_qs(urlsplit(joined).query)["password"] == [given[f"ORACLE_{name}_PASSWORD"]]
    assert joined.startswith(url)
    shown = "\n".join([*configuration.format_lines(), repr(configuration.settings)])
    assert f"ORACLE_{name}_PASSWORD=***" in shown
    assert "p@:" not in shown
    assert "%23" not in shown  # nor as the URL spells it
    order = Order(msgspec.structs.replace(configuration.settings, **{f"{name.lower()}_url": None}), Path())
    assert b"p@:" not in order.encode()


@pytest.mark.parametrize(("environ", "problem"), [
    ({"ORACLE_REDIS_PASSWORD": PASSWORD}, "ORACLE_REDIS_PASSWORD is set, but ORACLE_REDIS_URL is not"),
    ({"ORACLE_REDIS_PASSWORD": PASSWORD, "ORACLE_REDIS_URL": "redis://:x@cache"}, "has a password, too"),
    ({"ORACLE_REDIS_PASSWORD": PASSWORD, "ORACLE_REDIS_URL": "redis://cache?password=x"}, "has a password, too"),
    ({"ORACLE_REDIS_PASSWORD": PASSWORD, "ORACLE_REDIS_URL": "http://cache"}, "ORACLE_REDIS_URL: the URL starts"),
])  # fmt: skip
def test_a_password_without_a_place_is_refused(environ: dict[str, str], problem: str) -> None:
    (found,) = find_problems(environ)
    assert problem in found
    assert PASSWORD not in found


@pytest.mark.parametrize("password", ["a:b", "a@b", "@", "a:b@c:d@", "%40"])
def test_a_password_is_masked_whatever_is_in_it(password: str) -> None:
    assert mask_url(f"redis://u:{password}@host:6379/0") == "redis://u:***@host:6379/0"


def test_the_listing_has_a_line_for_each_setting_with_its_source() -> None:
    lines = load({"ORACLE_HUB_PORT": "4000"}).format_lines()
    assert len(lines) == len(SETTINGS)
    (hub,) = [line for line in lines if line.startswith("ORACLE_HUB_PORT=")]
    assert hub.split() == ["ORACLE_HUB_PORT=4000", "#", "environment"]


# Public listeners -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hub_host", "admin_host", "warns"),
    [
        ("0.0.0.0", "0.0.0.0", True),  # noqa: S104 - no listener opens
        ("::", "0.0.0.0", True),  # noqa: S104 - no listener opens
        ("0", "0::0", True),  # other spellings of the same
        ("::ffff:0.0.0.0", "0x0", True),
        ("8.8.8.8", "2001:4860:4860::8888", True),
        ("127.0.0.1", "0.0.0.0", False),  # noqa: S104 - no listener opens
        ("10.0.0.5", "::", False),
        ("0.0.0.0", "127.0.0.1", False),  # noqa: S104 - no listener opens
        ("oracle-hub", "oracle-admin", False),
    ],
)
def test_two_listeners_that_everybody_reaches_are_a_warning(
    hub_host: str, admin_host: str, warns: bool, caplog: pytest.LogCaptureFixture
) -> None:
    settings = load({"ORACLE_HUB_HOST": hub_host, "ORACLE_ADMIN_HOST": admin_host, "ORACLE_HUB_PORT": "3333"}).settings
    warnings = list_warnings(settings)
    assert len(warnings) == warns
    with caplog.at_level("WARNING"):
        log_warnings(settings, {})
    assert [record.getMessage() for record in caplog.records] == warnings
    for words in ("no authentication", "ORACLE_HUB_HOST", "firewall", "port 3333") if warns else ():
        assert words in warnings[0]


@pytest.mark.parametrize(
    ("changed", "warns"),
    [
        ({}, True),
        ({"ORACLE_ACCOUNT_LOOKUP": "off"}, False),
        ({"ORACLE_ACCOUNT_LOOKUP_HOST": "10.0.0.5"}, False),
        ({"ORACLE_ACCOUNT_LOOKUP_CLIENT_ID": "required"}, False),
    ],
)
def test_a_port_for_dfsps_that_everybody_reaches_without_a_gateway_is_a_warning(
    changed: dict[str, str], warns: bool
) -> None:
    every = "0.0.0.0"  # noqa: S104 - no listener opens
    variables = {"ORACLE_ACCOUNT_LOOKUP": "on", "ORACLE_ACCOUNT_LOOKUP_HOST": every} | changed
    warnings = list_warnings(load(variables).settings)
    assert len(warnings) == warns
    for words in ("x-client-id", "ORACLE_ACCOUNT_LOOKUP_CLIENT_ID=required", "port 4002") if warns else ():
        assert words in warnings[0]


@pytest.mark.parametrize(
    ("host", "url"),
    [("0.0.0.0", "http://127.0.0.1:3001"), ("::", "http://127.0.0.1:3001"), ("::1", "http://[::1]:3001")],  # noqa: S104 - no listener opens
)
def test_commands_call_the_admin_listener_where_it_is(host: str, url: str) -> None:
    assert load({"ORACLE_ADMIN_HOST": host, "ORACLE_HUB_HOST": "10.0.0.5"}).settings.admin_address == url
