"""A snapshot on its way through the output of Ansible, which stars out every secret that it finds."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.module_utils.common.parameters import remove_values
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue
from ansible_collections.pgops.runbook.plugins.module_utils._health.history.sealed import opened, sealed

SNAPSHOT: dict[str, Any] = {
    "version": 1,
    "system": "tim",
    "metrics": {"size.database": 1795263340.5},
    "findings": {"index.invalid[tim.a]": {"check": "index.invalid", "first": "tim"}},
    "kept": {"server": {"settings": [1.0, {"unix_socket_directories": "/tmp/tim ö🐘\n"}]}},
}


@pytest.mark.parametrize("secret", ["tim", "index", "1795", "/tmp/tim ö🐘", "server", "sealed", "    "])
def test_no_secret_is_found_in_it(secret: str) -> None:
    assert opened(remove_values(sealed(SNAPSHOT), {secret})) == SNAPSHOT


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(), st.none() | st.integers() | st.text() | st.lists(st.floats(allow_nan=False))))
def test_what_is_sealed_is_opened_again(snapshot: dict[str, Any]) -> None:
    assert opened(sealed(snapshot)) == snapshot


def test_one_that_was_never_sealed_is_as_it_is() -> None:
    assert opened(SNAPSHOT) == SNAPSHOT
    assert opened({}) == {}


@pytest.mark.parametrize("wrong", ["", "abc", "YWJj", 7, None, "Ä"])
def test_one_that_was_changed_on_its_way_says_so(wrong: Any) -> None:
    with pytest.raises(InvalidValue, match="it has been changed on its way"):
        opened({"sealed": wrong})


def test_a_very_short_password_is_named_as_the_reason() -> None:
    starred = remove_values(sealed(SNAPSHOT), {sealed(SNAPSHOT)["sealed"][3:5]})
    with pytest.raises(InvalidValue, match="a password of less than three signs does that"):
        opened(starred)
