"""Where a description is looked for, and what is said of a file that holds none."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._errors import DescriptionError
from ansible_collections.pgops.runbook.plugins.plugin_utils import _description_file as files
from tests.ground.systems import BUILT_IN, READY

NAMES = sorted((*BUILT_IN, *READY))
CHOICE = f"one of {', '.join(NAMES)}, a path that ends in .yml, or the description itself"


def refused_source(source: str, *folders: Path) -> str:
    with pytest.raises(DescriptionError) as caught:
        files.find(source, [str(folder) for folder in folders])
    return caught.value.message


def refused_text(folder: Path, text: bytes) -> str:
    path = folder / "system.yml"
    path.write_bytes(text)
    with pytest.raises(DescriptionError) as caught:
        files.read(path, "system.yml")
    return caught.value.message


def test_a_built_in_system_goes_by_its_name(tmp_path: Path) -> None:
    assert files.find("tim", [str(tmp_path)]) == files.BUILT_IN / "tim.yml"
    assert files.built_in_names() == NAMES


def test_an_unknown_system_is_told_the_nearest_and_all(tmp_path: Path) -> None:
    assert refused_source("oauth_server", tmp_path) == f"'oauth_server' is not a system, did you mean oauth2_server? Write {CHOICE}"
    assert refused_source("zzz", tmp_path) == f"'zzz' is not a system: write {CHOICE}"


def test_no_name_at_all(tmp_path: Path) -> None:
    assert refused_source("", tmp_path) == f"no system is named: set pgops_system to {CHOICE}"


def test_the_first_folder_with_the_file_wins(tmp_path: Path) -> None:
    first, second = tmp_path / "inventory", tmp_path / "playbook"
    for folder in (first, second):
        (folder / "systems").mkdir(parents=True)
    (second / "systems" / "login.yml").touch()
    assert files.find("systems/login.yml", [str(first), str(second)]) == second / "systems" / "login.yml"
    (first / "systems" / "login.yml").touch()
    assert files.find("systems/login.yml", [str(first), str(second)]) == first / "systems" / "login.yml"
    assert files.find(str(second / "systems" / "login.yml"), [str(first)]) == second / "systems" / "login.yml"


def test_a_missing_file_is_told_where_it_was_looked_for(tmp_path: Path) -> None:
    message = refused_source("login.yml", tmp_path / "a", tmp_path / "b", tmp_path / "a")
    assert message == f"'login.yml' does not exist: looked for {tmp_path}/a/login.yml, {tmp_path}/b/login.yml"


def test_a_built_in_name_is_never_a_file_beside_the_inventory(tmp_path: Path) -> None:
    (tmp_path / "tim").touch()
    assert files.find("tim", [str(tmp_path)]).parent == files.BUILT_IN


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "system.yml: the file is empty: write a mapping with at least a name"),
        (b"---\n# nothing\n", "system.yml: the file is empty: write a mapping with at least a name"),
        (b"name: x\nschemas: [a\n", "system.yml: line 3, column 1: not valid YAML: expected ',' or ']', but got '<stream end>'"),
        (b"name: x\nname: y\n", "system.yml: line 2, column 1: not valid YAML: the key 'name' is written twice"),
        (
            b"name: x\nretention:\n  daily: []\n  daily: []\n",
            "system.yml: line 4, column 3: not valid YAML: the key 'daily' is written twice",
        ),
        (b"name: \xff\n", "system.yml: is not UTF-8 text"),
        (
            b"name: !!python/object:os.system x\n",
            "system.yml: line 1, column 7: not valid YAML: could not determine a constructor for the tag ",
        ),
    ],
)
def test_a_file_that_holds_no_description(tmp_path: Path, text: bytes, message: str) -> None:
    found = refused_text(tmp_path, text)
    assert found.startswith(message) if message.endswith(" ") else found == message


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DescriptionError) as caught:
        files.read(tmp_path, "system.yml")
    assert caught.value.message == "system.yml: cannot be read: Is a directory"


def test_merging_keys_is_no_repetition(tmp_path: Path) -> None:
    path = tmp_path / "system.yml"
    path.write_text("base: &base {a: 1}\nother: {<<: *base, a: 2}\n", encoding="utf-8")
    assert files.read(path, "system.yml")["other"] == {"a": 2}
