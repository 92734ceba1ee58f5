# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a Redis server says of itself: its memory, what it drops, how it keeps its data, and whom it lets in."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Callable, Dict, List, Mapping, Tuple, TypeVar, Union

from ansible_collections.pgops.runbook.plugins.module_utils._cache.client import client, explained, load
from ansible_collections.pgops.runbook.plugins.module_utils._cache.errors import CacheError
from ansible_collections.pgops.runbook.plugins.module_utils._cache.options import CacheOptions, cache_options, read_connection
from ansible_collections.pgops.runbook.plugins.module_utils._errors import RunbookError

SETTINGS = ("maxmemory", "maxmemory-policy", "save", "appendonly")
Said = TypeVar("Said")


@dataclass(frozen=True)
class CacheState:
    """One server. What could not be asked is the error that says why; `info` is what INFO says, by its own words.

    `settings` are texts by name, `open` whether a client without a password is let in, `known_commands` those of the commands
    asked about that it has under their own name.
    """

    place: str
    info: Union[Mapping[str, Any], RunbookError]
    settings: Union[Mapping[str, str], RunbookError]
    open: Union[bool, RunbookError]
    known_commands: Union[List[str], RunbookError] = field(default_factory=list)


def states(entries: List[Mapping[str, Any]], connection: Mapping[str, Any] | None) -> List[Tuple[str, Union[CacheState, RunbookError]]]:
    """Return for each cache of a description its address and what it says, or why it says nothing.

    `connection` are the operator's options, as `cache_connection` of the modules.
    """
    found: List[Tuple[str, Union[CacheState, RunbookError]]] = []
    for number, entry in enumerate(entries):
        name = f"{entry.get('host') or 'cache'}" if len(entries) == 1 else f"{entry.get('host') or 'cache'} {number + 1}"
        try:
            options = cache_options(entry, read_connection(connection))
            name = options.place
            found.append((name, _state(options, entry)))
        except RunbookError as error:
            found.append((name, error))
    return found


def _state(options: CacheOptions, entry: Mapping[str, Any]) -> CacheState:
    """Return what the server says. Raises CacheError where it cannot be reached, and CacheClientMissing."""
    redis = load()
    session = client(redis, options)
    try:
        _reach(options, session)
        wanted = list(entry.get("disabled_commands") or ())
        return CacheState(
            place=options.place,
            info=_told(lambda: _ask(options, "INFO", session.info)),
            settings=_told(lambda: _settings(session, options)),
            open=_told(lambda: _is_open(redis, options)),
            known_commands=_told(lambda: _known(session, options, wanted)),
        )
    finally:
        session.close()


def _reach(options: CacheOptions, session: Any) -> None:
    try:
        _ask(options, "PING", session.ping)
    except CacheError as error:
        # A server that cannot save refuses even this, and answers all that is asked below.
        if error.reason != "not_saving":
            raise


def _told(ask: Callable[[], Said]) -> Union[Said, RunbookError]:
    try:
        return ask()
    except RunbookError as error:
        return error


def _ask(options: CacheOptions, command: str, send: Callable[[], Said]) -> Said:
    import redis

    try:
        return send()
    except (redis.RedisError, OSError) as error:
        raise explained(error, options, command) from None


def _settings(session: Any, options: CacheOptions) -> Dict[str, str]:
    found: Dict[str, str] = {}
    for name in SETTINGS:
        answer = _ask(options, "CONFIG GET", lambda name=name: session.execute_command("CONFIG GET", name))  # type: ignore[misc]
        found[name] = _text(dict(_pairs(answer)).get(name, ""))
    return found


def _pairs(answer: Any) -> List[Tuple[str, Any]]:
    """Return name and value of CONFIG GET, which libraries give as a mapping or as a flat list."""
    flat = list(answer.items()) if isinstance(answer, Mapping) else list(zip(answer[::2], answer[1::2]))
    return [(_text(name), value) for name, value in flat]


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _is_open(redis: Any, options: CacheOptions) -> bool:
    """Return whether a client that gives no password may do something."""
    stranger = client(redis, replace(options, username=None, password=None))
    try:
        stranger.ping()
    except redis.AuthenticationError:
        return False
    except redis.ResponseError as error:
        if str(error).startswith(("NOAUTH", "NOPERM", "DENIED", "WRONGPASS")):
            return False
        raise explained(error, options, "PING") from None
    except (redis.RedisError, OSError) as error:
        raise explained(error, options, "PING") from None
    finally:
        stranger.close()
    return True


def _known(session: Any, options: CacheOptions, commands: List[str]) -> List[str]:
    """Return those of `commands` that the server has under their own name."""
    if not commands:
        return []
    answer = _ask(options, "COMMAND INFO", lambda: session.execute_command("COMMAND INFO", *commands))
    listed = answer.keys() if isinstance(answer, Mapping) else [each[0] for each in answer if each]
    there = {_text(name).upper() for name in listed}
    return [command for command in commands if command.upper() in there]
