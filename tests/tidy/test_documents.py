"""The documents and the clients say what the code does."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib

import pytest

from openaibatching.cli import main
from openaibatching.cli.run import input_lines
from openaibatching.client import coalescing
from openaibatching.server import errors
from openaibatching.server.config.settings import Settings
from openaibatching.server.domain.endpoints import BY_PATH, ENDPOINTS
from openaibatching.server.providers.openai import reasons
from openaibatching.server.reporting import metrics
from support import source
from support.source import ROOT, SERVER, read, run

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


def test_the_architecture_is_read_in_one_sitting() -> None:
    assert len(read("ARCHITECTURE.md").splitlines()) <= 150


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
