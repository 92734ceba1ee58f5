# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The roles of the source in a scratch server, from what pg_dumpall wrote: one statement at a time, so that each failure is seen.

Through a session and not through psql: a file that somebody has tampered with cannot make that run commands here. Tablespaces stay away,
because their folders may be those of a server at work.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Iterator, List, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError
from ansible_collections.pgops.runbook.plugins.module_utils._restore.needs import unquoted

# Quoted texts and names, in which a semicolon ends nothing, a comment, or the end of a statement.
_PART = re.compile(r"""[eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' | "(?:[^"]|"")*" | --[^\n]* | ;""", re.VERBOSE | re.DOTALL)
_META = re.compile(r"^\\(?:un)?restrict [^\n]*$", re.MULTILINE)
_CREATE_ROLE = re.compile(r'CREATE ROLE ("(?:[^"]|"")*"|\S+)$')
_SUPERUSER = re.compile(r'ALTER ROLE ("(?:[^"]|"")*"|\S+) WITH SUPERUSER\b')
_GRANTOR = re.compile(r'GRANTED BY ("(?:[^"]|"")*"|\S+)$')
_TABLESPACE = re.compile(
    r"(CREATE|ALTER) TABLESPACE\b|(GRANT|REVOKE) .* ON TABLESPACE\b|(COMMENT|SECURITY LABEL .*) ON TABLESPACE\b"
    r"|ALTER ROLE .* SET (default_tablespace|temp_tablespaces)\b",
    re.DOTALL,
)
_SETTING = re.compile(r"SET \w+ = ")
_EXISTS = "42710"
DEFAULT_BOOTSTRAP = "postgres"


@dataclass(frozen=True)
class Globals:
    """The statements of a file, and whose name the first superuser of a server has to have for them."""

    statements: Sequence[str]
    bootstrap: str


def read_globals(text: str) -> Globals:
    """Return what is in the text of pg_dumpall's output."""
    statements = list(_statements(text))
    return Globals(statements, _bootstrap(statements))


def restore_globals(database: Any, found: Globals) -> List[str]:
    """Run the statements and return notices about what was left out. Raises DatabaseError.

    The one error that is allowed is that the first superuser exists. A statement is never shown: it may hold the hash of a password.
    """
    left_out = 0
    for statement in found.statements:
        if _SETTING.match(statement):
            # They are of the session that pg_dumpall wrote for; this one has its own.
            continue
        if _TABLESPACE.match(statement):
            left_out += 1
            continue
        created = _CREATE_ROLE.match(statement)
        try:
            database.execute(statement)
        except DatabaseError as error:
            if created and error.sqlstate == _EXISTS and unquoted(created.group(1)) == found.bootstrap:
                continue
            what = " ".join(statement.split()[:3])
            raise DatabaseError(
                f"the globals of the backup cannot be restored, at {what}: {error.message}",
                object_name=error.object_name,
                sqlstate=error.sqlstate,
                hint=error.hint,
            ) from None
    return [f"{left_out} statements about tablespaces of the source were left out; everything is in the default one"] if left_out else []


def _statements(text: str) -> Iterator[str]:
    text = _META.sub("", text)
    kept, start = "", 0
    for part in _PART.finditer(text):
        found = part.group()
        if found.startswith("--"):
            kept, start = kept + text[start : part.start()], part.end()
        elif found == ";":
            statement = (kept + text[start : part.start()]).strip()
            kept, start = "", part.end()
            if statement:
                yield statement


def _bootstrap(statements: Sequence[str]) -> str:
    """Return the name of the source's first superuser, which the file does not say outright.

    Grants of roles name it as their grantor. Without such, postgres; without that, the first superuser there is.
    """
    grantors = [unquoted(match.group(1)) for match in map(_GRANTOR.search, statements) if match]
    superusers = [unquoted(match.group(1)) for match in map(_SUPERUSER.match, statements) if match]
    for name in (*grantors, *(name for name in superusers if name == DEFAULT_BOOTSTRAP), *superusers):
        if name in superusers:
            return name
    return DEFAULT_BOOTSTRAP
