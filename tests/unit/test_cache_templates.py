"""Which keys of a cache belong to a token: templates, patterns for SCAN, and what is told from them."""

from __future__ import annotations

import re
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.pgops.runbook.plugins.module_utils._cache import PLACEHOLDERS, Template, templates
from ansible_collections.pgops.runbook.plugins.module_utils._cache.template import Wanted, keyspace
from ansible_collections.pgops.runbook.plugins.module_utils._errors import InvalidValue


def one(text: str) -> Template:
    (made,) = templates([text])
    return made


def wanted(text: str, *rows: dict[str, Any]) -> Wanted:
    made = Wanted(one(text))
    for row in rows:
        values = made.template.values_of(row)
        assert values is not None
        made.add(values)
    return made


@pytest.mark.parametrize(
    ("text", "row", "key"),
    [
        ("session:{id}", {"id": "a"}, b"session:a"),
        ("session:{id}", {"id": 7}, b"session:7"),
        ("session:{id}", {"id": uuid.UUID(int=1)}, b"session:00000000-0000-0000-0000-000000000001"),
        ("{tenant_id}/{user_id}/x", {"tenant_id": "t", "user_id": "u", "id": "a"}, b"t/u/x"),
        ("s:{id}", {"id": "*?[a]\\ {id}\n\u00e4"}, "s:*?[a]\\ {id}\n\u00e4".encode()),
        ("all-sessions", {"id": "a"}, b"all-sessions"),
    ],
)
def test_an_exact_template_is_one_key(text: str, row: dict[str, Any], key: bytes) -> None:
    template = one(text)
    assert template.exact
    values = template.values_of(row)
    assert values is not None
    assert template.key(values) == key


@pytest.mark.parametrize("row", [{}, {"user_id": None}, {"user_id": ""}, {"id": "a"}])
def test_a_token_without_the_value_has_no_key(row: dict[str, Any]) -> None:
    assert one("user_sessions:{user_id}").values_of(row) is None
    assert one("x:{user_id}:*").values_of(row) is None


@pytest.mark.parametrize(
    ("text", "values", "pattern"),
    [
        ("session:{id}:*", None, rb"session:*:*"),
        ("session:{id}:*", (b"a*b",), rb"session:a\*b:*"),
        ("session:{id}:*", (b"[x]?\\",), rb"session:\[x\]\?\\:*"),
        ("s[1]?:{id}", None, rb"s\[1\]\?:*"),
        ("a:***", None, rb"a:*"),
    ],
)
def test_only_a_star_of_the_template_is_a_wildcard(text: str, values: tuple[bytes, ...] | None, pattern: bytes) -> None:
    assert one(text).pattern(values) == pattern


@pytest.mark.parametrize(
    ("text", "rows", "mine", "not_mine"),
    [
        (
            "session:{id}:*",
            [{"id": "ab"}, {"id": "c:d"}],
            [b"session:ab:", b"session:ab:x:y", b"session:c:d:1", b"session:ab:\n\xff"],
            [b"session:ab", b"session:abc:x", b"session:a:b:", b"session:c:x", b"xsession:ab:", b"session::"],
        ),
        ("session:{id}:*", [{"id": "*"}], [b"session:*:x"], [b"session:a:x", b"session:**:x"]),
        ("*:{user_id}:{id}:*", [{"id": "1", "user_id": "7"}], [b"t:7:1:", b"a:7:1:7:1:", b":7:1:x"], [b"7:1:", b"t:1:7:", b"t:7:11:"]),
        ("{tenant_id}:s:*:{id}", [{"tenant_id": "t", "id": "x"}], [b"t:s::x", b"t:s:a:b:x"], [b"t:s:x", b"u:s:a:x", b"t:s:a:xx"]),
        ("a:*:{id}:b", [{"id": "1"}, {"id": "22"}], [b"a::1:b", b"a:22:22:b"], [b"a::2:b", b"a::1:bb"]),
    ],
)
def test_keys_of_these_tokens_are_told_from_others(text: str, rows: list[dict[str, Any]], mine: list[bytes], not_mine: list[bytes]) -> None:
    found = wanted(text, *rows)
    assert [key for key in mine if key not in found] == []
    assert [key for key in not_mine if key in found] == []


VALUE = st.text(alphabet="ab:*?[\\", min_size=1, max_size=4)


@given(
    st.sampled_from(["s:{id}:*", "*:{id}:*", "s:{id}:*:{user_id}", "{user_id}:*:{id}"]),
    st.lists(st.fixed_dictionaries({"id": VALUE, "user_id": VALUE}), min_size=1, max_size=4),
    st.text(alphabet="ab:*?[\\s", max_size=12),
    st.data(),
)
def test_a_key_is_wanted_exactly_where_it_is_some_tokens(text: str, rows: list[dict[str, str]], other: str, data: st.DataObject) -> None:
    found = wanted(text, *rows)

    def is_of(row: dict[str, str], key: str) -> bool:
        parts = re.split(r"(\{\w+\}|\*)", text)
        written = [".*" if part == "*" else re.escape(row[part[1:-1]]) if part.startswith("{") else re.escape(part) for part in parts]
        return re.fullmatch("".join(written), key, re.DOTALL) is not None

    own = text.replace("*", data.draw(st.text(alphabet="ab:*", max_size=3)))
    for name, value in data.draw(st.sampled_from(rows)).items():
        own = own.replace(f"{{{name}}}", value)
    for key in (other, own):
        assert (key.encode() in found) == any(is_of(row, key) for row in rows)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("session:{ids}", "{ids} in 'session:{ids}' is no placeholder; there are " + ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)),
        ("session:{id", "{ in 'session:{id' is no placeholder"),
        ("session:{}", "{} in"),
        ("*", "stands for every key or none"),
        ("", "stands for every key or none"),
        ("session:{id}*", "two wildcards touch"),
        ("session:*{id}", "two wildcards touch"),
        ("session:{user_id}{id}", "two wildcards touch"),
    ],
)
def test_a_wrong_template_is_refused(text: str, words: str) -> None:
    with pytest.raises(InvalidValue, match=re.escape(words)) as caught:
        templates(["session:{id}", text])
    assert caught.value.message.startswith("keys[1]: ")


def test_other_keys_that_say_more_of_a_key_keep_it() -> None:
    space = keyspace(["session:{id}", "cache:user:{user_id}"], ["cache:*", "session:config:*", "otp:{purpose}:*"])
    sessions, users = space.templates
    assert space.keeps(b"session:config:main", sessions)
    assert not space.keeps(b"session:1", sessions)
    assert not space.keeps(b"cache:user:7", users)
    assert not space.keeps(b"xsession:config:main", sessions)


@pytest.mark.parametrize("other", ["session:*", "session:{session}"])
def test_the_same_keys_cannot_go_and_stay(other: str) -> None:
    with pytest.raises(InvalidValue, match=r"either go with a token or stay"):
        keyspace(["session:{id}"], [other])
