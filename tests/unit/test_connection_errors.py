"""What a failed module says in `msg`: what is wrong, and what to do, as sentences."""

from __future__ import annotations

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._errors import ConnectError, DatabaseError, DescriptionError


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("rows are hidden from this role", "rows are hidden from this role. Use its owner."),
        ("cannot connect (layer: port).", "cannot connect (layer: port). Use its owner."),
        ("cannot connect (layer: port)", "cannot connect (layer: port). Use its owner."),
        ("did you mean app?", "did you mean app? Use its owner."),
        ("its columns are:", "its columns are: Use its owner."),
        ("is there a table named ...", "is there a table named ... Use its owner."),
    ],
)
def test_a_hint_is_a_sentence_of_its_own(message: str, expected: str) -> None:
    assert DatabaseError(message, hint="Use its owner.").as_result()["msg"] == expected
    assert ConnectError(message, layer="port", hint="Use its owner.").as_result()["msg"] == expected


@pytest.mark.parametrize("hint", [None, ""])
def test_without_a_hint_the_message_stays_as_it_is(hint: str | None) -> None:
    assert DatabaseError("rows are hidden", hint=hint).as_result()["msg"] == "rows are hidden"


def test_a_flood_of_faults_is_bounded() -> None:
    result = DescriptionError([f"select.ids[{number}]: is empty" for number in range(5000)]).as_result()
    assert len(result["errors"]) == 101
    assert result["errors"][-1] == "and 4900 more"
