# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a cache is and how to log in: what the description says of it, and over that what the operator gives."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field, replace
from typing import Any, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._duration import time_to_wait
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue

TIMEOUT = 10.0
PORT = 6379
_BOOLEANS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_TEXTS = ("host", "username", "password", "ca_cert", "cert", "key")


@dataclass(frozen=True)
class CacheConnection:
    """What an operator gave; None is what was not given, and then the description's or a default counts."""

    path: str = "cache_connection"
    host: str | None = None
    port: int | None = None
    database: int | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool | None = None
    ca_cert: str | None = None
    cert: str | None = None
    key: str | None = None
    timeout: float | None = None


@dataclass(frozen=True)
class CacheOptions:
    """A complete address. A `host` that begins with a slash is a socket."""

    host: str
    port: int = PORT
    database: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    ca_cert: str | None = None
    cert: str | None = None
    key: str | None = None
    timeout: float = TIMEOUT

    @property
    def place(self) -> str:
        """The address as messages name it."""
        if self.host.startswith("/"):
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def read_connection(mapping: Mapping[str, Any] | None, path: str = "cache_connection") -> CacheConnection:
    """Return the options in `mapping`; None and the empty string count as not given. Raises InvalidValue."""
    given = {name: value for name, value in (mapping or {}).items() if value not in (None, "")}
    names = (*_TEXTS, "port", "database", "tls", "timeout")
    unknown = sorted(set(given) - set(names))
    if unknown:
        raise InvalidValue(f"{path}.{unknown[0]}: no such option; there are {', '.join(sorted(names))}", object_name=path)
    for name in _TEXTS:
        if name in given and not isinstance(given[name], str):
            raise InvalidValue(f"{path}.{name}: write text, in quotes where YAML would read something else", object_name=path)
    read: dict[str, Any] = {name: given[name] for name in _TEXTS if name in given}
    if "port" in given:
        read["port"] = _whole(given["port"], f"{path}.port", 1, 65535)
    if "database" in given:
        read["database"] = _whole(given["database"], f"{path}.database", 0, 2**31 - 1)
    if "tls" in given:
        read["tls"] = _boolean(given["tls"], f"{path}.tls")
    if "timeout" in given:
        read["timeout"] = time_to_wait(given["timeout"], f"{path}.timeout")
    if "key" in read and "cert" not in read:
        raise InvalidValue(f"{path}.key: the key of a client certificate needs cert, the certificate itself", object_name=path)
    files = [name for name in ("ca_cert", "cert", "key") if name in read]
    if files and read.get("tls") is False:
        raise InvalidValue(f"{path}.{files[0]}: it is of use with tls: true only, and tls is false", object_name=path)
    if files:
        # Who names a certificate must never end up with a password in clear text.
        read["tls"] = True
    return CacheConnection(path, **read)


def cache_options(entry: Mapping[str, Any], connection: CacheConnection) -> CacheOptions:
    """Return the address of the cache that a description's `entry` tells of, with what `connection` gives over it.

    Certificates are read here, so that a wrong one is named before anything happens. Raises InvalidValue.
    """
    engine = entry.get("engine", "redis")
    if engine != "redis":
        raise InvalidValue(f"the cache has the engine {engine}; redis is the only one that is known", object_name=str(engine))
    described = {name: entry[name] for name in ("host", "port", "database", "tls") if entry.get(name) is not None}
    names = (*_TEXTS, "port", "database", "tls", "timeout")
    given = {name: getattr(connection, name) for name in names if getattr(connection, name) is not None}
    merged = {**described, **given}
    if not merged.get("host"):
        raise InvalidValue(
            f"where the cache listens is not known: its entry among the description's `caches` has no host, nor has {connection.path}.",
            object_name=f"{connection.path}.host",
            hint=f"Give {connection.path}: {{host: ...}}, a name, an address or the path of a socket.",
        )
    options = CacheOptions(**merged)
    if options.host.startswith("/") and options.tls:
        raise InvalidValue(f"{connection.path}.tls: a socket ({options.host}) does not speak TLS; give a host or leave tls out")
    _check_certificates(options, connection.path)
    return replace(options, port=int(options.port), database=int(options.database))


def _check_certificates(options: CacheOptions, path: str) -> None:
    if options.ca_cert is not None:
        try:
            ssl.create_default_context(cafile=options.ca_cert)
        except OSError as error:
            raise _unusable(f"{path}.ca_cert", options.ca_cert, error) from None
    if options.cert is not None:
        try:
            # With an empty passphrase: without one, OpenSSL would ask for it at the terminal.
            ssl.create_default_context().load_cert_chain(options.cert, options.key, password=lambda: "")
        except OSError as error:
            name = f"{path}.cert" if options.key is None else f"{path}.cert and key"
            raise _unusable(name, " and ".join(filter(None, (options.cert, options.key))), error) from None


def _unusable(option: str, files: str, error: OSError) -> InvalidValue:
    why = error.strerror or str(error)
    return InvalidValue(
        f"{option}: {files} cannot be used: {why}; it has to be a readable PEM file without a passphrase", object_name=option
    )


def _whole(value: Any, path: str, least: int, most: int) -> int:
    text = str(value)
    if isinstance(value, bool) or not (text.isascii() and text.isdigit()) or not least <= int(text) <= most:
        raise InvalidValue(f"{path}: {value!r} is not a whole number from {least} to {most}", object_name=path)
    return int(text)


def _boolean(value: Any, path: str) -> bool:
    found = _BOOLEANS.get(str(value).lower())
    if found is None:
        raise InvalidValue(f"{path}: {value!r} is neither true nor false", object_name=path)
    return found
