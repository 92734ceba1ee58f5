# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A snapshot on its way from one module to another, through the output of Ansible.

Ansible stars out the values of secret options wherever they stand in a result, and a password such as `tim` stands in the name of the
system. The next run would compare the whole with what is left of it.
"""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any, Dict, Mapping

from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue

SEALED = "sealed"
# A longer password cannot stand in a text that has a space after so many signs, unless it has spaces like that itself.
_TOGETHER = 2


def sealed(snapshot: Mapping[str, Any]) -> Dict[str, Any]:
    """Return a snapshot in a form in which no secret of an option is found."""
    packed = base64.b64encode(zlib.compress(json.dumps(snapshot, ensure_ascii=False).encode("utf-8"))).decode("ascii")
    return {SEALED: " ".join(packed[at : at + _TOGETHER] for at in range(0, len(packed), _TOGETHER))}


def opened(given: Mapping[str, Any]) -> Dict[str, Any]:
    """Return the snapshot that was sealed; one that never was is returned as it is. Raises InvalidValue."""
    if set(given) != {SEALED}:
        return dict(given)
    try:
        packed = base64.b64decode(str(given[SEALED]).replace(" ", "").encode("ascii"), validate=True)
        found = json.loads(zlib.decompress(packed).decode("utf-8"))
    except (ValueError, zlib.error):
        raise InvalidValue(
            "snapshot: it has been changed on its way; a password of less than three signs does that, which Ansible stars out in it",
            object_name="snapshot",
        ) from None
    return dict(found) if isinstance(found, Mapping) else {}
