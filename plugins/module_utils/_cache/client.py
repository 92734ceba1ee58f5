# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The client library of Redis: loaded when it is needed, without retries, and its errors in words that say what to do."""

from __future__ import annotations

import re
import socket
import ssl
import sys
from typing import Any, Iterator

from ansible_collections.pgops.runbook.plugins.module_utils._cache.errors import CacheClientMissing, CacheError
from ansible_collections.pgops.runbook.plugins.module_utils._cache.options import CacheOptions

FLOOR = (4, 1)
_CLUSTER = ("MOVED", "ASK", "CROSSSLOT", "CLUSTERDOWN", "TRYAGAIN")
_CLUSTER_ERRORS = ("MovedError", "AskError", "ClusterCrossSlotError", "ClusterDownError", "TryAgainError")


def load() -> Any:
    """Return the package `redis`. Raises CacheClientMissing."""
    try:
        import redis

        version = tuple(int(part) for part in re.findall(r"\d+", redis.__version__)[:2])
        if version < FLOOR:
            raise ImportError(f"redis {redis.__version__} is older than {'.'.join(map(str, FLOOR))}")
    except ImportError as error:
        raise CacheClientMissing(
            f"the client library of Redis cannot be imported by {sys.executable} ({error}).",
            object_name=sys.executable,
            hint=f"Install it for that interpreter: {sys.executable} -m pip install 'redis>={'.'.join(map(str, FLOOR))}'.",
        ) from None
    return redis


def client(redis: Any, options: CacheOptions) -> Any:
    """Return a client that connects with its first command."""
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    arguments: dict[str, Any] = {
        "db": options.database,
        "username": options.username,
        # A user without a password logs in with an empty one.
        "password": "" if options.username and options.password is None else options.password,
        "socket_timeout": options.timeout,
        "socket_connect_timeout": options.timeout,
        # What was lost is told; a command that is repeated in secret would spoil the counts.
        "retry": Retry(NoBackoff(), 0),
    }
    if int(redis.__version__.split(".")[0]) >= 5:
        # Every server speaks it, also where a user may do nothing but delete.
        arguments["protocol"] = 2
    if options.host.startswith("/"):
        return redis.Redis(unix_socket_path=options.host, **arguments)
    if options.tls:
        arguments.update(ssl=True, ssl_cert_reqs="required", ssl_check_hostname=True)
        arguments.update(ssl_ca_certs=options.ca_cert, ssl_certfile=options.cert, ssl_keyfile=options.key)
    return redis.Redis(host=options.host, port=options.port, **arguments)


def explained(error: Exception, options: CacheOptions, command: str, deleted: int | None = None) -> CacheError:
    """Return what `error` of the client library means for a `command`; neither password nor key is in it."""
    reason, what, hint = _meaning(error, options, command)
    so_far = f", after {deleted} keys had been deleted" if deleted else ""
    again = "Deleting again is safe." if deleted is not None else None
    told = " ".join(filter(None, (hint, again))) or None
    return CacheError(f"the cache at {options.place} {what}{so_far}", reason=reason, object_name=options.place, hint=told, deleted=deleted)


def _meaning(error: Exception, options: CacheOptions, command: str) -> tuple[str, str, str | None]:
    """Return a word for what `error` is, what the cache did, and what to do."""
    from redis import exceptions

    text = _without_secrets(str(error), options)
    if isinstance(error, exceptions.BusyLoadingError):
        return "loading", "is still loading its data", "Wait until it is done, then run again."
    if isinstance(error, exceptions.AuthenticationError) or text.startswith(("WRONGPASS", "NOAUTH")):
        return "login", *_login(text, options)
    if isinstance(error, exceptions.NoPermissionError) or text.startswith("NOPERM"):
        return "permission", *_permission(text, options, command)
    if isinstance(error, exceptions.ReadOnlyError) or text.startswith("READONLY"):
        return "read_only", f"is a read-only replica: it refused {command}", "Give the address of the primary."
    if text.startswith("MISCONF"):
        hint = "Mend what stops it from saving (its log says what), or set stop-writes-on-bgsave-error to no."
        return "not_saving", f"accepts no writes because it cannot save to disk (MISCONF): it refused {command}", hint
    if type(error).__name__ in _CLUSTER_ERRORS or text.startswith(_CLUSTER):
        return "cluster", "is part of a Redis Cluster, which is not supported", "Give a server that holds all sessions itself."
    if "unknown command" in text.lower():
        # The server's own words repeat the arguments, and so the key.
        hint = "It is too old, or its configuration renames the command; it has to be there for this."
        return "unknown_command", f"does not know the command {command}", hint
    if isinstance(error, (exceptions.ConnectionError, exceptions.TimeoutError, OSError)):
        return _unreached(error, text, options, command)
    return "refused", f"refused {command}: {text}", None


def _login(text: str, options: CacheOptions) -> tuple[str, str]:
    who = f"the user {options.username}" if options.username else "the default user"
    if options.password is None:
        return f"wants a password for {who}: {text}", "Give cache_connection: {password: ...}, and username where it has users."
    return f"refused the login of {who}: {text}", "Check username and password of cache_connection."


def _permission(text: str, options: CacheOptions, command: str) -> tuple[str, str]:
    who = options.username or "default"
    if "key" in text.lower():
        return f"does not let the user {who} use {command} on the keys of sessions", f"ACL SETUSER {who} ~<pattern> lets it."
    return f"does not let the user {who} use {command}", f"ACL SETUSER {who} +{command.lower()} lets it."


def _unreached(error: Exception, text: str, options: CacheOptions, command: str) -> tuple[str, str, str | None]:
    from redis import exceptions

    causes = list(_causes(error))
    if any(isinstance(cause, ssl.SSLError) for cause in causes):
        why = next(_without_secrets(str(cause), options) for cause in causes if isinstance(cause, ssl.SSLError))
        if "CERTIFICATE_VERIFY_FAILED" in why:
            hint = "Give the authority that signed its certificate as ca_cert, and as host a name that stands in it."
        else:
            hint = "Check that it speaks TLS on this port, and whether it wants a client certificate (cert and key)."
        return "tls", f"could not be reached by TLS: {why}", hint
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return "name", "could not be reached: its name is not known", "Check host."
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return "refused", "refused the connection", "Check that it is running and that host and port are right."
    if any(isinstance(cause, (FileNotFoundError, PermissionError)) for cause in causes):
        return "refused", f"could not be reached: {text}", "Check that host is the path of its socket and that this account may use it."
    if isinstance(error, (TimeoutError, exceptions.TimeoutError)):
        speaks = " and that it speaks TLS on this port" if options.tls and "connecting" in text.lower() else ""
        hint = f"Check the network and the load of the server{speaks}, or raise timeout."
        return "timeout", f"did not answer {command} within {options.timeout:g} s", hint
    closing = None if options.tls else "A server that closes the connection at once may want TLS (tls: true)."
    return "lost", f"closed the connection during {command}: {text}", closing


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those that it was raised for; the library does not always say from which."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _without_secrets(text: str, options: CacheOptions) -> str:
    return text.replace(options.password, "********") if options.password else text
