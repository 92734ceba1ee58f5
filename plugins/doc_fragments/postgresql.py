# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """How a module reaches a database."""

    DOCUMENTATION = r"""
options:
  login_host:
    description:
      - Name or address of the server, or the folder of its Unix domain socket if it begins with a slash.
      - Several servers are separated by commas, V(db1,db2). They are tried in that order until one gives a session that is
        what O(target_session_attrs) asks for.
    type: str
    aliases: [host]
  login_port:
    description:
      - Port of the server, from 1 to 65535.
      - With several servers in O(login_host), either one port for all of them or as many as there are servers, separated by
        commas, V(5432,5433).
    type: str
    aliases: [port]
  login_user:
    description:
      - Role to connect as.
    type: str
  login_password:
    description:
      - Password of that role.
      - It is never shown in a result, a message or the log of the target.
    type: str
  login_db:
    description:
      - Name of the database to connect to, exactly as the server spells it.
      - A connection string is refused here, because it may hold a password.
    type: str
  login_unix_socket:
    description:
      - Folder of the Unix domain socket to connect through.
      - Excludes a O(login_host) other than V(localhost).
    type: str
    aliases: [unix_socket]
  ssl_mode:
    description:
      - Whether the connection is encrypted and how far the server's certificate is checked, in the words of
        U(https://www.postgresql.org/docs/current/libpq-ssl.html).
      - An empty string counts as not given.
    type: str
    choices: ["", allow, disable, prefer, require, verify-ca, verify-full]
  ca_cert:
    description:
      - File, on the host that runs the module, with the certificates of the authorities that may have signed the server's
        certificate.
      - The word V(system) takes the authorities that the operating system trusts (libpq 16 or newer).
    type: str
    aliases: [ssl_rootcert]
  ssl_cert:
    description:
      - File with the client's certificate.
    type: path
  ssl_key:
    description:
      - File with the key of the client's certificate. It must not be readable by others.
    type: path
  connect_params:
    description:
      - Further connection parameters of libpq by their own names, such as C(service), C(passfile), C(sslcrl), C(gssencmode)
        or C(keepalives_idle).
      - They win over the other options. None and an empty string count as not given.
      - The whole option is kept out of the log of the target. In the result only the values of parameters that hold no secret
        are shown. The value of C(password), of C(options) and of a name that libpq does not have is starred out.
      - C(keepalives=1), C(keepalives_idle=30), C(keepalives_interval=10), C(keepalives_count=3) and, with libpq 12 or newer,
        C(tcp_user_timeout=60000) are the defaults here, unless a service is named; then the service file says them.
      - C(client_encoding) is always UTF-8, whatever is given.
    type: dict
  session_role:
    description:
      - Role to act as after connecting (C(SET ROLE)). The login role must be a member of it.
    type: str
  connect_timeout:
    description:
      - How long to wait for one server before the next one is tried or the module fails, such as V(10 s) or V(1 min); a bare
        number is seconds.
      - If it is not given, C(PGCONNECT_TIMEOUT) or the service file say it, else it is 10 seconds.
    type: str
  target_session_attrs:
    description:
      - Which of several servers will do. V(read-write) and V(primary) find the primary; V(standby) a standby,
        V(prefer-standby) a standby if there is one.
      - V(primary), V(standby), V(prefer-standby) and V(read-only) need libpq 14 or newer.
      - An empty string counts as not given.
    type: str
    choices: ["", any, prefer-standby, primary, read-only, read-write, standby]
  lock_timeout:
    description:
      - How long a statement waits for a lock before it fails, such as V(5 s) or V(500 ms); a bare number is seconds. There
        is no waiting without a limit.
    type: str
    default: 5 s
  statement_timeout:
    description:
      - How long one statement may run before the server cancels it, such as V(15 min); a bare number is seconds. There is no
        running without a limit.
      - A server that has not answered 30 seconds after that is given up by the module, which closes the connection and fails.
        Whether that statement took effect is then not known.
    type: str
    default: 15 min
requirements:
  - psycopg2, or psycopg 3.1.4 or newer, on the host that runs the module. Every test runs with psycopg2 2.9.13 and with
    psycopg 3.3.9; opening sessions and reading values were tried with psycopg2 2.9.5 and psycopg 3.1.8 as well
  - PostgreSQL 12 or newer on the server
notes:
  - The module runs where the play's connection leads. With C(connection=local) it connects from the control node.
  - What is not given comes from libpq, in its own order. These are the service file (O(connect_params) with C(service), or
    C(PGSERVICE)), the C(PG*) environment variables of the host that runs the module, the password file C(~/.pgpass), and
    libpq's defaults. None and an empty string count as not given, and so does an empty C(PG*) variable.
  - The session is set up with C(SET) after connecting, so that it works through a pooler that drops the C(options) startup
    parameter. A pooler must give one server session to one client (PgBouncer's C(pool_mode=session)), because settings and
    advisory locks belong to a session.
  - Each session sets C(application_name) (C(pgops.runbook/) and the module's name), C(search_path), C(lock_timeout),
    C(statement_timeout), C(idle_in_transaction_session_timeout), C(row_security=off) and the zone UTC, and is read-only
    where the module only reads and in check mode. On PostgreSQL 14 or newer the server also ends the statement of a module
    that was killed.
  - With C(row_security=off) a table whose rows are hidden from the role by a policy makes an error. It is never counted as
    empty.
  - If a connection is refused, the result's C(layer) says where. It is one of V(service), V(name), V(port), V(tls),
    V(authentication), V(authorization), V(database), V(starting_up), V(shutting_down), V(too_many_connections), V(session)
    and V(unknown).
"""
