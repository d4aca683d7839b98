"""`make audit` passes only where each package has been asked about."""

from __future__ import annotations

import importlib.util
import json
from typing import Any

import pytest

from support.source import ROOT

SPEC = importlib.util.spec_from_file_location("audit_of_locks", ROOT / "scripts" / "audit.py")
assert SPEC is not None
assert SPEC.loader is not None
audit: Any = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(audit)

# As pip-audit 2 and npm 10 write them.
WELL = {"name": "anyio", "version": "4.12.0", "vulns": []}
FAULTY = {"name": "h11", "version": "0.15", "vulns": [{"id": "GHSA-vqfr-h8mv-ghfj"}]}
SKIPPED = {"name": "uvloop", "skip_reason": "Dependency not found on PyPI and could not be audited"}
NPM_WELL: dict[str, Any] = {"auditReportVersion": 2, "vulnerabilities": {}}
NPM_FAULTY = NPM_WELL | {"vulnerabilities": {"ws": {"name": "ws", "severity": "high"}}}
NPM_AWAY = {"message": "405 Method Not Allowed", "error": {"summary": "", "detail": ""}}


@pytest.mark.parametrize(
    ("packages", "npm", "code", "last"),
    [
        ([WELL], NPM_WELL, 0, "No known faults."),
        ([WELL, FAULTY], NPM_WELL, 1, "pip: known fault: h11 0.15: GHSA-vqfr-h8mv-ghfj"),
        ([WELL], NPM_FAULTY, 1, "npm: known fault: ws: high"),
        ([WELL, SKIPPED], NPM_WELL, 3, "pip: not audited: 1 not asked about (uvloop: Dependency"),
        ([WELL], NPM_AWAY, 3, "npm: not audited: npm audit has no result"),
        ([FAULTY], NPM_AWAY, 3, "npm: not audited: npm audit has no result"),
        (None, NPM_WELL, 3, "pip: not audited: pip-audit has no result"),
    ],
)
def test_what_is_not_known_is_never_no_fault(
    packages: list[Any] | None, npm: Any, code: int, last: str
) -> None:
    pip = "" if packages is None else json.dumps({"dependencies": packages, "fixes": []})
    found = [("pip", audit.read_pip(pip)), ("npm", audit.read_npm(json.dumps(npm)))]
    given, lines = audit.verdict(found)
    assert given == code
    assert lines[-1].startswith(last)
