# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """What a module supports; a module names its own C(support) beside it."""

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return the numbers that a run would return, without changing the database.
  diff_mode:
    description: Returns what has changed, or would change in C(check_mode), when in diff mode.
  platform:
    description: Target operating systems on which the module can run. The database server may run anywhere.
    platforms: posix
    support: full
  action_group:
    description: Use C(group/pgops.runbook.postgresql) in C(module_defaults) to set the connection options of all modules once.
    support: full
    membership:
      - pgops.runbook.postgresql
"""

    # Beside the standard fragment, for a module that only reads.
    READ_ONLY = r"""
options: {}
attributes:
  check_mode:
    support: full
    details:
      - This module changes nothing, and its session is read-only.
  diff_mode:
    support: N/A
    details:
      - This module changes nothing.
"""
