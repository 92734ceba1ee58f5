# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a restore is asked to do, read and checked before any connection is opened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, Tuple

from ansible_collections.pgops.runbook.plugins.module_utils._arguments import listed, says_nothing
from ansible_collections.pgops.runbook.plugins.module_utils._backup.option_values import one_of, read_jobs, read_max_runtime
from ansible_collections.pgops.runbook.plugins.module_utils._backup.places import absolute_path
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue
from ansible_collections.pgops.runbook.plugins.module_utils._names import parse_relation

NEW, SWAP, TABLES, SCHEMA = MODES = ("new", "swap", "tables", "schema")
REPLACE, MISSING_ROWS = HOW = ("replace", "missing_rows")
NEWEST = "newest"
_LONGEST_NAME = 63  # bytes of a name that the server keeps


@dataclass(frozen=True)
class Options:
    """A restore as asked for. `folder` and `backup`, or `path`, say of which backup; times are in seconds.

    `target` and `source_database` are empty where nobody said them. `tables` are in the form of the catalogue (`schema.table`).
    """

    folder: Path | None = None
    backup: str = NEWEST
    path: Path | None = None
    source_database: str = ""
    name: str = ""
    mode: str = NEW
    target: str = ""
    replace: str = ""
    tables: Tuple[str, ...] = ()
    schema: str = ""
    how: str = REPLACE
    key: Tuple[str, ...] = ()
    token_stores: Tuple[Mapping[str, Any], ...] = ()
    accept_tokens_back: bool = False
    accept_older_server: bool = False
    owners: bool = True
    privileges: bool = True
    disconnect: bool = False
    keep_old: bool = True
    analyze: bool = True
    jobs: int = 1
    identity: str | None = None
    gpg_home: str | None = None
    scratch_folder: Path | None = None
    max_runtime: float | None = None
    bin_dir: str | None = None
    application_name: str = "pgops.runbook/pg_restore"


def read_options(parameters: Mapping[str, Any], application_name: str = Options.application_name) -> Options:
    """Return the options among a module's `parameters`. Raises InvalidValue, which names the option and what would be right."""
    known = Options()
    folder, path = absolute_path(parameters, "folder"), absolute_path(parameters, "path")
    options = Options(
        folder=folder,
        backup=_text(parameters, "backup") or NEWEST,
        path=path,
        source_database=_database(parameters, "source_database"),
        name=_text(parameters, "name"),
        mode=one_of(parameters, "mode", MODES, known.mode),
        target=_database(parameters, "target"),
        replace=_text(parameters, "replace"),
        tables=_tables(parameters),
        schema=_text(parameters, "schema"),
        how=one_of(parameters, "how", HOW, known.how),
        key=tuple(str(column) for column in listed(parameters.get("key"))),
        token_stores=tuple(parameters.get("token_stores") or ()),
        accept_tokens_back=bool(parameters.get("accept_tokens_back")),
        accept_older_server=bool(parameters.get("accept_older_server")),
        owners=_flag(parameters, "owners", known.owners),
        privileges=_flag(parameters, "privileges", known.privileges),
        disconnect=bool(parameters.get("disconnect")),
        keep_old=_flag(parameters, "keep_old", known.keep_old),
        analyze=_flag(parameters, "analyze", known.analyze),
        jobs=read_jobs(parameters),
        identity=_text(parameters, "identity") or None,
        gpg_home=_text(parameters, "gpg_home") or None,
        scratch_folder=absolute_path(parameters, "scratch_folder"),
        max_runtime=read_max_runtime(parameters),
        bin_dir=_text(parameters, "bin_dir") or None,
        application_name=application_name,
    )
    _check_source(options)
    _check_mode(options)
    return options


def _check_source(options: Options) -> None:
    if (options.folder is None) == (options.path is None):
        raise InvalidValue(
            "folder: name the folder in which the backups stand, or by path the folder of one backup: one of the two", object_name="folder"
        )
    if options.path is not None:
        for option in ("source_database", "name"):
            if getattr(options, option):
                raise InvalidValue(f"{option}: it chooses among the backups of folder, and path names one of them", object_name=option)
        if options.backup != NEWEST:
            raise InvalidValue("backup: it names one of the backups of folder, and path names one already", object_name="backup")
    elif options.backup != NEWEST and (options.backup in (".", "..") or "/" in options.backup or options.backup.startswith(".")):
        raise InvalidValue(
            f"backup: {options.backup!r} is not the id of a backup: write the name of its folder as pg_backup_info shows it, or newest",
            object_name="backup",
        )


def _check_mode(options: Options) -> None:
    mode = options.mode
    wrong = {
        "tables": bool(options.tables) and mode != TABLES,
        "schema": bool(options.schema) and mode != SCHEMA,
        "key": bool(options.key) and (mode != TABLES or options.how != MISSING_ROWS),
        "disconnect": options.disconnect and mode != SWAP,
    }
    for option, is_wrong in wrong.items():
        if is_wrong:
            raise InvalidValue(f"{option}: it means nothing with mode={mode}; leave it out", object_name=option)
    if mode == NEW and options.replace:
        raise InvalidValue(
            "replace: a restore into a new database replaces nothing; to put it in another's place, use mode=swap", object_name="replace"
        )
    if mode == TABLES and not options.tables:
        raise InvalidValue("tables: is missing: mode=tables names them", object_name="tables")
    if mode == SCHEMA and not options.schema:
        raise InvalidValue("schema: is missing: mode=schema names it", object_name="schema")


def _text(parameters: Mapping[str, Any], option: str) -> str:
    value = parameters.get(option)
    return "" if value is None else str(value)


def _database(parameters: Mapping[str, Any], option: str) -> str:
    name = _text(parameters, option)
    if len(name.encode("utf-8")) > _LONGEST_NAME or "\0" in name:
        raise InvalidValue(f"{option}: {name!r} is no name of a database, which has at most {_LONGEST_NAME} bytes", object_name=option)
    return name


def _tables(parameters: Mapping[str, Any]) -> Tuple[str, ...]:
    value = parameters.get("tables")
    if says_nothing(value):
        raise InvalidValue("tables: it is given and names none; leave it out, or name some", object_name="tables")
    names = [str(parse_relation(str(item))) for item in listed(value)]
    return tuple(dict.fromkeys(names))


def _flag(parameters: Mapping[str, Any], option: str, default: bool) -> bool:
    value = parameters.get(option)
    return default if value is None else bool(value)
