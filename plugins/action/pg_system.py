# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.pgops.runbook.plugins.module_utils._errors import DescriptionError
from ansible_collections.pgops.runbook.plugins.module_utils._system import load
from ansible_collections.pgops.runbook.plugins.plugin_utils._description_file import BUILT_IN, find, read


class ActionModule(ActionBase):
    """Loads a system description on the control node; no connection is opened, so that it stops before one could be."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        task_vars = task_vars or {}
        result: dict[str, Any] = super().run(tmp, task_vars)
        _checked, arguments = self.validate_argument_spec({"source": {"type": "raw", "required": True}})
        try:
            raw, origin = self._raw(arguments["source"], task_vars)
            system = load(raw, origin)
        except DescriptionError as error:
            return {**result, "failed": True, "changed": False, **error.as_result()}
        return {**result, "changed": False, "system": system, "name": system["name"], "origin": origin}

    def _raw(self, source: Any, task_vars: dict[str, Any]) -> tuple[Any, str]:
        """Return the description as it is written, and where it came from."""
        if not isinstance(source, str):
            return source, "inline description"
        # An operator's file stands beside the inventory that names it, or beside the playbook.
        folders = [str(task_vars["inventory_dir"])] if task_vars.get("inventory_dir") else []
        path = find(str(source), [*folders, self._loader.get_basedir(), str(Path.cwd())])
        origin = f"built-in system {source}" if path.parent == BUILT_IN else str(path)
        # A file may be encrypted with Ansible Vault.
        return read(Path(self._loader.get_real_file(str(path))), origin), origin
