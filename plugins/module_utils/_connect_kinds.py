# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ways in which a connection is refused: the words that show each, its layer, and what to do."""

from __future__ import annotations

from typing import NamedTuple

# From the first step of a connection to the last: of several hosts the one that came furthest is the one to look at.
LAYERS = (
    "service", "name", "port", "tls", "shutting_down", "starting_up", "too_many_connections", "authentication",
    "database", "authorization", "session",
)  # fmt: skip

_HOST = "Check login_host, or the resolver of the machine that runs the module."
_PORT = "Check that the server runs, that it listens on that address (listen_addresses, port) and that no firewall is in between."
_SOCKET = "Check that the server runs on this machine; login_unix_socket is the folder that holds the socket, login_port its number."
_TLS = "Check ssl_mode, ca_cert, ssl_cert and ssl_key."
PASSWORD_HINT = "Check login_user and login_password (or the password file)."
_HBA = "Add a line for this user, database and client address to pg_hba.conf, or connect the way it allows."
_WAIT = "Wait until it has started: its log says how far it is."
_SLOTS = "Free a connection, put a pooler in front, or raise max_connections (of the server, the role or the database)."


class Kind(NamedTuple):
    """One way to be refused: the words that show it, its layer, the SQLSTATE that belongs to it, and what to do."""

    pattern: str
    layer: str
    sqlstate: str | None
    hint: str


# What a server (or a pooler in front of it) answers.
SERVER = (
    Kind(r"password authentication failed|wrong password type|no such user", "authentication", "28P01", PASSWORD_HINT),
    Kind(r"pg_hba\.conf", "authentication", "28000", _HBA),
    Kind(
        r"authentication failed for user|no matching entries in|requires a valid client certificate",
        "authentication",
        "28000",
        "The server does not take this user by that method: connect as another system user, or with a password or certificate.",
    ),
    Kind(r"^role .* does not exist|not permitted to log in", "authentication", "28000", "Create the role with LOGIN, or check login_user."),
    Kind(r"^database .* does not exist|no such database", "database", "3D000", "Check login_db, or create the database."),
    Kind(
        r"not currently accepting connections|invalid database|database .* is disabled",
        "database",
        "55000",
        "The database is closed to connections (datallowconn, a broken DROP DATABASE, or the pooler).",
    ),
    Kind(
        r"permission denied for database|does not have CONNECT privilege",
        "authorization",
        "42501",
        "Grant CONNECT on the database to the role.",
    ),
    Kind(r"shutting down|terminating connection due to administrator", "shutting_down", "57P03", "Start it again when it is down."),
    Kind(
        r"the database system is not accepting connections",
        "starting_up",
        "57P03",
        "It is a standby that takes no sessions: set hot_standby, or name another host.",
    ),
    Kind(r"starting up|not yet accepting connections|in recovery mode", "starting_up", "57P03", _WAIT),
    Kind(
        r"too many (clients|connections)|remaining connection slots|no more connections allowed|sorry, too many",
        "too_many_connections",
        "53300",
        _SLOTS,
    ),
    Kind(
        r"startup parameter|configuration parameter|permission denied to set parameter|invalid value for parameter",
        "session",
        None,
        "The server or pooler refuses a setting sent on connecting: look at PGOPTIONS and connect_params.options.",
    ),
)

# What libpq or the driver says by itself.
CLIENT = (
    Kind(
        r"definition of service|service file",
        "service",
        None,
        "Check the service's name, PGSERVICEFILE, ~/.pg_service.conf and PGSYSCONFDIR.",
    ),
    Kind(r"translate host name|resolve host|[Nn]ame or service not known|[Nn]ame resolution", "name", None, _HOST),
    Kind(r"no password supplied|fe_sendauth", "authentication", "28P01", "Give login_password, PGPASSWORD or a line in the password file."),
    Kind(
        r"invalid response to SSL negotiation|expected authentication request",
        "port",
        None,
        "Something other than PostgreSQL listens there: check login_port.",
    ),
    Kind(r"authentication method|SCRAM|GSSAPI|requirepeer|channel binding|\bGSS\b", "authentication", None, _HBA),
    Kind(r"server does not support SSL", "tls", None, "Switch TLS on in the server (ssl = on), or give ssl_mode prefer or disable."),
    Kind(
        r"root certificate file .* does not exist",
        "tls",
        None,
        "Give ca_cert, the file of the authority that signed the server's certificate.",
    ),
    Kind(r"does not match host name", "tls", None, "Connect by a name that the certificate holds, or give ssl_mode verify-ca."),
    Kind(r"certificate verify failed", "tls", None, "The server's certificate is not signed by the authority in ca_cert."),
    Kind(r"SSL|TLS|certificate|private key", "tls", None, _TLS),
    Kind(
        r"session is (not )?read-only|hot standby mode|make a (suitable|writable) connection|server is (not )?in|target_session_attrs",
        "session",
        "25006",
        "No listed host is what target_session_attrs asks for: list the others too, or check which one is the primary.",
    ),
    Kind(r"on socket .*(No such file|Permission denied|Connection refused)|Unix.domain socket|socket path", "port", None, _SOCKET),
    Kind(
        r"refused|timeout expired|timed out|unreachable|No route|No such file|closed the connection|reset by peer|Permission denied",
        "port",
        None,
        _PORT,
    ),
)

BY_STATE = {
    "28P01": ("authentication", PASSWORD_HINT),
    "28000": ("authentication", _HBA),
    "3D000": ("database", "Check login_db, or create the database."),
    "42501": ("authorization", "Grant CONNECT on the database to the role."),
    "53300": ("too_many_connections", _SLOTS),
    "57P01": ("shutting_down", "Start it again when it is down."),
    "57P03": ("starting_up", _WAIT),
}
LAYER_HINTS = {"name": _HOST, "port": _PORT, "tls": _TLS}
