# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A query for some kinds of objects: it gives kind, identity, told (kept as it is) and code (hashed)."""

from __future__ import annotations

from typing import NamedTuple, Tuple


class Choice(NamedTuple):
    """What stands at `{place}` in a query: `then` where the server's catalogue has `column`, else `otherwise`."""

    place: str
    column: str
    then: str
    otherwise: str


class Query(NamedTuple):
    """`text` begins where the common part ends (`objects.py`); `ending` follows it as it is."""

    text: str
    choices: Tuple[Choice, ...] = ()
    ending: str = ""
    needs: str = ""  # a column of the catalogue without which there is nothing of the kind
