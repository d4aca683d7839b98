"""What is in deploy/ for Prometheus and Grafana, as data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import promql_parser
import yaml

from support.source import ROOT

PROMETHEUS = ROOT / "deploy" / "prometheus"
GRAFANA = ROOT / "deploy" / "grafana"
RULES: dict[str, Any] = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text("utf-8"))
DASHBOARD: dict[str, Any] = json.loads((GRAFANA / "dashboard.json").read_text("utf-8"))
# What Grafana puts in place of its variables.
_VARIABLES = {"$__rate_interval": "5m", "$__range": "1d", "$job": "openaibatching"}
OWN_OF_PROMETHEUS = {"up"}


@dataclass(frozen=True)
class Selector:
    """A metric that an expression asks for, with the values that a label shall (not) have."""

    metric: str
    labels: dict[str, tuple[str, ...]]


def rules() -> Iterator[dict[str, Any]]:
    for group in RULES["groups"]:
        yield from group["rules"]


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in rules() if "alert" in rule]


def panels() -> list[dict[str, Any]]:
    """Those that show something: the others are headings."""
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def expressions() -> list[str]:
    """Every PromQL expression of the rules and of the dashboard."""
    shown = [target["expr"] for panel in panels() for target in panel["targets"]]
    return [rule["expr"] for rule in rules()] + shown


def selectors(expression: str) -> list[Selector]:
    """The metrics that it asks for. Raises ValueError for what is no PromQL."""
    for variable, value in _VARIABLES.items():
        expression = expression.replace(variable, value)
    found: list[Selector] = []

    def visit(node: promql_parser.Expr) -> bool:
        if isinstance(node, promql_parser.MatrixSelector):
            node = node.vector_selector
        if isinstance(node, promql_parser.VectorSelector):
            labels = {m.name: tuple(m.value.split("|")) for m in node.matchers.matchers}
            found.append(Selector(node.name or "", labels))
        return True

    promql_parser.walk(promql_parser.parse(expression), visit)
    return found
