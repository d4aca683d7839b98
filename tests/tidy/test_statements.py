"""The house rules of SQL: where it stands, and what a statement says of itself."""

from __future__ import annotations

import re

import psycopg

from openaibatching.server.database import statements
from openaibatching.server.domain import states
from support import source
from support.source import PACKAGE, SERVER, read

# The only statements outside sql/: those that look at the schema before it is there, and the one
# that listens.
SQL_IN_PYTHON = {
    "server/database/migrations.py": {
        "select pg_advisory_xact_lock(%s)",
        "select set_config('lock_timeout', %s, true)",
        "select to_regclass('openaibatching.meta')",
        "select version from openaibatching.meta",
        "update openaibatching.meta set version = %s",
    },
    "server/database/listener.py": {"listen "},
}
SQL = re.compile(
    r"\s*(select\s|insert\s+into\s|update\s+\S+\s+set\s|delete\s+from\s|with\s+\w+\s+as\s|"
    r"(create|alter|drop|truncate|copy|lock)\s+\w+\s|(set|reset)\s+\w+\s*=|listen\s|notify\s)",
    re.IGNORECASE,
)


def test_every_named_query_is_used_and_every_used_one_is_named() -> None:
    used = {name for path in SERVER.rglob("*.py") for name in source.queries_asked_for(path)}
    assert used == set(statements.QUERIES)


def test_every_query_prepares_against_a_fresh_schema(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute("set search_path = openaibatching")
        for name, statement in statements.QUERIES.items():
            numbered = statement
            for n, name_ in enumerate(dict.fromkeys(re.findall(rb"%\((\w+)\)", statement)), 1):
                numbered = re.sub(rb"%%\(%s\)[sb]" % name_, b"$%d" % n, numbered)
            numbered = numbered.replace(b"%%", b"%")
            # Prepared for each name anew, so that an error tells which query it is.
            conn.execute(b"prepare " + name.encode() + b" as " + numbered, prepare=False)


def test_sql_is_only_in_sql_files() -> None:
    found = {
        (path.relative_to(PACKAGE).as_posix(), text)
        for path in PACKAGE.rglob("*.py")
        for text in source.texts(path)
        if SQL.match(text)
    }
    assert found == {(file, text) for file, texts in SQL_IN_PYTHON.items() for text in texts}


STATEMENTS = "".join(map(statements.sql_text, ("queries.sql", "requests.sql", "collect.sql")))


def test_the_states_of_the_schema_are_those_of_the_model() -> None:
    schema = "".join(map(statements.sql_text, statements.SCHEMA_FILES))
    assert source.states_in_schema(schema, "result") == states.FINISHED
    assert source.states_in_schema(schema, "batch") == states.BATCH_STATES
    assert tuple(states.TABLES) == states.REQUEST_STATES
    for table in set(states.TABLES.values()):
        assert f"\ncreate table {table} (" in schema


def test_the_transitions_of_the_queries_are_those_of_the_model() -> None:
    by_query = source.transitions_in_sql(STATEMENTS)
    assert {t for transitions in by_query.values() for t in transitions} == states.TRANSITIONS


def is_guarded(query: str, noun: str, old: str) -> bool:
    """A batch's row is found by its state, a request's is taken out of the table that is it."""
    by_state = re.search(
        rf"\bwhere\b.*\bstate (= '{old}'|in \([^)]*'{old}'[^)]*\))", query, re.DOTALL
    )
    if noun == "batch":
        return by_state is not None
    taken = re.search(rf"\bdelete from {states.TABLES[old]}\b", query) is not None
    return taken and (old not in states.FINISHED or by_state is not None)


def test_a_transition_is_guarded_by_the_state_it_starts_from() -> None:
    unguarded = [
        (query, old, new)
        for query, transitions in source.transitions_in_sql(STATEMENTS).items()
        for noun, old, new in transitions
        if old is not None and not is_guarded(statements.QUERIES[query].decode(), noun, old)
    ]
    assert unguarded == []


def moved_rows(query: str) -> tuple[set[str], set[str]]:
    """The tables of states that a statement takes requests out of, and puts them into."""
    tables = "|".join(set(states.TABLES.values()))
    return (
        set(re.findall(rf"\bdelete from ({tables})\b", query)),
        set(re.findall(rf"\binsert into ({tables})\b", query)),
    )


def test_a_statement_that_moves_requests_says_so_and_puts_them_where_it_says() -> None:
    said = source.transitions_in_sql(STATEMENTS)
    for name, query in statements.QUERIES.items():
        out, into = moved_rows(query.decode())
        moves = {t for t in said.get(name, ()) if t[0] == "request"}
        assert into == {states.TABLES[new] for _, _, new in moves}, name
        if moves:
            assert out == {states.TABLES[old] for _, old, _ in moves if old}, name


def test_no_statement_that_moves_requests_forgets_the_counts_or_the_reserves() -> None:
    changing = {n: q.decode() for n, q in statements.QUERIES.items() if any(moved_rows(q.decode()))}
    assert {n for n, query in changing.items() if "insert into tally" not in query} == set()
    # What is reserved stays so while a request travels, and is given back when it has ended.
    no_reserve = {n for n, query in changing.items() if "insert into reserve" not in query}
    assert no_reserve == {"claim_requests", "forget_requests", "delete_request"}


OF_ANY_TENANT = {
    # What the server does of itself, for all.
    "claim_requests", "measure_queue", "find_lone", "free_lone", "refuse_alone", "defer_request",
    "store_results", "read_attempts", "read_unanswered", "read_bodies", "move_requests",
    "forget_requests", "learn_rate", "read_traced", "which_finished", "read_finished_requests",
    "list_groups", "read_queue", "oldest_queued",
    # Ids that the door has computed from its caller's tenant and body.
    "accept_requests", "which_known",
}  # fmt: skip


def test_whatever_a_caller_can_reach_of_requests_asks_whose_they_are() -> None:
    of_requests = re.compile(
        r"\b(from|join|into|update) (request|body|queued|sent|result|shown_request|queue_head)\b"
        r"|\bqueue_heads\("
    )
    unasked = {
        name
        for name, query in statements.QUERIES.items()
        if of_requests.search(query.decode())
        and not re.search(r"%\((tenant|tenants)\)[bs]::text", query.decode())
    }
    assert unasked <= OF_ANY_TENANT


def test_every_index_names_the_statement_that_needs_it() -> None:
    schema = "".join(map(statements.sql_text, statements.SCHEMA_FILES))
    indexes = re.findall(
        r"^create (?:unique )?index (\w+)(.*?;.*?)$", schema, re.MULTILINE | re.DOTALL
    )
    assert len(indexes) >= 18
    for name, rest in indexes:
        comment = re.search(r"--(.*)", rest)
        assert comment, f"{name} says nothing"
        named = set(re.findall(r"\w+", comment[1])) & statements.QUERIES.keys()
        assert named, f"{name} names no statement"


def test_the_diagrams_show_every_transition_and_no_other() -> None:
    assert source.transitions_in_diagrams(read("ARCHITECTURE.md")) == states.TRANSITIONS
