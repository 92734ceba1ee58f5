# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Templates of keys: which keys of a cache belong to a token, and which of those that are found."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Iterable, Iterator, List, Mapping, Sequence, Tuple

from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue

PLACEHOLDERS = ("id", "user_id", "tenant_id", "client_id", "family")

_LITERAL, _VALUE, _ANY = "literal", "value", "any"
_PARTS = re.compile(r"\{([^{}]*)\}|(\*+)|([^{}*]+)|([{}])")
_GLOB = re.compile(rb"([*?\[\]\\])")

Part = Tuple[str, str]
Values = Tuple[bytes, ...]


@dataclass(frozen=True)
class Template:
    """One of a description's keys: literal text, `{placeholders}` for a token's own values, and `*` for anything."""

    text: str
    parts: tuple[Part, ...]

    @property
    def exact(self) -> bool:
        """Whether it is one single key once the values are known."""
        return all(kind != _ANY for kind, _text in self.parts)

    @property
    def constant(self) -> bool:
        """Whether it is the same one key for every token."""
        return all(kind == _LITERAL for kind, _text in self.parts)

    @property
    def said(self) -> int:
        """How much of a key it says literally."""
        return sum(len(text) for kind, text in self.parts if kind == _LITERAL)

    @property
    def boundless(self) -> bool:
        """Whether it says no word of a key, so that it stands for about every key there is."""
        return not any(kind == _LITERAL and any(map(str.isalnum, text)) for kind, text in self.parts)

    def filled(self, word: str) -> bytes:
        """Return the key that has `word` wherever the template leaves something open."""
        return "".join(text if kind == _LITERAL else word for kind, text in self.parts).encode("utf-8")

    def values_of(self, row: Mapping[str, Any]) -> Values | None:
        """Return the values of a token for the placeholders in their order, None where the token lacks one."""
        found = []
        for kind, name in self.parts:
            if kind == _VALUE:
                value = row.get(name)
                # An empty one would leave nothing but the rest of the template, which may be everybody's.
                if value is None or value == "":
                    return None
                found.append(str(value).encode("utf-8"))
        return tuple(found)

    def key(self, values: Values) -> bytes:
        """Return the one key of a template without `*`."""
        given = iter(values)
        return b"".join(text.encode("utf-8") if kind == _LITERAL else next(given) for kind, text in self.parts)

    def pattern(self, values: Values | None = None) -> bytes:
        """Return the pattern for SCAN, with each placeholder as `*` or, given `values`, as its value; all else means itself."""
        given = iter(values or ())
        written = []
        for kind, text in self.parts:
            if kind == _LITERAL:
                written.append(_GLOB.sub(rb"\\\1", text.encode("utf-8")))
            else:
                written.append(_GLOB.sub(rb"\\\1", next(given)) if kind == _VALUE and values is not None else b"*")
        return b"".join(written)

    def expression(self) -> re.Pattern[bytes]:
        """Return what matches the keys that `pattern()` stands for."""
        written = (re.escape(text.encode("utf-8")) if kind == _LITERAL else b".*" for kind, text in self.parts)
        return re.compile(b"".join(written), re.DOTALL)


class Wanted:
    """The values of some tokens for a template, to tell their keys from those of all others."""

    def __init__(self, template: Template) -> None:
        self.template = template
        self._values: set[Values] = set()
        # Only lengths that occur are tried, so that a key is cut in a few places and not in all.
        self._lengths: list[set[int]] = [set() for kind, _text in template.parts if kind == _VALUE]

    def __len__(self) -> int:
        return len(self._values)

    def add(self, values: Values) -> None:
        """Take in the values of one token."""
        self._values.add(values)
        for lengths, value in zip(self._lengths, values):
            lengths.add(len(value))

    def pattern(self) -> bytes:
        """Return one pattern for the keys of all: their own where there is one token, the common one else."""
        return self.template.pattern(next(iter(self._values)) if len(self) == 1 else None)

    def __contains__(self, key: bytes) -> bool:
        return any(values in self._values for values in self._cuts(key, 0, 0, 0))

    def _cuts(self, key: bytes, at: int, part: int, value: int) -> Iterator[Values]:
        """Yield the values that the placeholders from `value` on may have, where the parts from `part` on make up `key` from `at` on."""
        parts = self.template.parts
        if part == len(parts):
            if at == len(key):
                yield ()
            return
        kind, text = parts[part]
        if kind == _LITERAL:
            literal = text.encode("utf-8")
            if key.startswith(literal, at):
                yield from self._cuts(key, at + len(literal), part + 1, value)
        elif kind == _VALUE:
            for end in (at + length for length in self._lengths[value] if at + length <= len(key)):
                for rest in self._cuts(key, end, part + 1, value + 1):
                    yield (key[at:end], *rest)
        elif part + 1 == len(parts):
            yield ()
        else:
            for start in range(at, len(key) + 1):
                yield from self._cuts(key, start, part + 1, value)


@dataclass(frozen=True)
class Keyspace:
    """What a description says of a cache's keys: those of tokens, and others that stay."""

    templates: tuple[Template, ...]
    others: tuple[tuple[int, re.Pattern[bytes]], ...] = ()

    def keeps(self, key: bytes, template: Template) -> bool:
        """Tell whether `key`, which `template` matches, is one of the others: whoever says more of the key literally is right."""
        return any(said > template.said and expression.fullmatch(key) for said, expression in self.others)


def templates(keys: Iterable[str], path: str = "keys") -> list[Template]:
    """Return the templates of a description's `keys`. Raises InvalidValue."""
    return [_template(text, f"{path}[{number}]", PLACEHOLDERS) for number, text in enumerate(keys)]


def keyspace(keys: Sequence[str], other_keys: Sequence[str]) -> Keyspace:
    """Return what an entry among a description's caches says of keys. Raises InvalidValue."""
    mine, others = templates(keys), [_template(text, f"other_keys[{number}]", None) for number, text in enumerate(other_keys)]
    for one in mine:
        for other in others:
            if one.pattern() == other.pattern():
                message = (
                    f"{one.text!r} among keys and {other.text!r} among other_keys are the same keys: they either go with a token or stay"
                )
                raise InvalidValue(message, object_name=one.text)
    return Keyspace(tuple(mine), tuple((other.said, other.expression()) for other in others))


def _template(text: str, path: str, known: Sequence[str] | None) -> Template:
    """Return the template that `text` is; `known` are the placeholders that it may have, None for any."""
    parts: List[Part] = []
    for match in _PARTS.finditer(text):
        name, star, literal, brace = match.groups()
        if brace or (name is not None and known is not None and name not in known):
            allowed = ", ".join(f"{{{one}}}" for one in known or ("a name",))
            raise InvalidValue(f"{path}: {match.group()} in {text!r} is no placeholder; there are {allowed}", object_name=path)
        parts.append((_VALUE, name) if name is not None else (_ANY, "*") if star else (_LITERAL, literal))
    if known is not None:
        for (kind, _text), (after, _next) in zip(parts, parts[1:]):
            if _VALUE in (kind, after) and _LITERAL not in (kind, after):
                raise InvalidValue(
                    f"{path}: two wildcards touch in {text!r}, so that the keys of one token are not told from those of another:"
                    " put a separator between them",
                    object_name=path,
                )
    if not parts or all(kind == _ANY for kind, _text in parts):
        raise InvalidValue(f"{path}: {text!r} stands for every key or none: write the text that keys begin with", object_name=path)
    return Template(text, tuple(parts))
