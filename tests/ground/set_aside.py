"""What a throwaway server does otherwise than one should, as an operator of it would set it aside."""

from __future__ import annotations

from typing import Any

_REASON = "a throwaway server: nothing on it need survive, and the tests count what autovacuum would move"
# By the variables of the role health.
SET_ASIDE: dict[str, Any] = {
    "health_suppressions": [
        {"finding": finding, "reason": _REASON, "until": "2099-12-31", "severity": "critical"}
        for finding in ("cfg.unsafe[fsync]", "cfg.unsafe[full_page_writes]", "vac.disabled")
    ],
    # The machine that the tests run on is not theirs.
    "health_thresholds": {
        check: {"warning": None, "critical": None} for check in ("disk.free_pct", "disk.days_left", "host.load", "host.memory_pct")
    },
}
