# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands that restore a backup where there is no Ansible: run in its folder, with PGHOST and the like set."""

from __future__ import annotations

import shlex
from typing import Any, Iterable, List, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._backup.dump import DIRECTORY, Recipe
from ansible_collections.pgops.runbook.plugins.module_utils._backup.naming import SUMS

TARGET = "restored"  # the database that they make
_READERS = {".zst": "zstd -dc", ".lz4": "lz4 -dc", ".gz": "gzip -dc", ".age": "age --decrypt --identity KEY_FILE", ".gpg": "gpg --decrypt"}
_MEMBERS = {
    "zstd": "find database -name '*.zst' -exec zstd -dq {} +",
    "lz4": "find database -name '*.lz4' -exec lz4 -dqm {} +",
    "gzip": "find database -name '*.gz' -exec gzip -dk {} +",
}


def by_hand(
    recipe: Recipe, kind: str, settings: Mapping[str, Any], globals_: Mapping[str, Any] | None, schemas: Iterable[str] = ()
) -> List[str]:
    """Return the commands, one a line, that check and restore a backup into a new database called `TARGET`.

    `schemas` are those that the dump needs and does not have, because only tables were named.
    """
    lines = [f"sha256sum --quiet --check {SUMS}"]
    if globals_ is not None:
        lines.append(_read(str(globals_["file"]), "psql --no-psqlrc --dbname=postgres"))
    if kind != "data_only":
        lines.append(" ".join(["createdb --template=template0", f"--encoding={settings['encoding']}", *_locale(settings), TARGET]))
        statements = [" ".join(["CREATE SCHEMA IF NOT EXISTS", '"' + schema.replace('"', '""') + '"']) for schema in schemas]
        lines += [f"psql --no-psqlrc --dbname={TARGET} --command={shlex.quote(statement)}" for statement in statements]
    only = " --data-only --disable-triggers" if kind == "data_only" else ""
    if recipe.format == "directory":
        if recipe.raw_first and recipe.compression.method in _MEMBERS:
            lines.append(_MEMBERS[recipe.compression.method])
        lines.append(f"pg_restore{only} --jobs={recipe.jobs} --dbname={TARGET} {DIRECTORY}")
    elif recipe.format == "custom":
        lines.append(_read(recipe.target, f"pg_restore{only} --dbname={TARGET}"))
    else:
        lines.append(_read(recipe.target, f"psql --no-psqlrc --dbname={TARGET}"))
    return lines


def _locale(settings: Mapping[str, Any]) -> List[str]:
    """Return what tells createdb the locale: one of the system's libraries has no more than these two."""
    said = {"--lc-collate": settings["collate"], "--lc-ctype": settings["ctype"]}
    provider = settings.get("locale_provider")
    if provider in ("icu", "builtin"):
        said.update({"--locale-provider": provider, f"--{provider}-locale": settings["icu_locale"]})
    if settings.get("icu_rules"):
        said["--icu-rules"] = settings["icu_rules"]
    return [f"{option}={shlex.quote(str(value))}" for option, value in said.items()]


def _read(name: str, command: str) -> str:
    """Return the line that gives the file `name` to `command`, decoded by what its suffixes say, the outermost first."""
    readers = []
    rest = name
    while True:
        suffix = next((one for one in _READERS if rest.endswith(one)), None)
        if suffix is None:
            break
        readers.append(_READERS[suffix])
        rest = rest[: -len(suffix)]
    if not readers:
        return f"{command} < {name}"
    return " | ".join([f"{readers[0]} {name}", *readers[1:], command])
