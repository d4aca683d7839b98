"""The house rules. Each test is one of them, named as a sentence; CONTRIBUTING.md lists them."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions

import psycopg
import pytest

from openaibatching import cli
from openaibatching.client import bulk
from openaibatching.run import input_lines
from openaibatching.server import db, errors, metrics, model, reasons
from openaibatching.server.config import Settings
from openaibatching.server.endpoints import BY_PATH, ENDPOINTS
from support import source
from support.source import PACKAGE, ROOT, SERVER

# What may import what: a module may import those of the layers above its own, and of its own
# layer where `mixed` says so. A new file of the server has to be given a place here.
LAYERS: tuple[tuple[str, bool, str], ...] = (
    (
        "words",
        True,
        "errors endpoints model modes config journal counted sparing postgres_url tenant_limits",
    ),
    (
        "decisions without I/O",
        True,
        (
            "body_text structure canonical schemas usage prices call tokens image_tokens lone "
            "limit_text lines places bulk_lines evidence reasons shapes results refusal replies "
            "metrics openapi openapi_parts openapi_replies openapi_reports receipts ceiling "
            "forecast key_text key_memory words summary charts tales render holder open_calls "
            "reply_headers view addresses rates estimates purse creations fair_queue"
        ),
    ),
    (
        "the rim: the database and OpenAI",
        True,
        (
            "turns db requirements store cancels model_limits money reports keys audit rows "
            "embedded embedded_programs embedded_sockets readiness upstream tracing queues "
        ),
    ),
    ("what was read, in words", False, "situation"),
    ("what a step is given", True, "context doubles settle token_limits previous"),
    (
        "the flow: no step imports another",
        False,
        "accept form submit watch refused collect cleanup deliver",
    ),
    (
        "who calls the flow",
        True,
        (
            "worker wrong_keys keyring sessions incoming forecaster budget totals model_list "
            "answers_read door roll bulk_out bulk overview api_reports api_models api_public "
            "api framing hello connections callers quotas "
            "steering visitor looks routes calling_off"
        ),
    ),
    ("put together", True, "service renewal own_key"),
)

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
SQL_IN_DB_PY = {
    "select pg_advisory_xact_lock(%s)",
    "select set_config('lock_timeout', %s, true)",
    "select to_regclass('openaibatching.meta')",
    "select version from openaibatching.meta",
    "update openaibatching.meta set version = %s",
    "listen ",
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


def test_every_file_of_the_server_has_its_place_in_a_layer() -> None:
    placed = {name for _, _, names in LAYERS for name in names.split()}
    there = {path.stem for path in SERVER.rglob("*.py") if path.stem != "__init__"}
    assert there - placed == set(), "give it a place in LAYERS"
    assert placed - there == set(), "LAYERS names files that are gone"


def test_the_server_imports_in_one_direction_and_no_step_imports_another() -> None:
    height = {name: level for level, (_, _, names) in enumerate(LAYERS) for name in names.split()}
    wrong = []
    for path in (path for path in SERVER.rglob("*.py") if path.stem in height):
        for imported in source.imports(path) - {"openaibatching.server"} - SHARED:
            other = imported.rsplit(".", 1)[1]
            level, mixed = height[path.stem], LAYERS[height[path.stem]][1]
            if not (height.get(other, 99) < level or (mixed and height.get(other) == level)):
                wrong.append(f"{path.stem} imports {imported}")
    assert wrong == []


TOP = ("cli", "completion", "demo", "serve")
"""Put the parts together: no part imports them."""


@pytest.mark.parametrize(
    ("part", "forbidden"),
    [
        ("simulator", (*TOP, "client", "commands", "run", "server", "types")),
        ("client", (*TOP, "commands", "run", "server", "simulator")),
        ("commands", (*TOP, "run", "server", "simulator")),
        ("run", (*TOP, "server", "simulator")),
        ("types.py", (*TOP, "client", "commands", "run", "server", "simulator")),
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
    assert used == set(db.QUERIES)


def test_every_query_prepares_against_a_fresh_schema(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute("set search_path = openaibatching")
        for name, statement in db.QUERIES.items():
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
    assert found == {("server/db.py", text) for text in SQL_IN_DB_PY}


# ----- states -----

STATEMENTS = "".join(map(db.sql_text, ("queries.sql", "requests.sql", "collect.sql")))


def test_the_states_of_the_schema_are_those_of_the_model() -> None:
    schema = db.sql_text("schema.sql")
    assert source.states_in_schema(schema, "request") == model.REQUEST_STATES
    assert source.states_in_schema(schema, "batch") == model.BATCH_STATES
    finished = re.search(r"check \(\(state in \(([^)]*)\)\) = \(finished_at is not null\)", schema)
    assert finished
    assert tuple(re.findall(r"'(\w+)'", finished[1])) == model.FINISHED


def test_the_transitions_of_the_queries_are_those_of_the_model() -> None:
    by_query = source.transitions_in_sql(STATEMENTS)
    assert {t for transitions in by_query.values() for t in transitions} == model.TRANSITIONS


def test_a_transition_is_guarded_by_the_state_it_starts_from() -> None:
    unguarded = [
        (query, old, new)
        for query, transitions in source.transitions_in_sql(STATEMENTS).items()
        for _, old, new in transitions
        if old is not None
        and not re.search(
            rf"\bwhere\b.*\bstate (= '{old}'|in \([^)]*'{old}'[^)]*\))",
            db.QUERIES[query].decode(),
            re.DOTALL,
        )
    ]
    assert unguarded == []


def test_the_diagrams_show_every_transition_and_no_other() -> None:
    assert source.transitions_in_diagrams(read("ARCHITECTURE.md")) == model.TRANSITIONS


# ----- what the pages say -----


def test_the_settings_have_the_promised_names_and_defaults() -> None:
    defaults: dict[str, object] = {}
    for name, field in Settings.model_fields.items():
        default = "computed" if field.default_factory else field.default
        defaults[name.upper()] = "required" if field.is_required() else default
    assert defaults == PROMISED


def test_the_readme_has_every_setting_with_its_default() -> None:
    rows = source.table_rows(read("README.md"), "## Settings")
    shown = {name.strip("`"): default for name, default, *_ in rows}
    assert set(shown) == {name.upper() for name in Settings.model_fields}
    for name, default in PROMISED.items():
        if default not in (None, "required", "computed"):
            assert shown[name] == f"`{default}`", name
        elif default == "required":
            assert shown[name] == "required", name
        else:
            assert "`" not in shown[name], f"{name} has no fixed default"


def test_the_readme_has_every_error_code_with_its_status() -> None:
    rows = source.table_rows(read("README.md"), "## Errors")
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
    assert set(commands()) == set(cli.COMMANDS)
    for command in commands():
        with pytest.raises(SystemExit) as ended:
            cli.main([command, "--help"])
        assert ended.value.code == 0
        assert f"openaibatching {command}" in capsys.readouterr().out
        assert f"openaibatching {command}" in read("README.md"), f"README does not name {command}"


def test_every_target_of_the_makefile_is_explained() -> None:
    makefile = read("Makefile")
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony
    assert re.findall(r"^([a-z0-9-]+):.* ## \S", makefile, re.MULTILINE) == phony[1].split()


def test_every_test_that_the_table_of_faults_names_is_there() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    faults = re.search(r"^## Faults\n(.*?)^## ", text, re.MULTILINE | re.DOTALL)
    assert faults
    named = re.findall(r"`(\w+/\w+\.py)(?:::(\w+))?`", faults[1])
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
    company = read("clients/typescript/src/company.ts")
    listed = re.search(r"URL_OF_CALL =\s*/.*?\\/\((.*?)\)\$/", company)
    assert listed is not None
    there = {path.removeprefix("/v1") for path in ENDPOINTS}
    assert set(bulk.ENDPOINTS) == there
    assert {f"/{path}" for path in listed[1].replace("\\/", "/").split("|")} == there
    streamed = {path for path, endpoint in BY_PATH.items() if endpoint.streams}
    assert set(input_lines._STREAMED) == streamed
