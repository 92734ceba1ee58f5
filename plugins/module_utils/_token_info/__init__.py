# Copyright (c) 2026, pgops.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tokens looked up by their ids, and reports about what the stores hold. Nothing is changed, and no secret leaves the database."""

from __future__ import annotations

from ansible_collections.pgops.runbook.plugins.module_utils._token_info.options import REPORTS, Options, read_options
from ansible_collections.pgops.runbook.plugins.module_utils._token_info.report import fault_of, token_info

OPERATION = "pg_token_info"

__all__ = ["OPERATION", "REPORTS", "Options", "fault_of", "read_options", "token_info"]
