"""The house rules that can be read off the source: floors, sizes, SQL, errors, Python 3.8, names."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path
from typing import Any

import pytest

from tests.runner.tree import ROOT, files

MODULE_LINES = 120
FILE_LINES = 400
HEADER = (
    "# Copyright (c) 2026, pgops.runbook contributors",
    "# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)",
    "# SPDX-License-Identifier: GPL-3.0-or-later",
)
PACKAGE = "ansible_collections.pgops.runbook.plugins."
DOC_NAMES = {"DOCUMENTATION", "EXAMPLES", "RETURN"}
STATEMENT = re.compile(
    r"\s*(select\s.*\sfrom|with\s.*\sas\s*\(|insert\s+into|update\s.*\sset|delete\s+from|truncate|alter\s|create\s|drop\s|grant\s|revoke\s.*\sfrom"
    r"|vacuum(\s+\w|\s*\()|reindex\s|lock\s+table|set\s+(local|session)?\s*\w+\s*(=|to)\s)",
    re.IGNORECASE | re.DOTALL,
)
RUNS_SQL = {"execute", "executemany", "row", "rows", "value"}
# In Python since 3.9 or later, and so not there on a managed host with 3.8.
NEWER_NAMES = {"removeprefix", "removesuffix", "bit_count", "batched", "pairwise", "TaskGroup", "StrEnum", "ExceptionGroup"}
NEWER_MODULES = {"zoneinfo", "graphlib", "tomllib"}
GENERIC_BUILTINS = {"dict", "frozenset", "list", "set", "tuple", "type"}

PYTHON = [path for path in files() if path.suffix == ".py"]
PLUGINS = [path for path in PYTHON if path.parts[0] == "plugins"]
MODULES = [path for path in PLUGINS if path.parts[1] == "modules"]
ENGINE = [path for path in PLUGINS if path.parts[1] == "module_utils"]


@functools.lru_cache(maxsize=8)
def parsed(path: Path) -> ast.Module:
    """Return the syntax tree of a file, which nobody changes, as Python 3.8 reads it where it is part of the collection."""
    version = (3, 8) if path.parts[0] == "plugins" else (3, 11)
    return ast.parse((ROOT / path).read_text(encoding="utf-8"), str(path), feature_version=version)


def each(paths: list[Path]) -> pytest.MarkDecorator:
    """Run a test once for each of `paths`; all tests of one path in one process, which parses it once."""
    return pytest.mark.parametrize("path", [pytest.param(path, marks=pytest.mark.xdist_group(str(path))) for path in paths], ids=str)


def code_lines(path: Path) -> int:
    """Return how many lines are neither empty, nor comment, nor documentation."""
    skipped: set[int] = set()
    for node in ast.walk(parsed(path)):
        documentation = isinstance(node, ast.Assign) and {getattr(target, "id", "") for target in node.targets} & DOC_NAMES
        text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        if documentation or text:
            skipped.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = enumerate((ROOT / path).read_text(encoding="utf-8").splitlines(), 1)
    return sum(1 for number, line in lines if number not in skipped and line.strip() and not line.lstrip().startswith("#"))


def texts(path: Path) -> list[tuple[int, str]]:
    """Return the string constants of a file outside documentation, with their lines."""
    tree = parsed(path)
    documentation = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) or (isinstance(node, ast.Assign) and {getattr(t, "id", "") for t in node.targets} & DOC_NAMES)
        for inner in ast.walk(node)
        if isinstance(inner, ast.Constant) and (not isinstance(node, ast.Expr) or inner is node.value)
    }
    constants = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in documentation]
    return [(node.lineno, node.value) for node in constants if isinstance(node.value, str)]


def imports(path: Path) -> list[str]:
    """Return the full names that a file imports."""
    found: list[str] = []
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            found += [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: ansible-test wants absolute imports"
            found += [f"{node.module}.{name.name}" for name in node.names]
    return found


def formatted(node: ast.AST) -> bool:
    """Tell whether an expression builds text out of parts that are not all constant."""
    if isinstance(node, ast.JoinedStr):
        return any(isinstance(part, ast.FormattedValue) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Mod)):
        sides = (node.left, node.right)
        text = any(isinstance(side, ast.JoinedStr) or (isinstance(side, ast.Constant) and isinstance(side.value, str)) for side in sides)
        return (text and not all(isinstance(side, ast.Constant) for side in sides)) or any(map(formatted, sides))
    called = node.func if isinstance(node, ast.Call) else None
    return (
        isinstance(called, ast.Attribute)
        and called.attr in ("format", "replace")
        and isinstance(called.value, (ast.Constant, ast.JoinedStr))
    )


@each(PLUGINS)
def test_no_statement_is_built_by_formatting(path: Path) -> None:
    faults = []
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Call) and node.args and isinstance(node.func, ast.Attribute):
            composes = node.func.attr == "SQL" or node.func.attr in RUNS_SQL
            faults += [node.lineno] if composes and formatted(node.args[0]) else []
        if formatted(node):
            first = next((inner.value for inner in ast.walk(node) if isinstance(inner, ast.Constant) and isinstance(inner.value, str)), "")
            faults += [node.lineno] if STATEMENT.match(first) else []
    assert not faults, (
        f"{path}: SQL built by formatting on lines {sorted(set(faults))}: use sql.SQL(...).format(sql.Identifier(...)) and parameters"
    )


@each(PLUGINS)
def test_begins_with_the_licence(path: Path) -> None:
    lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
    start = 1 if lines[:1] == ["#!/usr/bin/python"] else 0
    assert tuple(lines[start : start + 3]) == HEADER
    assert "from __future__ import annotations" in lines


@each(PYTHON)
def test_files_are_short(path: Path) -> None:
    limit = MODULE_LINES if path in MODULES else FILE_LINES
    assert code_lines(path) <= limit


@each(ENGINE)
def test_the_engine_calls_nothing_above_it(path: Path) -> None:
    upward = [
        name
        for name in imports(path)
        if name.startswith(("ansible.", "ansible_collections.")) and not name.startswith(f"{PACKAGE}module_utils.")
    ]
    assert upward == []
    known = re.findall(r"\b(AnsibleModule|fail_json|exit_json)\b", (ROOT / path).read_text(encoding="utf-8"))
    assert known == []


@each(MODULES)
def test_a_module_holds_no_sql_and_no_driver(path: Path) -> None:
    assert [line for line, text in texts(path) if STATEMENT.match(text)] == []
    assert [name for name in imports(path) if name.partition(".")[0] in ("psycopg", "psycopg2", "subprocess")] == []


@each(PLUGINS)
def test_no_error_is_swallowed(path: Path) -> None:
    handlers = [node for node in ast.walk(parsed(path)) if isinstance(node, ast.ExceptHandler)]
    assert [node.lineno for node in handlers if all(isinstance(inner, ast.Pass) for inner in node.body)] == []


class EvaluatedNames(ast.NodeVisitor):
    """Collects what Python 3.8 could not evaluate; annotations are only text there."""

    def __init__(self) -> None:
        self.faults: list[str] = []

    def visit_arg(self, node: ast.arg) -> None:
        """Leave the annotation out."""

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        """Leave the annotation out."""
        if node.value is not None:
            self.visit(node.value)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for inner in (node.args, *node.decorator_list, *node.body):
            self.visit(inner)

    visit_FunctionDef = visit_AsyncFunctionDef = _function

    def visit_Subscript(self, node: ast.Subscript) -> None:
        """Refuse `list[int]`."""
        if isinstance(node.value, ast.Name) and node.value.id in GENERIC_BUILTINS:
            self.faults.append(f"{node.lineno}: {node.value.id}[...] is evaluated")
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        """Refuse later methods."""
        if node.attr in NEWER_NAMES:
            self.faults.append(f"{node.lineno}: {node.attr}")
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        """Refuse zip(strict=...) and dataclass(slots=...)."""
        newer = {"zip": {"strict"}, "dataclass": {"slots", "kw_only"}}.get(getattr(node.func, "id", ""), set())
        self.faults += [f"{node.lineno}: {word.arg}=" for word in node.keywords if word.arg in newer]
        self.generic_visit(node)


@each(PLUGINS)
def test_runs_on_python_3_8(path: Path) -> None:
    visitor = EvaluatedNames()
    visitor.visit(parsed(path))
    assert visitor.faults == []
    tree = parsed(path)
    tried = {id(inner) for node in ast.walk(tree) if isinstance(node, ast.Try) for statement in node.body for inner in ast.walk(statement)}
    sure = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom)) and id(node) not in tried]
    assert {
        name for node in sure for name in ([node.module] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names])
    } & NEWER_MODULES == set()


@each([path for path in PYTHON if path.parts[0] == "tests" and path.name.startswith("test_")])
def test_every_test_asserts_something(path: Path) -> None:
    empty = []
    for function in (node for node in ast.walk(parsed(path)) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")):
        inner = list(ast.walk(function))
        called = {getattr(node.func, "attr", getattr(node.func, "id", "")) for node in inner if isinstance(node, ast.Call)}
        asserts = any(isinstance(node, (ast.Assert, ast.Raise)) for node in inner)
        if not asserts and not any(
            name in ("raises", "warns", "fail") or name.startswith(("assert", "check", "expect", "verify")) for name in called
        ):
            empty.append(function.name)
    assert empty == []


def test_requirements_are_pinned_and_justified() -> None:
    lines: list[tuple[Any, str]] = []
    for path in (path for path in files() if path.parts[0] == "requirements" and path.suffix == ".txt"):
        lines += [
            (path, line)
            for line in (ROOT / path).read_text(encoding="utf-8").splitlines()
            if line.strip() and not line.startswith(("#", "-r "))
        ]
    assert lines
    assert [f"{path}: {line}" for path, line in lines if not re.fullmatch(r"[\w.\[\]-]+==[\w.]+ +# .+", line)] == []
