"""The module pg_system and the role system, run by Ansible on a host that nothing could reach."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.ground.runner import AnsibleRunner, PlaybookResult

pytestmark = pytest.mark.xdist_group("system_module")
NOWHERE = {"ansible_connection": "ssh", "ansible_host": "192.0.2.1"}
SMALL = {"name": "small", "retention": {"daily": [{"table": "t", "column": "at", "older_than": "1 h"}]}}
ROLE = [
    {
        "hosts": "all",
        "gather_facts": False,
        "tasks": [
            {"ansible.builtin.include_role": {"name": "pgops.runbook.system"}},
            {"name": "Show", "ansible.builtin.debug": {"var": "system_description"}},
        ],
    }
]


@pytest.fixture(scope="module")
def runs(ansible_runner: AnsibleRunner, tmp_path_factory: pytest.TempPathFactory) -> dict[bool, PlaybookResult]:
    """The role for one host each of several sources, in check mode and not."""
    folder = tmp_path_factory.mktemp("system")
    (folder / "own.yml").write_text("name: own\n", encoding="utf-8")
    (folder / "wrong.yml").write_text("name: own\nschema: {table: {}}\nclock_skew: 5 minits\n", encoding="utf-8")
    secret = folder / "secret.yml"
    secret.write_text("name: sealed\n", encoding="utf-8")
    password = folder / "password"
    password.write_text("correct horse", encoding="utf-8")
    vault = [sys.executable, "-m", "ansible.cli.vault", "encrypt", str(secret), "--vault-password-file", str(password)]
    subprocess.run(vault, check=True, capture_output=True)
    sources: dict[str, Any] = {
        "builtin": "azth",
        "file": str(folder / "own.yml"),
        "vault": str(secret),
        "inline": SMALL,
        "wrong": str(folder / "wrong.yml"),
        "unknown": "azt",
    }
    hosts = {name: {**NOWHERE, "pgops_system": source} for name, source in sources.items()} | {"unset": NOWHERE}
    options = {"arguments": ["--vault-password-file", str(password)]}
    return {check: ansible_runner.play(ROLE, hosts, check=check, **options) for check in (False, True)}


def loaded(run: PlaybookResult, host: str) -> dict[str, Any]:
    (task,) = run.find(host=host, action="pg_system")
    return task.result


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize(
    ("host", "name", "origin"), [("builtin", "azth", "built-in system azth"), ("inline", "small", "inline description")]
)
def test_a_description_is_loaded_without_a_connection(
    runs: dict[bool, PlaybookResult], check: bool, host: str, name: str, origin: str
) -> None:
    result = loaded(runs[check], host)
    assert (result["changed"], result["name"], result["origin"]) == (False, name, origin)
    assert result["system"]["name"] == name
    assert result["system"]["clock_skew_seconds"] == 300.0


@pytest.mark.parametrize(("host", "name", "file"), [("file", "own", "own.yml"), ("vault", "sealed", "secret.yml")])
def test_a_file_is_loaded_even_encrypted(runs: dict[bool, PlaybookResult], host: str, name: str, file: str) -> None:
    result = loaded(runs[False], host)
    assert result["system"]["name"] == name
    assert Path(result["origin"]).name == file


def test_the_role_keeps_the_description_as_a_fact(runs: dict[bool, PlaybookResult]) -> None:
    (shown,) = runs[False].find(host="inline", task="Show")
    assert shown.result["system_description"] == loaded(runs[False], "inline")["system"]


def test_every_fault_is_in_the_result(runs: dict[bool, PlaybookResult]) -> None:
    result = loaded(runs[False], "wrong")
    assert [fault.partition(":")[0] for fault in result["errors"]] == ["clock_skew", "schema.table"]
    assert result["msg"].endswith(f"wrong.yml: {result['errors'][0]} (and 1 more)")
    assert result["error"]["type"] == "DescriptionError"


def test_an_unknown_and_an_unset_system_are_told_which_there_are(runs: dict[bool, PlaybookResult]) -> None:
    assert "did you mean azth?" in loaded(runs[False], "unknown")["msg"]
    assert "set pgops_system to one of azth, django_oauth_toolkit, doorkeeper, " in loaded(runs[False], "unset")["msg"]
    assert runs[False].rc != 0
    assert runs[False].changed == 0


def test_an_option_that_does_not_exist_is_refused(ansible_runner: AnsibleRunner) -> None:
    result = ansible_runner.module("pg_system", {"source": "tim", "name": "tim"})
    assert result["failed"]
    assert "name" in result["msg"]
