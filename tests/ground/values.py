"""SQL expressions for the columns of made-up rows: each a pure function of the row's number, so that rows of different tables agree.

Every expression reads one name, `i`, the number of the row as a bigint.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from psycopg import sql

from .errors import GroundError

I = sql.Identifier("i")  # noqa: E741  (the row's number, as in the SQL)

INTEGERS = ("smallint", "integer", "int", "int2", "int4", "int8", "bigint", "serial", "bigserial", "smallserial")
FRACTIONS = ("numeric", "decimal", "real", "double precision", "float", "float4", "float8")
TEXTS = ("text", "varchar", "character varying", "char", "character", "citext", "bpchar", "name")
TIMES = ("timestamp", "timestamptz", "timestamp with time zone", "timestamp without time zone", "date")

CLAIMS = (
    "sub,name,role",
    "sub,name,role,email",
    "sub,personal_code,first_name,last_name",
    "sub,role,admin",
    "sub,nonadmin,locale",
    "sub,scope,tenant,session",
    "sub",
)
USER_AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64) Firefox/132.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X)",
    "curl/8.10.1",
    "okhttp/4.12.0",
)
# What columns hold whose names say it, most frequent first.
WORDS: Mapping[str, Sequence[str]] = {
    "status": ("active", "suspended", "pending"),
    "plan": ("free", "pro", "enterprise"),
    "token_type": ("access", "refresh"),
    "type": ("email", "sms", "push", "totp"),
    "purpose": ("login", "verification", "password_reset"),
    "scope": ("openid profile", "openid", "openid profile email", "read", "read write", "admin"),
    "provider": ("google", "github", "microsoft"),
    "action": ("login", "update", "create", "delete"),
    "resource_type": ("animal", "user", "session", "journal_entry"),
    "access_type": ("read", "write", "owner_access"),
    "species": ("cattle", "sheep", "swine", "goat"),
    "user_agent": USER_AGENTS,
    "claim_keys": CLAIMS,
}


def base_type(written: str) -> str:
    """Return a type without length, precision and case; `[]` stays for an array of any dimension."""
    text = re.sub(r"\s*\([^)]*\)", "", written.strip().lower())
    return re.sub(r"(\[\d*\])+$", "[]", re.sub(r"\s+", " ", text))


class Values:
    """Builds the expressions for one seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def chance(self, what: str) -> sql.Composable:
        """Return a number from 0 to below 1 that depends on the row and on `what`."""
        salt = zlib.crc32(f"{self.seed}/{what}".encode())
        return sql.SQL("((hashint8({} * 4294967296 + {}) & 2147483647) / 2147483648.0::float8)").format(I, sql.Literal(salt))

    def index(self, most: int, what: str) -> sql.Composable:
        """Return a whole number from 1 to `most`, low ones far more often."""
        return sql.SQL("(1 + floor({} * power({}, 3)))::bigint").format(sql.Literal(most), self.chance(what))

    def pick(self, words: Sequence[str], what: str) -> sql.Composable:
        """Return one of `words`, the first ones more often."""
        listed = sql.SQL(", ").join(sql.Literal(word) for word in words)
        return sql.SQL("(ARRAY[{}])[1 + floor({} * power({}, 2))::int]").format(listed, sql.Literal(len(words)), self.chance(what))

    def key(self, table: str, column: str, written: str, number: sql.Composable) -> sql.Composable:
        """Return the value that identifies row `number` of `table` in `column`: a different one for every number."""
        kind = base_type(written)
        if kind == "uuid":
            return sql.SQL("md5({} || {})::uuid").format(sql.Literal(f"{self.seed}/{table}.{column}/"), number)
        if kind in INTEGERS:
            return number
        if kind in TEXTS:
            if "email" in column:
                return sql.SQL("'user' || {} || '@example.org'").format(number)
            if re.search(r"hash|token|secret|code|state|signature", column):
                return sql.SQL("md5({} || {})").format(sql.Literal(f"{self.seed}/{table}.{column}/"), number)
            stem = re.sub(r"_?(id|name)$", "", column) or table.rpartition(".")[2].rstrip("s")
            return sql.SQL("{} || {}").format(sql.Literal(f"{stem}-"), number)
        if kind == "bytea":
            return sql.SQL("decode(md5({} || {}), 'hex')").format(sql.Literal(f"{self.seed}/{table}.{column}/"), number)
        raise GroundError(f"{table}.{column}: no distinct values can be made of the type {written}")

    def plain(self, table: str, column: str, written: str, checks: Sequence[str]) -> sql.Composable | None:
        """Return a plausible value of a column that is neither key nor time, None where there is no idea of one."""
        kind, what = base_type(written), f"{table}.{column}"
        allowed = allowed_words(column, checks)
        if allowed:
            return sql.SQL("{}::{}").format(self.pick(allowed, what), sql.SQL(written))
        if kind in TEXTS:
            return self._text(table, column, written)
        makers: dict[str, Any] = {
            "boolean": sql.SQL("{} < 0.9"),
            "bool": sql.SQL("{} < 0.9"),
            "inet": sql.SQL("('10.0.0.0'::inet + floor(65000 * {})::bigint)"),
            "jsonb": sql.SQL("jsonb_build_object('n', floor(100 * {})::int)"),
            "json": sql.SQL("json_build_object('n', floor(100 * {})::int)"),
            "interval": sql.SQL("make_interval(secs => floor(3600 * {}))"),
            "text[]": sql.SQL("ARRAY['a', 'b' || floor(9 * {})::int]"),
            "uuid": sql.SQL("md5('u' || floor(1000000 * {}))::uuid"),
        }
        if kind in INTEGERS:
            return sql.SQL("(floor(3 * {}))::{}").format(self.chance(what), sql.SQL(kind.replace("serial", "int")))
        if kind in FRACTIONS:
            return sql.SQL("round((90 * {})::numeric, 2)::{}").format(self.chance(what), sql.SQL(written))
        if kind.endswith("[]"):
            return sql.SQL("ARRAY[{}]::{}").format(sql.Literal(WORDS["scope"][0]), sql.SQL(written))
        return makers[kind].format(self.chance(what)) if kind in makers else None

    def _text(self, table: str, column: str, written: str) -> sql.Composable:
        words = next((words for name, words in WORDS.items() if column == name or column.endswith("_" + name)), None)
        if words:
            made = self.pick(words, f"{table}.{column}")
        elif column == "claims" or "claim" in column:
            made = self.pick(CLAIMS, f"{table}.{column}")
        elif re.search(r"(^|_)(uri|url|redirect)", column):
            made = sql.SQL("'https://app' || {} || '.example.org/callback'").format(self.index(20, f"{table}.{column}"))
        elif re.search(r"address|(^|_)ip(_|$)", column):
            made = sql.SQL("host('10.0.0.0'::inet + {})").format(self.index(65000, f"{table}.{column}"))
        elif re.search(r"user|subject|(^|_)sub$|owner|created_by", column):
            made = sql.SQL("'user-' || {}").format(self.index(5000, f"{table}.{column}"))
        else:
            made = self.key(table, column, written, I)
        length = re.search(r"\((\d+)\)", written)
        return sql.SQL("left({}, {})").format(made, sql.Literal(int(length.group(1)))) if length else made


def allowed_words(column: str, checks: Sequence[str]) -> list[str]:
    """Return the words that a check of the form `column IN ('a', 'b')` allows."""
    for text in checks:
        match = re.search(rf"\b{re.escape(column)}\"?(?:::text)?\)?\s*(?:=\s*ANY\s*\(|IN\s*\()(.*)", text, re.IGNORECASE | re.DOTALL)
        words = re.findall(r"'((?:[^']|'')*)'", match.group(1)) if match else []
        if words:
            return [word.replace("''", "'") for word in words]
    return []
