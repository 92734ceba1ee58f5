"""The janitors of Django applications against pg_cleanup: the applications' real tables, the same rows, the same server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.benchmarks import cleanup_engine, cleanup_peer
from tests.benchmarks.turns import MEASURED, Times, fresh, in_turns, print_times, print_title
from tests.ground.cluster import Cluster
from tests.ground.databases import Database
from tests.ground.published import STORES

OURS, OURS_AS_PROCESS = "pg_cleanup, in process", "pg_cleanup, start of Python included"
SHIPPED = "pg_cleanup with the stores of the description"
# Beside each application's tables: its users, and its clients.
USERS = """
INSERT INTO auth_user (password, is_superuser, username, first_name, last_name, email, is_staff, is_active, date_joined)
SELECT '!', false, 'user' || i, '', '', 'user' || i || '@example.com', false, true, now() FROM generate_series(1, 1000) AS i
"""
CLIENTS = """
INSERT INTO oauth2_provider_application (client_id, redirect_uris, client_type, authorization_grant_type, client_secret, name,
    skip_authorization, created, updated, algorithm, post_logout_redirect_uris, hash_client_secret, allowed_origins, registration_source)
SELECT 'client-' || i, 'https://example.com/back', 'confidential', 'authorization-code', md5(i::text), 'Client ' || i, false, now(), now(),
    '', '', true, '', 'manual'
FROM generate_series(1, 12) AS i
"""
# Nine tenths of the rows are access tokens, a tenth refresh tokens. Of the access tokens one half has expired and is no refresh token's;
# of the refresh tokens one half was used, the other belongs to an access token that is alive.
ACCESS = """
INSERT INTO oauth2_provider_accesstoken (id, token, token_checksum, expires, scope, application_id, user_id, created, updated, resource)
SELECT i, 'access ' || md5(i::text), encode(sha256(convert_to(i::text, 'UTF8')), 'hex'), ends, 'read write', 1 + i %% 12, 1 + i %% 1000,
    ends - interval '10 hours', ends - interval '10 hours', '[]'
FROM generate_series(1, %(rows)s::bigint * 9 / 10) AS i, LATERAL (
    SELECT now() + CASE WHEN i <= %(rows)s::bigint * 9 / 20 THEN -1 ELSE 1 END * interval '1 day'
        + interval '1 second' * (i - %(rows)s::bigint * 9 / 20) AS ends
) AS dated
"""
REFRESH = """
INSERT INTO oauth2_provider_refreshtoken (id, token, token_checksum, access_token_id, application_id, user_id, created, updated, revoked,
    token_family, resource)
SELECT i, 'refresh ' || md5(i::text), encode(sha256(convert_to(i::text, 'UTF8')), 'hex'),
    CASE WHEN i > %(rows)s::bigint / 20 THEN %(rows)s::bigint * 9 / 20 + i - %(rows)s::bigint / 20 END, 1 + i %% 12, 1 + i %% 1000,
    now() - interval '2 days', now() - interval '2 days', CASE WHEN i <= %(rows)s::bigint / 20 THEN now() - interval '1 day' END,
    md5('family ' || i)::uuid, '[]'
FROM generate_series(1, %(rows)s::bigint / 10) AS i
"""
# As long as a signed token is. One in five was denied.
OUTSTANDING = """
INSERT INTO token_blacklist_outstandingtoken (id, user_id, jti, token, created_at, expires_at)
SELECT i, 1 + i %% 1000, md5(i::text), 'eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.' || repeat(md5('token ' || i), 6), ends - interval '30 days',
    ends
FROM generate_series(1, %(rows)s::bigint) AS i, LATERAL (
    SELECT now() + CASE WHEN i <= %(rows)s::bigint / 2 THEN -1 ELSE 1 END * interval '1 day'
        + interval '1 second' * (i - %(rows)s::bigint / 2) AS ends
) AS dated
"""
BLACKLISTED = """
INSERT INTO token_blacklist_blacklistedtoken (token_id, blacklisted_at)
SELECT i, now() - interval '1 day' FROM generate_series(5, %(rows)s::bigint, 5) AS i
"""


@dataclass(frozen=True)
class Peer:
    """An application with its janitor; `target` is how many times faster pg_cleanup must be.

    `stores`: whether the same rows go with the token stores of the application's description, which protect what was revoked.
    """

    application: str
    command: str
    fill: tuple[str, ...]
    tables: tuple[str, ...]
    rules: tuple[Mapping[str, Any], ...]
    plain: tuple[str, ...]
    target: float
    stores: bool = False


PEERS = (
    Peer(
        "django_oauth_toolkit",
        "cleartokens",
        (USERS, CLIENTS, ACCESS, REFRESH),
        ("oauth2_provider_accesstoken", "oauth2_provider_refreshtoken"),
        (
            {"table": "oauth2_provider_refreshtoken", "column": "revoked", "older_than": "0 s"},
            {"table": "oauth2_provider_accesstoken", "column": "expires", "older_than": "0 s"},
        ),
        (
            "DELETE FROM oauth2_provider_refreshtoken WHERE revoked < now()",
            "DELETE FROM oauth2_provider_accesstoken AS a WHERE expires < now()"
            " AND NOT EXISTS (SELECT FROM oauth2_provider_refreshtoken AS r WHERE r.access_token_id = a.id)",
        ),
        9.0,
    ),
    Peer(
        "simplejwt",
        "flushexpiredtokens",
        (USERS, OUTSTANDING, BLACKLISTED),
        ("token_blacklist_outstandingtoken", "token_blacklist_blacklistedtoken"),
        (
            {"table": "token_blacklist_blacklistedtoken", "column": "blacklisted_at", "older_than": "0 s"},
            {"table": "token_blacklist_outstandingtoken", "column": "expires_at", "older_than": "0 s"},
        ),
        (
            "DELETE FROM token_blacklist_blacklistedtoken AS b USING token_blacklist_outstandingtoken AS t"
            " WHERE t.id = b.token_id AND t.expires_at < now()",
            "DELETE FROM token_blacklist_outstandingtoken WHERE expires_at < now()",
        ),
        4.0,
        stores=True,
    ),
)


def compare(cluster: Cluster, rows: int, repeats: int) -> None:
    """Print each janitor against pg_cleanup with rules that remove the same rows, and against DELETE by hand."""
    for peer in PEERS:
        _compare(cluster, peer, rows, repeats)


def _compare(cluster: Cluster, peer: Peer, rows: int, repeats: int) -> None:
    template = _fill(cluster, peer, rows)
    stores = STORES[peer.application].description()["token_stores"] if peer.stores else []
    parameters = {"rules": [dict(rule) for rule in peer.rules], "token_stores": stores, "vacuum": "never"}
    peaks: list[int] = []

    def theirs(_login: dict[str, Any]) -> None:
        peaks.append(cleanup_peer.run_command(cluster.address(MEASURED), peer.application, peer.command)["peak"])

    def by_hand(_login: dict[str, Any]) -> None:
        with cluster.connect(MEASURED) as connection:
            for statement in peer.plain:
                connection.execute(statement)

    ways = {
        peer.command: theirs,
        OURS: lambda login: cleanup_engine.clean_up(login, parameters),
        OURS_AS_PROCESS: lambda login: cleanup_engine.clean_up_in_process(login, parameters),
        "DELETE by hand": by_hand,
    }
    print_title(f"{peer.command} of {peer.application}, as a process, {rows:,} rows, medians of {repeats} turns; ratio to {OURS}")
    times = in_turns(cluster, template, peer.tables, ways, repeats)
    print_times(times, OURS)
    for name in (OURS, OURS_AS_PROCESS):
        print(f"  {name}: {times[peer.command].ratio(times[name]):.1f} times faster than {peer.command} (target {peer.target:g})")
    if not peer.stores:
        _print_protected(cluster, template, peer, times[peer.command], repeats)
    login = fresh(cluster, template)
    ours = cleanup_engine.clean_up_in_process(login, parameters)["peak"]
    print(f"  peak memory: {peer.command} {max(peaks) / 1024:,.0f} MB, pg_cleanup {ours / 1024:,.0f} MB", flush=True)
    cluster.drop_database(template)


def _print_protected(cluster: Cluster, template: str, peer: Peer, theirs: Times, repeats: int) -> None:
    """Print the same rules with the stores of the description, where fewer rows go: those that a revocation stands in have to stay."""
    stores = STORES[peer.application].description()["token_stores"]
    parameters = {"rules": [dict(rule) for rule in peer.rules], "token_stores": stores, "vacuum": "never"}
    ways = {SHIPPED: lambda login: cleanup_engine.clean_up(login, parameters)}
    ours = in_turns(cluster, template, peer.tables, ways, repeats)[SHIPPED]
    print_times({peer.command: theirs, SHIPPED: ours}, peer.command)
    faster = theirs.ratio(ours) * ours.rows / theirs.rows
    print(
        f"  {SHIPPED}: {faster:.1f} times faster a row than {peer.command}, and {theirs.rows - ours.rows:,} revoked rows stay", flush=True
    )


def _fill(cluster: Cluster, peer: Peer, rows: int) -> str:
    """Make the application's tables by its own migrations and fill them; return the database."""
    database = Database.create(cluster, f"peer_{peer.application}")
    STORES[peer.application].create(database)
    with database.connect() as connection:
        # Foreign keys are not looked up row by row while the tables are filled: the rows are made to fit.
        connection.execute("SET session_replication_role = replica")
        for statement in peer.fill:
            connection.execute(statement, {"rows": rows} if "%(rows)s" in statement else None)
        connection.execute("VACUUM ANALYZE")
    return database.name
