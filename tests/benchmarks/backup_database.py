"""A database of about a gigabyte of tokens to dump and restore: several tables of the same size, so that parallel jobs have work."""

from __future__ import annotations

from psycopg import sql

from tests.ground.cluster import Cluster

DATABASE = "tokens"
TABLES = 8
ROWS_OF_A_GIGABYTE = 4_900_000
# As on a server for a gigabyte; without autovacuum, which would work beside the one or the other.
SETTINGS: dict[str, str | int] = {"autovacuum": "off", "max_wal_size": "8GB", "shared_buffers": "512MB", "maintenance_work_mem": "128MB"}


def fill(cluster: Cluster, gigabytes: float) -> None:
    """Make the database: in each table rows of ids, times, claims and a subject, with a primary key and two more indexes."""
    rows = round(ROWS_OF_A_GIGABYTE * gigabytes / TABLES)
    cluster.create_database(DATABASE)
    with cluster.connect(DATABASE) as connection:
        for number in range(TABLES):
            table = sql.Identifier(f"tokens_{number}")
            connection.execute(
                sql.SQL(
                    "CREATE TABLE {} (id uuid PRIMARY KEY, issued_at timestamptz NOT NULL, expires_at timestamptz NOT NULL,"
                    " claims text NOT NULL, subject text NOT NULL)"
                ).format(table)
            )
            connection.execute(
                sql.SQL(
                    "INSERT INTO {} SELECT gen_random_uuid(), now() - g * interval '1 s', now() + g * interval '1 min',"
                    " md5(g::text) || md5((g + 1)::text) || ' scope read write ' || g, 'user' || g % 10000 FROM generate_series(1, {}) g"
                ).format(table, rows)
            )
            for column in ("expires_at", "subject"):
                connection.execute(sql.SQL("CREATE INDEX ON {} ({})").format(table, sql.Identifier(column)))
        connection.execute("VACUUM (ANALYZE)")
        connection.execute("CHECKPOINT")


def bytes_of(cluster: Cluster) -> int:
    """Return how large the database is, its indexes included."""
    with cluster.connect(DATABASE) as connection:
        found = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    return int(found[0]) if found else 0
