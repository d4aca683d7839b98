"""An honest tenant's caller, in a process of its own: how long its calls take, and refusals.

Usage: python -m attack.honest URL KEY CA SECONDS; it prints one line of JSON.
"""

from __future__ import annotations

import json
import ssl
import sys
import time
import uuid
from collections import Counter

import httpx2

PACE_S = 0.02


def main(url: str, key: str, ca: str, seconds: str) -> None:
    """Call, and ask for what was called, again and again."""
    took: list[float] = []
    refused: Counter[str] = Counter()
    deadline = time.monotonic() + float(seconds)
    headers = {"Authorization": f"Bearer {key}"}
    tls = ssl.create_default_context(cafile=ca)
    with httpx2.Client(base_url=url, headers=headers, verify=tls, timeout=60) as client:
        while time.monotonic() < deadline:
            body = {"model": "gpt-4o", "input": f"honest {uuid.uuid4()}"}
            started = time.monotonic()
            try:
                reply = client.post("/v1/responses", json=body)
            except httpx2.HTTPError as error:
                refused[type(error).__name__] += 1
            else:
                if reply.status_code not in (200, 202):
                    refused[str(reply.status_code)] += 1
            took.append(time.monotonic() - started)
            time.sleep(PACE_S)
    print(json.dumps({"took": sorted(took), "refused": refused}))


if __name__ == "__main__":
    main(*sys.argv[1:])
