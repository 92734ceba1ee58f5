# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a fault stands and what it says."""

from __future__ import annotations

import difflib
import json
import re
from typing import Any, Iterable

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_BRACKETED = re.compile(r"[^\[\]\"]*[^\[\]\"0-9][^\[\]\"]*")


class Faults:
    """The faults found so far, each `path: what is wrong and what is allowed`."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def add(self, path: str, message: str) -> None:
        """Note one fault; `path` is empty for the whole description."""
        self.found.append(f"{path}: {message}" if path else message)

    def at(self, path: str) -> bool:
        """Return whether a fault was found at `path` or below it, so that what is missing there was written, only wrongly."""
        return any(fault.startswith((f"{path}:", f"{path}.", f"{path}[")) for fault in self.found)


def join(path: str, key: Any) -> str:
    """Return the path of `key` below `path`: `a.b`, `a[0]`, `tables[custom.denylist]`; keys with brackets stand in double quotes."""
    if isinstance(key, int) and not isinstance(key, bool):
        return f"{path}[{key}]"
    text = str(key)
    if _PLAIN.fullmatch(text):
        return f"{path}.{text}" if path else text
    return f"{path}[{text}]" if _BRACKETED.fullmatch(text) else f"{path}[{json.dumps(text)}]"


def shown(value: Any) -> str:
    """Return `value` as a message shows it, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def one_of(value: Any, allowed: Iterable[str], of_what: str = "") -> str:
    """Return the message for a word that is not in a list; `of_what` says what the list holds."""
    listed = ", ".join(allowed)
    return f"{shown(value)} is not one of {of_what}{': ' if of_what else ''}{listed}"


def unknown_key(key: Any, allowed: Iterable[str]) -> str:
    """Return the message for a key that the form does not have, with the nearest one that it has."""
    names = list(allowed)
    near = difflib.get_close_matches(str(key), names, n=1)
    return "unknown key" + (f", did you mean {near[0]}?" if near else "") + f" (allowed: {', '.join(names)})"
