# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options that every module shares, and what every module does with them."""

from __future__ import annotations

import os
from typing import Any, Mapping

COLLECTION = "pgops.runbook"

# An empty string is allowed wherever a choice is, because it counts as not given: a survey or an empty variable sends one.
SSL_MODES = ("allow", "disable", "prefer", "require", "verify-ca", "verify-full")
TARGET_SESSION_ATTRIBUTES = ("any", "prefer-standby", "primary", "read-only", "read-write", "standby")

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

# The keys of connect_params that hold a secret.
SECRET_PARAMETERS = ("password", "sslpassword", "scram_client_key", "scram_server_key", "oauth_client_secret")


def application_name(module: str, environment: Mapping[str, str] | None = None) -> str:
    """Return the name a DBA sees for `module` at work; AWX's job number is in it where AWX runs it."""
    known = os.environ if environment is None else environment
    job = known.get("JOB_ID") or known.get("AWX_JOB_ID") or ""
    return "/".join([COLLECTION, module, *([job] if job else [])])


def secret_values(parameters: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> set[str]:
    """Return the secrets among a module's `parameters`, and libpq's password in `environment`."""
    inside = parameters.get("connect_params") or {}
    found = [parameters.get("login_password"), (environment or {}).get("PGPASSWORD"), *(inside.get(key) for key in SECRET_PARAMETERS)]
    return {str(value) for value in found if value not in (None, "")}


def keep_readable(hidden: set[str], parameters: Mapping[str, Any]) -> None:
    """Take what is no secret out of the values that Ansible hides in a module's results (`module.no_log_values`).

    `connect_params` may hold a password, so Ansible must not log it, and takes every value in it for a secret: without this
    call a host name or a port number given there would be starred out wherever it stands in the result.
    """
    inside = parameters.get("connect_params") or {}
    hidden.difference_update({str(value) for value in inside.values()} - secret_values(parameters))
