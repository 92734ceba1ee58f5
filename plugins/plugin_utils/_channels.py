# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The channels of the role notify: what a channel is made of, what is wrong with one, and what must never be shown of it."""

from __future__ import annotations

import base64
import difflib
import re
from dataclasses import dataclass, field
from email.utils import parseaddr
from typing import Any, Callable, Dict, FrozenSet, Iterator, List, Mapping, Sequence, Tuple
from urllib.parse import urlsplit

SEVERITIES = ("critical", "warning", "unknown")
SECURE = ("starttls", "always", "never", "try")
# What may stand in an address without quotes. A comma, a space, an angle or a line break would make two of one.
_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_PRINTABLE = re.compile(r"[\x20-\x7e]+")
_SHORT = 8


def is_address(text: Any) -> bool:
    """Say whether `text` is one plain mail address and nothing else."""
    return isinstance(text, str) and _ADDRESS.fullmatch(text) is not None


@dataclass(frozen=True)
class Channel:
    """One way to tell people. `severities` is None where the channel does not say; `faults` are sentences without a value that is secret.

    `contacts` says that contacts with a mail address get theirs through it, `to` who always does.
    """

    name: str
    type: str = ""
    severities: FrozenSet[str] | None = None
    contacts: bool = False
    to: Tuple[str, ...] = ()
    faults: Tuple[str, ...] = ()


@dataclass
class _Reading:
    """A channel that is being read, with the faults found so far."""

    given: Mapping[str, Any]
    faults: List[str] = field(default_factory=list)

    def text(self, key: str, *, required: bool = False) -> str:
        value = self.given.get(key)
        if value is None or value == "":
            self.faults += [f"{key} is required"] if required else []
            return ""
        if isinstance(value, (list, tuple, Mapping, bool)):
            self.faults.append(f"{key} must be a text")
            return ""
        return str(value)

    def texts(self, key: str) -> List[str]:
        value = self.given.get(key)
        listed = [] if value is None or value == "" else [value] if isinstance(value, str) else value
        if not isinstance(listed, (list, tuple)) or not all(isinstance(one, str) for one in listed):
            self.faults.append(f"{key} must be a list of texts")
            return []
        return [str(one) for one in listed]

    def flag(self, key: str, default: bool) -> bool:
        value = self.given.get(key, default)
        if not isinstance(value, bool):
            self.faults.append(f"{key} must be true or false")
            return default
        return value


def _mail(channel: _Reading) -> Dict[str, Any]:
    sender = channel.text("sender", required=True)
    if sender and not (_PRINTABLE.fullmatch(sender) and is_address(parseaddr(sender)[1])):
        channel.faults.append("sender must be one mail address, with a name before it in the form Name <address> if you like")
    port = channel.text("port") or "25"
    if not (port.isdigit() and 0 < int(port) < 65536):
        channel.faults.append("port must be a number from 1 to 65535")
    secure = channel.text("secure") or SECURE[0]
    if secure not in SECURE:
        channel.faults.append(f"secure must be one of {', '.join(SECURE)}")
    if bool(channel.text("username")) != bool(channel.text("password")):
        channel.faults.append("username and password go together")
    for key in ("host", "ehlohost", "subject_prefix"):
        text = channel.text(key)
        if text and (not text.isprintable() or (key != "subject_prefix" and " " in text)):
            channel.faults.append(f"{key} must be one line, a name of a host without spaces")
    to = channel.texts("to")
    channel.faults += [f"to: {one!r} is not one plain mail address" for one in to if not is_address(one)]
    contacts = channel.flag("contacts", False)
    if not to and not contacts:
        channel.faults.append("to is required where contacts is not true: nobody would get anything")
    return {"to": tuple(dict.fromkeys(to)), "contacts": contacts}


def _http(channel: _Reading) -> Dict[str, Any]:
    url = channel.text("url", required=True)
    if url and not _is_url(url):
        channel.faults.append(
            "url must begin with http:// or https://, name a host, and have no space or other character that needs encoding"
        )
    channel.flag("validate_certs", True)
    channel.text("ca_path")
    headers = channel.given.get("headers", {})
    if not isinstance(headers, Mapping):
        channel.faults.append("headers must be a mapping")
        return {}
    for name, value in headers.items():
        if not (isinstance(name, str) and _TOKEN.fullmatch(name)):
            channel.faults.append("headers has a name that is none of a header")
        elif isinstance(value, (list, Mapping)) or not _PRINTABLE.fullmatch(str(value)):
            channel.faults.append(f"headers: {name} must be one line of printable ASCII")
    return {}


def _is_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    plain = _PRINTABLE.fullmatch(url) is not None and " " not in url
    return plain and parts.scheme in ("http", "https") and bool(parts.hostname) and port != 0


def _command(channel: _Reading) -> Dict[str, Any]:
    argv = channel.texts("argv")
    if not argv or not argv[0]:
        channel.faults.append("argv is required: the program and its arguments, a list")
    if any("\0" in one for one in argv):
        channel.faults.append("argv must not hold a zero byte")
    return {}


COMMON = ("name", "type", "severities")
TYPES: Dict[str, Tuple[Tuple[str, ...], Callable[[_Reading], Dict[str, Any]]]] = {
    "mail": (("host", "port", "secure", "username", "password", "sender", "to", "contacts", "subject_prefix", "ehlohost"), _mail),
    "slack": (("url", "validate_certs", "ca_path"), _http),
    "webhook": (("url", "headers", "validate_certs", "ca_path"), _http),
    "command": (("argv",), _command),
}


def read(channels: Any) -> List[Channel]:
    """Return the channels, each with what is wrong with it. Never raises: a wrong channel is told of, and the others still work."""
    if not isinstance(channels, Sequence) or isinstance(channels, (str, bytes)):
        return [Channel("notify_channels", faults=("notify_channels must be a list of channels",))]
    found: List[Channel] = []
    for number, given in enumerate(channels):
        channel = _read(given, f"notify_channels[{number}]")
        if channel.name in [other.name for other in found]:
            channel = Channel(f"notify_channels[{number}]", channel.type, faults=(f"there is another channel named {channel.name}",))
        found.append(channel)
    return found


def _read(given: Any, place: str) -> Channel:
    if not isinstance(given, Mapping):
        return Channel(place, faults=("a channel must be a mapping with a name and a type",))
    channel = _Reading(given)
    name, kind = channel.text("name", required=True), channel.text("type", required=True)
    if name and not (isinstance(given["name"], str) and name.isprintable()):
        channel.faults.append("name must be a text of one line")
        name = place
    if kind not in TYPES:
        channel.faults += [f"type must be one of {', '.join(TYPES)}"] if kind else []
        return Channel(name or place, faults=tuple(channel.faults))
    keys, check = TYPES[kind]
    channel.faults += [_unknown(str(key), kind, COMMON + keys) for key in given if key not in COMMON + keys]
    severities = channel.texts("severities") if given.get("severities") is not None else None
    if severities is not None and not set(severities) <= set(SEVERITIES):
        channel.faults.append(f"severities must be some of {', '.join(SEVERITIES)}")
    own = check(channel)
    if channel.faults:
        return Channel(name or place, kind, faults=tuple(channel.faults))
    return Channel(name, kind, None if severities is None else frozenset(severities), **own)


def _unknown(key: str, kind: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    # What stands for a key may be a secret that slipped: only one that looks like a name is shown.
    shown = key if re.fullmatch(r"[a-z_]{1,20}", key) else "something"
    return f"{shown} is no key of a {kind} channel{f', did you mean {near[0]}?' if near else f': it has {chr(44).join(known)}'}"


def secrets(given: Any) -> List[str]:
    """Return every text that must not be shown of a channel, as it was given, the longest first."""
    return sorted(set(_secrets(given)), key=len, reverse=True) if isinstance(given, Mapping) else []


def _secrets(given: Mapping[str, Any]) -> Iterator[str]:
    url = str(given.get("url") or "")
    if url:
        yield url
        rest = re.sub(r"^[a-z]+://[^/?#]*", "", url)
        yield from (part for part in re.split(r"[/?&=#]", rest) if len(part) >= _SHORT)
        yield from [rest] if len(rest) > 1 else []
        user, _colon, word = url.rpartition("@")[0].rpartition("/")[2].partition(":")
        yield from [one for one in (word, user if len(user) >= _SHORT else "") if one]
    password = str(given.get("password") or "")
    if password:
        login = "\0".join(("", str(given.get("username") or ""), password))
        yield from (password, *(base64.b64encode(text.encode()).decode() for text in (password, login)))
    headers = given.get("headers")
    for value in headers.values() if isinstance(headers, Mapping) else ():
        yield from (part for part in (str(value), *str(value).split(" ")[1:]) if part)


def hide(text: str, given: Any) -> str:
    """Return `text` with stars in place of whatever is secret of a channel."""
    for secret in secrets(given):
        text = text.replace(secret, "***")
    return text
