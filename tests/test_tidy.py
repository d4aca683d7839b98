"""The house rules. Each test is one of them, named as a sentence; CONTRIBUTING.md lists them."""

from __future__ import annotations

import graphlib
import os
import re
import statistics
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions

import psycopg
import pytest

from openaibatching.cli import main
from openaibatching.cli.run import input_lines
from openaibatching.client import coalescing
from openaibatching.server import errors
from openaibatching.server.config.settings import Settings
from openaibatching.server.database import statements
from openaibatching.server.domain import states
from openaibatching.server.domain.endpoints import BY_PATH, ENDPOINTS
from openaibatching.server.providers.openai import reasons
from openaibatching.server.reporting import metrics
from support import source
from support.source import PACKAGE, ROOT, SERVER

# The rooms of the server, left to right: a room imports only rooms to its left. What a room is for
# stands in its `__init__.py`.
ROOMS = (
    "errors", "domain", "config", "telemetry", "database", "auth", "billing", "providers",
    "requests", "pipeline", "reporting", "api", "dashboard", "renewal", "app",
)  # fmt: skip

# The steps of a batch. None imports another: the database is their only channel.
STEPS = ("form", "submit", "watch", "refused", "collect", "cleanup")

# What server and commands share; needs nothing of either.
SHARED = {"openaibatching.secret_file", "openaibatching.surroundings", "openaibatching.terminal"}

FILE_LINES_MAX, FILE_LINES_MEDIAN_MAX, FUNCTION_LINES_MAX = 500, 200, 70
PYTHON_FILES = sorted(
    path for folder in ("src", "tests", "examples") for path in (ROOT / folder).rglob("*.py")
)
TYPESCRIPT_FILES = sorted(
    path
    for folder in ("src", "tests", "scripts")
    for path in (ROOT / "clients" / "typescript" / folder).iterdir()
)

# Names and defaults that operators rely on: changing one breaks somebody's deployment.
PROMISED: dict[str, object] = {
    "OPENAI_API_KEY": "required",
    "OPENAI_BASE_URL": "https://api.openai.com/v1",
    "OPENAI_ORG_ID": None,
    "OPENAI_PROJECT_ID": None,
    "OPENAI_WEBHOOK_SECRET": None,
    "BATCH_SERVER_API_KEY": None,
    "POSTGRES_URL": None,
    "DATA_DIR": "computed",
    "HOST": "127.0.0.1",
    "PORT": 9487,
    "SSL_CERTFILE": None,
    "SSL_KEYFILE": None,
    "BATCH_LINGER_S": 60,
    "BATCH_REQUESTS_MAX": 50_000,
    "BATCH_BYTES_MAX": 200_000_000,
    "BATCH_POLL_S": 30,
    "BATCH_ATTEMPTS_MAX": 3,
    "BATCH_SETTLE_S": 60,
    "REQUEST_BYTES_MAX": 33_554_432,
    "WAIT_S_MAX": 600,
    "RESULT_TTL_DAYS": 30,
    "BATCH_BUDGET_USD_DAY": None,
    "BATCH_BUDGET_UNPRICED": "refuse",
    "TENANT_RATE_MAX": "2000",
    "TENANT_CONCURRENCY_MAX": "5000",
    "TENANT_QUEUED_MAX": None,
    "TENANT_MODELS_MAX": "1000",
    "DATABASE_WAIT_S": 10,
    "LOG_FORMAT": "text",
    "LOG_LEVEL": "info",
}

# What a process list must not show: environment only.
NO_FLAGS = {"OPENAI_API_KEY", "OPENAI_WEBHOOK_SECRET", "BATCH_SERVER_API_KEY", "POSTGRES_URL"}

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


def read(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def run(*command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "100"}
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, env=environment, check=False
    )


# ----- who imports whom -----


def room_of(module: str) -> str:
    """The room of a module of the server, or the module itself where it stands in none."""
    return module.removeprefix("openaibatching.server.").split(".")[0]


def test_every_folder_of_the_server_is_a_room_that_says_what_it_is_for() -> None:
    there = {path.relative_to(SERVER).parts[0].removesuffix(".py") for path in SERVER.rglob("*.py")}
    assert there - {"__init__"} == set(ROOMS)
    silent = [path for path in SERVER.rglob("__init__.py") if not path.read_text("utf-8").strip()]
    assert silent == []


def test_a_room_imports_only_rooms_to_its_left() -> None:
    wrong = []
    for path in sorted(SERVER.rglob("*.py")):
        room = path.relative_to(SERVER).parts[0].removesuffix(".py")
        for imported in source.imports(path):
            other = room_of(imported)
            if imported.startswith("openaibatching.server.") and other != room:
                if ROOMS.index(other) > ROOMS.index(room):
                    wrong.append(f"{path.relative_to(SERVER)} imports {imported}")
            elif not imported.startswith("openaibatching.server") and imported not in SHARED:
                wrong.append(f"{path.relative_to(SERVER)} imports {imported}")
    assert wrong == []


def test_no_files_of_the_server_import_each_other_in_a_circle() -> None:
    imports = {source.name_of(path): source.imports(path) for path in SERVER.rglob("*.py")}
    graphlib.TopologicalSorter(imports).prepare()  # raises CycleError, which names the files


def test_no_step_imports_another() -> None:
    steps = {f"openaibatching.server.pipeline.{step}" for step in STEPS}
    wrong = [
        f"{step} imports {imported}"
        for step in STEPS
        for imported in source.imports(SERVER / "pipeline" / f"{step}.py") & steps
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("part", "forbidden"),
    [
        ("simulator", ("cli", "client", "server", "types")),
        ("client", ("cli", "server", "simulator")),
        ("cli/remote", ("server", "simulator")),
        ("cli/run", ("server", "simulator")),
        ("server", ("cli", "client", "simulator")),
        ("types.py", ("cli", "client", "server", "simulator")),
    ],
)
def test_the_simulator_and_the_client_stand_alone(part: str, forbidden: tuple[str, ...]) -> None:
    files = [PACKAGE / part] if part.endswith(".py") else sorted((PACKAGE / part).rglob("*.py"))
    assert files
    wrong = [
        f"{path.name} imports {imported}"
        for path in files
        for imported in source.imports(path)
        if imported.split(".")[1:2] and imported.split(".")[1] in forbidden
    ]
    assert wrong == []


def test_the_rooms_of_the_simulator_import_in_one_direction() -> None:
    rooms = ("faults", "engine", "api")
    wrong = [
        f"{room}/{path.name} imports {imported}"
        for place, room in enumerate(rooms)
        for path in sorted((PACKAGE / "simulator" / room).rglob("*.py"))
        for imported in source.imports(path)
        if imported.startswith("openaibatching.simulator.")
        and imported.split(".")[2] not in rooms[: place + 1]
    ]
    assert wrong == []


def test_a_bare_import_needs_nothing_but_the_official_package() -> None:
    extras = tomllib.loads(read("pyproject.toml"))["project"]["optional-dependencies"]["server"]
    wanted = {re.split(r"[\[<>=;]", line)[0].replace("-", "_").lower() for line in extras}
    of_the_server = {
        module
        for module, distributions in packages_distributions().items()
        if wanted & {name.replace("-", "_").lower() for name in distributions}
    }
    assert len(of_the_server) >= len(wanted) - 1  # uvloop and httptools are not everywhere
    imported = run("-c", "import sys, openaibatching; print(*sys.modules)")
    assert imported.returncode == 0, imported.stderr
    found = imported.stdout.split()
    assert [m for m in found if m.split(".")[0] in of_the_server] == []
    assert [m for m in found if m.startswith(("openaibatching.server", "openaibatching.sim"))] == []


# ----- sizes -----


def test_files_are_short() -> None:
    lines = {
        str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines())
        for path in [*PYTHON_FILES, *TYPESCRIPT_FILES, *PACKAGE.rglob("*.sql")]
    }
    assert {name: n for name, n in lines.items() if n > FILE_LINES_MAX} == {}
    assert statistics.median(lines.values()) < FILE_LINES_MEDIAN_MAX


def test_functions_are_short() -> None:
    long = {
        f"{path.relative_to(ROOT)}: {name}": lines
        for path in PYTHON_FILES
        for name, lines in source.functions(path)
        if lines >= FUNCTION_LINES_MAX
    }
    assert long == {}


# ----- SQL -----


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


# ----- states -----

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


def test_the_architecture_is_read_in_one_sitting() -> None:
    assert len(read("ARCHITECTURE.md").splitlines()) <= 150


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


# ----- what the pages say -----


def test_the_settings_have_the_promised_names_and_defaults() -> None:
    defaults: dict[str, object] = {}
    for name, field in Settings.model_fields.items():
        default = "computed" if field.default_factory else field.default
        defaults[name.upper()] = "required" if field.is_required() else default
    assert defaults == PROMISED


def test_the_page_of_settings_has_every_setting_with_its_default() -> None:
    rows = source.table_rows(read("docs/settings.md"), "## Variables")
    shown = {name.strip("`"): default for name, default, *_ in rows}
    assert set(shown) == {name.upper() for name in Settings.model_fields}
    for name, default in PROMISED.items():
        if default not in (None, "required", "computed"):
            assert shown[name] == f"`{default}`", name
        elif default == "required":
            assert shown[name] == "required", name
        else:
            assert "`" not in shown[name], f"{name} has no fixed default"


def test_the_page_of_errors_has_every_code_with_its_status() -> None:
    rows = source.table_rows(read("docs/errors.md"), "## Codes")
    shown = {(status, code) for status, codes, *_ in rows for code in re.findall(r"`(\w+)`", codes)}
    refusals: list[type[errors.Refusal]] = [errors.Refusal]
    for refusal in refusals:
        refusals += refusal.__subclasses__()
    raised = {
        (str(refusal.http_status), refusal.code)
        for refusal in refusals
        if not refusal.__subclasses__()
    }
    assert raised - shown == set()


def test_the_page_of_errors_has_every_reason_of_openais_that_is_known() -> None:
    page = read("docs/errors.md")
    assert [code for code in reasons.CODES if f"`{code}`" not in page] == []


def test_the_operators_page_has_every_event_and_every_metric_and_no_other() -> None:
    page = read("docs/operations.md")
    logged = {name for path in SERVER.rglob("*.py") for name in source.events(path)}
    assert logged == source.first_column(page, "## Events", r"\b[a-z]+_[a-z_]+\b")
    look = metrics.Look(account=metrics.Account())
    names = set(re.findall(r"^# TYPE (\w+) ", metrics.render(look, "1").decode(), re.MULTILINE))
    shown = source.first_column(page, "## Metrics and alarms", r"openaibatching_\w+")
    assert {name for name in names if not name.endswith("_created")} == shown


def test_every_flag_of_serve_is_a_setting_and_no_secret_is_a_flag() -> None:
    flags = set(re.findall(r"--([a-z-]+)", run("-m", "openaibatching", "serve", "--help").stdout))
    names = {name.lower().replace("_", "-") for name in PROMISED.keys() - NO_FLAGS}
    assert flags == names | {"help"}


def test_the_changelog_has_this_version() -> None:
    version = tomllib.loads(read("pyproject.toml"))["project"]["version"]
    assert re.search(rf"^## \[{re.escape(version)}\]", read("CHANGELOG.md"), re.MULTILINE)


def commands() -> list[str]:
    return re.findall(r"^    (\w+)\b", run("-m", "openaibatching", "--help").stdout, re.MULTILINE)


def test_every_command_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(commands()) == set(main.COMMANDS)
    for command in commands():
        with pytest.raises(SystemExit) as ended:
            main.main([command, "--help"])
        assert ended.value.code == 0
        assert f"openaibatching {command}" in capsys.readouterr().out
        assert f"openaibatching {command}" in read("docs/command-line.md"), (
            f"the page does not name {command}"
        )


def test_every_target_of_the_makefile_is_explained() -> None:
    makefile = read("Makefile")
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony
    assert re.findall(r"^([a-z0-9-]+):.* ## \S", makefile, re.MULTILINE) == phony[1].split()


def test_every_test_that_the_table_of_faults_names_is_there() -> None:
    named = re.findall(r"`(\w+/\w+\.py)(?:::(\w+))?`", read("docs/faults.md"))
    assert len(named) > 25
    for file, name in named:
        functions = {found for found, _ in source.functions(ROOT / "tests" / file)}
        assert not name or name in functions, f"{file} has no {name}"


def test_every_part_of_make_test_runs_and_the_end_says_which_failed() -> None:
    parts = "PARTS=help no-such-part help"
    done = subprocess.run(["make", "test", parts], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    assert done.stdout.count("make demo") == 2, "the part after the one that failed"
    assert done.stderr.splitlines()[-2] == "Failed: no-such-part"


def test_the_synchronous_client_is_made_from_the_asynchronous_one() -> None:
    script = ROOT / "scripts" / "sync_client.py"
    checked = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_the_clients_know_the_endpoints_that_the_server_has() -> None:
    source_text = read("clients/typescript/src/coalescing.ts")
    listed = re.search(r"URL_OF_CALL =\s*/.*?\\/\((.*?)\)\$/", source_text)
    assert listed is not None
    there = {path.removeprefix("/v1") for path in ENDPOINTS}
    assert set(coalescing.ENDPOINTS) == there
    assert {f"/{path}" for path in listed[1].replace("\\/", "/").split("|")} == there
    streamed = {path for path, endpoint in BY_PATH.items() if endpoint.streams}
    assert set(input_lines._STREAMED) == streamed
