"""Everything in this folder talks to a real server."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent


def pytest_configure(config: pytest.Config) -> None:
    """Declare the mark."""
    config.addinivalue_line("markers", "integration: needs a PostgreSQL server, which the tests start")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder, so that `-m integration` selects them."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.integration)
