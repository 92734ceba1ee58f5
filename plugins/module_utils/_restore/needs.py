# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a backup needs of the server besides room: roles, extensions and tablespaces that a dump names and does not bring along."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Dict, List, Mapping, Set

from ansible_collections.pgops.runbook.plugins.module_utils._backup.manifest import read_document
from ansible_collections.pgops.runbook.plugins.module_utils._backup.naming import OBJECTS
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue
from ansible_collections.pgops.runbook.plugins.module_utils._restore.databases import DEFAULT_TABLESPACE
from ansible_collections.pgops.runbook.plugins.module_utils._restore.settings import settings_roles

Objects = Mapping[str, Mapping[str, str]]

_ROLE = r'"(?:[^"]|"")*"|[^\s",#]+'
# The identity of a grant: `app.tokens SELECT to tim_app`, `default for tim in schema app on tables SELECT to tim_app`.
_GRANTEE = re.compile(rf" (?:to|from) ({_ROLE})$")
_DEFAULTS_OF = re.compile(rf"default for ({_ROLE}) ")
# The roles of a policy: `SELECT, restrictive, to tim_app, "tim reader" #2bdc...`.
_POLICY_OF = re.compile(rf"\bto ((?:{_ROLE})(?:, (?:{_ROLE}))*)")
_LARGE_OBJECTS_OF = "large objects of "
_EVERYBODY = frozenset({"PUBLIC", "public"})

_ROLES = "SELECT r.rolname AS name FROM pg_catalog.pg_roles r"
_EXTENSIONS = "SELECT e.name FROM pg_catalog.pg_available_extensions e"
_TABLESPACES = "SELECT t.spcname AS name FROM pg_catalog.pg_tablespace t"


def read_objects(backup: Path) -> Dict[str, Dict[str, str]] | None:
    """Return the structure that the backup in the folder `backup` lists: kind, identity, fingerprint; None where it lists none.

    Raises InvalidValue.
    """
    try:
        found: Dict[str, Dict[str, str]] = read_document(backup / OBJECTS)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InvalidValue(f"{backup / OBJECTS} cannot be read: {error}", object_name=backup.name) from None
    return found


def missing(
    database: Any, settings: Mapping[str, Any], objects: Objects, *, owners: bool, privileges: bool, whole: bool = True
) -> Dict[str, List[str]]:
    """Return the roles, extensions and tablespaces that the server of `database` lacks, by those words.

    `whole` is whether the database itself is made as `settings` say, too.
    """
    roles = roles_of(objects, owners=owners, privileges=privileges)
    spaces: Set[str] = set()
    if whole:
        roles |= set(settings_roles(settings, owners=owners, privileges=privileges))
        spaces = {str(settings.get("tablespace") or DEFAULT_TABLESPACE), *map(str, settings.get("tablespaces") or ())}
    wanted = {
        "roles": (roles, _ROLES),
        "extensions": (set(objects.get("extensions") or ()), _EXTENSIONS),
        "tablespaces": (spaces, _TABLESPACES),
    }
    found = {kind: names - {row["name"] for row in database.rows(query)} for kind, (names, query) in wanted.items() if names}
    return {kind: sorted(names) for kind, names in found.items() if names}


def roles_of(objects: Objects, *, owners: bool, privileges: bool) -> Set[str]:
    """Return the roles that own something in the backup, have been granted something, or are named by a policy."""
    found: List[str] = []
    for told in (objects.get("policies") or {}).values():
        for match in _POLICY_OF.finditer(told):
            found += re.findall(_ROLE, match.group(1))
    if owners:
        for identity, owner in (objects.get("owners") or {}).items():
            found.append(identity[len(_LARGE_OBJECTS_OF) :] if identity.startswith(_LARGE_OBJECTS_OF) else owner)
    if privileges:
        for identity in objects.get("grants") or ():
            found += [match.group(1) for match in (_GRANTEE.search(identity), _DEFAULTS_OF.match(identity)) if match]
    return {unquoted(name) for name in found if name not in _EVERYBODY}


def unquoted(name: str) -> str:
    """Return a name without the quotes that SQL may need around it."""
    return name[1:-1].replace('""', '"') if len(name) > 1 and name.startswith('"') and name.endswith('"') else name
