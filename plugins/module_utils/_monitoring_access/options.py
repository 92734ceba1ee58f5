# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the module is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._arguments import listed
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue
from ansible_collections.pgops.runbook.plugins.module_utils._system import load

OPERATION = "pg_monitoring_access"


@dataclass(frozen=True)
class Options:
    """Who is to see what. `system` is a normalised description (empty: the server alone); no `sequence_schemas` means all schemas."""

    role: str
    present: bool = True
    system: Mapping[str, Any] | None = None
    sequence_schemas: Sequence[str] = ()
    default_privileges: bool = True
    token_ids: bool = True
    row_counts: bool = True
    configuration: bool = True
    integrity: bool = True
    history_schema: str | None = None
    partial: bool = False


def read_options(params: Mapping[str, Any]) -> Options:
    """Return the options in a module's `params`; what is empty counts as not given. Raises DescriptionError and InvalidValue."""
    role, schema = params["role"], params.get("history_schema") or None
    if not role:
        raise InvalidValue("role: the name of the role that monitors is required", object_name="role")
    if schema and (schema.startswith("pg_") or schema in ("information_schema", "public")):
        hint = "Name a schema of its own, such as pgops."
        raise InvalidValue(f"history_schema: {schema!r} is not for histories", object_name="history_schema", hint=hint)
    switches = ("default_privileges", "token_ids", "row_counts", "configuration", "integrity", "partial")
    return Options(
        role=role,
        present=params["state"] != "absent",
        system=load(params["system"]) if params.get("system") else {},
        sequence_schemas=[str(name) for name in listed(params.get("sequence_schemas"))],
        history_schema=schema,
        **{name: bool(params[name]) for name in switches},
    )
