"""What modules, roles and playbooks say of themselves is true: documentation, examples, defaults, names."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.ground.runner import collections_path
from tests.runner.tree import ROOT, files

COLLECTION = "pgops.runbook"
MODULES = sorted(path.stem for path in files() if path.parts[:2] == ("plugins", "modules") and path.stem != "__init__")
ROLES = sorted({path.parts[1] for path in files() if path.parts[0] == "roles" and len(path.parts) > 2})
PLAYBOOKS = [path for path in files() if path.parts[0] == "playbooks" and len(path.parts) == 2]
TASK_WORDS = {
    "name",
    "register",
    "when",
    "loop",
    "vars",
    "delegate_to",
    "run_once",
    "check_mode",
    "diff",
    "environment",
    "become",
    "become_user",
}
TASK_WORDS |= {"no_log", "changed_when", "failed_when", "tags", "notify", "until", "retries", "delay", "block", "module_defaults"}
# What a role may call although a module of this collection would be the usual way: the operator's own program, and a mail.
CALLED_BY_ROLES = {"notify": ["ansible.builtin.command", "community.general.mail"]}
OWN = ("test_house.py", "test_house_documents.py", "test_package.py")  # they go over all modules and test none
METHOD_NAMES = {name for name in dir(dict) if not name.startswith("_")}


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The documentation of every module with its fragments, as ansible-doc reads it."""
    program = Path(sys.executable).with_name("ansible-doc")
    config = tmp_path_factory.mktemp("ansible") / "ansible.cfg"
    config.touch()
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(collections_path()), "ANSIBLE_CONFIG": str(config)}
    command = [str(program), "--json", "--type", "module", *(f"{COLLECTION}.{name}" for name in MODULES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return {name.rpartition(".")[2]: document for name, document in found.items()}


def option_faults(given: dict[str, Any], options: dict[str, Any], path: str, *, whole: bool) -> list[str]:
    """Return what is wrong with the option values `given`; `whole` means that required ones must be among them."""
    names = {name: option for key, option in options.items() for name in (key, *option.get("aliases", []))}
    faults = [f"{path}{name}: no such option" for name in given if name not in names]
    if whole:
        missing = [key for key, option in options.items() if option.get("required") and not {key, *option.get("aliases", [])} & set(given)]
        faults += [f"{path}{name}: required" for name in missing]
    for name, value in given.items():
        option = names.get(name, {})
        literal = not (isinstance(value, str) and "{{" in value)
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, dict) and option.get("suboptions"):
                faults += option_faults(one, option["suboptions"], f"{path}{name}.", whole=True)
            elif literal and option.get("choices") and one not in option["choices"]:
                faults.append(f"{path}{name}: {one!r} is not a choice")
    return faults


@pytest.mark.parametrize("name", MODULES)
def test_examples_are_tasks_with_options_that_exist(documents: dict[str, dict[str, Any]], name: str) -> None:
    tasks = yaml.safe_load(documents[name]["examples"])
    assert isinstance(tasks, list)
    assert tasks
    used, faults = [], []
    for task in tasks:
        inner = task.get("tasks", [task]) if "hosts" in task else [task]
        for step in inner:
            faults += [f"{word}: an example task has a name" for word in (step,) if not step.get("name")]
            modules = [word for word in step if word not in TASK_WORDS and not word.startswith("with_")]
            used += modules
            short = modules[0].rpartition(".")[2] if modules else ""
            if short in documents and modules[0] == f"{COLLECTION}.{short}":
                faults += option_faults(step[modules[0]] or {}, documents[short]["doc"]["options"], f"{short}: ", whole=True)
    assert faults == []
    assert f"{COLLECTION}.{name}" in used
    assert [word for word in used if word.count(".") < 2] == [], "modules are called by their full names"


def return_keys(tree: dict[str, Any]) -> set[str]:
    """Return every key below a RETURN document."""
    keys = set(tree)
    for value in tree.values():
        keys |= return_keys(value.get("contains") or {})
    return keys


@pytest.mark.parametrize("name", MODULES)
def test_return_keys_are_no_dictionary_methods(documents: dict[str, dict[str, Any]], name: str) -> None:
    keys = return_keys(documents[name].get("return") or {})
    assert keys
    assert keys & METHOD_NAMES == set()


@pytest.mark.parametrize("name", MODULES)
def test_a_module_says_what_it_is_and_does_in_check_mode(documents: dict[str, dict[str, Any]], name: str) -> None:
    document = documents[name]["doc"]
    assert document["short_description"]
    assert document["description"]
    assert document["version_added"]
    assert "check_mode" in document["attributes"]


def test_the_action_group_holds_the_modules_that_connect(documents: dict[str, dict[str, Any]]) -> None:
    groups = yaml.safe_load((ROOT / "meta/runtime.yml").read_text(encoding="utf-8"))["action_groups"]
    assert sorted(groups["postgresql"]) == sorted(
        name for name, document in documents.items() if "login_host" in document["doc"]["options"]
    )


@pytest.mark.parametrize("name", MODULES)
def test_every_module_is_tested(name: str) -> None:
    tests = [path for path in files() if path.parts[0] == "tests" and path.name.startswith("test_")]
    assert [path for path in tests if path.name not in OWN and re.search(rf"\b{name}\b", (ROOT / path).read_text(encoding="utf-8"))]


@pytest.mark.parametrize("role", ROLES)
def test_a_role_is_complete_and_its_defaults_are_what_it_says(role: str) -> None:
    top = ROOT / "roles" / role
    for name in ("README.md", "meta/main.yml", "meta/argument_specs.yml", "tasks/main.yml"):
        assert (top / name).is_file(), name
    options = yaml.safe_load((top / "meta/argument_specs.yml").read_text(encoding="utf-8"))["argument_specs"]["main"].get("options") or {}
    said = {name: option["default"] for name, option in options.items() if "default" in option}
    path = top / "defaults/main.yml"
    defaults = (yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else None) or {}
    public = {name: value for name, value in defaults.items() if not name.startswith("__")}
    assert {name: public[name] for name in said if name in public} == said
    assert set(public) - set(options) == set(), "a default that the argument spec does not know"
    readme = (top / "README.md").read_text(encoding="utf-8")
    assert [name for name in options if name not in readme] == [], "the README leaves variables out"
    assert [name for name in options if not name.startswith((f"{role}_", "pgops_"))] == [], "variables carry the role's name"


@pytest.mark.parametrize("role", ROLES)
def test_a_role_leaves_the_work_to_modules(role: str) -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "roles" / role).glob("tasks/*.yml")))
    called = re.findall(r"(?:ansible\.builtin\.(?:shell|command|raw|script)|community\.\w+\.\w+)(?=:)", text)
    assert sorted(set(called)) == CALLED_BY_ROLES.get(role, [])
    assert re.findall(r"\b(?:SELECT|DELETE FROM|INSERT INTO|UPDATE \w+ SET)\b", text) == []


@pytest.mark.parametrize("path", PLAYBOOKS, ids=str)
def test_a_playbook_can_be_run_by_its_full_name(path: Path) -> None:
    assert path.suffix == ".yml"
    assert path.stem.isidentifier()
    plays = plays_of(ROOT / path)
    assert plays
    assert [play.get("gather_facts", "as it comes") for play in plays] == [False] * len(plays)


def plays_of(path: Path) -> list[dict[str, Any]]:
    """Return the plays of a playbook with those of the playbooks that it imports."""
    found = []
    for play in yaml.safe_load(path.read_text(encoding="utf-8")):
        imported = play.get("ansible.builtin.import_playbook")
        found += plays_of(path.with_name(imported)) if imported else [play]
    return found


def test_every_file_of_yaml_can_be_read() -> None:
    read = [
        path
        for path in files()
        if path.suffix in (".yml", ".yaml") and yaml.safe_load_all((ROOT / path).read_text(encoding="utf-8")) is not None
    ]
    assert read
