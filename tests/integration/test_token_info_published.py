"""pg_token_info on the layouts that others have published: nothing that the application itself accepts is told to be over."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.ground.published import READY, VARIANTS
from tests.ground.published.databases import PublishedDatabase
from tests.integration.inquiring import ask, store_of

# One process makes each layout's tables and rows.
LAYOUTS = [pytest.param(name, marks=pytest.mark.xdist_group(f"published {name}")) for name in (*READY, *VARIANTS)]
# Their descriptions say all that decides whether a token is accepted. The others leave out settings that no column has, such as how
# long a session may idle, so that what is over by those is still active here.
WHOLE = ("simplejwt", "supabase_auth", *VARIANTS)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_the_application_accepts_is_active(layout: str, published_database: Callable[..., PublishedDatabase]) -> None:
    database = published_database(layout)
    whole = ask(database, database.description)
    assert whole["unknown"] == []
    accepted = database.accepted()
    for store in database.description["token_stores"]:
        name, tokens = store["name"], store["tokens"]
        ids = [row[0] for row in database.query(f'SELECT DISTINCT "{tokens["id"]}"::text FROM {tokens["table"]}')]
        result = ask(database, database.description, stores=[name], ids=ids[:1000])
        assert result["unknown"] == []
        found = {entry["id"]: token["status"] for token in result["tokens"] for entry in token["entries"]}
        active = {token for token, status in found.items() if status == "active"}
        assert active >= accepted[name] & set(ids[:1000])
        assert layout not in WHOLE or active <= accepted[name]
        counts = store_of(whole, name)["counts"]
        assert counts["total"] >= counts["active"] >= len(accepted[name])
