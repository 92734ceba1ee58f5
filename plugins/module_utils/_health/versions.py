# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How old the server, its collations and its extensions are."""

from __future__ import annotations

from datetime import date, datetime, timezone
from typing import Iterable, List, Mapping, Tuple

from ansible_collections.pgops.runbook.plugins.module_utils._health.catalogue import quoted
from ansible_collections.pgops.runbook.plugins.module_utils._health.facts import Fact
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import SKIPPED, Check, Limits, Reading, skipped
from ansible_collections.pgops.runbook.plugins.module_utils._health.relations import counted_indexes
from ansible_collections.pgops.runbook.plugins.module_utils._health.words import counted

# Newest minor versions that had been seen in Debian and on npm by then; there may be newer ones. No network is asked.
KNOWN_ON = date(2026, 11, 21)
NEWEST: Mapping[int, int] = {12: 22, 13: 23, 14: 23, 15: 20, 16: 14, 17: 10, 18: 4}
# The last day of support, from https://www.postgresql.org/support/versioning/.
LAST_DAY: Mapping[int, date] = {
    12: date(2024, 11, 21),
    13: date(2025, 11, 13),
    14: date(2026, 11, 12),
    15: date(2027, 11, 11),
    16: date(2028, 11, 9),
    17: date(2029, 11, 8),
    18: date(2030, 11, 14),
}
DAY = 86400.0

EXTENSIONS = Fact(
    "extensions",
    """
SELECT coalesce(json_agg(json_build_object('name', e.extname, 'installed', e.extversion, 'available', a.default_version)), '[]')
FROM pg_extension AS e LEFT JOIN pg_available_extensions AS a ON a.name = e.extname
""",
)
# The database's own collation, and those that indexes are sorted by: of hundreds that initdb found, nobody uses most.
_COLLATIONS = """
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.collname) AS name, c.collversion AS made_with,
       pg_collation_actual_version(c.oid) AS present, count(DISTINCT i.indexrelid) AS indexes
FROM pg_index AS i CROSS JOIN LATERAL unnest(i.indcollation::oid[]) AS used (collation_oid)
     JOIN pg_collation AS c ON c.oid = used.collation_oid JOIN pg_namespace AS n ON n.oid = c.collnamespace
WHERE c.collversion IS NOT NULL AND c.collversion IS DISTINCT FROM pg_collation_actual_version(c.oid)
GROUP BY c.oid, n.nspname, c.collname, c.collversion
"""
# By which collations indexes are sorted: those of which a version is recorded, and others that are more than the order of bytes. The
# database's own is "default" (of the provider d).
_SORTED = """
SELECT count(DISTINCT i.indexrelid) FILTER (WHERE known) AS known,
       count(DISTINCT i.indexrelid) FILTER (WHERE NOT known AND NOT plain) AS others
FROM pg_index AS i CROSS JOIN LATERAL unnest(i.indcollation::oid[]) AS used (collation_oid)
     JOIN pg_collation AS c ON c.oid = used.collation_oid JOIN pg_database AS d ON d.datname = current_database()
     CROSS JOIN LATERAL (SELECT
         CASE c.collprovider WHEN 'd' THEN to_jsonb(d) ->> 'datcollversion' ELSE c.collversion END IS NOT NULL AS known,
         coalesce(CASE c.collprovider WHEN 'd' THEN d.datcollate ELSE c.collcollate END ~ '^(C([.].*)?|POSIX)$', false) AS plain) AS it
"""
_OWN_COLLATION = Fact(
    "own_collation",
    """
SELECT json_build_object(
    'probe', (SELECT count(*) FROM pg_proc
              WHERE pronamespace = 'pg_catalog'::regnamespace AND proname = 'pg_database_collation_actual_version'),
    'made_with', (SELECT to_jsonb(d) ->> 'datcollversion' FROM pg_database AS d WHERE datname = current_database()))
""",
)


def _version(look: Look) -> Tuple[int, int]:
    number = look.database.server_version
    return number // 10000, number % 10000


def _minor(look: Look, limits: Limits) -> Iterable[Reading]:
    major, minor = _version(look)
    newest = NEWEST.get(major)
    if newest is None:
        return skipped(f"this version of the collection knows nothing of PostgreSQL {major}")
    behind = max(0, newest - minor)
    if not behind:
        return [Reading(f"{major}.{minor} is no older than {major}.{newest}, the newest known on {KNOWN_ON.isoformat()}", 0.0)]
    message = (
        f"{major}.{minor} lacks the fixes of at least {counted(behind, 'release')}: {major}.{newest} was known on {KNOWN_ON.isoformat()}"
    )
    return [Reading(message, float(behind))]


def _end_of_life(look: Look, limits: Limits) -> Iterable[Reading]:
    major, _minor_version = _version(look)
    last = LAST_DAY.get(major)
    if last is None:
        return skipped(f"this version of the collection does not know how long PostgreSQL {major} is supported")
    left = (datetime(last.year, last.month, last.day, tzinfo=timezone.utc) - look.now).total_seconds() + DAY
    said = f"PostgreSQL {major} {'is' if left > 0 else 'was'} supported until {last.isoformat()}"
    return [Reading(f"{said}, {abs(int(left // DAY))} days {'from now' if left > 0 else 'ago'}", round(left))]


def _collations(look: Look, limits: Limits) -> Iterable[Reading]:
    readings = [
        Reading(
            f"{row['indexes']} index(es) sorted by version {row['made_with']}, the system has {row['present']}",
            float(row["indexes"]),
            row["name"],
            action=f"Rebuild what uses it (REINDEX), then ALTER COLLATION {row['name']} REFRESH VERSION;",
        )
        for row in look.rows(_COLLATIONS)
    ]
    own = look.fact(_OWN_COLLATION)
    if own["probe"] and own["made_with"]:
        present = look.row(
            "SELECT pg_database_collation_actual_version(oid) AS version FROM pg_database WHERE datname = current_database()"
        )
        if present["version"] != own["made_with"]:
            name = quoted(look.database.name)
            readings.append(
                Reading(
                    f"the database was made with version {own['made_with']}, the system has {present['version']}",
                    1.0,
                    f"database {look.database.name}",
                    action=f"As its owner: REINDEX DATABASE {name}; then ALTER DATABASE {name} REFRESH COLLATION VERSION;",
                )
            )
    return readings or [_unchanged(look, bool(own["made_with"]))]


def _unchanged(look: Look, own: bool) -> Reading:
    """Return what was looked at, where none of it has changed. What has no version cannot be: nothing is said of that."""
    indexes = look.row(_SORTED)
    others = counted_indexes(indexes["others"])
    if indexes["others"] and not (indexes["known"] or own):
        message = f"{others} sorted by a collation of which this server records no version, and none by another"
        return Reading(message, status=SKIPPED)
    said = f"; {others} sorted by one without a version not judged" if indexes["others"] else ""
    return Reading(f"no collation has changed under the {counted_indexes(indexes['known'])} sorted by one with a version{said}", 0.0)


def _extensions(look: Look, limits: Limits) -> Iterable[Reading]:
    installed = {row["name"]: row for row in look.fact(EXTENSIONS)}
    readings = [
        Reading(
            f"version {row['installed']} is installed, {row['available']} is there",
            1.0,
            name,
            action=f"As its owner: ALTER EXTENSION {quoted(name)} UPDATE;",
        )
        for name, row in installed.items()
        if row["available"] and row["available"] != row["installed"]
    ]
    readings += [
        Reading("is declared and not installed", 1.0, name, action=f"As a superuser: CREATE EXTENSION {quoted(name)};")
        for name in look.system.get("extensions") or ()
        if name not in installed
    ]
    readings += [
        Reading("is installed and its files are gone", 1.0, name, action="Install the package of the extension for this version.")
        for name, row in installed.items()
        if row["available"] is None
    ]
    return readings or [Reading(f"{counted(len(installed), 'extension')}, all as new as their files", 0.0)]


CHECKS: List[Check] = [
    Check(
        id="ver.minor",
        title="Releases with fixes that the server lacks",
        tier="weekly",
        looks_at=f"The server's version against the newest minor versions known on {KNOWN_ON.isoformat()}; there may be newer ones.",
        action="Install the newest minor version and restart: it needs no dump and no upgrade.",
        needs="nothing",
        run=_minor,
        unit="count",
        warning=0,
    ),
    Check(
        id="ver.eol",
        title="End of support of the major version",
        tier="weekly",
        looks_at="The last day on which the major version gets fixes.",
        action="Plan the upgrade to a newer major version.",
        needs="nothing",
        run=_end_of_life,
        unit="seconds",
        worse="below",
        warning=180 * DAY,
        critical=0,
    ),
    Check(
        id="ver.collation",
        title="Collations that changed under their indexes",
        tier="weekly",
        looks_at="The version of the collation library with which the database (15 and later) and the collations of indexes were made, "
        "against the one that the system has now. Before PostgreSQL 15 the server records none of the database's own collation, and "
        "before 13 none of any that the C library brings: indexes sorted by those are not judged, and the check is skipped where there "
        "are no others. After an upgrade of the system such indexes may miss rows that are there, a revoked "
        "token among them.",
        action="REINDEX the indexes, then refresh the version.",
        needs="nothing",
        run=_collations,
        facts=(_OWN_COLLATION,),
        unit="count",
        warning=0,
    ),
    Check(
        id="ver.ext_outdated",
        title="Extensions that are outdated or missing",
        tier="weekly",
        looks_at="pg_extension against the files of the server, and against the extensions that the system declares.",
        action="Update or install the extension.",
        needs="nothing",
        run=_extensions,
        facts=(EXTENSIONS,),
        unit="count",
        warning=0,
    ),
]
