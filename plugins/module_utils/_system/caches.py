# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The form of a cache in front of the tables, and of the keys that a token has in it."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.pgops.runbook.plugins.module_utils._system.faults import Faults, shown
from ansible_collections.pgops.runbook.plugins.module_utils._system.forms import ITSELF, Field, Group, Listing
from ansible_collections.pgops.runbook.plugins.module_utils._system.kinds import BOOLEAN, DURATION, SIZE, TEXT, Choice, Text, whole

# What a key may take from the token that it is about.
PLACEHOLDERS = ("{id}", "{user_id}", "{tenant_id}", "{client_id}", "{family}")
_BRACED = re.compile(r"\{[^{}]*\}|[{}]")


class CacheKey(Text):
    """The key of a token in a cache: placeholders for the token's own, `*` for anything."""

    def __init__(self) -> None:
        super().__init__("a cache key")

    def read(self, value: Any, path: str, faults: Faults) -> str | None:
        text = super().read(value, path, faults)
        for braced in _BRACED.findall(text or ""):
            if braced not in PLACEHOLDERS:
                faults.add(path, f"{shown(text)} is not {self.noun}: {braced} is not one of {', '.join(PLACEHOLDERS)}")
        return text


SAVE_POINT = Group(
    "a save point",
    {
        "after": Field(DURATION, "save after this time", required=True),
        "changes": Field(whole("a number of changes", 1), "when at least so many keys changed", required=True),
    },
)

CACHE = Group(
    "a cache",
    {
        "engine": Field(Choice("redis"), "what serves it", required=True),
        "least_version": Field(whole("a major version", 1), "the oldest major version that will do"),
        "host": Field(TEXT, "where it listens"),
        "port": Field(whole("a port", 1), "the port", default=6379),
        "tls": Field(BOOLEAN, "whether connections to it are encrypted", default=False),
        "database": Field(whole(), "the number of its database", default=0),
        "keys": Field(
            Listing(CacheKey(), named=ITSELF),
            "the keys of a revoked token: {id}, {user_id}, {tenant_id}, {client_id} and {family} are the token's own, * is anything",
            default=[],
        ),
        "other_keys": Field(Listing(TEXT, named=ITSELF), "further keys that it holds", default=[]),
        "password_required": Field(BOOLEAN, "whether it must refuse clients without a password", default=False),
        "max_memory": Field(SIZE, "its memory limit"),
        "eviction": Field(
            Choice(
                "noeviction",
                "allkeys-lru",
                "allkeys-lfu",
                "allkeys-random",
                "volatile-lru",
                "volatile-lfu",
                "volatile-random",
                "volatile-ttl",
            ),
            "what it drops when the limit is reached",
        ),
        "save": Field(Listing(SAVE_POINT), "when it writes itself to disk", default=[]),
        "disabled_commands": Field(Listing(TEXT, named=ITSELF), "commands that are renamed away", default=[]),
    },
)
