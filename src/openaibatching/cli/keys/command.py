"""`openaibatching keys`: the keys that callers present, beside those of BATCH_SERVER_API_KEY.

It works on the database directly, so it needs no server and no key; servers hear of each change.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import psycopg

from openaibatching import terminal
from openaibatching.cli.keys import output
from openaibatching.cli.keys.output import Made
from openaibatching.server.auth import audit, key_store
from openaibatching.server.auth.holder import POWERS, SUBMIT
from openaibatching.server.auth.key_cache import StoredKey
from openaibatching.server.auth.key_format import new_key
from openaibatching.server.config import settings as config_settings
from openaibatching.server.config.settings import DEFAULT_TENANT, TENANT, DatabaseSettings
from openaibatching.server.database import embedded, migrations, pool
from openaibatching.server.database.statements import Connection
from openaibatching.server.database.url import database_url
from openaibatching.server.errors import ConfigError, DatabaseUnavailable

DONE, NO_SUCH_KEY, CANNOT = 0, 1, 2
NAME_CHARACTERS_MAX = 64
OVERLAP_HOURS_MAX = 24 * 366
UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
EXPIRES_S_MAX = 3660 * UNITS_S["d"]
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)([smhdw])")
SCOPES = (
    "submit: makes, reads, cancels and retries its tenant's requests; read: only reads them; "
    "metrics: only reads /metrics, of all tenants; admin: as submit, and reads the reports of all "
    f"tenants [{SUBMIT}]"
)


class NotThatKey(Exception):
    """What was asked for names no key that can be meant, or more than one."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit code: 0, 1 if there is no such key, 2 if it could not begin."""
    return run("keys", parser().parse_args(arguments))


def run(command: str, options: argparse.Namespace) -> int:
    """Show what `options.do` gives on the database; the exit code, as of `main`."""
    try:
        settings = config_settings.load_database({"data_dir": options.data_dir})
        options.show(asyncio.run(_with_database(settings, options)), as_json=options.json)
    except NotThatKey as error:
        return _fail(command, error, NO_SUCH_KEY)
    except ConfigError as error:
        return _fail(command, error, CANNOT)
    except (DatabaseUnavailable, psycopg.Error) as error:
        # Of the first the cause: its own words are for callers of the API.
        detail = str(error.__cause__ or error).strip().split("\n")[0]
        return _fail(command, f"the database does not do it: {detail}", CANNOT)
    return DONE


def _fail(command: str, error: object, code: int) -> int:
    terminal.say(f"openaibatching {command}: {error}")
    return code


# ----- the command line -----


def parser() -> argparse.ArgumentParser:
    """What the command takes."""
    made = terminal.Parser(
        prog="openaibatching keys",
        description="Make, list, rotate and revoke the keys that callers present, beside those of "
        "BATCH_SERVER_API_KEY. Servers that run take notice at once.",
        epilog="The database is that of POSTGRES_URL, from the environment only, or the embedded "
        "one in DATA_DIR. The exit code is 1 if there is no such key, 2 if the command is wrong or "
        "the database out of reach.",
    )
    actions = made.add_subparsers(required=True, metavar="create | list | rotate | revoke")
    create = _action(actions, "create", _create, output.made, "make a key, and show it once")
    create.add_argument("name", type=_name, metavar="NAME", help="to tell it by")
    create.add_argument(
        "--tenant", type=_tenant, default=DEFAULT_TENANT,
        help=f"whose requests it sees and makes [{DEFAULT_TENANT}]",
    )  # fmt: skip
    create.add_argument("--scope", choices=list(POWERS), default=SUBMIT, help=SCOPES)
    _expires(create, "it ends by itself after so long [never]")
    _action(
        actions, "list", _list, output.all_keys, "which keys there are, and when they were used"
    )
    rotate = _action(
        actions, "rotate", _rotate, output.made, "make a key in another's place, which then ends"
    )
    _which(rotate)
    rotate.add_argument(
        "--overlap-hours", type=_hours, default=0.0, metavar="H",
        help="for how long the old one goes on working [0]",
    )  # fmt: skip
    _expires(rotate, "the new key ends by itself after so long [as the old one]")
    _which(_action(actions, "revoke", _revoke, output.revoked, "end a key, at once"))
    return made


def _action(
    actions: Any, name: str, do: Callable[..., Any], show: Callable[..., None], told: str
) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = actions.add_parser(name, help=told, description=f"{told}.")
    add_database(made)
    made.set_defaults(do=do, show=show)
    return made


def add_database(action: argparse.ArgumentParser) -> None:
    """The options of what works on the database."""
    action.add_argument("--json", action="store_true", help="for scripts")
    action.add_argument("--data-dir", metavar="DATA_DIR", help="as for `openaibatching serve`")


def _which(action: argparse.ArgumentParser) -> None:
    action.add_argument("which", metavar="ID-or-NAME", help="as `openaibatching keys list` says")


def _expires(action: argparse.ArgumentParser, told: str) -> None:
    action.add_argument("--expires", type=duration, metavar="90d", help=f"{told}; s, m, h, d or w")


def _name(text: str) -> str:
    if not (1 <= len(text) <= NAME_CHARACTERS_MAX and text.isprintable() and text.strip() == text):
        raise argparse.ArgumentTypeError(
            f"a name has 1 to {NAME_CHARACTERS_MAX} printable characters"
        )
    return text


def _tenant(text: str) -> str:
    if not TENANT.fullmatch(text):
        raise argparse.ArgumentTypeError("a tenant has 1 to 64 letters, digits, '.', '_' and '-'")
    return text


def duration(text: str) -> float:
    """Seconds of `90d`."""
    found = _DURATION.fullmatch(text)
    seconds = float(found[1]) * UNITS_S[found[2]] if found else 0.0
    if not 0 < seconds <= EXPIRES_S_MAX:
        raise argparse.ArgumentTypeError(
            "a duration is a number and one of s, m, h, d and w: 90d; at most 3660d"
        )
    return seconds


def _hours(text: str) -> float:
    try:
        hours = float(text)
    except ValueError:
        hours = -1.0
    if not 0 <= hours <= OVERLAP_HOURS_MAX:
        raise argparse.ArgumentTypeError(f"hours are a number from 0 to {OVERLAP_HOURS_MAX}")
    return hours


# ----- what is done -----


async def _with_database(settings: DatabaseSettings, options: argparse.Namespace) -> Any:
    """What `options.do` gives, in one transaction."""
    # Keys in a database that no server uses would only puzzle whoever made them.
    if settings.postgres_url is None and not embedded.is_set_up(settings.data_dir):
        raise ConfigError(
            f"no server has kept its database in DATA_DIR ({settings.data_dir}) yet: "
            "set POSTGRES_URL or DATA_DIR as for `openaibatching serve`, or start that first"
        )
    do: Callable[[Connection, argparse.Namespace], Awaitable[Any]] = options.do
    async with database_url(settings) as url:
        await migrations.check_schema(url, wait_s=settings.database_wait_s)
        async with pool.one_transaction(url) as conn:
            return await do(conn, options)


async def _create(conn: Connection, options: argparse.Namespace) -> Made:
    made = await _make(conn, options.name, options.tenant, options.scope, options.expires)
    await _note(conn, audit.KEY_CREATED, made.stored)
    return made


async def _make(
    conn: Connection, name: str, tenant: str, scope: str, expires_in_s: float | None
) -> Made:
    key = new_key()
    return Made(key, await key_store.create_key(conn, name, tenant, key, scope, expires_in_s))


async def _list(conn: Connection, _options: argparse.Namespace) -> list[StoredKey]:
    return await key_store.list_keys(conn)


async def _rotate(conn: Connection, options: argparse.Namespace) -> Made:
    old = choose(await key_store.list_keys(conn), options.which, {"active"})
    await _end(conn, old, options.overlap_hours * 3600)
    expires_in_s: float | None = options.expires
    if expires_in_s is None and old.expires_at is not None:
        expires_in_s = (old.expires_at - old.created_at).total_seconds()
    made = await _make(conn, old.name, old.tenant, old.scope, expires_in_s)
    await _note(conn, audit.KEY_ROTATED, made.stored)
    return made


async def _revoke(conn: Connection, options: argparse.Namespace) -> StoredKey:
    found = choose(await key_store.list_keys(conn), options.which, {"active", "ending"})
    ended = await _end(conn, found, 0.0)
    await _note(conn, audit.KEY_REVOKED, ended)
    return ended


async def _note(conn: Connection, action: str, key: StoredKey) -> None:
    target = f"{key.name} ({key.scope}, {key.id})"
    await audit.write(
        conn, [audit.Entry(action, tenant=key.tenant, address=audit.LOCAL, target=target)]
    )


async def _end(conn: Connection, seen: StoredKey, in_s: float) -> StoredKey:
    ended = await key_store.end_key(conn, seen, in_s)
    if ended is None:
        raise NotThatKey("somebody else has just ended that key: look at the list, and try again")
    return ended


def choose(there: Sequence[StoredKey], which: str, states: set[str]) -> StoredKey:
    """The one key of that id, or else of that name, in one of these states. Raises NotThatKey."""
    named = [key for key in there if str(key.id) == _as_id(which)]
    named = named or [key for key in there if key.name == which]
    if not named:
        raise NotThatKey(f"there is no key with the id or name '{which}'")
    meant = [key for key in named if key.state in states]
    if not meant:
        state = "is being replaced already" if named[-1].state == "ending" else "has ended already"
        raise NotThatKey(f"the key '{which}' {state}")
    if len(meant) > 1:
        ids = ", ".join(str(key.id) for key in meant)
        raise NotThatKey(f"{len(meant)} keys have the name '{which}'; say which, by its id: {ids}")
    return meant[0]


def _as_id(text: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return ""
