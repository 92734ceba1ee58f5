"""What comparing says where only one side tells something."""

from __future__ import annotations

from dataclasses import replace

from ansible_collections.pgops.runbook.plugins.module_utils._content.compare import compare, not_compared
from ansible_collections.pgops.runbook.plugins.module_utils._content.large_objects import LargeObjects
from ansible_collections.pgops.runbook.plugins.module_utils._content.measure import Measured
from ansible_collections.pgops.runbook.plugins.module_utils._content.scope import Scope


def test_large_objects_that_were_hashed_in_different_ways_are_not_compared() -> None:
    expected = Measured(Scope(), [], [], LargeObjects(3, "17", by="pages"), {})
    found = replace(expected, large_objects=LargeObjects(3, "18"))
    assert compare(expected, found) == []
    assert not_compared(expected, found) == [
        {
            "what": "content of large objects",
            "object": "",
            "why": "they were hashed by 'pages' in the backup and by 'binary' in the database",
        }
    ]
    assert not_compared(expected, expected) == []
