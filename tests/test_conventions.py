"""Conventions of the source that a program can check: lengths, and words that plain English does not use."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

LONGEST_MODULE, LONGEST_FUNCTION = 350, 40
"""Lines; those of a function are counted without its docstring."""

ODD = re.compile(
    r"deaf to|told rightly|tells \w+ (\w+ )?badly apart|nor to be had|gone on from|whole or not at all|kept so that"
)
"""Phrases that read as if translated."""


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from `def` to the end, without the docstring."""
    assert function.end_lineno is not None
    lines = function.end_lineno - function.lineno + 1
    first = function.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        assert first.end_lineno is not None
        lines -= first.end_lineno - first.lineno + 1
    return lines


def test_modules_are_short() -> None:
    lengths = {path.relative_to(ROOT): len(path.read_text().splitlines()) for path in SOURCES}
    assert len(lengths) > 50
    assert not {path: lines for path, lines in lengths.items() if lines > LONGEST_MODULE}


def test_functions_are_short() -> None:
    found = {
        f"{path.relative_to(ROOT)}:{function.name}": length(function)
        for path in SOURCES
        for function in functions(ast.parse(path.read_text()))
    }
    assert len(found) > 500
    assert not {name: lines for name, lines in found.items() if lines > LONGEST_FUNCTION}


def test_a_docstring_does_not_count() -> None:
    function = ast.parse('def f():\n    """One.\n\n    Two.\n    """\n    return 1').body[0]
    assert isinstance(function, ast.FunctionDef)
    assert length(function) == 2


@pytest.mark.parametrize("path", [*SOURCES, *PAGES], ids=lambda path: str(path.relative_to(ROOT)))
def test_no_odd_phrase(path: Path) -> None:
    assert not ODD.findall(path.read_text())


def test_float64_is_computed_on_the_cpu() -> None:
    """Apple's GPUs have none."""
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in SOURCES
        for line in path.read_text().splitlines()
        if re.search(r"(?<!cpu\(\))\.double\(\).*\.cpu\(\)|detach\(\)\.double\(\)", line)
    ]
    assert found == []
