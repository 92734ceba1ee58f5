"""Tables as TIM has them, half of whose rows have expired: in one piece and divided by expiry."""

from __future__ import annotations

from datetime import datetime, timedelta

from psycopg import sql

from tests.ground.cluster import Cluster

TOKENS, DENIED, DIVIDED = "custom.jwt_metadata", "custom.denylist", "custom.jwt_divided"
PARTITIONS = 10
UTC = {"time_zone": "UTC"}
# Nothing ends within a day from now, so that nothing expires meanwhile.
MARGIN = "1 day"
RULE = {"table": TOKENS, "column": {"column": "expires_at", **UTC}, "older_than": "0 s"}
STORE = {
    "name": "custom",
    "tokens": {
        "table": TOKENS,
        "id": "jwt_uuid",
        "issued_at": {"column": "issued_at", **UTC},
        "expires_at": {"column": "expires_at", **UTC},
    },
    "revoke": {"how": "denylist", "table": DENIED, "id": "jwt_uuid", "expires_at": {"column": "expires_at", **UTC}},
}
PAST = "expires_at < now() AT TIME ZONE 'UTC'"
DELETE = f"DELETE FROM {TOKENS} WHERE {PAST}"
# What a careful person would paste where the deny list has rows of its own.
GUARDED_DELETE = (
    f"{DELETE} AND NOT EXISTS (SELECT FROM {DENIED} AS d WHERE d.jwt_uuid = {TOKENS}.jwt_uuid"
    f" AND (d.expires_at IS NULL OR ({TOKENS}.expires_at >= now() AT TIME ZONE 'UTC' AND d.expires_at < {TOKENS}.expires_at)))"
)
# Token i of n ends as the number e says, a second after the one before it: in the order of i, or as far from it as can be.
ORDERS = {"in the order of insertion": "i", "at random": "1 + i * 7919 %% %(rows)s"}
ENDS = f"""
SELECT now() AT TIME ZONE 'UTC' + interval '1 second' * (e - 0.5 - %(rows)s / 2)
    + CASE WHEN e <= %(rows)s / 2 THEN -1 ELSE 1 END * interval '{MARGIN}' AS ends
"""
FILL = f"""
INSERT INTO {{table}} (jwt_uuid, claim_keys, issued_at, expires_at)
SELECT md5(i::text)::uuid, (ARRAY['sub,email', 'sub,role', 'sub,email,role', 'sub'])[1 + i %% 4], ends - interval '30 days', ends
FROM generate_series(1, %(rows)s::bigint) AS i, LATERAL (SELECT {{order}} AS e) AS numbered, LATERAL ({ENDS}) AS dated
"""
COLUMNS = "claim_keys text NOT NULL, issued_at timestamp NOT NULL, expires_at timestamp NOT NULL"


def fill_tokens(cluster: Cluster, name: str, rows: int, order: str) -> str:
    """Make a database with a token table that has three indexes, and with deny rows for one token in twenty; return its name."""
    cluster.create_database(name)
    with cluster.connect(name) as connection:
        connection.execute("CREATE SCHEMA custom")
        connection.execute(f"CREATE TABLE {TOKENS} (jwt_uuid uuid PRIMARY KEY, {COLUMNS})")
        connection.execute(FILL.format(table=TOKENS, order=ORDERS[order]), {"rows": rows})
        connection.execute(f"CREATE INDEX ON {TOKENS} (issued_at)")
        connection.execute(f"CREATE INDEX ON {TOKENS} (expires_at)")
        connection.execute(f"CREATE TABLE {DENIED} (jwt_uuid uuid PRIMARY KEY, denylisted_at timestamp NOT NULL, expires_at timestamp)")
        connection.execute(
            f"INSERT INTO {DENIED} SELECT jwt_uuid, issued_at, expires_at FROM {TOKENS} WHERE get_byte(uuid_send(jwt_uuid), 0) % 20 = 0"
        )
        connection.execute(f"CREATE INDEX ON {DENIED} (expires_at)")
        connection.execute("VACUUM ANALYZE")
    return name


def fill_divided(cluster: Cluster, name: str, rows: int) -> str:
    """Make a database with the same tokens in ten partitions of equal size by expiry, five of them past; return its name."""
    cluster.create_database(name)
    with cluster.connect(name) as connection, connection.transaction():  # one transaction: one now()
        connection.execute("CREATE SCHEMA custom")
        connection.execute(f"CREATE TABLE {DIVIDED} (jwt_uuid uuid, {COLUMNS}) PARTITION BY RANGE (expires_at)")
        now: datetime = connection.execute("SELECT now() AT TIME ZONE 'UTC'").fetchone()[0]  # type: ignore[index]
        for number in range(PARTITIONS):
            low, high = (sql.Literal(_bound(now, rows, number, edge)) for edge in (number, number + 1))
            create = sql.SQL(f"CREATE TABLE {DIVIDED}_{number} PARTITION OF {DIVIDED} FOR VALUES FROM ({{}}) TO ({{}})")
            connection.execute(create.format(low, high))
        connection.execute(FILL.format(table=DIVIDED, order="i"), {"rows": rows})
        connection.execute(f"ALTER TABLE {DIVIDED} ADD PRIMARY KEY (jwt_uuid, expires_at)")
        connection.execute(f"CREATE INDEX ON {DIVIDED} (issued_at)")
        connection.execute(f"CREATE INDEX ON {DIVIDED} (expires_at)")
    with cluster.connect(name) as connection:
        connection.execute("VACUUM ANALYZE")
    return name


def _bound(now: datetime, rows: int, number: int, edge: int) -> datetime:
    """Return where partition `number` begins or ends: before or after the margin around now."""
    seconds = edge * rows // PARTITIONS - rows // 2
    return now + timedelta(seconds=seconds, days=1 if number >= PARTITIONS // 2 else -1)
