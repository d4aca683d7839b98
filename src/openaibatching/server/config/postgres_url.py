"""POSTGRES_URL in the forms in which tools write it, brought into the one that libpq reads. Pure.

The forms are those of SQLAlchemy (`postgresql+asyncpg://`), Django (`postgis://`,
`django.db.backends.postgresql://`), Rails and Heroku (`postgres://`), JDBC
(`jdbc:postgresql://`) and Prisma (`?schema=public&connection_limit=5`). Their pools' and object
mappers' parameters are left out. What is about security stays, and libpq judges it.
"""

from __future__ import annotations

import re

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from openaibatching.server.errors import ConfigError

FORM = "postgresql://user:password@host/database"
_PREFIX = re.compile(r"(?:jdbc:|r2dbc:)?([a-z][a-z0-9.]*)(?:\+[a-z0-9_]+)?:", re.IGNORECASE)
_NAMES = {
    "postgresql", "postgres", "postgis", "pgsql", "psql", "timescale", "timescaledb",
    "timescalegis",
    "django.db.backends.postgresql", "django.db.backends.postgresql_psycopg2",
    "django.contrib.gis.db.backends.postgis",
}  # fmt: skip
# Of pools, statement caches and object mappers: by tool, in lower case.
_DROPPED = {
    # Prisma: https://www.prisma.io/docs/orm/overview/databases/postgresql
    "schema", "connection_limit", "pool_timeout", "pgbouncer", "socket_timeout",
    "statement_cache_size", "max_idle_connection_lifetime",
    # SQLAlchemy's dialects: https://docs.sqlalchemy.org/en/20/dialects/postgresql.html
    "async_fallback", "prepared_statement_cache_size", "prepared_statement_name_func",
    # Django: the schemes of dj-database-url (https://github.com/jazzband/dj-database-url)
    "conn_max_age", "conn_health_checks", "disable_server_side_cursors",
    # Rails: https://guides.rubyonrails.org/configuring.html#configuring-a-database
    "pool", "prepared_statements", "statement_limit", "reaping_frequency", "checkout_timeout",
    "encoding", "timeout",
    # JDBC: https://jdbc.postgresql.org/documentation/use/
    "currentschema", "logintimeout", "sockettimeout", "tcpkeepalive", "preparethreshold",
    "rewritebatchedinserts", "stringtype",
    # node-postgres: https://node-postgres.com/features/ssl
    "uselibpqcompat",
}  # fmt: skip
_RENAMED = {"applicationname": "application_name"}
# What asyncpg and node-postgres call a mode of libpq's.
_MODES = {"no-verify": "require", "false": "disable"}
_UNKNOWN = re.compile(r'invalid (?:URI query parameter:|connection option) "(\w+)"')
# A password may have a "?" in it.
_PARTS = re.compile(r"(//(?:[^@/]*@)?[^?]*)(?:\?(.*))?", re.DOTALL)


def libpq_form(given: str) -> str:
    """The same database as libpq names it; connection strings of libpq's own stay as they are.

    Raises ConfigError, whose one line never has any part of a password in it.
    """
    text = given.strip()
    if text[:1] == text[-1:] and text[:1] in ("'", '"'):  # a file of variables, read literally
        text = text[1:-1]
    prefix = _PREFIX.match(text)
    if not text:
        raise _malformed()
    if prefix is None:
        if ";" in text and re.match(r"(host|server|data source)\s*=", text, re.IGNORECASE):
            raise ConfigError(
                f"POSTGRES_URL is a connection string of .NET: it must look like {FORM}"
            )
        return _checked(text)
    scheme, rest = prefix[1].lower(), text[prefix.end() :]
    if not rest.startswith("//"):
        if not prefix[0].lower().startswith("jdbc:"):
            return _checked(text)
        rest = "///" + rest.lstrip("/")  # jdbc:postgresql:database
    if scheme not in _NAMES:
        raise ConfigError(
            f"POSTGRES_URL begins with {prefix[0]}//, which is not PostgreSQL: "
            f"it must look like {FORM}"
        )
    parts = _PARTS.fullmatch(rest)
    assert parts is not None
    query = "&".join(filter(None, map(_parameter, (parts[2] or "").split("&"))))
    own = prefix[0] if prefix[0] in ("postgresql:", "postgres:") else "postgresql:"
    return _checked(f"{own}{parts[1]}{'?' if query else ''}{query}")


def _parameter(part: str) -> str:
    """A parameter as libpq knows it; nothing if it is none of the connection's."""
    name, _, value = part.partition("=")
    lowered = name.lower()
    if lowered in _DROPPED:
        return ""
    if lowered == "ssl" and value.lower() == "true":  # JDBC's: libpq knows it
        return "ssl=true"
    if lowered in ("ssl", "sslmode"):
        return f"sslmode={_MODES.get(value, value)}"
    if lowered in _RENAMED:
        return f"{_RENAMED[lowered]}={value}"
    return part


def _checked(text: str) -> str:
    # Here, because the message of a failed connection repeats a malformed one, password and all.
    try:
        parts = conninfo_to_dict(text)
    except ProgrammingError as error:
        unknown = _UNKNOWN.search(str(error))
        if unknown and "@" not in text.partition("?")[2]:  # or it may be of the password
            raise ConfigError(
                f"POSTGRES_URL has the parameter {unknown[1]!r}, which libpq does not know: "
                "leave it out"
            ) from None
        raise _malformed() from None
    # An "@" or "/" in the password moves the rest of it into another part.
    elsewhere = f"{parts.get('host', '')}{parts.get('dbname', '')}"
    if "@" in elsewhere or not re.fullmatch(r"[\d,]*", str(parts.get("port", ""))):
        raise _malformed()
    return text


def _malformed() -> ConfigError:
    return ConfigError(
        f"POSTGRES_URL is not valid: it must look like {FORM}, "
        "with special characters in the password percent-encoded"
    )
