# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The server's settings: pending, unsafe, wrong in the file, or changed."""

from __future__ import annotations

import re
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple

from ansible_collections.pgops.runbook.plugins.module_utils._errors import RunbookError
from ansible_collections.pgops.runbook.plugins.module_utils._health.catalogue import quoted
from ansible_collections.pgops.runbook.plugins.module_utils._health.facts import Fact
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import (
    CRITICAL,
    OK,
    WARNING,
    Check,
    Limits,
    Reading,
    Unseen,
    unknown,
)
from ansible_collections.pgops.runbook.plugins.module_utils._health.words import counted

# reset_val: what this session has set for itself says nothing of the server.
SETTINGS = Fact(
    "settings",
    """
SELECT json_build_object(
    'all_seen', pg_has_role(current_user, 'pg_read_all_settings', 'USAGE'),
    'pending', (SELECT coalesce(json_agg(name ORDER BY name), '[]') FROM pg_settings WHERE pending_restart),
    'rows', (SELECT json_object_agg(name, json_build_object(
        'value', reset_val, 'boot', boot_val, 'unit', unit, 'source', source)) FROM pg_settings))
""",
)
FILE_ERRORS = Fact(
    "file_errors",
    """
SELECT coalesce(json_agg(json_build_object('file', sourcefile, 'line', sourceline, 'name', name, 'error', error)), '[]')
FROM pg_file_settings AS f
WHERE error IS NOT NULL AND NOT EXISTS (SELECT FROM pg_settings AS s WHERE s.name = f.name AND s.pending_restart)
""",
    relations=("pg_file_settings",),
    functions=("pg_show_all_file_settings",),
)
# What the error repeats of an option may be part of a password (ldapbindpasswd, radiussecrets), as of one with a blank in it.
ACCESS_ERRORS = Fact(
    "access_errors",
    """
SELECT coalesce(json_agg(json_build_object('line', line_number, 'name', NULL,
    'file', coalesce(regexp_replace(to_jsonb(r) ->> 'file_name', '^.*/', ''), 'pg_hba.conf'),
    'error', regexp_replace(error, '^([^:"]*(option|LDAP|ldap|RADIUS|radius)[^:"]*).*', '\\1'))), '[]')
FROM pg_hba_file_rules AS r WHERE error IS NOT NULL
""",
    relations=("pg_hba_file_rules",),
    functions=("pg_hba_file_rules",),
)
# What this session, its role or its client has set, and what nobody has. Of what the session sets the value to go back to is the server's,
# but of what drivers set, each in its own way.
_NOT_THE_SERVERS = ("default", "override", "client", "user", "database user")
_OF_THE_SESSION = "session"
_OF_DRIVERS = ("application_name", "client_encoding")
# Their values may hold a password, or the way to one.
_SECRET = re.compile(r"conninfo|command|passphrase|password(?!_encryption)|secret|token|key", re.IGNORECASE)


class Danger(NamedTuple):
    """A value that a setting must not have, how bad that is, and what it does."""

    value: str
    severity: str
    because: str


_DANGERS: Mapping[str, Danger] = {
    "fsync": Danger("off", CRITICAL, "a crash of the host destroys the cluster"),
    "full_page_writes": Danger("off", CRITICAL, "a crash of the host leaves torn pages that nothing repairs"),
    "zero_damaged_pages": Danger("on", CRITICAL, "damaged pages are emptied without a word"),
    "ignore_checksum_failure": Danger("on", CRITICAL, "pages with a wrong checksum are read as if they were right"),
    "ignore_invalid_pages": Danger("on", CRITICAL, "recovery passes over what is missing"),
    "ignore_system_indexes": Danger("on", CRITICAL, "the catalogue is read without its indexes"),
    "data_sync_retry": Danger("on", CRITICAL, "a failed write is tried again, and counts as written"),
    "allow_system_table_mods": Danger("on", WARNING, "anybody who is a superuser changes the catalogue by mistake"),
    "synchronous_commit": Danger(
        "off", WARNING, "a crash takes back the commits of the last moments: a token revoked then is accepted again"
    ),
    "track_counts": Danger("off", WARNING, "autovacuum does not work without it"),
    "track_activities": Danger("off", WARNING, "nobody sees what sessions do"),
}
_FACTORS = {"B": 1, "kB": 1024, "MB": 1024**2, "GB": 1024**3, "TB": 1024**4}
_TIMES = {"us": 0.001, "ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
_NUMBER = re.compile(r"\s*(-?\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")


def _blind(look: Look, what: str) -> RunbookError:
    hint = f"As a superuser: GRANT pg_read_all_settings TO {quoted(look.role)};"
    return Unseen(f"{what}: the role {look.role} may not see every setting", hint=hint)


def _pending(look: Look, limits: Limits) -> Iterable[Reading]:
    facts = look.fact(SETTINGS)
    names = facts["pending"]
    if names:
        return [
            Reading(
                f"{counted(len(names), 'setting')} changed and not in force until a restart: {', '.join(names[:10])}", float(len(names))
            )
        ]
    if not facts["all_seen"]:
        return [unknown(_blind(look, "not known whether a setting waits for a restart"))]
    return [Reading("no setting waits for a restart", 0.0)]


def _unsafe(look: Look, limits: Limits) -> Iterable[Reading]:
    facts = look.fact(SETTINGS)
    readings = [
        Reading(
            f"{name} is {danger.value}: {danger.because}",
            object_name=name,
            status=danger.severity,
            action=f"As a superuser: ALTER SYSTEM RESET {name}; then reload or restart; look at roles and databases too.",
        )
        for name, danger in _DANGERS.items()
        if (facts["rows"].get(name) or {}).get("value") == danger.value
    ]
    unseen = [name for name in _DANGERS if name not in facts["rows"]]
    if unseen and not facts["all_seen"]:
        readings.append(unknown(_blind(look, f"{', '.join(unseen)} not seen"), "settings not seen" if readings else ""))
    return readings or [Reading("nothing that endangers data is set", status=OK)]


def _file_errors(look: Look, limits: Limits) -> Iterable[Reading]:
    readings: List[Reading] = []
    for name, fact in (("the settings", FILE_ERRORS), ("pg_hba.conf", ACCESS_ERRORS)):
        try:
            rows = look.fact(fact)
        except RunbookError as error:
            readings.append(unknown(error, name))
            continue
        # By what is wrong: a line above it does not make another finding of it.
        errors: Dict[str, List[Mapping[str, Any]]] = {}
        for row in rows:
            errors.setdefault(f"{row['file']} {row['name'] or row['error']}", []).append(row)
        readings += [Reading("; ".join(f"line {row['line']}: {row['error']}" for row in same), 1.0, key) for key, same in errors.items()]
    return readings or [Reading("the files of the configuration have no error", 0.0)]


def comparable(text: str, unit: str | None) -> Any:
    """Return a value of a setting in the least unit of its kind, so that 65536 in 8kB and 512MB are the same; other text as it is.

    `unit` is pg_settings.unit, such as 8kB, ms or None.
    """
    match = _NUMBER.fullmatch(text)
    if match is None:
        return {"true": "on", "yes": "on", "false": "off", "no": "off"}.get(text.lower(), text)
    number, suffix = float(match.group(1)), match.group(2)
    if suffix:
        return number * _FACTORS[suffix] if suffix in _FACTORS else number * _TIMES[suffix] if suffix in _TIMES else text
    if unit in _TIMES:
        return number * _TIMES[unit]
    own = _NUMBER.fullmatch(unit or "")
    if own:
        return number * float(own.group(1)) * _FACTORS.get(own.group(2), 1)
    return number * _FACTORS[unit] if unit in _FACTORS else number


def _drift(look: Look, limits: Limits) -> Iterable[Reading]:
    facts = look.fact(SETTINGS)
    rows: Mapping[str, Mapping[str, Any]] = facts["rows"]
    now = {name: row["value"] for name, row in rows.items() if _of_the_server(name, row) and not _SECRET.search(name)}
    all_seen, kept = bool(facts["all_seen"]), look.history.previous.kept if look.history.previous else {}
    before: Mapping[str, Any] | None = kept.get("settings")
    # What this role may not see stays as a run that saw it left it.
    hidden = {name: value for name, value in (before or {}).items() if name not in rows} if not all_seen else {}
    look.kept["settings"], look.kept["settings_complete"] = {**hidden, **now}, all_seen or kept.get("settings_complete") is True
    readings = list(_declared(look, rows, all_seen))
    if before is not None:
        # What the run before may not have been allowed to see is new to us, and need not have changed.
        known = now if kept.get("settings_complete") is not False or not all_seen else {name: now[name] for name in now if name in before}
        readings += _changed({name: value for name, value in before.items() if name not in hidden}, known, rows)
    if not all_seen:
        blind = _blind(look, "not known whether a setting changed that only some may see")
        return [*readings, unknown(blind, "settings not seen" if readings else "")]
    if before is None and not readings:
        said = "as the system declares them; " if look.system.get("settings") else ""
        return [Reading(f"{said}no history yet to compare with", 0.0, metrics={"cfg.not_default": float(len(now))})]
    return readings or [Reading(f"{counted(len(now), 'setting')} other than the default, unchanged", 0.0)]


def _of_the_server(name: str, row: Mapping[str, Any]) -> bool:
    """Return whether the setting has a value other than its default that the server or the database gives it."""
    if row["source"] == _OF_THE_SESSION:
        return name not in _OF_DRIVERS and row["value"] != row["boot"]
    return row["source"] not in _NOT_THE_SERVERS


def readable(text: str, unit: str | None) -> str:
    """Return a value of pg_settings as SHOW shows it: 524288 in 8kB is 4 GB."""
    least = comparable(text, unit) if unit else None
    if not isinstance(least, float) or least <= 0:
        return text
    sizes = _TIMES if unit in _TIMES else _FACTORS
    whole = [(least / size, name) for name, size in sizes.items() if least / size == int(least / size)]
    if not whole:
        return f"{text} (in {unit})"
    amount, name = min(whole)
    return f"{amount:.0f} {name}"


def _declared(look: Look, rows: Mapping[str, Mapping[str, Any]], all_seen: bool) -> Iterable[Reading]:
    for name, wanted in (look.system.get("settings") or {}).items():
        row = rows.get(name)
        if row is None:
            error = RunbookError(f"{name} is declared and this server has no such setting", hint="Correct the system description.")
            yield unknown(error if all_seen else _blind(look, f"{name} is declared"), name)
        elif comparable(row["value"], row["unit"]) != comparable(str(wanted), row["unit"]):
            written = readable(row["value"], row["unit"])
            value = str(wanted).replace("'", "''")
            action = f"As a superuser: ALTER SYSTEM SET {name} = '{value}'; or correct the description."
            yield Reading(f"is {written}, declared is {wanted}", 1.0, name, action=action)


def _changed(before: Mapping[str, Any], now: Dict[str, Any], rows: Mapping[str, Mapping[str, Any]]) -> List[Reading]:
    readings = []
    for name in sorted({*before, *now}):
        old, new = before.get(name), now.get(name)
        if old != new:
            unit = rows[name]["unit"] if name in rows else None
            shown = [repr(readable(str(value), unit)) if value is not None else "the default" for value in (old, new)]
            readings.append(Reading(f"changed from {shown[0]} to {shown[1]} since the run before", 1.0, name))
    return readings


CHECKS: List[Check] = [
    Check(
        id="cfg.pending_restart",
        title="Settings that wait for a restart",
        tier="daily",
        looks_at="pg_settings.pending_restart.",
        action="Plan a restart, or take the change back: what runs is not what is written.",
        needs="pg_read_all_settings",
        run=_pending,
        facts=(SETTINGS,),
        unit="count",
        warning=0,
    ),
    Check(
        id="cfg.unsafe",
        title="Settings that endanger data",
        tier="daily",
        looks_at=", ".join(f"{name} {danger.value}" for name, danger in _DANGERS.items()) + ".",
        action="Set it back to its default.",
        needs="pg_read_all_settings",
        run=_unsafe,
        facts=(SETTINGS,),
        decides={
            "warning": ", ".join(name for name, danger in _DANGERS.items() if danger.severity == WARNING),
            "critical": ", ".join(name for name, danger in _DANGERS.items() if danger.severity == CRITICAL),
        },
    ),
    Check(
        id="cfg.file_errors",
        title="Errors in the files of the configuration",
        tier="daily",
        looks_at="pg_file_settings and pg_hba_file_rules: the next reload or start takes such a line for nothing, or fails on it.",
        action="Correct the line and reload.",
        needs="SELECT on pg_file_settings and pg_hba_file_rules, EXECUTE on their functions",
        run=_file_errors,
        facts=(FILE_ERRORS, ACCESS_ERRORS),
        unit="count",
        warning=0,
    ),
    Check(
        id="cfg.drift",
        title="Settings that changed or are not as declared",
        tier="daily",
        looks_at="Settings that the system declares, and all that are not at their default against those of the run before. What the "
        "session of this check sets for itself counts as it would be without. What its role or its client is given, application_name, "
        "client_encoding and settings whose value may hold a secret are not compared with the run before.",
        action="Find out who changed it and why, and put it into the system description or back.",
        needs="pg_read_all_settings",
        run=_drift,
        facts=(SETTINGS,),
        unit="count",
        warning=0,
    ),
]
