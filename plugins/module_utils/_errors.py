# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The errors of the engine: each says what failed, on which object, and what to do."""

from __future__ import annotations

from typing import Any, Sequence

_MOST_FAULTS = 100  # that a result lists: thousands of wrong ids would bury everything else


def with_hint(message: str, hint: str | None) -> str:
    """Return `message` and what to do next as sentences; a message may end without a full stop."""
    if not hint:
        return message
    return f"{message}{'' if message.endswith(('.', '?', '!', ':')) else '.'} {hint}"


class RunbookError(Exception):
    """A failure that a person can act on.

    `object_name` is the table, key, option or host that it is about; `sqlstate` the server's five-character
    code where the server raised it; `hint` what to do next.
    """

    def __init__(self, message: str, *, object_name: str | None = None, sqlstate: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.object_name = object_name
        self.sqlstate = sqlstate
        self.hint = hint

    def as_result(self) -> dict[str, Any]:
        """Return the keys of a failed module result: `msg` (with the hint), `error` with the parts."""
        parts = {"type": type(self).__name__, "object": self.object_name, "sqlstate": self.sqlstate, "hint": self.hint}
        return {"msg": with_hint(self.message, self.hint), "error": parts}


class DescriptionError(RunbookError):
    """A system description is wrong. `errors` lists every fault as `path: what is wrong and what is allowed`."""

    def __init__(self, errors: Sequence[str], *, origin: str | None = None) -> None:
        where = f"{origin}: " if origin else ""
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        super().__init__(f"{where}{errors[0]}{more}", object_name=origin)
        self.errors = list(errors)

    def as_result(self) -> dict[str, Any]:
        """Add the list of faults, the first hundred."""
        more = [f"and {len(self.errors) - _MOST_FAULTS} more"] if len(self.errors) > _MOST_FAULTS else []
        return {**super().as_result(), "errors": [*self.errors[:_MOST_FAULTS], *more]}


class ConnectError(RunbookError):
    """No session could be opened. `layer` names what refused it, from name resolution up to the session itself."""

    def __init__(
        self, message: str, *, layer: str, object_name: str | None = None, sqlstate: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, object_name=object_name, sqlstate=sqlstate, hint=hint)
        self.layer = layer

    def as_result(self) -> dict[str, Any]:
        """Add the layer."""
        return {**super().as_result(), "layer": self.layer}


class DriverMissing(RunbookError):
    """Neither psycopg2 nor psycopg 3 can be imported by the interpreter that runs the module."""


class DatabaseError(RunbookError):
    """The server refused a statement or the connection was lost while it ran.

    `context_function` is the innermost PL/pgSQL function, a trigger's for example, that was running then.
    """

    def __init__(
        self,
        message: str,
        *,
        object_name: str | None = None,
        sqlstate: str | None = None,
        hint: str | None = None,
        context_function: str | None = None,
    ) -> None:
        super().__init__(message, object_name=object_name, sqlstate=sqlstate, hint=hint)
        self.context_function = context_function


class MissingObject(RunbookError):
    """A schema, table or column that is named does not exist."""


class InvalidValue(RunbookError):
    """An option or key has a value that is not allowed; the message says what would be right."""


class Busy(RunbookError):
    """Another run holds the lock of this operation on this database."""


class Refused(RunbookError):
    """What is asked for would do harm, and is done only where the options say so by name."""


class ProgramMissing(RunbookError):
    """A program that the work needs is not on the host that runs the module."""


class ProgramFailed(RunbookError):
    """A program ended with an error. `code` is its exit code, negative for the signal that ended it; `said` the end of its messages."""

    def __init__(self, message: str, *, program: str, code: int, said: str = "", hint: str | None = None) -> None:
        super().__init__(message, object_name=program, hint=hint)
        self.program = program
        self.code = code
        self.said = said

    def as_result(self) -> dict[str, Any]:
        """Add the exit code and what the program said."""
        return {**super().as_result(), "program": {"name": self.program, "exit_code": self.code, "said": self.said}}
