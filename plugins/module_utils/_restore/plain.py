# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plain dump through psql, in one transaction that is committed only when the dump has come to its own end.

psql takes the end of its input for the end of the dump wherever it comes, in the middle of a table's rows too, and reports success. So the
last word, COMMIT, is said from here.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Dict, Sequence

from ansible_collections.pgops.runbook.plugins.module_utils._client.child import PIPE, Child
from ansible_collections.pgops.runbook.plugins.module_utils._client.login import ClientLogin
from ansible_collections.pgops.runbook.plugins.module_utils._client.pipeline import read_stream
from ansible_collections.pgops.runbook.plugins.module_utils._client.programs import Client
from ansible_collections.pgops.runbook.plugins.module_utils._errors import ProgramFailed, Refused
from ansible_collections.pgops.runbook.plugins.module_utils._restore.feeding import Feed
from ansible_collections.pgops.runbook.plugins.module_utils._restore.words import TIMEOUT_SERVER, TIMEOUT_SETTING, Words
from ansible_collections.pgops.runbook.plugins.module_utils._tick import Tick

# The first minor of each major whose psql knows \restrict; later majors have it from the start.
RESTRICT_SINCE = {13: 22, 14: 19, 15: 14, 16: 10, 17: 6}

_HEAD = 65536  # the settings of a dump stand within so many bytes of its beginning
_TAIL = 4096
_RESTRICT = re.compile(rb"^\\restrict \w+\r?$", re.MULTILINE)
_TIMEOUT = re.compile(rb"^SET " + TIMEOUT_SETTING.encode("ascii") + rb" = 0;\n", re.MULTILINE)
_COMPLETE = re.compile(rb"\n-- PostgreSQL database dump complete\n--\n(?:\n*\\unrestrict \w+\n)?\s*\Z")


def knows_restrict(client: Client) -> bool:
    """Say whether the client's psql can keep a plain dump from running commands on this host."""
    major, minor = client.version
    return major > max(RESTRICT_SINCE) or minor >= RESTRICT_SINCE.get(major, minor + 1)


def restore_plain(
    path: Path,
    decoders: Sequence[Sequence[str]],
    client: Client,
    login: ClientLogin,
    server_version: int,
    tick: Tick | None = None,
) -> Dict[str, float]:
    """Restore the plain dump that `decoders` make of the file at `path`, all of it or nothing, and return the seconds of each phase.

    Raises ProgramFailed, Refused where the dump does not come to its end or this psql is too old for it.
    """
    words = Words()
    command = [client.program("psql"), *login.arguments, "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--set=VERBOSITY=terse"]
    environment = login.role_in_environment()
    with Child([*command, "--file=-"], environment=environment, secrets=login.secrets, stdin=PIPE, on_line=words.line) as child:
        feed = Feed(child, tick)
        reader = _Reader(feed, client, server_version)
        reader.begin()
        read_stream(path, decoders, reader.take, tick=tick, secrets=login.secrets, whole=False)
        if feed.taken:
            reader.commit(path)
        code = child.wait(tick)
    if code or words.errors:
        said = words.said()
        raise ProgramFailed(
            f"psql ended with exit code {code}{': ' + said if said else ''}",
            program="psql",
            code=code,
            said=said,
            hint="The hidden database is dropped; nothing else was changed.",
        )
    return {"pre_data": 0.0, "data": sum(words.phases().values()), "post_data": 0.0}


class _Reader:
    """Hands a dump on to psql, less what this server does not know, and keeps the end of it."""

    def __init__(self, feed: Feed, client: Client, server_version: int) -> None:
        self._feed = feed
        self._client = client
        self._server_version = server_version
        self._head: bytes | None = b""
        self._tail = b""

    def begin(self) -> None:
        """Open the transaction."""
        self._feed.write(b"BEGIN;\n")

    def take(self, data: bytes) -> bool:
        """Take the next bytes of the dump; return whether nothing more is worth reading."""
        self._tail = (self._tail + data)[-_TAIL:]
        if self._head is None:
            return self._feed.take(data)
        self._head += data
        if len(self._head) >= _HEAD:
            self._flush()
        return self._feed.given_up

    def _flush(self) -> None:
        head, self._head = self._head or b"", None
        if _RESTRICT.search(head) and not knows_restrict(self._client):
            raise Refused(
                f"psql {self._client.text} in {self._client.folder} does not know \\restrict, which keeps this dump from running"
                " commands on this host",
                object_name="bin_dir",
                hint="Install a later minor release of the client programs, or name a folder with newer ones by bin_dir.",
            )
        self._feed.write(_TIMEOUT.sub(b"", head, 1) if self._server_version < TIMEOUT_SERVER else head)

    def commit(self, path: Path) -> None:
        """End the transaction. Raises Refused, and leaves it open, where the dump did not say that it was complete."""
        if self._head is not None:
            self._flush()
        if not _COMPLETE.search(self._tail):
            raise Refused(f"the dump in {path.name} breaks off before its end: it does not say that it is complete", object_name=path.name)
        self._feed.write(b"\nCOMMIT;\n")
        self._feed.close()
