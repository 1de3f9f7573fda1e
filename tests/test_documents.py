"""docs/settings.md, metrics.md and commands.md list every setting, metric and command; `make documents` writes them.

The texts come from the fields of oracle/settings.py, the tables of oracle/telemetry/metrics.py, and --help.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from oracle.cli import make_parser
from oracle.commands.failures import EXIT_CODES
from oracle.settings import SETTINGS, Setting, Settings
from oracle.telemetry.cells import BOUNDS
from oracle.telemetry.metrics import ALS_PREFIX, ALS_SERIES, DERIVED, PREFIX, SERIES

DOCS: Final = Path(__file__).resolve().parent.parent / "docs"

SETTINGS_HEAD: Final = """# Settings

Written by `make documents`. Set a variable in the environment, or write its name in lower case and
without `ORACLE_` in a TOML file for `--config`. The environment wins. An empty value means "not set".

* `oracle check-config` prints the values in use and what is wrong.
* `oracle check-config --example` prints all settings as a TOML file.
"""

METRICS_HEAD: Final = """# Metrics

Written by `make documents`. `GET /metrics` on the admin listener shows all processes of a service on
one page. Let Prometheus read one page of each service: two would count everything twice. Counters and
histograms are sums over all processes. Gauges have a sample for each living process, with the labels
`role` (`hub`, `admin`, `jobs`, `account-lookup`, `oracles`) and `index`. A label value that is not
listed counts as `other`. No label holds an identifier or an FSP.
"""


COMMANDS_HEAD: Final = """# Commands

Written by `make documents`. `oracle COMMAND --help` shows the arguments. Commands that call the admin
listener need a key: [administer.md](administer.md).
"""


EXIT_CODES_HEAD: Final = """## Exit codes and errors

An error is one line on stderr: what happened, the code in parentheses ([errors.md](errors.md)), and
what to do. With `--json` it is one JSON object, the last line on stderr: `code`, `message`, `hint`,
`exitCode`, and `status`, the HTTP status of the admin API. `hint` and `status` can be null.

| exit code | meaning |
|---|---|"""


def format_settings() -> str:
    rows = [
        f"| `{one.variable}` | {_default(one)} | {_cell(one.reader.allowed)} | {_cell(one.description)} |"
        for one in SETTINGS.values()
    ]
    return "\n".join([SETTINGS_HEAD, "| variable | default | allowed | meaning |", "|---|---|---|---|", *rows, ""])


def _default(setting: Setting) -> str:
    text = setting.format(Settings())
    return f"`{text}`" if text else "not set"


ALS_HEAD: Final = """\
## Names of ALS

If the account lookup listener is on, the page also has these histograms, which dashboards of ALS
show. Their labels are `success` (true, false), `serviceName` and `serviceVersion`.

| name | time of |
|---|---|"""


def format_metrics() -> str:
    kinds = {"age": "gauge"}
    rows = [f"| `{PREFIX}{one.name}` | {kinds.get(one.kind, one.kind)} | {_cell(one.help)} |" for one in SERIES] + [
        f"| `{PREFIX}{name}` | {kind} | {_cell(text)} |" for name, kind, _, text in DERIVED
    ]
    lists = [
        f"* `{one.name}`: {', '.join(f'`{label}` ({_values(values)})' for label, values in one.labels)}"
        for one in SERIES
        if one.labels
    ]
    bounds = ", ".join(f"{bound:g}" for bound in BOUNDS)
    table = ["| name | kind | meaning |", "|---|---|---|", *rows]
    buckets = f"Histograms are in seconds, with buckets up to {bounds} and `+Inf`."
    als = [ALS_HEAD, *(f"| `{ALS_PREFIX}{one.name}` | {_cell(one.help)} |" for one in ALS_SERIES)]
    return "\n".join([METRICS_HEAD, *table, "", "## Labels", "", *lists, "", buckets, "", *als, ""])


def format_commands() -> str:
    rows = [f"| `oracle {' '.join(path)}` | {_cell(parser.description or '')} |" for path, parser in list_commands()]
    codes = [f"| {code} | {_cell(meaning)} |" for code, meaning in EXIT_CODES.items()]
    return "\n".join([COMMANDS_HEAD, "| command | what it does |", "|---|---|", *rows, "", EXIT_CODES_HEAD, *codes, ""])


def list_commands(
    parser: argparse.ArgumentParser | None = None, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], argparse.ArgumentParser]]:
    """Every command that --help lists, without the groups of commands."""
    parser = parser or make_parser()
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not groups:
        yield path, parser
    for group in groups:
        for listed in group._choices_actions:
            yield from list_commands(group.choices[listed.dest], (*path, listed.dest))


def _values(values: tuple[str, ...]) -> str:
    return ", ".join(f"`{value}`" for value in values)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


GENERATED: Final[dict[str, Callable[[], str]]] = {
    "settings.md": format_settings,
    "metrics.md": format_metrics,
    "commands.md": format_commands,
}


@pytest.mark.parametrize("name", GENERATED)
def test_a_generated_document_is_up_to_date(name: str) -> None:
    assert (DOCS / name).read_text() == GENERATED[name](), "run: make documents"


def test_the_documents_name_every_setting() -> None:
    text = (DOCS / "settings.md").read_text()
    assert [name for name, one in SETTINGS.items() if f"`{one.variable}`" not in text] == []


def test_the_documents_name_every_metric() -> None:
    text = (DOCS / "metrics.md").read_text()
    names = [*(one.name for one in SERIES), *(name for name, *_ in DERIVED)]
    assert [name for name in names if f"`{PREFIX}{name}`" not in text] == []


def test_the_documents_name_every_command() -> None:
    text = (DOCS / "commands.md").read_text()
    paths = [" ".join(path) for path, _ in list_commands()]
    assert len(paths) > len({path.split()[0] for path in paths})
    assert [path for path in paths if f"| `oracle {path}` |" not in text] == []


TOP: Final = DOCS.parent
DOCUMENTS: Final = sorted([*TOP.glob("*.md"), *DOCS.glob("*.md"), TOP / "loadtests" / "README.md"])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_a_document_refers_only_to_files_that_exist(document: Path) -> None:
    text = document.read_text()
    links = {link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link}
    assert [link for link in links if link and not (document.parent / link).exists()] == []
    paths = re.findall(r"`((?:oracle|docs|tests|schemas|loadtests|walks|deploy)/[\w./-]+)`", text)
    assert [path for path in paths if not (TOP / path).exists()] == []


def list_anchors(document: Path) -> set[str]:
    """What a link can name behind #: each heading in small letters, hyphens for spaces, no other signs."""
    text = re.sub(r"^ *```.*?^ *```$", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_a_document_refers_only_to_headings_that_exist(document: Path) -> None:
    links = re.findall(r"\]\(([^)\s#]*)#([^)\s]+)\)", document.read_text())
    targets = [((document.parent / name) if name else document, anchor) for name, anchor in links if "://" not in name]
    assert [anchor for target, anchor in targets if anchor not in list_anchors(target)] == []


def main() -> None:
    parser = argparse.ArgumentParser(description="write the documents that are made from the program")
    parser.add_argument("--write", action="store_true", required=True)
    parser.parse_args()
    for name, form in GENERATED.items():
        (DOCS / name).write_text(form())


if __name__ == "__main__":
    main()
