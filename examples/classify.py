"""Classify every row of a CSV file at half price.

    python examples/classify.py questions.csv --classes classes.txt > labels.csv

`questions.csv` has a column `text` (--column names another); `classes.txt` has one class a line.
BATCH_SERVER_URL and BATCH_SERVER_API_KEY say where the batch server is. Stop it whenever you
like: started again, it asks for the same rows, and what was answered stays answered.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import sys
from collections.abc import Sequence
from pathlib import Path

from openai import APIStatusError

from openaibatching import AsyncOpenAIBatching

AT_ONCE = 100
"""Calls in the air at a time; the answers come by batch, so more would only wait in line."""


async def classify(
    client: AsyncOpenAIBatching,
    texts: Sequence[str],
    classes: Sequence[str],
    *,
    model: str,
    every_s: float,
) -> list[str]:
    """The class of each text, in order; asks for the open ones again `every_s` seconds.

    A text that OpenAI refuses gets "error: …" for a class, and holds up no other.
    """  # fmt: skip
    system = "Answer with exactly one of these classes:\n" + "\n".join(classes)
    gate = asyncio.Semaphore(AT_ONCE)
    labels: dict[int, str] = {}

    async def ask(row: int) -> None:
        async with gate:
            try:
                completion = await client.chat.completions.create(
                    model=model,
                    messages=[
                        {"role": "system", "content": system},
                        {"role": "user", "content": texts[row]},
                    ],
                )
            except APIStatusError as error:
                labels[row] = f"error: {error.message}"
                return
        if completion.has_completed:
            labels[row] = completion.choices[0].message.content or ""

    while True:
        await asyncio.gather(*(ask(row) for row in range(len(texts)) if row not in labels))
        print(f"{len(labels)} of {len(texts)} classified", file=sys.stderr)
        if len(labels) == len(texts):
            return [labels[row] for row in range(len(texts))]
        await asyncio.sleep(every_s)


async def main() -> None:
    parser = argparse.ArgumentParser(description="Classify every row of a CSV file.")
    parser.add_argument("csv", type=Path)
    parser.add_argument("--classes", type=Path, required=True, help="a file, one class a line")
    parser.add_argument("--column", default="text")
    parser.add_argument("--model", default="gpt-4o-mini")
    parser.add_argument("--every", type=float, default=60, help="seconds between two rounds")
    args = parser.parse_args()
    with args.csv.open(newline="", encoding="utf-8") as file:
        texts = [row[args.column] for row in csv.DictReader(file)]
    classes = args.classes.read_text("utf-8").split("\n")
    async with AsyncOpenAIBatching() as client:
        labels = await classify(
            client, texts, [c for c in classes if c], model=args.model, every_s=args.every
        )
    out = csv.writer(sys.stdout)
    out.writerow(["text", "label"])
    out.writerows(zip(texts, labels, strict=True))


if __name__ == "__main__":
    asyncio.run(main())
