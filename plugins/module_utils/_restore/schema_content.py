# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a backup's content belongs to one schema."""

from __future__ import annotations

import re
from dataclasses import replace

from ansible_collections.pgops.runbook.plugins.module_utils._content.measure import Measured
from ansible_collections.pgops.runbook.plugins.module_utils._content.scope import Scope
from ansible_collections.pgops.runbook.plugins.module_utils._restore.staging import read_name


def inside(expected: Measured, schema: str, quoted: str, found: Measured | None = None) -> Measured:
    """Return the part of `expected` that belongs to `schema`; `quoted` is its name where SQL needs quotes.

    Whatever is in `found` by the same name belongs to it too: some objects do not show by their names where they belong.
    """
    name = re.escape(quoted)
    belongs = re.compile(rf"(?:[a-z][a-z ]* )?{name}\.|(?:schema )?{name}(?: |$)")
    there = (found.objects if found else None) or {}
    objects = None
    if expected.objects is not None:
        objects = {
            kind: {one: told for one, told in named.items() if belongs.match(one) or one in there.get(kind, {})}
            for kind, named in expected.objects.items()
        }
        objects = {kind: named for kind, named in objects.items() if named}
    return replace(
        expected,
        scope=Scope("schemas", (schema,)),
        tables=None if expected.tables is None else [table for table in expected.tables if read_name(table.name).schema == schema],
        sequences=None if expected.sequences is None else [one for one in expected.sequences if read_name(one.name).schema == schema],
        large_objects=None,
        objects=objects,
    )
