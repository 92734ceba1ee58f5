"""What a restored backup says of the backup: whole, not what it says of itself, or nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._content.compare import Difference
from ansible_collections.pgops.runbook.plugins.module_utils._restore.outcome import Compared
from ansible_collections.pgops.runbook.plugins.module_utils._restore.pick import Backup
from ansible_collections.pgops.runbook.plugins.module_utils._restore.proof import Proof, prove

VIEW = Difference("views", "public.gone", None, "missing", "the view public.gone is missing")
ROWS = Difference("rows", "public.numbers", "public.numbers", "different", "public.numbers: 1 row instead of 2")
UNSEEN = {"what": "rows", "object": "public.numbers", "why": "row security hides them"}
EXTENSION = {"what": "extension", "object": "citext", "why": "version 2 instead of 1"}
STRUCTURE = {"what": "structure", "object": "", "why": "it was not measured"}


def proof(*, same_major: bool = True, kind: str = "full", tables: Any = (), **found: Any) -> Proof:
    """Return what a comparison that found `found` proves."""
    known: dict[str, Any] = {"differences": [], "not_compared": [], "unseen": [], **found}
    manifest = {"id": "x", "scope": {"kind": kind}, "tables": tables}
    return prove(Compared(tables=1, rows=2, whole=True, **known), Backup(Path("x"), manifest, "decode"), same_major=same_major)


@pytest.mark.parametrize("same_major", [True, False])
def test_what_differs_in_what_it_holds_is_broken_on_every_server_and_what_does_not_is_whole(same_major: bool) -> None:
    assert proof(same_major=same_major).whole is True
    assert proof(same_major=same_major, differences=[VIEW, ROWS]).whole is False


def test_another_major_may_be_what_made_a_definition_another_one() -> None:
    assert proof(differences=[VIEW]).whole is False
    across = proof(differences=[VIEW], same_major=False)
    assert (across.whole, across.differences) == (None, [VIEW.message])


def test_what_was_not_compared_is_not_proven() -> None:
    unseen = proof(unseen=[UNSEEN])
    assert (unseen.whole, "row security hides them" in unseen.unproven[0]) == (None, True)
    assert proof(unseen=[EXTENSION]).whole is True
    assert proof(tables=None).unproven == ["the backup does not say which rows there were, so that nothing shows that they came back"]
    assert proof(tables=None, differences=[VIEW]).whole is None
    assert proof(tables=None, kind="schema_only").whole is True
    assert proof(not_compared=[STRUCTURE]).whole is None
