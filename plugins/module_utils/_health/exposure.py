# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is open that should not be: schemas, addresses, connections, functions."""

from __future__ import annotations

import ipaddress
from typing import Any, Iterable, List, Mapping, Tuple

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
)
from ansible_collections.pgops.runbook.plugins.module_utils._health.sessions import SESSIONS, hidden_sessions
from ansible_collections.pgops.runbook.plugins.module_utils._health.words import counted

SCHEMAS = Fact(
    "public_schemas",
    """
SELECT coalesce(json_agg(n.nspname ORDER BY n.nspname), '[]') FROM pg_namespace AS n
WHERE EXISTS (SELECT FROM aclexplode(n.nspacl) AS a WHERE a.grantee = 0 AND a.privilege_type = 'CREATE')
""",
)
ACCESS_RULES = Fact(
    "access_rules",
    """
SELECT coalesce(json_agg(json_build_object('line', line_number, 'type', type, 'database', database, 'user', user_name,
    'address', address, 'netmask', netmask, 'method', auth_method) ORDER BY line_number), '[]')
FROM pg_hba_file_rules WHERE error IS NULL
""",
    relations=("pg_hba_file_rules",),
    functions=("pg_hba_file_rules",),
)
# Whose address is not seen is not seen at all; sessions over a socket have none.
PLAIN_SESSIONS = Fact(
    "plain_sessions",
    """
SELECT json_build_object(
    'ssl', current_setting('ssl'),
    'listen', current_setting('listen_addresses', true),
    'all_seen', pg_has_role(current_user, 'pg_read_all_stats', 'USAGE'),
    'sessions', (SELECT coalesce(json_agg(json_build_object('user', a.usename, 'address', host(a.client_addr))), '[]')
                 FROM pg_stat_activity AS a JOIN pg_stat_ssl AS s USING (pid)
                 WHERE NOT s.ssl AND a.backend_type IN ('client backend', 'walsender') AND a.client_addr IS NOT NULL
                   AND NOT (a.client_addr <<= '127.0.0.0/8' OR a.client_addr <<= '::1/128')))
""",
)
# Functions of extensions are their makers' business, and come back with every update.
_DEFINERS = """
SELECT p.oid::regprocedure::text AS name, pg_get_userbyid(p.proowner)::text AS owner, o.rolsuper AS superuser,
       has_function_privilege('public', p.oid, 'EXECUTE') AS public
FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace JOIN pg_roles AS o ON o.oid = p.proowner
WHERE p.prosecdef AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND NOT EXISTS (SELECT FROM unnest(p.proconfig) AS c (setting) WHERE c.setting LIKE 'search_path=%')
  AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
ORDER BY 1
"""
_EVERYBODY = {"all"}
_WORDS_FOR_ANYWHERE = ("all", "0.0.0.0", "::")


def _public_create(look: Look, limits: Limits) -> Iterable[Reading]:
    readings = [
        Reading(
            "every role may create objects in it, which others then take for their own",
            1.0,
            name,
            action=f"As the owner: REVOKE CREATE ON SCHEMA {quoted(name)} FROM PUBLIC;",
        )
        for name in look.fact(SCHEMAS)
    ]
    return readings or [Reading("no schema lets every role create objects", 0.0)]


def _hba(look: Look, limits: Limits) -> Iterable[Reading]:
    judged = [(_judge_rule(rule), rule) for rule in look.fact(ACCESS_RULES)]
    readings = [
        Reading(f"line {rule['line']}: {fault}", 1.0, _rule(rule), status=status) for (status, fault), rule in judged if status != OK
    ]
    return readings or [Reading(f"{counted(len(judged), 'rule')} of pg_hba.conf, none too open", 0.0)]


def _judge_rule(rule: Mapping[str, Any]) -> Tuple[str, str]:
    remote = rule["type"] != "local" and not _is_loopback(rule["address"], rule["netmask"])
    method = rule["method"]
    if method == "trust":
        where = "from another host" if remote else "on the host itself"
        return (CRITICAL if remote else WARNING), f"lets {_who(rule)} in {where} without a password"
    if remote and method == "password" and rule["type"] != "hostssl":
        return CRITICAL, "takes passwords in clear text over the network"
    if remote and method == "md5":
        return WARNING, "allows md5, which is weaker than scram-sha-256"
    if remote and _is_anywhere(rule) and _EVERYBODY & set(rule["user"] or ()) and method not in ("reject", "cert"):
        return WARNING, "is open to every user from every address"
    return OK, ""


def _is_loopback(address: str | None, netmask: str | None) -> bool:
    if address in ("samehost", "localhost"):
        return True
    try:
        # 127.0.0.1/0 is everywhere.
        bits = bin(int(ipaddress.ip_address(netmask))).count("1") if netmask else ipaddress.ip_address(address or "").max_prefixlen
        return ipaddress.ip_network(f"{address}/{bits}", strict=False).is_loopback
    except ValueError:
        return False


def _is_anywhere(rule: Mapping[str, Any]) -> bool:
    return rule["address"] in _WORDS_FOR_ANYWHERE or rule["netmask"] in _WORDS_FOR_ANYWHERE


def _who(rule: Mapping[str, Any]) -> str:
    users = rule["user"] or []
    return "everybody" if _EVERYBODY & set(users) else ", ".join(users)


def _rule(rule: Mapping[str, Any]) -> str:
    """Return the rule as the file has it: its number changes when a line is put in before it."""
    address = " ".join(part for part in (rule["address"], rule["netmask"]) if part)
    parts = [rule["type"], ",".join(rule["database"] or ()), ",".join(rule["user"] or ()), address, rule["method"]]
    return " ".join(part for part in parts if part)


def _ssl_off(look: Look, limits: Limits) -> Iterable[Reading]:
    facts = look.fact(PLAIN_SESSIONS)
    found = facts["sessions"]
    if found:
        who = sorted({f"{each['user']} from {each['address']}" for each in found})
        message = f"{counted(len(found), 'session')} over the network without TLS: {', '.join(who[:5])}{', ...' if len(who) > 5 else ''}"
        off = "; the server itself has ssl off" if facts["ssl"] == "off" else ""
        return [Reading(message + off, float(len(found)))]
    if not facts["all_seen"] and look.fact(SESSIONS)["hidden"]:
        raise hidden_sessions(look, "not known whether a session does without TLS")
    if facts["ssl"] == "off" and facts["listen"] not in (None, "", "localhost", "127.0.0.1", "::1"):
        return [Reading("no session over the network now, but the server offers no TLS (ssl is off)", 0.0)]
    return [Reading("every session over the network uses TLS", 0.0)]


def _definer_path(look: Look, limits: Limits) -> Iterable[Reading]:
    readings = []
    for row in look.rows(_DEFINERS):
        whose = f"{row['owner']}{', a superuser' if row['superuser'] else ''}"
        who = "everybody" if row["public"] else "whoever may call it"
        message = f"runs as {whose} and finds its tables by the search_path of the caller: {who} can put others before them"
        action = f"As the owner: ALTER ROUTINE {row['name']} SET search_path = pg_catalog, <its schemas>, pg_temp;"
        readings.append(Reading(message, 1.0, row["name"], action=action))
    return readings or [Reading("every SECURITY DEFINER function sets its search_path", 0.0)]


CHECKS: List[Check] = [
    Check(
        id="security.public_create",
        title="Schemas in which everybody may create",
        tier="monthly",
        looks_at="pg_namespace.nspacl. PostgreSQL 15 no longer grants it on public, but an upgrade by pg_upgrade keeps it.",
        action="REVOKE CREATE ON SCHEMA ... FROM PUBLIC.",
        needs="nothing",
        run=_public_create,
        facts=(SCHEMAS,),
        unit="count",
        warning=0,
    ),
    Check(
        id="security.hba",
        title="Rules of pg_hba.conf that are too open",
        tier="monthly",
        looks_at="pg_hba_file_rules: trust, passwords in clear text, md5, and every user from every address.",
        action="Narrow the rule to the users and addresses that need it, with scram-sha-256 over hostssl; then reload.",
        needs="SELECT on pg_hba_file_rules, EXECUTE on its function",
        run=_hba,
        facts=(ACCESS_RULES,),
        unit="count",
        decides={
            "warning": "trust on the host itself, md5, every user from every address",
            "critical": "trust or clear text over the network",
        },
    ),
    Check(
        id="security.ssl_off",
        title="Sessions over the network without TLS",
        tier="monthly",
        looks_at="pg_stat_ssl of client backends and standbys whose address is not the host's own.",
        action="Switch ssl on, make the rules hostssl, and set sslmode=verify-full in the clients.",
        needs="pg_read_all_stats",
        run=_ssl_off,
        facts=(PLAIN_SESSIONS, SESSIONS),
        unit="count",
        warning=0,
    ),
    Check(
        id="security.definer_path",
        title="SECURITY DEFINER functions without a search_path",
        tier="monthly",
        looks_at="pg_proc of every schema but the server's own; functions of extensions do not count.",
        action="ALTER ROUTINE ... SET search_path.",
        needs="nothing",
        run=_definer_path,
        unit="count",
        warning=0,
    ),
]
