"""When traces are on, and what a server says that is asked for them without the packages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from openaibatching.server.telemetry.tracing import from_environment
from support.process import environment


@pytest.mark.parametrize(
    ("variables", "on"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "x"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:9/v1/traces"}, True),
    ],
)
async def test_it_is_on_where_the_variables_of_opentelemetry_say_so(
    variables: dict[str, str], on: bool
) -> None:
    tracing = from_environment(variables)
    assert (tracing is not None) is on
    if tracing is not None:
        await tracing.close()


def test_a_server_without_the_packages_says_so_in_one_line(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['opentelemetry'] = None; from openaibatching.cli.main import main;"
        " sys.exit(main(['serve']))"
    )
    env = environment("http://127.0.0.1:9", tmp_path, PATH=os.environ["PATH"])
    env |= {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    [line] = done.stderr.splitlines()
    assert line.startswith("openaibatching: OTEL_EXPORTER_OTLP_ENDPOINT: ")
    assert "pip install 'openaibatching[otel]'" in line
