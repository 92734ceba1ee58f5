# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Roles and tablespaces, which belong to the server: without them the rights of a restored database are nobody's.

pg_dumpall does not look whether what it writes arrives on the disk, so that it never writes a file here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Mapping, Tuple

from ansible_collections.pgops.runbook.plugins.module_utils import _driver
from ansible_collections.pgops.runbook.plugins.module_utils._backup.dump import Recipe, trailer_check
from ansible_collections.pgops.runbook.plugins.module_utils._client.coding import Compression, choose_compression, encoders
from ansible_collections.pgops.runbook.plugins.module_utils._client.login import ClientLogin
from ansible_collections.pgops.runbook.plugins.module_utils._client.pipeline import Written, write_stream
from ansible_collections.pgops.runbook.plugins.module_utils._errors import ProgramFailed
from ansible_collections.pgops.runbook.plugins.module_utils._tick import Tick

FILE = "globals.sql"
WITHOUT_PASSWORDS = "the role may not read pg_authid, so that the passwords of roles are not in it"


def dump_globals(
    recipe: Recipe,
    login: ClientLogin,
    database: str,
    partial: Path,
    environment: Mapping[str, str],
    tick: Tick,
    *,
    passwords: bool,
) -> Tuple[Dict[str, Any], Dict[str, Written]]:
    """Write the roles and tablespaces into `partial`; return the manifest's entry and what was written. Raises ProgramFailed.

    It logs in to `database`; that in the login's own arguments counts for nothing with pg_dumpall.
    """
    around = _around(recipe)
    name = f"{FILE}{around.suffix}{recipe.encryption.suffix if recipe.encryption else ''}"
    command = [
        recipe.client.program("pg_dumpall"),
        *login.arguments,
        *login.role,
        "--globals-only",
        # As a connection string, so that a name with `=` in it is not taken for one.
        f"--database={_driver.conninfo({'dbname': database})}",
        *([] if passwords else ["--no-role-passwords"]),
    ]
    try:
        written = write_stream(
            [command, *encoders(around, recipe.encryption)],
            partial / name,
            environment={**login.environment, **environment},
            tick=tick,
            tap=(0, trailer_check("database cluster")),
            secrets=login.secrets,
        )
    except ProgramFailed as error:
        if error.program != "grep":
            raise
        raise ProgramFailed("pg_dumpall's output does not end as a whole one does", program="pg_dumpall", code=error.code) from None
    return {"file": name, "role_passwords": passwords, "note": None if passwords else WITHOUT_PASSWORDS}, {name: written}


def _around(recipe: Recipe) -> Compression:
    """Return how text is compressed beside a dump whose pg_dump may compress by itself what no program here can."""
    if recipe.compression.by != "pg_dump":
        return recipe.compression
    return choose_compression("auto", "plain", recipe.client)
