# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What belongs to a database as a whole, given to the restored one: settings, comment, limits, privileges and owner."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Iterator, List, Mapping, Sequence, Tuple

from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue

# Their values are lists of names, each quoted where it must be, as in the source of pg_dump (variable_is_guc_list_quote).
_LISTS = frozenset({
    "local_preload_libraries", "search_path", "session_preload_libraries", "shared_preload_libraries", "temp_tablespaces",
    "unix_socket_directories",
})  # fmt: skip
_ITEM = re.compile(r'\s*(?:"((?:[^"]|"")*)"|([^",]*?))\s*(?:,|$)')
_ACL_ITEM = re.compile(r'(?:"((?:[^"]|"")*)"|([^="]*))=([A-Za-z*]*)/')
_PRIVILEGES = {"C": "CREATE", "T": "TEMPORARY", "c": "CONNECT"}


@dataclass(frozen=True)
class Grant:
    """What one grantee (None is everybody) may do with a database, and may let others do (`grantable`)."""

    grantee: str | None
    privileges: Tuple[str, ...]
    grantable: bool


def apply_settings(database: Any, name: str, settings: Mapping[str, Any], *, owners: bool = True, privileges: bool = True) -> List[str]:
    """Give the database `name` what `settings` of a manifest say, inside the caller's transaction. Raises DatabaseError.

    Returns the variables that this server does not know, as an older or a newer major may, which are left out.
    """
    unknown = _unknown(database, settings)
    for statement, parameters in _statements(database, name, settings, owners, privileges, unknown):
        database.execute(statement, parameters)
    return unknown


def _unknown(database: Any, settings: Mapping[str, Any]) -> List[str]:
    config = [*(settings.get("config") or ()), *(one for some in (settings.get("role_config") or {}).values() for one in some or ())]
    # A name with a dot is an extension's, and known as soon as it is set.
    names = sorted({variable for variable, _value in map(_split, config) if "." not in variable})
    return [name for name in names if database.value("SELECT pg_catalog.current_setting(%s, true) IS NULL", (name,))]


def _statements(
    database: Any, name: str, settings: Mapping[str, Any], owners: bool, privileges: bool, unknown: Sequence[str]
) -> Iterator[Tuple[Any, Sequence[Any]]]:
    sql = database.sql
    target = sql.Identifier(name)
    yield sql.SQL("COMMENT ON DATABASE {} IS %s").format(target), (settings.get("comment"),)
    for variable, value in map(_split, settings.get("config") or ()):
        if variable not in unknown:
            yield sql.SQL("ALTER DATABASE {} SET {} TO {}").format(target, *_setting(sql, variable, value)), ()
    for role, config in sorted((settings.get("role_config") or {}).items()):
        for variable, value in map(_split, config or ()):
            if variable not in unknown:
                words = sql.SQL("ALTER ROLE {} IN DATABASE {} SET {} TO {}")
                yield words.format(sql.Identifier(role), target, *_setting(sql, variable, value)), ()
    limit = settings.get("connection_limit")
    if limit is not None and int(limit) >= 0:
        yield sql.SQL("ALTER DATABASE {} CONNECTION LIMIT %s").format(target), (int(limit),)
    if settings.get("is_template"):
        yield sql.SQL("ALTER DATABASE {} IS_TEMPLATE true").format(target), ()
    if owners and settings.get("owner"):
        yield sql.SQL("ALTER DATABASE {} OWNER TO {}").format(target, sql.Identifier(settings["owner"])), ()
    owner = settings["owner"] if owners and settings.get("owner") else database.user
    yield from _grants(sql, target, owner, settings.get("acl") if privileges else None)


def _grants(sql: Any, target: Any, owner: str, acl: Sequence[str] | None) -> Iterator[Tuple[Any, Sequence[Any]]]:
    """Yield what turns the privileges of the hidden database, which are its owner's alone, into those of the manifest."""
    if acl is None:
        yield sql.SQL("GRANT CONNECT, TEMPORARY ON DATABASE {} TO PUBLIC").format(target), ()
        return
    yield sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(target), ()
    yield sql.SQL("REVOKE ALL ON DATABASE {} FROM {}").format(target, sql.Identifier(owner)), ()
    for grant in grants(acl):
        to = sql.SQL("PUBLIC") if grant.grantee is None else sql.Identifier(grant.grantee)
        words = sql.SQL("GRANT {} ON DATABASE {} TO {} WITH GRANT OPTION" if grant.grantable else "GRANT {} ON DATABASE {} TO {}")
        yield words.format(sql.SQL(", ").join(map(sql.SQL, grant.privileges)), target, to), ()


def grants(acl: Sequence[str]) -> List[Grant]:
    """Return what the privileges of a database, in the form of the catalogue (`tim_app=Tc/tim`), allow; who granted it is left out."""
    found = []
    for item in acl:
        match = _ACL_ITEM.match(item)
        if match is None:
            raise InvalidValue(f"the manifest's privilege {item!r} on the database is none", object_name=item)
        quoted, bare, letters = match.groups()
        grantee = bare if quoted is None else quoted.replace('""', '"')
        given = re.findall(r"([A-Za-z])(\*?)", letters)
        for grantable in (False, True):
            privileges = tuple(_PRIVILEGES[letter] for letter, star in given if letter in _PRIVILEGES and bool(star) is grantable)
            if privileges:
                found.append(Grant(grantee or None, privileges, grantable))
    return found


def _split(entry: str) -> Tuple[str, str]:
    variable, _equals, value = str(entry).partition("=")
    return variable, value


def _setting(sql: Any, variable: str, value: str) -> Tuple[Any, Any]:
    """Return the name and the value of a setting as ALTER takes them."""
    values = list_items(value) if variable.lower() in _LISTS else [value]
    return sql.Identifier(*variable.split(".")), sql.SQL(", ").join(map(sql.Literal, values))


def list_items(value: str) -> List[str]:
    """Return the names in a list such as `"$user", public`; an empty list is one empty name, as `SET x TO ''` has it."""
    items: List[str] = []
    position = 0
    while position < len(value):
        match = _ITEM.match(value, position)
        if match is None or match.end() == position:
            return [value]
        quoted, bare = match.groups()
        items.append(bare if quoted is None else quoted.replace('""', '"'))
        position = match.end()
    return items or [""]


def settings_roles(settings: Mapping[str, Any], *, owners: bool, privileges: bool) -> List[str]:
    """Return the roles without which `apply_settings` fails."""
    found = set(settings.get("role_config") or {})
    found.update([settings["owner"]] if owners and settings.get("owner") else [])
    found.update(grant.grantee for grant in grants(settings.get("acl") or ()) if privileges and grant.grantee)
    return sorted(found)
