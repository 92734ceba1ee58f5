# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The text of a statement as it may be shown: nothing in it that could be a token, a password or a name of a person."""

from __future__ import annotations

import re

LONGEST = 300
# Only of these does the server itself take the constants out. Of others the kind is told: CREATE ROLE holds a password.
NORMALISED = ("SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "WITH", "VALUES", "TABLE")
# One pass from left to right, so that a quote inside a comment or a name opens nothing. What does not end is cut off.
_PART = re.compile(
    r"""
      (?P<comment> /\*.*?(?:\*/|\Z) | --[^\n]* )
    | (?P<constant>
          \$(?P<tag>[^\W\d]\w*)\$ .*? (?:\$(?P=tag)\$|\Z)
        | \$\$ .*? (?:\$\$|\Z)
        | [eE]'(?:[^'\\]|\\.|'')*(?:'|\Z)
        | (?:[bBxXnN]|[uU]&)?'(?:[^']|'')*(?:'|\Z)
        | \d[\w.]*(?:(?<=[eE])[+-]\d+)?
        | \.\d\w*
      )
    | (?P<kept> "(?:[^"]|"")*(?:"|\Z) | \$\d+ | [^\W\d][\w$]* )
    """,
    re.DOTALL | re.VERBOSE,
)


def shown(text: str | None) -> str | None:
    """Return `text` on one line without comments and constants, cut to 300 characters; of a utility statement its first two words.

    Applications write into comments what they like, and an eviction can leave constants in a text that is otherwise normalised.
    """
    if text is None:
        return None
    plain = " ".join(_PART.sub(_masked, text).split())
    words = plain.split(" ")
    if words[0].upper().lstrip("(") not in NORMALISED:
        return " ".join(words[:2]) + (" ..." if len(words) > 2 else "")
    return plain if len(plain) <= LONGEST else plain[: LONGEST - 3] + "..."


def _masked(part: re.Match[str]) -> str:
    if part["comment"] is not None:
        return " "
    return "?" if part["constant"] is not None else part.group()
