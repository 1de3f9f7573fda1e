"""Every text of a problem document, found in the sources, so that none is forgotten in a language: `make translations`.

A text is a sentence in a function: text with a space that begins with a capital, a digit or a backtick, and is no
docstring.  A value within it becomes a place: f"Use a year from {YEAR_MIN}" is `Use a year from {year_min}`.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Final, TypeGuard

from oracle import errors
from oracle.api.admin.codes import MEANINGS
from oracle.api.admin.forms import FORMS
from oracle.api.admin.problems import OF_ERROR, OF_STATUS

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
)
# Files without problems in a language: refusals of bytes that are no HTTP (`connections`); descriptions and examples of
# the API; results of another kind; texts of a start that fails; pages of signing in.  `expected` is in `texts`.
NO_PROBLEMS: Final = frozenset({
    "alias_export", "codes", "connections", "documentation", "doubtful", "doubtful_routes", "examples", "expected",
    "flow", "forms", "issuers", "operations", "rules", "settings", "what_if",
})  # fmt: skip
_SENTENCE: Final = re.compile(r"(?:[A-Z`]|[a-z]+[A-Z]|\{\w+\} [a-z]).* .*", re.DOTALL)
_PLACE: Final = re.compile(r"\{\w+\}")
_NAME: Final = re.compile(r"[A-Za-z_]+")
# Of logs, headers, and results that are no problems.
_NO_SENTENCE: Final = re.compile(
    r"charset=|Max-Age|HTTP/1\.1 \{|Bearer error|\[.*\.\.\.|\.$|^ASGI|^An answer ended early|^The keys of an issuer|"
    r"^The headers of a gateway|discovery document|^\{subject\}|"
    # Descriptions.
    r"^The log$|^Alias oracle|^\{handler\}|^DELETE, |"
    r"^Whose key|^The URL of a single|^A second person must approve each|^ISO 3166|^A person: |^The other prefix"
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
    return found


def _list_errors(kind: type[errors.OracleError]) -> Iterator[type[errors.OracleError]]:
    yield kind
    for each in kind.__subclasses__():
        if each.__module__ == errors.__name__:
            yield from _list_errors(each)


def list_files() -> list[Path]:
    """List the files that raise problems."""
    found = [file for folder in FOLDERS for file in sorted((ROOT / folder).glob("*.py"))]
    return [file for file in found if file.stem not in NO_PROBLEMS] + [ROOT / name for name in FILES]


def _read_file(file: Path) -> Iterator[tuple[int, str]]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, (ast.ClassDef, ast.Module)):
            for part in node.body:
                if isinstance(part, (ast.Assign, ast.AnnAssign)) and _is_text(part.value):
                    yield from _read(part.value)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for part in node.body[ast.get_docstring(node) is not None :]:
                yield from _read(part)


def _is_text(node: ast.expr | None) -> TypeGuard[ast.expr]:
    """Whether a module or a class names a text, or a whole refusal."""
    return isinstance(node, (ast.Constant, ast.JoinedStr)) or (
        isinstance(node, ast.Call) and ast.unparse(node.func) == "Refusal"
    )


def _read(node: ast.AST) -> Iterator[tuple[int, str]]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return
    text = _write_template(node)
    if text is None:
        for child in ast.iter_child_nodes(node):
            yield from _read(child)
    elif is_sentence(text):
        yield getattr(node, "lineno", 0), text


def is_sentence(text: str) -> bool:
    own = re.sub("[^A-Za-z]", "", _PLACE.sub("", text))
    return bool(_SENTENCE.fullmatch(text)) and len(own) >= _LETTERS_MIN and not _NO_SENTENCE.search(text)


def _write_template(node: ast.AST) -> str | None:
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
