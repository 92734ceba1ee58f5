# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Definitions as the server writes them, in a form that dumping and restoring leaves as it is, and their hashes.

What the server writes is read back as something slightly else: `(a)::text = ANY ((ARRAY['x'::character varying])::text[])` comes back as
`(a)::text = ANY (ARRAY[('x'::character varying)::text])`, and `((a AND b) AND c)` as `(a AND b AND c)`. So casts between string types (and
others that cost nothing) and parentheses without effect are left out before a definition is hashed.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, List

_LONGEST = 200  # characters of a text that is kept as it is
_TOKEN = re.compile(
    r"""[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$|::|[^\W\d][\w\$]*|[\d.]+|\s+|.""", re.DOTALL
)
_FREE_CASTS = frozenset({"text", "varchar", "bpchar", "citext", "name", "inet", "cidr", "oid", "int4", "regclass", "character"})
_CHANGED_BY_RESTORE = re.compile(r"::|\b(?:AND|OR)\b")
_OPEN = {"(": ")", "[": "]"}
# A parenthesis after any other word holds a function's arguments.
_GROUPS_AFTER = frozenset({
    "ALL", "AND", "ANY", "AS", "BETWEEN", "BY", "CASE", "CHECK", "DEFAULT", "DISTINCT", "ELSE", "EXCEPT", "FROM", "HAVING", "IN",
    "INTERSECT", "IS", "JOIN", "LIKE", "NOT", "ON", "OR", "RETURN", "SELECT", "SOME", "THEN", "UNION", "USING", "WHEN", "WHERE", "WITH",
})  # fmt: skip


def fingerprint(plain: str, code: str | None) -> str:
    """Return what stands for an object: `plain` as it is where it is short, `code` as the hash of its lasting form."""
    told = plain if len(plain) <= _LONGEST else hashed(plain)
    return told if code is None else f"{told} #{hashed(lasting(code))}".strip()


def hashed(text: str) -> str:
    """Return a hash of `text`."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def lasting(code: str) -> str:
    """Return `code` in the form that dumping and restoring leaves as it is."""
    if not _CHANGED_BY_RESTORE.search(code):
        return code
    tokens = [match.group() for match in _TOKEN.finditer(code)]
    return _written(_simplified(_tree([token for token in tokens if not token.isspace()])))


class _Group(List[Any]):
    """The tokens and groups between two parentheses or brackets."""

    mark = "("


def _tree(tokens: List[str]) -> _Group:
    top = _Group()
    inside = [top]
    for token in tokens:
        if token in _OPEN:
            group = _Group()
            group.mark = token
            inside[-1].append(group)
            inside.append(group)
        elif token in (")", "]") and len(inside) > 1:
            inside.pop()
        else:
            inside[-1].append(token)
    return top


def _simplified(group: _Group) -> _Group:
    done = _Group()
    done.mark = group.mark
    position = 0
    while position < len(group):
        part = group[position]
        if part == "::":
            length = _free_cast(group, position + 1)
            if length:
                position += 1 + length
                continue
        if isinstance(part, _Group):
            part = _simplified(part)
            if part.mark == "(" and len(part) == 1 and _only_groups(done):
                part = part[0]
        done.append(part)
        position += 1
    for word in ("AND", "OR"):
        done = _flattened(done, word)
    return done


def _free_cast(group: _Group, start: int) -> int:
    """Return how many parts from `start` on name a type to which a cast changes nothing; 0 for any other."""
    parts = group[start : start + 6]
    if parts[:2] == ["character", "varying"]:
        length = 2
    elif len(parts) >= 3 and parts[1] == "." and parts[2] in _FREE_CASTS:
        length = 3
    elif parts and isinstance(parts[0], str) and parts[0] in _FREE_CASTS:
        length = 1
    else:
        return 0
    following = group[start + length] if len(group) > start + length else None
    if isinstance(following, _Group):
        if following.mark == "(":
            return 0  # with a length, which may cut
        length += 0 if following else 1
    return length


def _only_groups(before: _Group) -> bool:
    """Whether a parenthesis behind `before` only groups, and holds no function's arguments."""
    last = before[-1] if before else None
    if isinstance(last, str) and (last[0].isalpha() or last[0] in '_"'):
        return last.upper() in _GROUPS_AFTER and last[0] != '"'
    return True


def _flattened(group: _Group, word: str) -> _Group:
    """Return `group` with the groups in it that only AND (or OR) joins taken into the same chain."""
    if word not in group:
        return group
    flat = _Group()
    flat.mark = group.mark
    for position, part in enumerate(group):
        before = group[position - 1] if position else word
        after = group[position + 1] if position + 1 < len(group) else word
        other = "OR" if word == "AND" else "AND"
        chained = isinstance(part, _Group) and part.mark == "(" and word in part and other not in part
        if chained and before == word and after == word:
            flat.extend(part)
        else:
            flat.append(part)
    return flat


def _written(group: _Group) -> str:
    parts = [f"{part.mark}{_written(part)}{_OPEN[part.mark]}" if isinstance(part, _Group) else part for part in group]
    return " ".join(parts)
