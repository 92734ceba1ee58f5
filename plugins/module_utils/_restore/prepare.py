# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a dump leaves unsaid, because every new database has it or because something else was dumped with it, done around its restore."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._names import parse_relation
from ansible_collections.pgops.runbook.plugins.module_utils._restore.needs import read_objects, unquoted

_PUBLIC = "public"
_OF_EVERYBODY = ("CREATE", "USAGE")
_LANGUAGE = "plpgsql"


def prepare(session: Any, backup: Path, manifest: Mapping[str, Any]) -> None:
    """Make the empty database of `session` ready for the backup in the folder `backup`."""
    scope = manifest["scope"]
    if scope.get("schemas"):
        # Such a dump makes each of its schemas, and so could not make the one that is there.
        if _PUBLIC in scope["schemas"]:
            _drop(session, "DROP SCHEMA IF EXISTS {}", _PUBLIC)
    elif scope.get("tables"):
        # Such a dump makes no schema at all.
        names = [*scope["tables"], *(table["name"] for table in manifest.get("tables") or ())]
        for schema in sorted({parse_relation(str(name)).schema for name in names}):
            session.execute(session.sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(session.sql.Identifier(schema)))
    else:
        _drop_what_was_not_there(session, read_objects(backup))


def finish(session: Any, backup: Path, manifest: Mapping[str, Any]) -> None:
    """Give everybody what they had in a schema `public` that the dump has made: it says only what was changed since initdb."""
    if _PUBLIC not in (manifest["scope"].get("schemas") or ()):
        return
    grants = (read_objects(backup) or {}).get("grants") or ()
    for privilege in _OF_EVERYBODY:
        if f"schema public {privilege} to PUBLIC" in grants:
            words = session.sql.SQL("GRANT {} ON SCHEMA {} TO PUBLIC")
            session.execute(words.format(session.sql.SQL(privilege), session.sql.Identifier(_PUBLIC)))


def _drop_what_was_not_there(session: Any, objects: Mapping[str, Mapping[str, str]] | None) -> None:
    """Drop what every new database has and the one that was backed up had not, where the backup tells: a dump says nothing of that."""
    if objects is None:
        return
    for kind, name, words in (
        ("schemas", _PUBLIC, "DROP SCHEMA IF EXISTS {}"),
        ("extensions", _LANGUAGE, "DROP EXTENSION IF EXISTS {}"),
    ):
        if name not in map(unquoted, objects.get(kind) or ()):
            _drop(session, words, name)


def _drop(session: Any, words: str, name: str) -> None:
    session.execute(session.sql.SQL(words).format(session.sql.Identifier(name)))
