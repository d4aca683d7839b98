"""What the simulator's tests share: a clock they own, and the official SDK."""

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from openai import DefaultHttpxClient, OpenAI
from openai.types import Batch, FileObject

from openaibatching.simulator import Simulator, running

CHAT: Literal["/v1/chat/completions"] = "/v1/chat/completions"
Line = dict[str, Any] | bytes


@dataclass
class Clock:
    """Time that passes only when a test says so."""

    now: float = 1_795_000_000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


def chat(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "gpt-4o", "messages": [{"role": "user", "content": text}], **more}


def line(custom_id: str, body: Any, url: str = CHAT) -> dict[str, Any]:
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body}


def jsonl(lines: Sequence[Line]) -> bytes:
    return b"".join(
        one if isinstance(one, bytes) else json.dumps(one).encode() + b"\n" for one in lines
    )


def said(*texts: str) -> list[Line]:
    """One chat line a text, named a0, a1, …"""
    return [line(f"a{number}", chat(text)) for number, text in enumerate(texts)]


@dataclass
class World:
    sim: Simulator
    url: str
    clock: Clock
    client: OpenAI
    opened: list[OpenAI] = field(default_factory=list)

    def upload(self, lines: Sequence[Line], **more: Any) -> FileObject:
        file = ("in.jsonl", jsonl(lines))
        return self.client.files.create(file=file, purpose="batch", **more)

    def create(self, lines: Sequence[Line], endpoint: Any = CHAT, **more: Any) -> Batch:
        file = self.upload(lines)
        return self.client.batches.create(
            input_file_id=file.id, endpoint=endpoint, completion_window="24h", **more
        )

    def finish(self, lines: Sequence[Line], endpoint: Any = CHAT) -> Batch:
        """Create, and look once: without lag that is the end."""
        return self.client.batches.retrieve(self.create(lines, endpoint).id)

    def read(self, file_id: str | None) -> list[dict[str, Any]]:
        if not file_id:
            return []
        content = self.client.files.content(file_id).content
        return [json.loads(one) for one in content.split(b"\n") if one]

    def raw(self, file_id: str | None) -> list[bytes]:
        assert file_id
        return self.client.files.content(file_id).content.split(b"\n")[:-1]

    def results(self, batch: Batch) -> dict[str, dict[str, Any]]:
        """All lines of both files by custom_id."""
        lines = self.read(batch.output_file_id) + self.read(batch.error_file_id)
        return {one["custom_id"]: one for one in lines}

    def answer(self, body: dict[str, Any], endpoint: str = CHAT) -> dict[str, Any]:
        """The one answer to one body."""
        batch = self.finish([line("only", body, endpoint)], endpoint)
        assert batch.status == "completed", batch.errors
        response: dict[str, Any] = self.results(batch)["only"]["response"]
        return response

    def strict(self, **more: Any) -> OpenAI:
        """Another official client, closed with this world."""
        client = OpenAI(
            **{
                "base_url": self.url,
                "api_key": "sk-test",
                "max_retries": 0,
                "timeout": 20.0,
                "_strict_response_validation": True,
                # Loopback only: reading the certificates would take most of a test's time.
                "http_client": DefaultHttpxClient(verify=False),
                **more,
            },
        )
        self.opened.append(client)
        return client


@contextlib.contextmanager
def world(**arguments: Any) -> Iterator[World]:
    """A running simulator and a strict official client."""
    clock = Clock()
    sim = Simulator(**{"clock": clock, **arguments})
    with running(sim) as url:
        made = World(sim, url, clock, None)  # type: ignore[arg-type]
        made.client = made.strict()
        try:
            yield made
        finally:
            for client in made.opened:
                client.close()
