# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table that rows go to instead of being lost: what it must look like, how it is made, what is written to it.

It keeps every column of the source by name and type, as a plain value. One that is made here belongs to the role that makes it and
is readable by nobody else, whatever the default privileges say, superusers and members of the owner apart; where the source has
row-level security, it has that too, with no policy. Whoever shall read it is granted that by a person.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Iterable, Mapping, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils import _driver
from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError, InvalidValue, MissingObject, RunbookError
from ansible_collections.pgops.runbook.plugins.module_utils._names import RelationName
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Leaf, Relation, look_up

_MOST_COLUMNS = 1600  # of a table, dropped ones included
# What CREATE TABLE and ADD COLUMN end in while another session does the same: the table is there, its row type is, their catalogue
# rows are, or the column is.
_MADE_MEANWHILE = ("42P07", "42710", "23505", "42701")
_ATTEMPTS = 5

_COLUMNS = """
SELECT a.attrelid::bigint AS relation, a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type, a.atttypid::bigint AS type_oid,
    a.atttypmod AS modifier, a.attgenerated <> '' AS generated, t.typnotnull AS domain_not_null,
    (a.attnotnull OR t.typnotnull) AND NOT (a.atthasdef OR a.attidentity <> '' OR t.typdefault IS NOT NULL) AS must_be_given,
    ln.nspname AS collation_schema, l.collname AS collation_name, has_column_privilege(a.attrelid, a.attnum, 'INSERT') AS insertable
FROM pg_attribute a
JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_collation l ON l.oid = a.attcollation AND a.attcollation <> t.typcollation
LEFT JOIN pg_namespace ln ON ln.oid = l.collnamespace
WHERE a.attrelid = ANY (%s::bigint[]) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum
"""
_TABLES = """
SELECT c.oid::bigint AS oid, n.nspname AS schema, c.relname AS name, c.relpersistence AS persistence, c.relrowsecurity AS secluded,
    c.relispartition OR c.reloftype <> 0 AS columns_are_fixed, pg_get_userbyid(c.relowner) AS owner,
    pg_has_role(c.relowner, 'USAGE') AS owned, has_schema_privilege(n.oid, 'USAGE') AS reachable,
    (SELECT max(a.attnum) FROM pg_attribute a WHERE a.attrelid = c.oid) AS last_column,
    ARRAY(SELECT w.rulename::text FROM pg_rewrite w
          WHERE w.ev_class = c.oid AND w.ev_type = '3' AND w.ev_enabled IN ('O', 'A') ORDER BY w.rulename) AS rewrites,
    ARRAY(SELECT g.tgname::text FROM pg_trigger g
          WHERE g.tgrelid = c.oid AND g.tgtype & 4 = 4 AND NOT g.tgisinternal AND g.tgenabled IN ('O', 'A') ORDER BY g.tgname) AS triggers
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = ANY (%s::bigint[])
"""
# A table has a row type of its own name; that of an array gives way.
_PLACE = """
SELECT has_schema_privilege(n.oid, 'USAGE') AND has_schema_privilege(n.oid, 'CREATE') AS may_create,
    %(name)s::name::text = %(name)s AS fits, current_setting('max_identifier_length') AS longest,
    EXISTS (SELECT FROM pg_type t WHERE t.typnamespace = n.oid AND t.typname = %(name)s
            AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid)) AS taken
FROM pg_namespace n WHERE n.nspname = %(schema)s
"""
_GRANTEES = """
SELECT DISTINCT x.grantee = 0 AS everybody, coalesce(r.rolname::text, '') AS role
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(c.relacl) AS x LEFT JOIN pg_roles r ON r.oid = x.grantee
WHERE n.nspname = %s AND c.relname = %s AND x.grantee <> c.relowner
"""


@dataclass(frozen=True)
class NewColumn:
    """A column that the archive lacks: `type` as SQL writes it, `collation` (schema, name) where it is not the type's own."""

    name: str
    type: str
    collation: tuple[str, str] | None

    def definition(self, sql: Any) -> Any:
        """Return it as CREATE TABLE and ADD COLUMN take it."""
        collate = sql.SQL(" COLLATE {}").format(sql.Identifier(*self.collation)) if self.collation else sql.SQL("")
        return sql.SQL("{} {}{}").format(sql.Identifier(self.name), sql.SQL(self.type), collate)

    def __str__(self) -> str:
        """Return the definition as a message shows it."""
        collate = f" COLLATE {_quoted(*self.collation)}" if self.collation else ""
        return f"{_quoted(self.name)} {self.type}{collate}"


@dataclass(frozen=True)
class Archive:
    """An archive of one source. `columns` are those of the source, all of which it keeps.

    `create`: the table is still to be made, with the columns `add`; otherwise those are added to it. `secluded`: it gets row-level
    security when it is made. `triggers` fire when rows come in, and may do anything with them.
    """

    name: RelationName
    columns: tuple[str, ...]
    create: bool
    add: tuple[NewColumn, ...]
    secluded: bool
    triggers: tuple[str, ...]
    path: str


def resolve(database: Any, relation: Relation, archive: Relation, written: Mapping[str, Any], path: str) -> Archive:
    """Return the archive that `written` (table, create) names, looked up as `archive`, for the rows of `relation`. Reads only.

    Raises MissingObject, InvalidValue and DatabaseError, with paths below `path`, for an archive that cannot keep every row as it is.
    """
    survey = _Survey(database, relation, archive)
    try:
        survey.require_no_own_columns()
        if not archive.exists:
            survey.require_place(bool(written.get("create")))
            return survey.archive(path, survey.new(survey.source))
        survey.require_table()
        survey.require_lasting()
        survey.require_writable()
        survey.require_columns()
        add = survey.new(name for name in survey.source if name not in survey.kept)
        if add:
            survey.require_extensible(add, bool(written.get("create")))
        return survey.archive(path, add)
    except (MissingObject, InvalidValue, DatabaseError) as error:
        if not error.message.startswith(path):
            error.message = f"{path}.table: {error.message}"
            error.args = (error.message,)
        raise


def prepare(database: Any, archive: Archive, relation: Relation) -> bool:
    """Make the table, or add the columns that it lacks, as far as that is still needed, and return whether anything was done.

    Another run may do the same at the same time: one makes it, and both find it made. Raises what `resolve` raises.
    """
    changed = False
    for _attempt in range(_ATTEMPTS):
        if not archive.create and not archive.add:
            return changed
        try:
            with database.transaction():
                # The names of types are read and written under the same path.
                database.execute("SET LOCAL search_path TO pg_catalog, pg_temp")
                found = look_up(database, [archive.name])[archive.name]
                archive = resolve(database, relation, found, {"create": True}, archive.path)
                done = _make(database, archive) if archive.create else _extend(database, archive)
            changed = changed or done
        except DatabaseError as error:
            if error.sqlstate not in _MADE_MEANWHILE:
                raise
    message = f"{archive.path}.table: {archive.name} could not be made: somebody else makes and removes it or its columns all the time"
    raise DatabaseError(message, object_name=str(archive.name))


def returning(database: Any, archive: Archive, row: str) -> Any:
    """Return what follows RETURNING where the rows with the alias `row` leave the source."""
    sql = database.sql
    return sql.SQL(", ").join(sql.Identifier(row, column) for column in archive.columns)


def insert(database: Any, archive: Archive, source: str) -> Any:
    """Return the statement that keeps the rows of `source`, a query with the columns of `returning`; it returns a row for each."""
    sql = database.sql
    # The value of an identity column is kept as well, also where the archive would rather draw one of its own.
    return sql.SQL("INSERT INTO {archive} ({columns}) OVERRIDING SYSTEM VALUE SELECT {given} FROM {source} RETURNING 1").format(
        archive=archive.name.identifier(sql),
        columns=sql.SQL(", ").join(map(sql.Identifier, archive.columns)),
        given=sql.SQL(", ").join(sql.Identifier(source, column) for column in archive.columns),
        source=sql.Identifier(source),
    )


def unkept_columns(database: Any, archive: Archive, leaf: Leaf) -> Any:
    """Return the expression for how many columns of `leaf` are not kept as they are: one may have come, or changed its type, since.

    All of them, where what has the archive's name is no table any more, or one that a crash empties.

    Selected by the statement that moves the rows it sees what that statement's lock holds still: anything but 0 must undo it.
    """
    sql = database.sql
    return sql.SQL(
        "(SELECT pg_catalog.count(*) FROM pg_catalog.pg_attribute AS own_"
        " JOIN pg_catalog.pg_class AS source_ ON source_.oid OPERATOR(pg_catalog.=) own_.attrelid"
        " WHERE own_.attrelid OPERATOR(pg_catalog.=) {leaf}::pg_catalog.oid"
        " AND own_.attnum OPERATOR(pg_catalog.>) 0 AND NOT own_.attisdropped AND NOT (own_.attname OPERATOR(pg_catalog.=) ANY"
        " ({columns}::pg_catalog.name[]) AND EXISTS (SELECT FROM pg_catalog.pg_attribute AS kept_"
        " JOIN pg_catalog.pg_class AS class_ ON class_.oid OPERATOR(pg_catalog.=) kept_.attrelid"
        " JOIN pg_catalog.pg_namespace AS place_ ON place_.oid OPERATOR(pg_catalog.=) class_.relnamespace"
        " WHERE place_.nspname OPERATOR(pg_catalog.=) {schema}::pg_catalog.name"
        " AND class_.relname OPERATOR(pg_catalog.=) {table}::pg_catalog.name AND class_.relkind IN ('r', 'p')"
        " AND (class_.relpersistence OPERATOR(pg_catalog.=) 'p' OR source_.relpersistence OPERATOR(pg_catalog.=) 'u')"
        " AND kept_.attname OPERATOR(pg_catalog.=) own_.attname AND kept_.atttypid OPERATOR(pg_catalog.=) own_.atttypid"
        " AND kept_.atttypmod OPERATOR(pg_catalog.=) own_.atttypmod)))"
    ).format(
        leaf=sql.Literal(leaf.oid),
        columns=sql.Literal(_driver.array_literal(archive.columns)),
        schema=sql.Literal(archive.name.schema),
        table=sql.Literal(archive.name.name),
    )


def _make(database: Any, archive: Archive) -> bool:
    sql = database.sql
    name = archive.name.identifier(sql)
    columns = sql.SQL(", ").join(column.definition(sql) for column in archive.add)
    database.execute(sql.SQL("CREATE TABLE {} ({})").format(name, columns))
    for row in database.rows(_GRANTEES, list(archive.name)):
        grantee = sql.SQL("PUBLIC") if row["everybody"] else sql.Identifier(row["role"])
        database.execute(sql.SQL("REVOKE ALL ON TABLE {} FROM {}").format(name, grantee))
    if archive.secluded:
        database.execute(sql.SQL("ALTER TABLE {} ENABLE ROW LEVEL SECURITY").format(name))
    return True


def _extend(database: Any, archive: Archive) -> bool:
    if not archive.add:
        return False
    sql = database.sql
    added = sql.SQL(", ").join(sql.SQL("ADD COLUMN {}").format(column.definition(sql)) for column in archive.add)
    database.execute(sql.SQL("ALTER TABLE {} {}").format(archive.name.identifier(sql), added))
    return True


class _Survey:
    """What the catalogue says about a source and its archive."""

    def __init__(self, database: Any, relation: Relation, archive: Relation) -> None:
        self.database, self.relation, self.target = database, relation, archive
        leaves = [leaf.oid for leaf in relation.leaves]
        targets = [leaf.oid for leaf in archive.leaves if archive.kind == "p"]
        oids = [oid for oid in (relation.oid, *leaves, archive.oid, *targets) if oid is not None]
        self.tables = {int(row["oid"]): row for row in database.rows(_TABLES, (oids,))}
        columns: dict[int, dict[str, dict[str, Any]]] = {oid: {} for oid in oids}
        for row in database.rows(_COLUMNS, (oids,)):
            columns[int(row["relation"])][row["name"]] = row
        self.source: Mapping[str, Mapping[str, Any]] = columns[relation.oid or 0]
        self.kept: Mapping[str, Mapping[str, Any]] = columns.get(archive.oid or 0, {})
        self.own = {leaf.name: [name for name in columns[leaf.oid] if name not in self.source] for leaf in relation.leaves}
        self.receiving = [self.tables[oid] for oid in dict.fromkeys([archive.oid, *targets]) if oid is not None]

    def archive(self, path: str, add: tuple[NewColumn, ...]) -> Archive:
        """Return the archive with the columns `add` still to come."""
        of_source = [self.tables[oid] for oid in (self.relation.oid, *(leaf.oid for leaf in self.relation.leaves)) if oid is not None]
        triggers = sorted({name for table in self.receiving for name in table["triggers"]})
        secluded = any(table["secluded"] for table in of_source)
        return Archive(self.target.name, tuple(self.source), not self.target.exists, add, secluded, tuple(triggers), path)

    def new(self, names: Iterable[str]) -> tuple[NewColumn, ...]:
        """Return columns of the source as the archive gets them."""
        rows = [self.source[name] for name in names]
        return tuple(
            NewColumn(row["name"], row["type"], (row["collation_schema"], row["collation_name"]) if row["collation_name"] else None)
            for row in rows
        )

    def require_no_own_columns(self) -> None:
        """Refuse partitions and children with columns that the named table lacks: an archive of its columns would lose them."""
        for leaf, names in self.own.items():
            if names:
                message = f"{leaf} has columns that {self.relation.name} lacks ({_listed(names)}), and the archive would lose them"
                raise InvalidValue(message, object_name=str(leaf), hint=f"Archive {leaf} by a rule of its own.")

    def require_place(self, create: bool) -> None:
        """Refuse where there is no table and none is to be made, or none can be."""
        name = self.target.name
        if not self.target.schema_exists:
            hint = "Make the schema first, or name a table in one that exists."
            raise MissingObject(f"schema {name.schema!r} does not exist", object_name=str(name), hint=hint)
        if not create:
            hint = f"Write create: true, or make it: CREATE TABLE {_quoted(*name)} (LIKE {_quoted(*self.relation.name)})."
            raise MissingObject(f"table {name} does not exist", object_name=str(name), hint=hint)
        if name.schema.startswith("pg_"):
            raise InvalidValue(f"{name} lies in a schema of the server's own: name a table in another one", object_name=str(name))
        place = self.database.row(_PLACE, {"schema": name.schema, "name": name.name})
        if not place["fits"]:
            message = f"{name} is longer than a table's name can be ({place['longest']} bytes): give a shorter one"
            raise InvalidValue(message, object_name=str(name))
        if place["taken"]:
            raise InvalidValue(f"{name} is a type, and a table cannot have its name: give another one", object_name=str(name))
        if not place["may_create"]:
            hint = f"Run GRANT USAGE, CREATE ON SCHEMA {_quoted(name.schema)} TO {_quoted(self.database.user)}, or have the table made."
            message = f"the role may not make {name}: it lacks CREATE on the schema"
            raise DatabaseError(message, object_name=str(name), sqlstate="42501", hint=hint)

    def require_table(self) -> None:
        """Refuse what is no table, has nowhere to put rows, or is the source or of its family."""
        source, target = self.relation, self.target
        if not target.is_table:
            raise _refused(target, f"{target.name} is a {target.kind_name}", "Name a table.")
        for leaf in target.leaves:
            if leaf.kind == "f" and target.kind == "p":
                raise _refused(target, f"{target.name} has a foreign table as a partition, {leaf.name}", "Name a table without one.")
        if not target.leaves:
            raise _refused(target, f"{target.name} is a partitioned table without a partition", "Make its partitions first.")
        if _family(source) & _family(target):
            what = "the table itself" if source.oid == target.oid else f"related to {source.name} by partitioning or inheritance"
            raise _refused(target, f"{target.name} is {what}, so that archived rows would stay in reach", "Name a table of its own.")

    def require_lasting(self) -> None:
        """Refuse an archive that a crash empties, or the end of a session."""
        lasting = any(self.tables[leaf.oid]["persistence"] == "p" for leaf in self.relation.leaves)
        for table in self.receiving:
            name = RelationName(table["schema"], table["name"])
            if table["persistence"] == "t":
                raise _refused(self.target, f"{name} is a temporary table", "Name one that stays.")
            if table["persistence"] == "u" and lasting:
                hint = f"Make it a logged one: ALTER TABLE {_quoted(*name)} SET LOGGED."
                raise _refused(self.target, f"{name} is UNLOGGED: a crash would empty it, and {self.relation.name} is not", hint)

    def require_writable(self) -> None:
        """Refuse where rows could not be inserted, or become something else."""
        target, table = self.target, self.receiving[0]
        if table["rewrites"]:
            what = f"{target.name} has a rewrite rule on INSERT, {_listed(table['rewrites'])}, which would make something else of the rows"
            raise _refused(target, what, "Make it a trigger, or disable it.")
        lacking = [name for name in self.source if name in self.kept and not self.kept[name]["insertable"]]
        if lacking or not table["reachable"]:
            role = _quoted(self.database.user)
            schema = "" if table["reachable"] else f" and GRANT USAGE ON SCHEMA {_quoted(target.name.schema)} TO {role}"
            hint = f"Run GRANT INSERT ON {_quoted(*target.name)} TO {role}{schema}."
            raise DatabaseError(f"the role may not INSERT into {target.name}", object_name=str(target.name), sqlstate="42501", hint=hint)
        if target.itself and target.itself.hides_rows:
            hint = "Use its owner (while row security is not forced) or a role with BYPASSRLS."
            message = f"row-level security of {target.name} applies to this role, and could refuse rows"
            raise DatabaseError(message, object_name=str(target.name), sqlstate="42501", hint=hint)

    def require_columns(self) -> None:
        """Refuse columns that cannot take the source's values as they are, and others that must have a value and get none."""
        target = self.target
        for name, row in self.source.items():
            kept = self.kept.get(name)
            if kept is None:
                continue
            if (kept["type_oid"], kept["modifier"]) != (row["type_oid"], row["modifier"]):
                what = f"column {name!r} is of type {kept['type']} in {target.name} and of type {row['type']} in {self.relation.name}"
                table, column = _quoted(*target.name), _quoted(name)
                hint = f"Make them the same, if older rows allow it: ALTER TABLE {table} ALTER COLUMN {column} TYPE {row['type']}."
                raise _refused(target, what, hint)
            if kept["generated"]:
                what = f"column {name!r} of {target.name} is generated and would not keep the value that it has in {self.relation.name}"
                raise _refused(target, what, "Make it a plain column.")
        for name, kept in self.kept.items():
            if name not in self.source and kept["must_be_given"]:
                what = f"column {name!r} of {target.name} is NOT NULL without a default, and {self.relation.name} has no such column"
                table, column = _quoted(*target.name), _quoted(name)
                hint = f"Give it a default, or let it be NULL: ALTER TABLE {table} ALTER COLUMN {column} DROP NOT NULL."
                raise _refused(target, what, hint)

    def require_extensible(self, add: Sequence[NewColumn], create: bool) -> None:
        """Refuse where columns are missing and are not to be added, or cannot be."""
        target, table = self.target, self.receiving[0]
        change = " ".join(("ALTER TABLE", _quoted(*target.name), ", ".join(f"ADD COLUMN {column}" for column in add)))
        what = f"{target.name} lacks columns of {self.relation.name}: {', '.join(map(str, add))}"
        if not create:
            raise MissingObject(what, object_name=str(target.name), hint=f"Write create: true, or run {change}.")
        if table["columns_are_fixed"]:
            raise _refused(target, f"{what}, and as a partition or typed table it gets none of its own", "Add them where it has them from.")
        if int(table["last_column"] or 0) + len(add) > _MOST_COLUMNS:
            many = f"{what}, and would have more than {_MOST_COLUMNS} with them, dropped ones included"
            raise _refused(target, many, "Name another archive; create: true makes it.")
        if not table["owned"]:
            message = f"{what}, and the role does not own it"
            hint = f"Have its owner, {table['owner']}, run {change}."
            raise DatabaseError(message, object_name=str(target.name), sqlstate="42501", hint=hint)
        for column in add:
            if self.source[column.name]["domain_not_null"]:
                hint = "Name another archive; create: true makes it."
                raise _refused(target, f"column {column} cannot be added to {target.name}: its type refuses the NULL of older rows", hint)


def _family(relation: Relation) -> set[Any]:
    return {relation.oid, *relation.ancestors, *relation.descendants}


def _refused(target: Relation, what: str, hint: str) -> RunbookError:
    return InvalidValue(f"{what}; it cannot be the archive", object_name=str(target.name), hint=hint)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(_quoted(name) for name in names)


def _quoted(*parts: str) -> str:
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)
