"""Token stores as others have published them: the real tables, rows as they come to be, and each application's own judgement.

STORES["keycloak"].create(database); .fill(database, rows); .accepted(database) -> {token store: {id, ...}}
"""

from __future__ import annotations

from .django import DjangoStore
from .store import Accepted, PublishedStore, WrittenStore

# Those that the collection ships a description of.
READY = ("django_oauth_toolkit", "simplejwt", "keycloak", "ory_hydra", "doorkeeper", "supabase_auth")
# TIM's own layout as it was published at other times and by others.
VARIANTS = ("tim_v1", "tim_hash", "tim_chains", "tim_rust")

STORES: dict[str, PublishedStore] = {
    name: DjangoStore(name) if name in ("django_oauth_toolkit", "simplejwt") else WrittenStore(name) for name in (*READY, *VARIANTS)
}

__all__ = ["READY", "STORES", "VARIANTS", "Accepted", "PublishedStore", "WrittenStore"]
