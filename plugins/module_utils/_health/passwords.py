# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Superusers, password verifiers and the expiry of passwords."""

from __future__ import annotations

from typing import Any, Iterable, List, Set

from ansible_collections.pgops.runbook.plugins.module_utils._errors import DatabaseError
from ansible_collections.pgops.runbook.plugins.module_utils._health.facts import Fact
from ansible_collections.pgops.runbook.plugins.module_utils._health.look import Look
from ansible_collections.pgops.runbook.plugins.module_utils._health.model import OK, Check, Limits, Reading, Unseen
from ansible_collections.pgops.runbook.plugins.module_utils._health.words import counted

DAY = 86400.0
INSUFFICIENT_PRIVILEGE = "42501"

# A role that expires at infinity does not expire.
ROLES = Fact(
    "roles",
    """
SELECT coalesce(json_agg(json_build_object('name', rolname, 'superuser', rolsuper, 'expires',
    CASE WHEN rolvaliduntil < 'infinity' THEN extract(epoch FROM rolvaliduntil - clock_timestamp()) END) ORDER BY rolname), '[]')
FROM pg_roles WHERE rolcanlogin
""",
)
# The verifiers themselves never leave the server. Asked by itself: most roles are refused, which would take the other facts with it.
VERIFIERS = Fact(
    "verifiers",
    """
SELECT json_build_object(
    'md5', (SELECT coalesce(json_agg(rolname ORDER BY rolname), '[]') FROM pg_authid WHERE starts_with(rolpassword, 'md5')),
    'scram', (SELECT count(*) FROM pg_authid WHERE starts_with(rolpassword, 'SCRAM-SHA-256')),
    'readable', (SELECT count(*) FROM pg_authid WHERE rolpassword IS NOT NULL
                 AND NOT starts_with(rolpassword, 'md5') AND NOT starts_with(rolpassword, 'SCRAM-SHA-256')))
""",
)


def _superusers(look: Look, limits: Limits) -> Iterable[Reading]:
    names = [role["name"] for role in look.fact(ROLES) if role["superuser"]]
    return [Reading(f"{counted(len(names), 'superuser')} may log in: {', '.join(names[:20])}", float(len(names)))]


def _md5(look: Look, limits: Limits) -> Iterable[Reading]:
    try:
        facts = look.fact(VERIFIERS)
    except DatabaseError as error:
        if error.sqlstate != INSUFFICIENT_PRIVILEGE:
            raise
        hint = "Let a superuser run this check alone; do not grant pg_authid, which holds every verifier."
        raise Unseen(f"the role {look.role} may not see how passwords are kept", hint=hint) from None
    readings = [
        Reading(
            "the password is kept as md5, which who reads it can log in with", 1.0, name, action=_AS_SCRAM.format(name.replace('"', '""'))
        )
        for name in facts["md5"]
    ]
    return readings or [Reading(f"no password is kept as md5, {facts['scram']} as SCRAM", 0.0)]


def _expiry(look: Look, limits: Limits) -> Iterable[Reading]:
    needed = _needed(look)
    readings = []
    for role in look.fact(ROLES):
        left = role["expires"]
        if left is None or (left < 0 and role["name"] not in needed):
            continue
        if left < 0:
            message = f"the password expired {int(-left // DAY)} days ago, and the system needs the role"
        else:
            message = f"the password expires in {int(left // DAY)} days"
        readings.append(Reading(message, round(left), role["name"]))
    gone = sum(role["expires"] is not None and role["expires"] < 0 and role["name"] not in needed for role in look.fact(ROLES))
    past = f"; {counted(gone, 'other role')} has let it expire" if gone == 1 else f"; {gone} other roles have let it expire" if gone else ""
    return readings or [Reading(f"no password that is in use expires{past}", status=OK)]


def _needed(look: Look) -> Set[str]:
    """Return the roles that the system names: of others, an expired password may be how they were switched off."""
    security: Any = look.system.get("security") or {}
    named = {role["name"] for role in security.get("application_roles") or ()} | set(security.get("write_roles") or ())
    user = (look.system.get("database") or {}).get("user")
    return named | ({user} if user else set()) | {look.role}


_AS_SCRAM = 'Set password_encryption to scram-sha-256 and the password anew, with \\password "{}" in psql.'
CHECKS: List[Check] = [
    Check(
        id="security.superusers",
        title="Superusers who may log in",
        tier="monthly",
        looks_at="pg_roles.",
        action="Take the privilege from who does not need it: a superuser reads and changes everything and every trace.",
        needs="nothing",
        run=_superusers,
        facts=(ROLES,),
        unit="count",
        warning=2,
    ),
    Check(
        id="security.md5",
        title="Passwords kept as md5",
        tier="monthly",
        looks_at="The kind of the verifiers in pg_authid; the verifiers themselves are not read.",
        action="Set the password anew with password_encryption = scram-sha-256.",
        needs="a superuser: pg_authid holds every verifier and is granted to nobody",
        run=_md5,
        unit="count",
        warning=0,
    ),
    Check(
        id="security.password_expiry",
        title="Passwords that expire",
        tier="monthly",
        looks_at="pg_roles.rolvaliduntil of roles that may log in. One that has passed counts for roles that the system names and for its "
        "own; it may be how another was switched off.",
        action="Set the password anew, and its new end: ALTER ROLE ... VALID UNTIL.",
        needs="nothing",
        run=_expiry,
        facts=(ROLES,),
        unit="seconds",
        worse="below",
        warning=30 * DAY,
        critical=7 * DAY,
    ),
]
