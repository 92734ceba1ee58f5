"""Descriptions by name: the built-in ones as the collection ships them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from ansible_collections.pgops.runbook.plugins.module_utils._system import load

from .errors import GroundError
from .servers import CHECKOUT

FOLDER = CHECKOUT / "roles" / "system" / "files" / "systems"
BUILT_IN = ("tim", "oauth2_server", "tmi", "showtrack", "azth")
# Of well-known applications, with what revoking needs and no more: there is no runbook for them.
READY = ("django_oauth_toolkit", "simplejwt", "keycloak", "ory_hydra", "doorkeeper", "supabase_auth")


def description_of(system: str | Mapping[str, Any]) -> dict[str, Any]:
    """Return the normalised description of a built-in name, or of a description in either form."""
    if not isinstance(system, str):
        return load(dict(system))
    path = FOLDER / f"{system}.yml"
    if not path.is_file():
        raise GroundError(f"{system!r} is not one of {', '.join((*BUILT_IN, *READY))}")
    return load(yaml.safe_load(path.read_text(encoding="utf-8")))
