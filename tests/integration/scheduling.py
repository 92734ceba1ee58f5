"""Runs of the scheduled runbooks as an operator has them: reports in a folder, a history, and a program that people are told by."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

from tests.ground.databases import Database
from tests.ground.runner import PlaybookResult
from tests.integration.watching import SYSTEM

__all__ = ["DEAD", "Told", "block", "health_of", "host_of", "in_turn", "keys", "nagios", "summaries", "words"]

DEAD = {"pgops_system": SYSTEM, "pgops_connection": {"login_host": "127.0.0.1", "login_port": 1, "login_db": "shop"}}
# Keeps each message that it reads as a line of a file.
PROGRAM = "import sys; open(sys.argv[1], 'a').write(sys.stdin.read() + chr(10))"


@dataclass
class Told:
    """A program as a channel, and what it was told."""

    path: Path

    @property
    def channel(self) -> dict[str, Any]:
        """The channel."""
        return {"name": "people", "type": "command", "argv": [sys.executable, "-c", PROGRAM, str(self.path)]}

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The messages so far."""
        return [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines() if line] if self.path.exists() else []

    def of(self, host: str) -> list[dict[str, Any]]:
        """Return what was told of one host."""
        return [each for message in self.messages for each in message["hosts"] if each["host"] == host]


def host_of(database: Database, **variables: Any) -> dict[str, Any]:
    """Return the variables of a host with the small system."""
    return {"pgops_system": SYSTEM, "pgops_connection": database.login(), **variables}


def in_turn(*names: str) -> list[dict[str, str]]:
    """Return the plays of several runbooks in one run."""
    return [{"ansible.builtin.import_playbook": f"pgops.runbook.{name}"} for name in names]


def summaries(done: PlaybookResult) -> list[str]:
    """Return the text of every summary that was printed, in order."""
    return ["\n".join(task.result["summary_lines"]) for task in done.find(action="debug") if "summary_lines" in task.result]


def block(text: str, host: str) -> str:
    """Return the lines of one host in a summary."""
    lines = text.splitlines()
    (start,) = (number for number, line in enumerate(lines) if line[:1].isupper() and f"  {host} (" in line)
    end = next((number for number in range(start + 1, len(lines)) if not lines[number].startswith(" ")), len(lines))
    return "\n".join(lines[start:end])


def health_of(done: PlaybookResult, host: str, run: int = 0) -> dict[str, Any]:
    """Return what pg_health returned on a host."""
    return done.find(host=host, action="pg_health")[run].result


def keys(result: dict[str, Any]) -> dict[str, str | None]:
    """Return the findings and what has become of each."""
    return {finding["key"]: finding["change"] for finding in result["findings"]}


def words(page: str) -> str:
    """Return what a person reads on a page."""
    text = re.sub(r"(?s)<style>.*?</style>|<svg.*?</svg>", "", page)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", text)).split())


def nagios(plugin: Path) -> tuple[int, str]:
    """Run the plugin and return its exit code and its line."""
    done = subprocess.run([str(plugin)], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout
