"""Every text of the API that a person reads, found in the sources, so that none is forgotten in a language:
`make translations`.

Problems.  A text is a sentence in a function: text with a space that begins with a capital, a digit or a backtick, and
           is no docstring.  A value within it becomes a place: f"Use a year from {YEAR_MIN}" is `Use a year from
           {year_min}`.  Of the console, only what it refuses by itself: its other texts are messages.
Answers.   Explanations, doubts, advice and reasons are found in the same way.
Rows.      What is wrong with a file or a row of it is several sentences, and each is a text of its own.  Those that are
           made of parts (`_COMPOSED`) are in `texts.TEXTS`, as whole sentences.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Final, TypeGuard

from oracle import errors
from oracle.api.admin.codes import MEANINGS, ROUTE_ROWS
from oracle.api.admin.forms import FORMS
from oracle.api.admin.problems import OF_ERROR, OF_STATUS
from oracle.api.texts import TEXTS
from oracle.imports.refusals import REFUSALS
from oracle.registration.rows import MEANINGS as OF_ALS

ROOT: Final = Path(str(files("oracle")))
FOLDERS: Final = ("api/admin", "api/history", "identity")
FILES: Final = (
    "api/currencies.py",
    "countries.py",
    "store/aliases.py",
    "imports/decisions.py",
    "imports/one_alias.py",
    "imports/quota.py",
    "imports/uploads.py",
    "registration/als_admin.py",
    "registration/registration.py",
)
ROW_FILES: Final = (
    "imports/csv_dialect.py", "imports/encoding.py", "imports/reading.py", "imports/refusals.py", "imports/results.py",
    "imports/rows.py", "imports/validating.py",
)  # fmt: skip
# Files without texts in a language: refusals of bytes that are no HTTP (`early_refusals`); descriptions and examples of
# the API; texts of a start that fails.  `expected` is in `texts`.
NO_PROBLEMS: Final = frozenset({
    "codes", "documentation", "early_refusals", "examples", "expected", "forms", "issuers", "operations", "rules",
    "settings",
})  # fmt: skip
_SENTENCE: Final = re.compile(r"(?:[A-Z`]|[a-z]+[A-Z]|\{\w+\} [a-z]).* .*", re.DOTALL)
_PLACE: Final = re.compile(r"\{\w+\}")
_SENTENCES: Final = re.compile(r"\. (?=[A-Z])")
_NAME: Final = re.compile(r"[A-Za-z_]+")
# Of logs, headers, and results that are no problems.
_NO_SENTENCE: Final = re.compile(
    r"charset=|Max-Age|HTTP/1\.1 \{|Bearer error|\[.*\.\.\.|\.$|^ASGI|^An answer ended early|^The keys of an issuer|"
    r"^The headers of a gateway|discovery document|^\{subject\}|"
    r"^A change of ALS was interrupted|^ALS was changed, but|^ALS answered with status \{status\}\{|"
    # Descriptions.
    r"^The log$|^Alias oracle|^\{handler\}|^DELETE, |"
    r"^Whose key|^The URL of a single|^A second person must approve each|^ISO 3166|^A person: |^The other prefix"
)
# Of sentences about files and rows: parts of one, and sentences with a place for such a part.
_COMPOSED: Final = re.compile(
    r"\{(?:as_text|at_2|count|field_max|pairs|quoted|subject|upper|what|zeros)\}|has the code \{c|begins with \{text\}|"
    r"^The (?:kind|action|\{column\}) has \{text\}|^The \{name\} is \{value\}|^Column \{position\} \(|"
    r"^This FSP cannot register \{|^The column \{column\} has a mark|^A spreadsheet changed .* number$"
)
_LETTERS_MIN: Final = 5  # beside its values


def list_texts() -> dict[str, str]:
    """List the texts, each with its place."""
    found = {meaning.title: f"title of {code}" for code, meaning in MEANINGS.items()}
    found |= {kind.default: kind.__name__ for kind in _list_errors(errors.OracleError)}
    found |= {hint: "hint of an error" for _, _, hint in OF_ERROR.values() if hint}
    found |= {text: "text of a status" for _, *texts in OF_STATUS.values() for text in texts}
    found |= {f"Expected {form}": "form of a text" for form in FORMS.values()}
    for file in list_files():
        for line, text in _read_file(file):
            found.setdefault(text, f"{file.relative_to(ROOT)}:{line}")
    for file in sorted((ROOT / "api/console").rglob("*.py")):
        for line, text in _read_refusals(file):
            found.setdefault(text, f"{file.relative_to(ROOT)}:{line}")
    for text in [text for pair in OF_ALS.values() for text in pair if text]:
        found.setdefault(text, "a row of ALS")
    composed = {each.message for each in TEXTS}
    for text, where in _list_row_texts():
        for sentence in split_sentences(text):
            if not _COMPOSED.search(sentence) and sentence not in composed:
                found.setdefault(sentence, where)
    return found


def split_sentences(text: str) -> list[str]:
    """Split a text into its sentences, without the dot of the last one."""
    return _SENTENCES.split(text.removesuffix("."))


def _list_row_texts() -> Iterator[tuple[str, str]]:
    """List what is said of files and of their rows, and of rows of a list of routes."""
    yield from ((text, f"row: {code}") for code, text in (*REFUSALS.items(), *ROUTE_ROWS.items()))
    for name in ROW_FILES:
        for line, text in _read_file(ROOT / name, _is_row_text):
            yield text, f"{name}:{line}"


def _is_row_text(text: str) -> bool:
    return is_sentence(text.removesuffix("."))


def _list_errors(kind: type[errors.OracleError]) -> Iterator[type[errors.OracleError]]:
    yield kind
    for each in kind.__subclasses__():
        if each.__module__ == errors.__name__:
            yield from _list_errors(each)


def list_files() -> list[Path]:
    """List the files that raise problems."""
    found = [file for folder in FOLDERS for file in sorted((ROOT / folder).glob("*.py"))]
    return [file for file in found if file.stem not in NO_PROBLEMS] + [ROOT / name for name in FILES]


def _read_file(file: Path, is_text: Callable[[str], bool] | None = None) -> Iterator[tuple[int, str]]:
    """Find the texts of a file: those of its functions, and those that a module or a class names."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, (ast.ClassDef, ast.Module)):
            for part in node.body:
                if isinstance(part, (ast.Assign, ast.AnnAssign)) and _is_text(part.value):
                    yield from _read(part.value, is_text or is_sentence)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for part in node.body[ast.get_docstring(node) is not None :]:
                yield from _read(part, is_text or is_sentence)


def _read_refusals(file: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Refusal":
            yield from _read(node, is_sentence)


def _is_text(node: ast.expr | None) -> TypeGuard[ast.expr]:
    """Whether a module or a class names a text, several by their keys, or a whole refusal."""
    return isinstance(node, (ast.Constant, ast.JoinedStr, ast.Dict)) or (
        isinstance(node, ast.Call) and ast.unparse(node.func) == "Refusal"
    )


def _read(node: ast.AST, is_text: Callable[[str], bool]) -> Iterator[tuple[int, str]]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return
    text = write_template(node)
    if text is None:
        for child in ast.iter_child_nodes(node):
            yield from _read(child, is_text)
    elif is_text(text):
        yield getattr(node, "lineno", 0), text


def is_sentence(text: str) -> bool:
    own = re.sub("[^A-Za-z]", "", _PLACE.sub("", text))
    return bool(_SENTENCE.fullmatch(text)) and len(own) >= _LETTERS_MIN and not _NO_SENTENCE.search(text)


def write_template(node: ast.AST) -> str | None:
    """Write a text as a message; None: the node is none."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if not isinstance(node, ast.JoinedStr):
        return None
    names, parts = Counter[str](), list[str]()
    for part in node.values:
        if isinstance(part, ast.FormattedValue):
            name = _NAME.findall(ast.unparse(part.value))[-1].strip("_").lower()
            names[name] += 1
            parts.append("{" + (name if names[name] == 1 else f"{name}_{names[name]}") + "}")
        else:
            parts.append(str(ast.literal_eval(part)))
    return "".join(parts)
