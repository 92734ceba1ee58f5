# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""System descriptions as files on the control node: the built-in ones, and those of operators."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, Sequence

import yaml

from ansible_collections.pgops.runbook.plugins.module_utils._errors import DescriptionError

BUILT_IN = Path(__file__).parents[2] / "roles" / "system" / "files" / "systems"


class _OneKeyEach(yaml.SafeLoader):
    """Refuses a mapping that names a key twice, of which YAML would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return the mapping of `node`. Raises MarkedYAMLError where a key stands twice."""
        seen = set()
        for key, _value in node.value:
            if key.value in seen and isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem=f"the key {key.value!r} is written twice", problem_mark=key.start_mark)
            if isinstance(key, yaml.ScalarNode):
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def built_in_names() -> list[str]:
    """Return the names of the systems that come with the collection."""
    return sorted(path.stem for path in BUILT_IN.glob("*.yml"))


def find(source: str, folders: Sequence[str]) -> Path:
    """Return the file that `source` names: a built-in system, or a path, looked up in `folders` where it is relative.

    Raises DescriptionError where there is none.
    """
    names = built_in_names()
    if source in names:
        return BUILT_IN / f"{source}.yml"
    choice = f"one of {', '.join(names)}, a path that ends in .yml, or the description itself"
    if not source:
        raise DescriptionError([f"no system is named: set pgops_system to {choice}"])
    if "/" not in source and not source.endswith((".yml", ".yaml", ".json")):
        near = difflib.get_close_matches(source, names, n=1)
        raise DescriptionError([f"{source!r} is not a system{f', did you mean {near[0]}? Write' if near else ': write'} {choice}"])
    path = Path(source).expanduser()
    # An absolute path takes the place of the folder that it is joined to.
    tried = list(dict.fromkeys(Path(folder) / path for folder in folders))
    for candidate in tried:
        if candidate.is_file():
            return candidate
    raise DescriptionError([f"{source!r} does not exist: looked for {', '.join(map(str, tried))}"])


def read(path: Path, origin: str) -> Any:
    """Return what the YAML file at `path` holds; messages call it `origin`.

    Raises DescriptionError, with the line where there is one, for a file that cannot be read, is not YAML or is empty.
    """
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=_OneKeyEach)
    except OSError as error:
        raise DescriptionError([f"cannot be read: {error.strerror}"], origin=origin) from error
    except UnicodeDecodeError as error:
        raise DescriptionError(["is not UTF-8 text"], origin=origin) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise DescriptionError([f"{where}not valid YAML: {error.problem or error.context}"], origin=origin) from error
    except yaml.YAMLError as error:
        raise DescriptionError([f"not valid YAML: {error}"], origin=origin) from error
    if raw is None:
        raise DescriptionError(["the file is empty: write a mapping with at least a name"], origin=origin)
    return raw
