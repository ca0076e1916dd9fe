"""Find out whether the sequence of a table draws rising numbers, each once, above all stored numbers.

Readers of the log rely on this: they never look again below a position that they have passed.
"""

POSITION_BITS = 47
"""A floor's key has this many bits for a position."""


def facts(table: str, column: str, *more: str) -> str:
    """Return a query for the arguments of `problems`, and after these, for the expressions `more`.

    The snapshot of the statement is older than the last drawn number, so a number that other sessions draw and commit
    meanwhile cannot make the sequence look too low. `pg_sequence_last_value` raises an error or returns NULL if the
    role has no rights on the sequence, depending on the version of PostgreSQL.
    """
    # The names are those of the models.
    return f"""
SELECT CASE WHEN has_sequence_privilege(found.oid, 'USAGE, SELECT')
            THEN coalesce(pg_sequence_last_value(found.oid), 0) END,
       coalesce((SELECT max({column}) FROM {table}), 0),
       found.oid IS NOT NULL,
       EXISTS (SELECT FROM pg_depend
                WHERE classid = 'pg_class'::regclass AND objid = found.oid AND deptype IN ('i', 'a')
                  AND refclassid = 'pg_class'::regclass AND refobjid = '{table}'::regclass),
       {", ".join(["seqincrement", "seqcache", "seqcycle", "relpersistence <> 'p'", *more])}
  FROM (SELECT to_regclass('{table}_{column}_seq')) AS found (oid)
  LEFT JOIN pg_sequence ON seqrelid = found.oid
  LEFT JOIN pg_class ON pg_class.oid = found.oid
"""  # noqa: S608


def problems(
    table: str,
    column: str,
    last_drawn: int | None,
    highest: int,
    exists: bool,
    draws: bool,
    increment: int | None,
    cache: int | None,
    cycles: bool | None,
    vanishes: bool | None,
) -> list[str]:
    """Return a sentence for each problem of a sequence, with its remedy."""
    sequence = f"{table}_{column}_seq"
    if not exists:
        remedy = f"make {column} an identity column again, so that its sequence is called {sequence}"
        return [f"{table}.{column} has no sequence {sequence} in the search_path: {remedy}"]
    if last_drawn is None:
        grant = f"GRANT USAGE, SELECT ON SEQUENCE {sequence} TO <role>"
        return [f"the role of the connection may not read the sequence {sequence}: {grant}"]
    found = []
    if not draws:
        remedy = f"make {column} an identity column again, with this sequence"
        found.append(f"{table}.{column} does not draw its numbers from the sequence {sequence}: {remedy}")
    if last_drawn < highest:
        fact = f"the sequence of {table}.{column} is at {last_drawn}, but {highest} is stored"
        found.append(f"{fact}: set it to {highest}, with SELECT setval('{sequence}', {highest})")
    if last_drawn < 0 or highest < 0:
        found.append(f"the sequence {sequence} draws numbers below 0: ALTER SEQUENCE {sequence} MINVALUE 1 RESTART")
    for name, value, wanted in (("CACHE", cache, 1), ("INCREMENT", increment, 1)):
        if value != wanted:
            found.append(f"the sequence {sequence} has {name} {value}: ALTER SEQUENCE {sequence} {name} {wanted}")
    if cycles:
        found.append(f"the sequence {sequence} has CYCLE: ALTER SEQUENCE {sequence} NO CYCLE")
    if vanishes:
        remedy = f"ALTER TABLE {table} SET LOGGED; ALTER SEQUENCE {sequence} SET LOGGED"
        found.append(f"the sequence {sequence} is UNLOGGED or temporary, so a crash resets it: {remedy}")
    if max(last_drawn, highest) >= 2**POSITION_BITS:
        advice = "find out what has set it so high, and set it to the highest number that is stored below"
        found.append(f"the sequence {sequence} or {table} has reached 2^{POSITION_BITS}, where numbers end: {advice}")
    return found
