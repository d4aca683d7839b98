"""deploy/: what Prometheus and Grafana are given. What the metrics page has is compared in
tests/flow/test_metrics.py."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from support import monitoring, source
from support.source import ROOT, SERVER

OPERATIONS = (ROOT / "docs" / "operations.md").read_text("utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))
PROMTOOL = shutil.which("promtool")


def test_the_operators_page_has_every_alarm_and_no_other() -> None:
    _, _, chapter = OPERATIONS.partition("\n## Metrics and alarms\n")
    told = re.findall(r"`((?:Batch|OpenAI)\w+)`", chapter)
    assert sorted(told) == sorted(rule["alert"] for rule in monitoring.alerts())


def test_every_alarm_says_how_bad_it_is_and_what_to_read() -> None:
    for rule in monitoring.alerts():
        assert rule["labels"]["severity"] in ("critical", "warning"), rule["alert"]
        assert rule["annotations"]["summary"], rule["alert"]
        page, _, anchor = rule["annotations"]["runbook"].partition("#")
        headings = re.findall(r"^#+ (.+)$", (ROOT / page).read_text("utf-8"), re.MULTILINE)
        anchors = {re.sub(r"[^a-z0-9 -]", "", h.lower()).replace(" ", "-") for h in headings}
        assert anchor in anchors, rule["alert"]


def test_every_expression_is_promql() -> None:
    for expression in monitoring.expressions():
        assert monitoring.selectors(expression), expression


def test_what_a_rule_asks_of_another_rule_is_recorded() -> None:
    recorded = {rule["record"] for rule in monitoring.rules() if "record" in rule}
    asked = {s.metric for e in monitoring.expressions() for s in monitoring.selectors(e)}
    assert {name for name in asked if ":" in name} == recorded


def test_events_that_the_dashboard_leaves_out_are_events() -> None:
    logged = {name for path in SERVER.rglob("*.py") for name in source.events(path)}
    for expression in monitoring.expressions():
        for selector in monitoring.selectors(expression):
            assert set(selector.labels.get("event", ())) <= logged, expression


def test_the_dashboard_is_what_grafana_takes() -> None:
    board = monitoring.DASHBOARD
    assert board["schemaVersion"] >= 36
    assert board["title"]
    assert board["uid"]
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    variables = {variable["name"] for variable in board["templating"]["list"]}
    assert variables == {"datasource", "job"}
    for panel in monitoring.panels():
        assert panel["title"], panel["id"]
        assert panel["description"], panel["id"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["id"]
        assert panel["datasource"]["uid"] == "${datasource}"
        refs = [target["refId"] for target in panel["targets"]]
        assert refs
        assert len(set(refs)) == len(refs)
        for target in panel["targets"]:
            assert 'job=~"$job"' in target["expr"], panel["title"]


def test_no_two_panels_of_the_dashboard_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in monitoring.DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        taken |= cells


def test_compose_gives_prometheus_a_key_and_mounts_only_what_is_there() -> None:
    config = yaml.safe_load((monitoring.PROMETHEUS / "prometheus.yml").read_text("utf-8"))
    [job] = config["scrape_configs"]
    key = Path(job["authorization"]["credentials_file"])
    assert key.parent == Path("/run/secrets")
    for name in ("prometheus", "grafana"):
        service = COMPOSE["services"][name]
        assert service["profiles"] == ["monitoring"], "not for those who do not ask for it"
        for volume in service["volumes"]:
            source_, *_ = volume.split(":")
            if source_.startswith("."):
                assert (ROOT / source_).exists(), volume
    assert key.name in COMPOSE["services"]["prometheus"]["secrets"]
    assert key.name in COMPOSE["secrets"]
    [server] = job["dns_sd_configs"]
    assert set(server["names"]) <= set(COMPOSE["services"])


def promtool(folder: Path, *arguments: str) -> None:
    assert PROMTOOL
    done = subprocess.run(
        [PROMTOOL, *arguments], cwd=folder, capture_output=True, text=True, check=False,
        env={"PATH": os.environ["PATH"]}, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not there: apt-get install prometheus")
def test_prometheus_takes_its_files_and_each_alarm_is_raised_when_it_should_be(
    tmp_path: Path,
) -> None:
    config = (monitoring.PROMETHEUS / "prometheus.yml").read_text("utf-8")
    (tmp_path / "key").write_text("a-key")
    config = config.replace("/run/secrets/metrics_key", str(tmp_path / "key"))
    (tmp_path / "prometheus.yml").write_text(config)
    shutil.copy(monitoring.PROMETHEUS / "alerts.yml", tmp_path)
    shutil.copy(ROOT / "tests" / "pure" / "alerts_test.yml", tmp_path)
    promtool(tmp_path, "check", "config", "prometheus.yml")
    promtool(tmp_path, "check", "rules", "alerts.yml")
    promtool(tmp_path, "test", "rules", "alerts_test.yml")


def test_the_tests_of_promtool_raise_every_alarm() -> None:
    text = (ROOT / "tests" / "pure" / "alerts_test.yml").read_text("utf-8")
    for rule in monitoring.alerts():
        raised = rf"alertname: {rule['alert']}\b|alertname=\"{rule['alert']}\""
        assert re.search(raised, text), rule["alert"]
