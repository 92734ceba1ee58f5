"""Writes the keys of a system description into docs/system-description.md, from the tables that read one.

usage: python -m tests.tools.system_form
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from tests.ground.runner import collections_path  # noqa: E402  (after the path is known)

sys.path[:0] = [str(collections_path())]

from ansible_collections.pgops.runbook.plugins.module_utils._health.registry import CHECKS as REGISTRY  # noqa: E402
from ansible_collections.pgops.runbook.plugins.module_utils._system.checks import CHECKS  # noqa: E402
from ansible_collections.pgops.runbook.plugins.module_utils._system.form import SYSTEM  # noqa: E402
from ansible_collections.pgops.runbook.plugins.module_utils._system.forms import (  # noqa: E402
    Choices,
    Field,
    Group,
    Listing,
    Named,
)
from ansible_collections.pgops.runbook.plugins.module_utils._system.kinds import Kind  # noqa: E402
from ansible_collections.pgops.runbook.plugins.module_utils._system.times import TIME  # noqa: E402

DOCUMENT = ROOT / "docs" / "system-description.md"
BEGIN = "<!-- keys: written by tests/tools/system_form.py -->"
END = "<!-- end of keys -->"


def document(text: str) -> str:
    """Return `text`, a whole document, with the part between its two marks written anew."""
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    return f"{before}{BEGIN}\n\n{keys()}\n{END}{after}"


def keys() -> str:
    """Return one section a key of a description, and the checks that a threshold may be for."""
    parts = [section(name, field) for name, field in SYSTEM.fields.items()]
    return "\n".join([*parts, checks()])


def section(name: str, field: Field) -> str:
    """Return what there is to say about one key of a description and everything below it."""
    lines = [f"### {name}", "", f"{_sentence(field.doc)} {_sentence(_value(field))}", ""]
    below = rows(field.kind, "", set())
    if below:
        lines += ["| key | what it is | value |", "|---|---|---|", *below, ""]
    return "\n".join(lines)


def rows(kind: Kind, path: str, told: set[Kind]) -> list[str]:
    """Return the table's rows for the keys inside a value. A form is told once a section; a time column in a section of its own."""
    if isinstance(kind, Listing):
        return rows(kind.kind, f"{path}[]" if path else "", told)
    if isinstance(kind, Named):
        return rows(kind.kind, f"{path}.<name>" if path else "<name>", told)
    if isinstance(kind, Choices):
        return [row for name, form in kind.forms.items() for row in _group(form, path, f" ({kind.by}: {name})", told)]
    mapping = getattr(kind, "mapping", kind)
    return _group(mapping, path, "", told) if isinstance(mapping, Group) and mapping is not TIME else []


def _group(group: Group, path: str, note: str, told: set[Kind]) -> list[str]:
    if group in told:
        return []
    told.add(group)
    found: list[str] = []
    for name, field in group.fields.items():
        at = f"{path}.{name}" if path else name
        found += [f"| `{at}`{note} | {_cell(field.doc)} | {_cell(_value(field))} |", *rows(field.kind, at, told)]
    return found


def checks() -> str:
    """Return the table of the checks that a threshold may be for."""
    lines = ["### Checks", "", "The ids that `thresholds` may name. A check without a unit takes only an `action`."]
    lines += ["One that is not looked at yet may be declared all the same: `pg_health` then lists it as skipped.", ""]
    lines += ["| id | looked at | first run by | unit | worse when |", "|---|---|---|---|---|"]
    for name, fact in CHECKS.items():
        looked_at = "yes" if name in REGISTRY else "not yet"
        lines.append(f"| `{name}` | {looked_at} | {fact.tier} | {fact.unit or ''} | {fact.worse if fact.unit else ''} |")
    return "\n".join([*lines, ""])


def _value(field: Field) -> str:
    if field.required:
        return f"{_noun(field.kind)}; **required**"
    empty = field.default in (None, [], {})
    return _noun(field.kind) if empty else f"{_noun(field.kind)}; default `{_yaml(field.default)}`"


def _noun(kind: Kind) -> str:
    if isinstance(kind, Group) and kind.short:
        return f"{kind.noun}, or just its `{kind.short}`"
    return kind.noun


def _yaml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"[{', '.join(map(str, value))}]" if isinstance(value, list) else str(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


if __name__ == "__main__":
    DOCUMENT.write_text(document(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
