"""Real input where it is at hand beside the project, else a small set of the same shape."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

SHARED = Path(__file__).parents[3] / "shared" / "data"


def classification() -> list[dict[str, Any]]:
    """Chat completions: each a customer's question, to be put into one of many classes."""
    folder = SHARED / "banking77"
    if folder.exists():
        classes = json.loads((folder / "categories.json").read_text("utf-8"))
        texts = [
            row["text"]
            for name in ("train.csv", "test.csv")
            for row in csv.DictReader((folder / name).read_text("utf-8").splitlines(True))
        ]
    else:
        classes = [f"class_{n}" for n in range(77)]
        texts = [f"Where is my card, ordered {n} days ago?\nThanks, “Zoë”" for n in range(500)]
    system = "Answer with exactly one of these classes:\n" + "\n".join(classes)
    return [
        {
            "model": "gpt-4o-mini",
            "messages": [
                {"role": "system", "content": system},
                {"role": "user", "content": text},
            ],
        }
        for text in texts
    ]


def evaluation() -> list[dict[str, Any]]:
    """Responses: school maths problems."""
    path = SHARED / "gsm8k" / "test.jsonl"
    if path.exists():
        lines = path.read_bytes().split(b"\n")
        questions = [json.loads(line)["question"] for line in lines if line]
    else:
        questions = [f"Anna has {n} apples and eats two. How many are left?" for n in range(200)]
    return [{"model": "gpt-4o", "input": question} for question in questions]
