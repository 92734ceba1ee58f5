# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a backup is asked to be, read and checked before any connection is opened."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Mapping, Tuple

from ansible_collections.pgops.runbook.plugins.module_utils._arguments import listed, says_nothing
from ansible_collections.pgops.runbook.plugins.module_utils._backup.copies import Place, read_copies
from ansible_collections.pgops.runbook.plugins.module_utils._backup.naming import part_of_id
from ansible_collections.pgops.runbook.plugins.module_utils._backup.option_values import (
    given,
    one_of,
    quantity,
    read_jobs,
    read_max_runtime,
)
from ansible_collections.pgops.runbook.plugins.module_utils._backup.places import folder_of_backups
from ansible_collections.pgops.runbook.plugins.module_utils._backup.retention import Keep, read_keep
from ansible_collections.pgops.runbook.plugins.module_utils._backup.verifications import DECODE, LEVELS, RESTORE
from ansible_collections.pgops.runbook.plugins.module_utils._client.coding import LEVELS as COMPRESSION_LEVELS
from ansible_collections.pgops.runbook.plugins.module_utils._client.coding import METHODS, Encryption
from ansible_collections.pgops.runbook.plugins.module_utils._content.scope import KINDS
from ansible_collections.pgops.runbook.plugins.module_utils._duration import parse_duration, parse_size
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue
from ansible_collections.pgops.runbook.plugins.module_utils._names import parse_relation

FORMATS = ("directory", "custom", "plain")
EVERY = "*"
_LONGEST_NAME = 42  # as it stands in the name of the folder, beside that of the database and the time


@dataclass(frozen=True)
class Options:
    """A backup as asked for; times in seconds, sizes in bytes. Without `databases` it is the one that the login names."""

    folder: Path
    name: str = "full"
    databases: Tuple[str, ...] = ()
    kind: str = "full"
    schemas: Tuple[str, ...] = ()
    tables: Tuple[str, ...] = ()
    format: str = "directory"
    compression: str = "auto"
    compression_level: int | None = None
    encrypt: Encryption | None = None
    jobs: int = 1
    fresh_for: float = 72000.0
    verify: str = DECODE
    keep: Keep = field(default_factory=Keep)
    copies: Tuple[Place, ...] = ()
    with_globals: bool = True
    contents: bool = True
    min_free: int = 1 << 30
    max_runtime: float | None = None
    bin_dir: str | None = None
    application_name: str = "pgops.runbook/pg_backup"

    @property
    def every_database(self) -> bool:
        """Whether all databases of the server are meant."""
        return self.databases == (EVERY,)


def read_options(parameters: Mapping[str, Any], application_name: str = Options.application_name) -> Options:
    """Return the options among a module's `parameters`. Raises InvalidValue, which names the option and what would be right."""
    known = Options(Path())
    kind = one_of(parameters, "kind", KINDS, known.kind)
    form = one_of(parameters, "format", FORMATS, known.format)
    compression = one_of(parameters, "compression", METHODS, known.compression)
    schemas, tables = _selected(parameters, kind)
    folder = folder_of_backups(parameters)
    options = Options(
        folder=folder,
        name=_text(parameters, "name", known.name),
        databases=_databases(parameters.get("databases")),
        kind=kind,
        schemas=schemas,
        tables=tables,
        format=form,
        compression=compression,
        compression_level=_level(parameters.get("compression_level"), compression),
        encrypt=_encryption(parameters.get("encrypt"), form),
        jobs=read_jobs(parameters),
        fresh_for=quantity(parameters, "fresh_for", parse_duration, known.fresh_for),
        verify=one_of(parameters, "verify", LEVELS, known.verify),
        keep=read_keep(parameters.get("keep"), "keep"),
        copies=tuple(read_copies(parameters.get("copies"), folder)),
        with_globals=bool(given(parameters, "globals", True)),
        contents=bool(given(parameters, "contents", True)),
        min_free=int(quantity(parameters, "min_free", parse_size, known.min_free)),
        max_runtime=read_max_runtime(parameters),
        bin_dir=given(parameters, "bin_dir", None),
        application_name=application_name,
    )
    if options.encrypt is not None and options.verify == RESTORE:
        raise InvalidValue(
            "verify: restore cannot be done with an encrypted backup, which this host has no key for",
            object_name="verify",
            hint="Use verify=decode, which reads the stream before it is encrypted, and let a recovery drill restore it where the key is.",
        )
    if kind != "schema_only" and options.verify == RESTORE and not options.contents:
        raise InvalidValue(
            "verify: restore compares with what contents=false leaves out, so that nothing would show that the rows came back",
            object_name="verify",
            hint="Leave out contents=false, or use verify=decode.",
        )
    if kind == "data_only" and options.verify == RESTORE:
        raise InvalidValue(
            "verify: a backup of kind data_only has no tables to restore its rows into", object_name="verify", hint="Use verify=decode."
        )
    return options


def _databases(value: Any) -> Tuple[str, ...]:
    # A name may hold a comma, so that a text is one name here.
    names = [value] if isinstance(value, str) and value else list(value or ())
    names = [str(name) for name in names if str(name)]
    if EVERY in names and len(names) > 1:
        raise InvalidValue("databases: * stands for all of them: name either * or databases", object_name="databases")
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise InvalidValue(f"databases: {doubled[0]!r} is there twice", object_name="databases")
    return tuple(names)


def _selected(parameters: Mapping[str, Any], kind: str) -> Tuple[Tuple[str, ...], Tuple[str, ...]]:
    found: Dict[str, List[str]] = {}
    for option in ("schemas", "tables"):
        if says_nothing(parameters.get(option)):
            raise InvalidValue(f"{option}: it is given and names none; leave it out, or name some", object_name=option)
        found[option] = [str(item) for item in listed(parameters.get(option))]
    schemas, tables = found["schemas"], [str(parse_relation(table)) for table in found["tables"]]
    for option, names in (("schemas", schemas), ("tables", tables)):
        if kind == option and not names:
            raise InvalidValue(f"{option}: is missing: a backup of kind {option} names them", object_name=option)
        if names and kind not in (option, "schema_only", "data_only"):
            raise InvalidValue(f"{option}: a backup of kind {kind} takes none; use kind={option}", object_name=option)
    if schemas and tables:
        raise InvalidValue("tables: give schemas or tables, not both: pg_dump would leave the schemas out", object_name="tables")
    return tuple(sorted(set(schemas))), tuple(sorted(set(tables)))


def _level(value: Any, compression: str) -> int | None:
    if value in (None, ""):
        return None
    if compression not in COMPRESSION_LEVELS:
        raise InvalidValue(
            f"compression_level: with compression={compression} it means nothing; name one of zstd, lz4 and gzip",
            object_name="compression_level",
        )
    least, most = COMPRESSION_LEVELS[compression]
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidValue(
            f"compression_level: {value!r} is none of {compression}, which has {least} to {most}", object_name="compression_level"
        )
    return value


def _encryption(value: Any, form: str) -> Encryption | None:
    said = dict(value or {})
    found = Encryption.from_option(said)
    if found is None and said.get("gpg_home"):
        raise InvalidValue("encrypt: gpg_home without gpg encrypts nothing: name the recipients in encrypt.gpg", object_name="encrypt")
    if found is not None and form == "directory":
        raise InvalidValue(
            "encrypt: a backup of format directory cannot be encrypted: pg_dump writes its files itself, so that they would"
            " stand on the disk as they are",
            object_name="encrypt",
            hint="Use format=custom or format=plain.",
        )
    return found


def _text(parameters: Mapping[str, Any], option: str, default: str) -> str:
    value = given(parameters, option, default)
    text = str(value).strip()
    # What is no ASCII takes three times its bytes there.
    if not text or len(part_of_id(text)) > _LONGEST_NAME:
        raise InvalidValue(f"{option}: {value!r} is too long, or empty: use 1 to 40 letters and digits", object_name=option)
    return text
