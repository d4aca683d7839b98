"""POSTGRES_URL as other tools write it, and what is said of other databases' URLs."""

from __future__ import annotations

import pytest

from openaibatching.server.config.postgres_url import libpq_form
from openaibatching.server.errors import ConfigError

PLAIN = "postgresql://u:p@h:5432/db"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:p@h:5432/db?sslmode=require&application_name=x",
        "postgresql://u:p@h1:1,h2:2/db?target_session_attrs=read-write",
        "postgres://h/db",
        "postgresql://u:what?pool=1@h/db",
        "postgresql://u:p%40s%2Fs@h/db?options=-c%20geqo%3Doff",
        "postgresql:///db?host=/tmp",
        "postgresql:///db?host=/tmp&ssl=true",
        "postgresql://u@/db",
        "host=h dbname=db",
        "service=batching",
        "user=u password='a b' host=h",
    ],
)
def test_what_libpq_knows_stays_as_it_is(url: str) -> None:
    assert libpq_form(url) == url


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("postgresql+psycopg://u:p@h:5432/db", PLAIN),
        ("postgresql+asyncpg://u:p@h:5432/db", PLAIN),
        ("postgresql+psycopg2://u:p@h:5432/db", PLAIN),
        ("postgres+psycopg_async://u:p@h:5432/db", PLAIN),
        ("postgresql+asyncpg://u:p@h:5432/db?ssl=require", f"{PLAIN}?sslmode=require"),
        ("postgresql+asyncpg://u:p@h:5432/db?prepared_statement_cache_size=0", PLAIN),
        ("postgresql://u:p@h:5432/db?schema=public&connection_limit=5", PLAIN),
        (
            "postgresql://u:p@h:5432/db?pgbouncer=true&sslmode=require&pool_timeout=0",
            f"{PLAIN}?sslmode=require",
        ),
        ("postgis://u:p@h:5432/db", PLAIN),
        ("django.db.backends.postgresql://u:p@h:5432/db", PLAIN),
        ("django.contrib.gis.db.backends.postgis://u:p@h:5432/db", PLAIN),
        ("postgres://u:p@h:5432/db?conn_max_age=600", "postgres://u:p@h:5432/db"),
        ("postgres://u:p@h:5432/db?pool=5&prepared_statements=false", "postgres://u:p@h:5432/db"),
        ("postgresql://u:p@h:5432/db?sslmode=no-verify", f"{PLAIN}?sslmode=require"),
        ("jdbc:postgresql://h/db?user=u&password=p%26", "postgresql://h/db?user=u&password=p%26"),
        (
            "jdbc:postgresql://h/db?ssl=true&currentSchema=x&ApplicationName=y",
            "postgresql://h/db?ssl=true&application_name=y",
        ),
        ("jdbc:postgresql:db", "postgresql:///db"),
        ("r2dbc:postgresql://h/db", "postgresql://h/db"),
        ("POSTGRESQL://u:p@h:5432/db", PLAIN),
        (f'"{PLAIN}"', PLAIN),
        (f" {PLAIN}\n", PLAIN),
    ],
)
def test_forms_of_other_tools_are_understood(given: str, used: str) -> None:
    assert libpq_form(given) == used


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("mysql://u:s3cret@h/db", "begins with mysql://, which is not PostgreSQL"),
        ("mysql+pymysql://u:s3cret@h/db", "begins with mysql+pymysql://, which is not"),
        ("jdbc:mysql://u:s3cret@h/db", "begins with jdbc:mysql://, which is not"),
        ("sqlite:///s3cret.db", "begins with sqlite://, which is not"),
        ("sqlite+aiosqlite:///s3cret.db", "begins with sqlite+aiosqlite://, which is not"),
        ("cockroachdb://u:s3cret@h/db", "begins with cockroachdb://, which is not"),
        ("https://u:s3cret@h/db", "begins with https://, which is not"),
        ("Host=h;Username=u;Password=s3cret;Database=db", "is a connection string of .NET"),
        ("postgresql://u:p@h/db?sslaccept=strict", "has the parameter 'sslaccept'"),
        ("host=h hots=s3cret", "has the parameter 'hots'"),
        ("postgresql://u:a/b?s3cret=1@h/db", "is not valid"),
        ("postgresql://u:s3cret%zz@h/db", "is not valid"),
        ("postgresql://u:s3@cret@h/db", "is not valid"),
        ("postgresql+asyncpg://u:s3@cret@h/db", "is not valid"),
        ("u:s3cret@h/db", "is not valid"),
        ("nonsense", "is not valid"),
        ('"', "is not valid"),
    ],
)
def test_what_is_no_postgresql_is_one_line_with_the_cause_and_no_password(
    url: str, why: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        libpq_form(url)
    message = str(caught.value)
    assert message.startswith(f"POSTGRES_URL {why}")
    assert "s3cret" not in message
    assert "cret@" not in message
    assert "\n" not in message
    assert "postgresql://user:password@host/database" in message or "leave it out" in message
