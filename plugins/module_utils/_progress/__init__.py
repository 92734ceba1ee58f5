# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a long run is, for whoever watches it.

A module wraps its work in `with publisher("pg_cleanup") as watch:` and calls `watch(ProgressView.after(...))` as often as it likes.
Nothing but the names of tables and numbers is shown, and a view that cannot be written never fails the work.
"""

from __future__ import annotations

from ansible_collections.pgops.runbook.plugins.module_utils._progress.publish import Publisher, publisher
from ansible_collections.pgops.runbook.plugins.module_utils._progress.view import ProgressView, Watch, named, unwatched

__all__ = ["ProgressView", "Publisher", "Watch", "named", "publisher", "unwatched"]
