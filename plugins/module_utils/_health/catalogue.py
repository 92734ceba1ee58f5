# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of the relations that a system names exist, and what the role may read of them."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Mapping, Set

from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import Unseen
from ansible_collections.pgops.runbook.plugins.module_utils._names import RelationName, parse_relation
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Relation, look_up, require

# Relations that a statement can read rows from.
READABLE_KINDS = ("r", "p", "v", "m", "f")

Catalogue = Dict[RelationName, Relation]


def catalogue(look: Look) -> Catalogue:
    """Return what the catalogue says about everything that the system names, in one statement that waits behind no lock."""
    names = list(declared(look.system))
    schemas = {name.schema for name in names}
    # A schema in which nothing is named is looked up by a relation that cannot exist.
    names += [RelationName(schema, "") for schema in look.system.get("schemas") or () if schema not in schemas]
    return look_up(look.database, names)


def declared(system: Mapping[str, Any]) -> Dict[RelationName, Set[str]]:
    """Return every relation that the system names and that must exist, with the columns by which it is read or cleaned up."""
    found: Dict[RelationName, Set[str]] = {}

    def add(table: str, *columns: Any) -> None:
        names = found.setdefault(parse_relation(table), set())
        names.update(column["column"] if isinstance(column, Mapping) else column for column in columns if column)

    schema = system.get("schema") or {}
    for table, facts in (schema.get("tables") or {}).items():
        if not facts.get("optional"):
            add(table)
    for view in schema.get("views") or ():
        add(view)
    for store in system.get("token_stores") or ():
        tokens, revoke, allow = store["tokens"], store["revoke"], store.get("allowlist")
        add(tokens["table"], tokens["id"], tokens.get("issued_at"), tokens.get("expires_at"))
        if revoke["how"] == "denylist":
            add(revoke["table"], revoke["id"], revoke.get("revoked_at"), revoke.get("expires_at"))
        else:
            add(tokens["table"], revoke.get("column"))
        if allow:
            add(allow["table"], allow["id"], allow.get("expires_at"))
    for flow in system.get("login_flows") or ():
        add(flow["table"], flow["id"], flow["created_at"])
    log = system.get("access_log")
    if log:
        add(log["table"], log["at"], log["user"], log["kind"])
    optional = {parse_relation(table) for table, facts in (schema.get("tables") or {}).items() if facts.get("optional")}
    for rule in (rule for rules in (system.get("retention") or {}).values() for rule in rules or ()):
        if parse_relation(rule["table"]) not in optional:
            add(rule["table"], *_named_by(rule))
        archive = rule["archive"]
        if archive and not archive["create"] and parse_relation(archive["table"]) not in optional:
            add(archive["table"])
    return found


def _named_by(rule: Mapping[str, Any]) -> List[Any]:
    """Return the columns of its own table that a retention rule names, as names or with what is known of their times."""
    keys = rule["keep_latest"]["per"] if rule["keep_latest"] else ()
    return [rule["column"], rule["mark"], *(condition["column"] for condition in rule["where"]), *keys]


def readable(look: Look, table: str, columns: Iterable[str]) -> Relation:
    """Return the relation if the role may read these columns of all its rows.

    Raises MissingObject where the relation or a column does not exist, Unseen with the GRANT where the role lacks it.
    """
    relation = require(look.seen(catalogue)[parse_relation(table)])
    wanted = [relation.column(column) for column in columns]
    if not all(column.readable for column in wanted):
        listed = ", ".join(quoted(column.name) for column in wanted)
        schema, table, role = quoted(relation.name.schema), quoted(*relation.name), quoted(look.role)
        hint = f"As the owner: GRANT USAGE ON SCHEMA {schema} TO {role}; GRANT SELECT ({listed}) ON {table} TO {role};"
        raise Unseen(f"the role {look.role} may not read {relation.name}", object_name=str(relation.name), hint=hint)
    hiding = [part for part in (relation.itself, *relation.leaves) if part and part.hides_rows]
    if hiding:
        message = f"row level security would hide rows of {hiding[0].name} from the role {look.role}"
        raise Unseen(message, object_name=str(relation.name), hint=f"As a superuser: ALTER ROLE {quoted(look.role)} BYPASSRLS;")
    return relation


def quoted(*parts: str) -> str:
    """Return a name as a statement that a person copies has it. Statements that run here are composed by the driver."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)
