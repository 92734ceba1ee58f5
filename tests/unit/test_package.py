"""The built collection holds what belongs to it, and its meta, plugins, roles and playbooks are all that it needs to work."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.runner.tree import ROOT, files

FLOORS = ("meta", "plugins", "roles", "playbooks")
MADE_BY_THE_BUILD = {"MANIFEST.json", "FILES.json"}
# The build reads galaxy.yml into MANIFEST.json, and leaves these out by itself.
LEFT_OUT = re.compile(r"(galaxy\.yml|\.git.*|tests/output/.*)$")


def ansible(program: str, *arguments: str, collections: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run one of Ansible's programs with nothing but the collections below `collections`."""
    config = folder / "ansible.cfg"
    config.touch()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "PG"))}
    environment = {**kept, "ANSIBLE_COLLECTIONS_PATH": str(collections), "ANSIBLE_CONFIG": str(config), "ANSIBLE_NOCOLOR": "1"}
    environment |= {"ANSIBLE_HOME": str(folder / "home"), "ANSIBLE_LOCALHOST_WARNING": "false"}
    command = [str(Path(sys.executable).with_name(program)), *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


# The package is built once, by the one process that runs these.
pytestmark = pytest.mark.xdist_group("package")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The collection, built from the checkout as it stands."""
    folder = tmp_path_factory.mktemp("build")
    done = ansible("ansible-galaxy", "collection", "build", "--output-path", str(folder), str(ROOT), collections=folder, folder=folder)
    assert done.returncode == 0, done.stderr
    (made,) = folder.glob("pgops-runbook-*.tar.gz")
    return made


@pytest.fixture(scope="module")
def bare(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of collections in which the built one has only its four floors."""
    top = tmp_path_factory.mktemp("bare")
    place = top / "ansible_collections" / "pgops" / "runbook"
    place.mkdir(parents=True)
    with tarfile.open(archive) as package:
        # The first releases of Python 3.11 do not know filters.
        package.extraction_filter = getattr(tarfile, "data_filter", lambda member, path: member)
        package.extractall(place)
    for path in place.iterdir():
        if path.is_dir() and path.name not in FLOORS:
            shutil.rmtree(path)
        elif path.is_file() and path.name not in MADE_BY_THE_BUILD:
            path.unlink()
    return top


def test_the_package_holds_the_repository_and_nothing_else(archive: Path) -> None:
    with tarfile.open(archive) as package:
        packed = {member.name for member in package.getmembers() if not member.isdir()}
    tracked = {path.as_posix() for path in files()}
    assert packed - tracked - MADE_BY_THE_BUILD == set()
    needed = {name for name in tracked if name.partition("/")[0] in FLOORS or name in ("README.md", "LICENSE")}
    assert {name for name in needed - packed if not LEFT_OUT.match(name)} == set()


def test_its_modules_are_documented_without_the_rest(bare: Path, tmp_path: Path) -> None:
    names = sorted(path.stem for path in (ROOT / "plugins" / "modules").glob("pg_*.py"))
    done = ansible("ansible-doc", "--type", "module", *(f"pgops.runbook.{name}" for name in names), collections=bare, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [name for name in names if f"pgops.runbook.{name}" not in done.stdout] == []


def test_its_playbooks_run_without_the_rest(bare: Path, tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening: whoever connects is refused, and nobody else gets the port
        connection = f'{{"login_host": "127.0.0.1", "login_port": "{closed.getsockname()[1]}", "login_user": "nobody"}}'
        given = f'{{"target": "localhost", "pgops_system": "tim", "pgops_connection": {connection}}}'
        done = ansible(
            "ansible-playbook",
            "-c",
            "local",
            "-e",
            f"ansible_python_interpreter={sys.executable}",
            "-e",
            given,
            "pgops.runbook.hourly",
            collections=bare,
            folder=tmp_path,
        )
    assert done.returncode == 2, done.stdout + done.stderr
    assert "refused" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "playbooks").glob("*.yml")))
def test_each_playbook_is_found_by_its_full_name(bare: Path, tmp_path: Path, name: str) -> None:
    done = ansible(
        "ansible-playbook", "--syntax-check", "-e", "target=localhost", f"pgops.runbook.{name}", collections=bare, folder=tmp_path
    )
    assert done.returncode == 0, done.stderr
