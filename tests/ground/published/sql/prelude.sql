-- What every rows.sql is written in. Nothing is random: a number comes from its salt and the row's number.

CREATE FUNCTION pg_temp.rows() RETURNS int LANGUAGE sql STABLE
    AS $$ SELECT greatest(current_setting('ground.rows')::int, 1) $$;

-- A share of rows() that is never none.
CREATE FUNCTION pg_temp.rows(share float8) RETURNS int LANGUAGE sql STABLE
    AS $$ SELECT greatest((share * current_setting('ground.rows')::int)::int, 1) $$;

-- A number in [0, 1).
CREATE FUNCTION pg_temp.chance(salt text, i bigint) RETURNS float8 LANGUAGE sql IMMUTABLE
    AS $$ SELECT ('x' || substr(md5(salt || ' ' || i), 1, 8))::bit(32)::bigint / 4294967296::float8 $$;

-- A number in 1 .. n; the low ones come up far more often, as a few users, clients and sessions have most of the tokens.
CREATE FUNCTION pg_temp.skewed(salt text, i bigint, n int) RETURNS int LANGUAGE sql IMMUTABLE
    AS $$ SELECT 1 + floor(n * power(pg_temp.chance(salt, i), 3))::int $$;

CREATE FUNCTION pg_temp.uid(salt text, i bigint) RETURNS uuid LANGUAGE sql IMMUTABLE
    AS $$ SELECT md5(salt || ' ' || i)::uuid $$;

-- 64 hexadecimal digits, as a signature or a secret has.
CREATE FUNCTION pg_temp.secret(salt text, i bigint) RETURNS text LANGUAGE sql IMMUTABLE
    AS $$ SELECT encode(sha256(convert_to(salt || ' ' || i, 'UTF8')), 'hex') $$;

CREATE FUNCTION pg_temp.address(i bigint) RETURNS inet LANGUAGE sql IMMUTABLE
    AS $$ SELECT CASE WHEN i % 10 = 0 THEN '2001:db8::1'::inet + i ELSE '198.51.100.0'::inet + i % 250 END $$;

-- The seconds from now to the end of a token that may live as long as `lifetime`: in four of ten cases it is still to come.
CREATE FUNCTION pg_temp.ending(salt text, i bigint, lifetime float8) RETURNS float8 LANGUAGE sql IMMUTABLE
    AS $$ SELECT CASE WHEN pg_temp.chance(salt, i) < 0.4
        THEN 1800 + (lifetime - 3600) * pg_temp.chance(salt || ' left', i)
        ELSE -1800 - 40 * 86400 * power(pg_temp.chance(salt || ' gone', i), 2) END $$;

CREATE FUNCTION pg_temp.at(seconds float8) RETURNS timestamptz LANGUAGE sql STABLE
    AS $$ SELECT now() + make_interval(secs => seconds) $$;

-- The same as a wall clock in UTC.
CREATE FUNCTION pg_temp.utc(seconds float8) RETURNS timestamp LANGUAGE sql STABLE
    AS $$ SELECT timezone('UTC', now() + make_interval(secs => seconds)) $$;
