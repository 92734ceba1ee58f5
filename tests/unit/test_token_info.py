"""What pg_token_info refuses before it connects, and how its numbers are put together."""

from __future__ import annotations

import random
from typing import Any

import pytest

from ansible_collections.pgops.runbook.plugins.module_utils._errors import DescriptionError
from ansible_collections.pgops.runbook.plugins.module_utils._relation import Column
from ansible_collections.pgops.runbook.plugins.module_utils._token_info import REPORTS, fault_of, read_options
from ansible_collections.pgops.runbook.plugins.module_utils._token_info.claim_sets import shares_of_hundred
from ansible_collections.pgops.runbook.plugins.module_utils._token_info.lookup import _fits, sum_up

STORE: dict[str, Any] = {
    "name": "app",
    "tokens": {"table": "app.tokens", "id": "id"},
    "revoke": {"how": "denylist", "table": "app.denied", "id": "id"},
}
CLIENTS = {"table": "clients", "id": "id", "created_at": "created_at"}


def faults(**parameters: Any) -> list[str]:
    with pytest.raises(DescriptionError) as caught:
        read_options({"token_stores": [STORE], **parameters})
    return caught.value.errors


def test_nothing_given_is_every_report_of_thirty_days() -> None:
    options = read_options({"token_stores": [STORE], "ids": "", "stores": [], "days": None, "clock_skew": "", "time_zone": ""})
    assert (options.reports, options.days, options.newest, options.top) == (REPORTS, 30, 100, 20)
    assert (options.clock_skew, options.time_zone, options.ids) == (300.0, "UTC", ())
    assert options.stores[0]["tokens"]["table"] == "app.tokens"


def test_who_asks_for_a_token_gets_no_report_beside_it() -> None:
    assert read_options({"token_stores": [STORE], "ids": "a"}).reports == ()
    assert read_options({"token_stores": [STORE], "ids": "a", "reports": "issued, counts"}).reports == ("counts", "issued")


def test_ids_are_a_list_or_a_text_and_none_comes_twice() -> None:
    assert read_options({"token_stores": [STORE], "ids": "a, b\nc,a,"}).ids == ("a", "b", "c")
    assert read_options({"token_stores": [STORE], "ids": ["a,b", 7, "7"]}).ids == ("a,b", "7")


def test_both_forms_of_a_description_are_read() -> None:
    once = read_options({"token_stores": [STORE], "clients": CLIENTS})
    again = read_options({"token_stores": list(once.stores), "clients": once.clients})
    assert again == once
    assert once.clients is not None
    assert (once.clients["table"], once.clients["secrets"]) == ("public.clients", [])


@pytest.mark.parametrize(
    ("parameters", "fault"),
    [
        ({"stores": ["other"]}, "stores[0]: 'other' is not one of the token stores: app"),
        ({"reports": ["total"]}, "reports[0]: 'total' is not one of counts, types"),
        ({"days": 0}, "days: 0 is not a whole number from 1 to 366"),
        ({"days": True}, "days: True is not a whole number"),
        ({"newest": 1001}, "newest: 1001 is not a whole number from 1 to 1000"),
        ({"top": "many"}, "top: 'many' is not a whole number from 1 to 1000"),
        ({"clock_skew": "soon"}, "clock_skew: "),
        ({"clock_skew": "2 years"}, "clock_skew: "),
        ({"time_zone": "+03:00"}, "time_zone: "),
        ({"ids": [""]}, "ids[0]: '' is not an id"),
        ({"ids": [None]}, "ids[0]: None is not an id"),
        ({"ids": [True]}, "ids[0]: True is not an id"),
        ({"ids": ["a\x00b"]}, "ids[0]: has a zero byte in it"),
        ({"ids": [str(number) for number in range(1001)]}, "ids: 1001 ids are more than one look-up takes"),
        ({"ids": "a", "token_stores": []}, "ids: there is no token store to look in"),
        ({"clients": {"table": "clients"}}, "clients.id: is missing"),
        ({"registrations": [{"table": "users"}]}, "registrations[0].created_at: is missing"),
        ({"codes": [{"id": "code"}]}, "codes[0].table: is missing"),
    ],
)
def test_a_wrong_option_is_named(parameters: dict[str, Any], fault: str) -> None:
    found = faults(**parameters)
    assert [one for one in found if one.startswith(fault)], found


def test_shares_sum_to_a_hundred_whatever_the_numbers_are() -> None:
    chance = random.Random(7)
    for _round in range(500):
        numbers = [chance.randrange(0, 10 ** chance.randrange(1, 8)) for _number in range(chance.randrange(1, 30))]
        shares = shares_of_hundred(numbers)
        total = sum(numbers)
        assert round(sum(shares), 6) == (100 if total else 0)
        assert all(abs(share - 100 * number / total) < 0.01 for number, share in zip(numbers, shares, strict=True) if total)
    assert shares_of_hundred([1, 1, 1]) == [33.34, 33.33, 33.33]
    assert shares_of_hundred([]) == []


@pytest.mark.parametrize(
    ("base", "text", "fits"),
    [
        ("uuid", "4b2bc14c-c234-4f63-a4dd-4522860d9b36", True),
        ("uuid", " {4B2BC14CC2344F63A4DD4522860D9B36} ", True),
        ("uuid", "{4b2bc14c-c234-4f63-a4dd-4522860d9b36", False),
        ("uuid", "4b2b", False),
        ("int4", "2147483647", True),
        ("int4", "2147483648", False),
        ("int8", "-9223372036854775808", True),
        ("int8", "12345678901234567890123", False),
        ("int2", "1.0", False),
        ("text", "anything", True),
        ("", "anything", True),
    ],
)
def test_an_id_that_a_column_cannot_hold_is_not_asked_for(base: str, text: str, fits: bool) -> None:
    assert _fits(Column("id", base, base, "", False, 0, True, True), text) is fits


def test_accepted_somewhere_is_what_a_token_is() -> None:
    rows = [
        {"store": "a", "number": 0, "status": "expired"},
        {"store": "b", "number": 0, "status": "active"},
        {"store": "a", "number": 1, "status": "expired"},
        {"store": "a", "number": 1, "status": "revoked"},
    ]
    found = sum_up(["x", "y", "z"], rows, certain=True, secret=[])
    assert [(one["id"], one["status"], one["stores"]) for one in found] == [
        ("x", "active", ["a", "b"]),
        ("y", "revoked", ["a"]),
        ("z", "not_found", []),
    ]
    assert sum_up(["z"], [], certain=False, secret=["f"])[0] == {"id": "f", "status": "unknown", "stores": [], "entries": []}


def test_what_is_no_answer_fails() -> None:
    whole = {"unknown": [], "tokens": [], "stores": [{"status": "ok"}], "clients": None, "registrations": [], "codes": []}
    lost = {"report": "store", "about": "app", "message": "no", "hint": None}
    assert fault_of(whole) is None
    assert fault_of({**whole, "unknown": [lost]}) is None
    assert str(fault_of({**whole, "unknown": [lost], "stores": [{"status": "unknown"}]})).startswith("nothing could be read: app: no")
    assert str(fault_of({**whole, "unknown": [lost], "tokens": [{}]})).startswith("not every store could be looked in")
    timed_out = {**lost, "report": "issued"}
    assert fault_of({**whole, "unknown": [timed_out], "tokens": [{}]}) is None
