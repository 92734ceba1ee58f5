# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pg_restore into an empty database, from a directory, a file or a stream, and the judgement of how it went."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._client.child import PIPE, Child
from ansible_collections.pgops.runbook.plugins.module_utils._client.login import ClientLogin
from ansible_collections.pgops.runbook.plugins.module_utils._client.pipeline import read_stream
from ansible_collections.pgops.runbook.plugins.module_utils._client.programs import Client
from ansible_collections.pgops.runbook.plugins.module_utils._errors import ProgramFailed
from ansible_collections.pgops.runbook.plugins.module_utils._restore.feeding import Feed
from ansible_collections.pgops.runbook.plugins.module_utils._restore.words import TIMEOUT_CLIENT, TIMEOUT_SERVER, Words
from ansible_collections.pgops.runbook.plugins.module_utils._tick import Tick

Counted = Optional[Callable[[int], None]]


class ArchiveRestore:
    """One run of pg_restore: `arguments` are what it leaves out (`--no-owner`, ...), `server_version` is the target's."""

    def __init__(
        self,
        client: Client,
        login: ClientLogin,
        server_version: int,
        *,
        jobs: int = 1,
        arguments: Sequence[str] = (),
        tick: Tick | None = None,
        counted: Counted = None,
    ) -> None:
        self._program = client.program("pg_restore")
        self._login = login
        self._jobs = jobs
        self._arguments = list(arguments)
        self._tick = tick
        self._counted = counted
        # pg_restore counts the refused setting as an error of each session that its leader opens: one, and one more after the workers.
        self._tolerated = client.major >= TIMEOUT_CLIENT and server_version < TIMEOUT_SERVER
        self._strict: List[str] = [] if self._tolerated else ["--exit-on-error"]

    def from_path(self, path: Path) -> Dict[str, float]:
        """Restore the archive at `path` and return the seconds of each phase. Raises ProgramFailed."""
        words = Words(self._jobs > 1, self._counted)
        jobs = [f"--jobs={self._jobs}"] if self._jobs > 1 else []
        with self._child([*jobs, str(path)], words) as child:
            code = child.wait(self._tick)
        phases = words.phases()
        self._judge(child, code, words, 2 if self._jobs > 1 else 1)
        return phases

    def from_stream(self, path: Path, decoders: Sequence[Sequence[str]]) -> Dict[str, float]:
        """Restore the custom archive that `decoders` make of the file at `path`, which nobody else gets to see. Raises ProgramFailed."""
        words = Words(False, self._counted)
        with self._child([], words, stdin=PIPE) as child:
            feed = Feed(child, self._tick)
            read_stream(path, decoders, feed.take, tick=self._tick, secrets=self._login.secrets, whole=False)
            feed.close()
            code = child.wait(self._tick)
        phases = words.phases()
        self._judge(child, code, words, 1)
        return phases

    def _child(self, arguments: Sequence[str], words: Words, stdin: int | None = None) -> Child:
        command = [self._program, *self._login.arguments, *self._login.role, "--verbose", *self._strict, *self._arguments, *arguments]
        environment, secrets = self._login.environment, self._login.secrets
        return Child(command, environment=environment, secrets=secrets, stdin=stdin, on_line=words.line)

    def _judge(self, child: Child, code: int, words: Words, sessions: int) -> None:
        """Raise ProgramFailed unless all went well, but for a setting that an older server does not know."""
        if code == 0 and not words.errors:
            return
        # Workers may write into each other's lines, so that the leader's count at the end decides.
        harmless = self._tolerated and code == 1 and words.ignored is not None and words.ignored <= sessions <= words.unknown_timeouts
        if harmless:
            return
        said = words.said()
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        raise ProgramFailed(
            f"{child.program} {how}{': ' + said if said else ''}",
            program=child.program,
            code=code,
            said=said,
            hint="The hidden database is dropped; nothing else was changed.",
        )
