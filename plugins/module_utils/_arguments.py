# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options that every module shares, and what every module does with them."""

from __future__ import annotations

import os
import re
from typing import Any, Iterator, Mapping

COLLECTION = "pgops.runbook"

# An empty string is allowed wherever a choice is, because it counts as not given: a survey or an empty variable sends one.
SSL_MODES = ("allow", "disable", "prefer", "require", "verify-ca", "verify-full")
TARGET_SESSION_ATTRIBUTES = ("any", "prefer-standby", "primary", "read-only", "read-write", "standby")

CACHE_ARGUMENTS = {
    "host": {"type": "str"},
    "port": {"type": "str"},
    "database": {"type": "str"},
    "username": {"type": "str"},
    "password": {"type": "str", "no_log": True},
    "tls": {"type": "bool"},
    "ca_cert": {"type": "path"},
    "cert": {"type": "path"},
    "key": {"type": "path", "no_log": False},
    "timeout": {"type": "str"},
}
CONNECTION_ARGUMENTS: dict[str, dict[str, Any]] = {
    "login_host": {"type": "str", "aliases": ["host"]},
    "login_port": {"type": "str", "aliases": ["port"]},
    "login_user": {"type": "str"},
    "login_password": {"type": "str", "no_log": True},
    "login_db": {"type": "str"},
    "login_unix_socket": {"type": "str", "aliases": ["unix_socket"]},
    "ssl_mode": {"type": "str", "choices": ["", *SSL_MODES]},
    "ca_cert": {"type": "str", "aliases": ["ssl_rootcert"]},
    "ssl_cert": {"type": "path"},
    "ssl_key": {"type": "path"},
    "connect_params": {"type": "dict", "no_log": True},
    "session_role": {"type": "str"},
    "connect_timeout": {"type": "str"},
    "target_session_attrs": {"type": "str", "choices": ["", *TARGET_SESSION_ATTRIBUTES]},
    "lock_timeout": {"type": "str", "default": "5 s"},
    "statement_timeout": {"type": "str", "default": "15 min"},
}

# The keys of connect_params whose values may be shown. All others hold a secret, may hold one, or are a mistyped `password`.
READABLE_PARAMETERS = frozenset({
    "application_name", "channel_binding", "client_encoding", "connect_timeout", "dbname", "fallback_application_name",
    "gssdelegation", "gssencmode", "gsslib", "host", "hostaddr", "keepalives", "keepalives_count", "keepalives_idle",
    "keepalives_interval", "krbsrvname", "load_balance_hosts", "max_protocol_version", "min_protocol_version", "passfile", "port",
    "replication", "require_auth", "requirepeer", "service", "servicefile", "ssl_max_protocol_version", "ssl_min_protocol_version",
    "sslcert", "sslcertmode", "sslcompression", "sslcrl", "sslcrldir", "sslmode", "sslnegotiation", "sslrootcert", "sslsni",
    "target_session_attrs", "tcp_user_timeout", "user",
})  # fmt: skip

_ITEM_ENDS = re.compile(r"[,\r\n]")
_CONNECTION_STRING = re.compile(r"://|\bpassword\s*=", re.IGNORECASE)
_PASSWORDS = (re.compile(r"://[^:/@\s]*:([^/@\s]+)@"), re.compile(r"\bpassword\s*=\s*(?:'((?:\\.|[^'\\])+)'|([^\s&']+))", re.IGNORECASE))


def application_name(module: str, environment: Mapping[str, str] | None = None) -> str:
    """Return the name a DBA sees for `module` at work; AWX's job number is in it where AWX runs it."""
    known = os.environ if environment is None else environment
    job = known.get("JOB_ID") or known.get("AWX_JOB_ID") or ""
    return "/".join([COLLECTION, module, *([job] if job else [])])


def is_connection_string(text: Any) -> bool:
    """Return whether `text` looks like one of libpq's connection strings, which may hold a password."""
    return isinstance(text, str) and bool(_CONNECTION_STRING.search(text))


def secret_values(parameters: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> set[str]:
    """Return the secrets among a module's `parameters`, and libpq's password in `environment`.

    They are the password, what is in `connect_params` under any key that is not known to be harmless, and every value that
    looks like a connection string, together with the password inside it.
    """
    inside = parameters.get("connect_params") or {}
    found = [parameters.get("login_password"), (environment or {}).get("PGPASSWORD")]
    found += [value for key, value in inside.items() if key not in READABLE_PARAMETERS]
    for text in (*parameters.values(), *inside.values()):
        if is_connection_string(text):
            found += [text, *_passwords(text)]
    return {str(value) for value in found if value not in (None, "")}


def keep_readable(hidden: set[str], parameters: Mapping[str, Any]) -> None:
    """Make the values that Ansible hides in a module's results (`module.no_log_values`) those that are secret.

    `connect_params` may hold a password, so Ansible must not log it, and takes every value in it for a secret: without this
    call a host name or a port number given there would be starred out wherever it stands in the result. And a connection
    string, given where it is refused, would be shown with its password among the arguments.
    """
    inside, secret = parameters.get("connect_params") or {}, secret_values(parameters)
    hidden.difference_update({str(value) for key, value in inside.items() if key in READABLE_PARAMETERS} - secret)
    hidden.update(secret)


def noticed(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return a result whose warnings a playbook can read too: Ansible shows them and takes them out of what is registered."""
    return {**result, "notices": list(result.get("warnings") or [])}


def listed(value: Any) -> list[Any]:
    """Return the items of an option that is a list, or a text of items between commas and line ends, as a survey sends one.

    None and a text without any item give an empty list, a single number a list of one.
    """
    if value is None or isinstance(value, (list, tuple)):
        return list(value or ())
    return [item for item in map(str.strip, _ITEM_ENDS.split(value)) if item] if isinstance(value, str) else [value]


def says_nothing(value: Any) -> bool:
    """Return whether `value` is given and has no item all the same, such as a comma between two variables that are empty.

    It does not count as not given: whoever wrote it meant something, and without it a selection would mean more.
    """
    items = listed(value)
    return value not in (None, "", []) and not [item for item in items if item is not None and str(item).strip()]


def given_parts(value: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the parts of an option that is a mapping, without those that count as not given."""
    return {name: part for name, part in (value or {}).items() if part not in (None, "", [])}


def _passwords(text: str) -> Iterator[str]:
    for pattern in _PASSWORDS:
        for groups in pattern.finditer(text):
            yield from (group for group in groups.groups() if group)
