"""Write docs/checks.md from the registry of checks: `python3 -m tests.tools.checks_page`."""

from __future__ import annotations

import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
PAGE = CHECKOUT / "docs" / "checks.md"


def page() -> str:
    """Return what the page must say."""
    from tests.ground.runner import collections_path

    if str(collections_path()) not in sys.path:
        sys.path.insert(0, str(collections_path()))
    from ansible_collections.pgops.runbook.plugins.module_utils._health import documentation

    return documentation.page()


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
