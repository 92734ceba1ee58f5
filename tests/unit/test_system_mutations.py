"""Whatever happens to a right description, it loads, or it is refused with paths that lead somewhere; nothing else."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.pgops.runbook.plugins.module_utils._errors import DescriptionError
from ansible_collections.pgops.runbook.plugins.module_utils._system import load
from tests.runner.tree import ROOT

FOLDER = ROOT / "roles" / "system" / "files" / "systems"
SYSTEMS = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.yml"))]
SYSTEMS += [load(system) for system in SYSTEMS]

STEP = re.compile(r'\.?([A-Za-z_][A-Za-z0-9_-]*)|\[(\d+)\]|\[("(?:[^"\\]|\\.)*")\]|\[([^\[\]"]+)\]')

ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.sampled_from(["name", "table", "*", "0 s", "a.b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3),
    max_leaves=5,
)


def steps(path: str) -> list[str | int]:
    """Return the keys and numbers of a path, which must be one from end to end."""
    found: list[str | int] = []
    position = 0
    while position < len(path):
        match = STEP.match(path, position)
        assert match, f"{path!r} is not a path at {path[position:]!r}"
        key, number, quoted, bracketed = match.groups()
        found.append(int(number) if number else json.loads(quoted) if quoted else key or bracketed)
        position = match.end()
    return found


def resolves(path: str, description: Any) -> bool:
    """Whether a path leads to a value, or to a key that its mapping lacks."""
    place, keys = description, steps(path)
    for number, key in enumerate(keys):
        last = number == len(keys) - 1
        if isinstance(place, dict):
            by_text = {str(name): value for name, value in place.items()}
            if str(key) not in by_text:
                return last
            place = by_text[str(key)]
        elif isinstance(place, list) and isinstance(key, int) and key < len(place):
            place = place[key]
        else:
            # A text that stands for a mapping, or a list's item for one: the fault is about a key in it.
            return last and isinstance(place, str)
    return True


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of everything inside a value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, part in inner for found in [(*path, key), *places(part, (*path, key))]]


def misspelt(word: str, at: int) -> str:
    """Return `word` with two letters in the wrong order, or one too many."""
    at %= max(len(word), 1)
    other = word[:at] + word[at + 1 : at + 2] + word[at : at + 1] + word[at + 2 :]
    return other if other != word else word + "x"


def mutate(description: dict[str, Any], data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(places(description)))
    place: Any = description
    for key in path[:-1]:
        place = place[key]
    key, value = path[-1], place[path[-1]]
    how = data.draw(st.sampled_from(["delete", "replace", "misspell the key", "misspell the value", "repeat"]))
    if how == "delete":
        del place[key]
    elif how == "misspell the key" and isinstance(place, dict):
        place[misspelt(str(key), data.draw(st.integers(0, 20)))] = place.pop(key)
    elif how == "misspell the value" and isinstance(value, str):
        place[key] = misspelt(value, data.draw(st.integers(0, 20)))
    elif how == "repeat" and isinstance(place, list):
        place.append(copy.deepcopy(value))
    else:
        place[key] = data.draw(ANYTHING)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.data())
def test_a_changed_description_is_refused_with_paths_or_loads_for_good(data: st.DataObject) -> None:
    description = copy.deepcopy(data.draw(st.sampled_from(SYSTEMS)))
    for _turn in range(data.draw(st.integers(1, 3))):
        mutate(description, data)
    try:
        system = load(description)
    except DescriptionError as error:
        for fault in error.errors:
            path, colon, message = fault.partition(": ")
            assert colon, fault
            assert message.strip(), fault
            assert resolves(path, description), fault
    else:
        assert load(system) == system


@settings(max_examples=100, deadline=None)
@given(ANYTHING)
def test_anything_else_is_refused(value: Any) -> None:
    faults: list[str] = []
    try:
        system = load(value)
    except DescriptionError as error:
        faults = error.errors
    assert faults or load(system) == system
