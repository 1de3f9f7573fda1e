"""What a list command shows of a long list, and what it reads of a long file, without a service."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING, Any

import pytest

from oracle.commands.alias_export import split_blocks
from oracle.commands.client import Pages
from oracle.commands.failures import CommandError
from oracle.commands.identifier_files import read_identifiers
from oracle.commands.output import show_pages

if TYPE_CHECKING:
    from pathlib import Path


def fetch_from(count: int, page_max: int) -> Any:
    """Answer as a list of so many items, in pages that can be shorter than asked for."""

    def fetch(size: int, cursor: str | None) -> Any:
        begin = int(cursor or 0)
        end = min(begin + min(size, page_max), count)
        return {"items": [{"name": str(n)} for n in range(begin, end)], "next": str(end) if end < count else None}

    return fetch


@pytest.mark.parametrize("page_max", [1, 3, 1_000])
@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    ("count", "limit", "more"),
    [(0, 3, False), (2, 3, False), (3, 3, False), (4, 3, True), (2, 1, True), (9, 0, False), (1_001, 1_000, True)],
)
def test_a_list_says_on_stderr_whether_it_goes_on(
    count: int, limit: int, more: bool, as_json: bool, page_max: int, capsys: pytest.CaptureFixture[str]
) -> None:
    show_pages(Pages(fetch_from(count, page_max), limit), ["name"], as_json=as_json)
    shown = capsys.readouterr()
    assert len(shown.out.splitlines()) == min(count, limit or count)
    assert bool(shown.err) is more
    if more:
        first = "first is shown" if limit == 1 else f"first {limit:,} are shown"
        assert shown.err == (
            f"Only the {first}; there are more. To see all, add --all. To see more, add --limit {10 * limit}.\n"
        )


@pytest.mark.parametrize("size", [1, 2, 7, 100])
def test_lines_that_arrive_in_pieces_are_put_together(size: int) -> None:
    text = "uno\ndós\n\ntrès\n".encode()
    blocks = list(split_blocks(text[at : at + size] for at in range(0, len(text), size)))
    assert b"".join(blocks) == text
    assert all(block.endswith(b"\n") for block in blocks)


@pytest.mark.parametrize(
    ("name", "content", "column"),
    [
        ("list.txt", b"5255\r\n\n a@b \n+1", None),
        ("list.txt", codecs.BOM_UTF8 + b"5255\na@b\n+1\n", None),
        ("table.csv", b"kind,identifier\nMSISDN,5255\nX,a@b\nY,'+1\n", None),
        ("table.csv", b'sep=;\nidentifier;kind\n5255;M\n"a@b";X\n+1\n', None),
        ("table.tsv", b"n\tidentifier\n1\t5255\n2\ta@b\n3\t+1\n4\n", None),
        ("table.csv", "Nombre,Teléfono\nAna,5255\nEva,a@b\nLuz,+1\n".encode(), "teléfono"),
        ("table.txt", codecs.BOM_UTF16_LE + "a\tTel\n1\t5255\n2\ta@b\n3\t+1\n".encode("utf-16-le"), "tel"),
    ],
)
def test_identifiers_are_read_from_lines_and_from_columns(
    tmp_path: Path, name: str, content: bytes, column: str | None
) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    assert list(read_identifiers(str(file), column)) == ["5255", "a@b", "+1"]


@pytest.mark.parametrize(
    ("name", "content", "column", "said"),
    [
        ("a.csv", b"kind,number\nMSISDN,5255\n", None, "the first line has no column identifier"),
        ("a.csv", b"kind,number\nMSISDN,5255\n", "phone", "the first line has no column phone"),
        ("a.csv", b"", None, "the first line has no column identifier"),
        ("a.txt", b"\xe1\xe9\n", None, "this is not text in UTF-8"),
        ("a.csv", b"identifier\n\xe1\xe9\n", None, "this is not text in UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(
    tmp_path: Path, name: str, content: bytes, column: str | None, said: str
) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(CommandError) as raised:
        list(read_identifiers(str(file), column))
    assert str(raised.value).startswith(f"{file}: {said}. ")
