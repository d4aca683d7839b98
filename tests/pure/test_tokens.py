"""The tokens of a call before OpenAI has counted them: of texts, images, files, audio and ids."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest

from openaibatching.server.domain import canonical_json
from openaibatching.server.requests import image_tokens, tokens

CHAT, RESPONSES, EMBEDDINGS = "/v1/chat/completions", "/v1/responses", "/v1/embeddings"
EDITS, MODERATIONS = "/v1/images/edits", "/v1/moderations"


def png(width: int, height: int) -> bytes:
    """The beginning of one; the rest is not looked at."""
    return b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", width, height) + b"\x08\2\0\0\0"


def jpeg(width: int, height: int, before: int = 0) -> bytes:
    """With `before` bytes of metadata in front of its size."""
    app = b"\xff\xe1" + struct.pack(">H", before + 2) + b"\0" * before
    return (
        b"\xff\xd8" + app + b"\xff\xc0\0\x11\x08" + struct.pack(">HH", height, width) + b"\3" * 12
    )


def gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\0\0\0"


def webp(width: int, height: int) -> bytes:
    sizes = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + sizes + b"\0" * 30


def inline(data: bytes, kind: str = "image/png", size: int = 400_000) -> str:
    """A data URL of at least `size` bytes."""
    return f"data:{kind};base64," + base64.b64encode(data + b"\0" * size).decode()


def estimate(endpoint: str, value: dict[str, Any]) -> int:
    parsed = canonical_json.parse(json.dumps(value).encode())
    return tokens.estimate(endpoint, parsed, len(canonical_json.encode(parsed)))


def chat(model: str, *parts: dict[str, Any]) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": list(parts)}]}


def picture(url: str, detail: str | None = None) -> dict[str, Any]:
    image = {"url": url} if detail is None else {"url": url, "detail": detail}
    return {"type": "image_url", "image_url": image}


@pytest.mark.parametrize(
    ("model", "size", "detail", "charged"),
    [  # OpenAI's own examples, and the bounds of its rules
        ("gpt-4o", (1024, 1024), "high", 765),
        ("gpt-4o", (2048, 4096), None, 1105),
        ("gpt-4o-2024-08-06", (4096, 8192), "low", 85),
        ("gpt-4.1", (512, 512), "high", 255),
        ("ft:gpt-4o-mini:org::id", (1024, 1024), "auto", 2833 + 4 * 5667),
        ("gpt-4o-mini", (1024, 1024), "low", 2833),
        ("o3", (1024, 1024), "high", 75 + 4 * 150),
        ("gpt-5", (1024, 1024), "high", 70 + 4 * 140),
        ("gpt-4.1-mini", (1024, 1024), None, 1659),
        ("gpt-5-nano", (32, 32), None, 3),
        ("o4-mini", (8000, 8000), "high", 2642),
        ("gpt-6.2-luna", (8000, 8000), "high", 2500),
        ("gpt-6.2-luna", (8000, 8000), "original", 10_000),
        ("gpt-6.2-luna", (8000, 8000), "low", 256),
        ("gpt-4o", (1, 100_000), None, 85 + 4 * 170),
    ],
)
def test_an_image_counts_what_the_model_charges(
    model: str, size: tuple[int, int], detail: str | None, charged: int
) -> None:
    assert image_tokens.seen(model, png(*size), detail) == charged
    whole = estimate(CHAT, chat(model, picture(inline(png(*size)), detail)))
    assert charged < whole < charged + 60, "its base64 counts nothing"


@pytest.mark.parametrize("file", [png, jpeg, gif, webp])
def test_each_kind_of_image_tells_its_size_in_its_first_bytes(file: Any) -> None:
    assert image_tokens.seen("gpt-4o", file(1024, 1024), None) == 765
    assert image_tokens.seen("gpt-4o", file(300, 200), None) == 255


def test_metadata_in_front_of_the_size_is_passed_over() -> None:
    url = inline(jpeg(300, 200, before=30_000), "image/jpeg")
    assert 255 < estimate(CHAT, chat("gpt-4o", picture(url))) < 300


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/a.png",
        inline(b"<svg/>"),
        inline(b"\x89PNG"),
        "data:image/png;base64,%%",
    ],
)
def test_an_image_whose_size_is_unknown_is_the_largest_of_its_detail(url: str) -> None:
    most = 85 + 8 * 170
    assert most <= estimate(CHAT, chat("gpt-4o", picture(url))) < most + 70
    assert 85 <= estimate(CHAT, chat("gpt-4o", picture(url, "low"))) < 85 + 70


IMAGE = inline(png(1024, 1024))
WAVE = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0" + struct.pack("<II", 16_000, 32_000)


def said(*parts: Any) -> dict[str, Any]:
    return {"model": "gpt-4o", "input": [{"role": "user", "content": list(parts)}]}


@pytest.mark.parametrize(
    ("endpoint", "value", "least", "most"),
    [
        (RESPONSES, said({"type": "input_image", "image_url": IMAGE}), 765, 830),
        (RESPONSES, said({"type": "input_image", "file_id": "file-1", "detail": "low"}), 85, 140),
        (
            RESPONSES,
            {
                "model": "gpt-4o",
                "input": [
                    {"type": "function_call_output", "call_id": "a",
                     "output": [{"type": "input_image", "image_url": IMAGE}]},
                    {"type": "computer_call_output", "call_id": "b",
                     "output": {"type": "computer_screenshot", "image_url": IMAGE}},
                    {"type": "image_generation_call", "id": "c",
                     "result": base64.b64encode(png(1024, 1024) + b"\0" * 400_000).decode()},
                ],
            },
            3 * 765, 3 * 765 + 120,
        ),
        (
            RESPONSES,
            {"model": "gpt-4o", "prompt": {"id": "p", "variables": {
                "photo": {"type": "input_image", "image_url": IMAGE}}}},
            765, 820,
        ),
        (MODERATIONS, {"model": "omni-moderation-latest", "input": [picture(IMAGE)]}, 1000, 1100),
        (EDITS, {"model": "gpt-image-1", "prompt": "a hat", "images": [{"image_url": IMAGE}]},
         65 + 129, 260),
        (EDITS, {"model": "gpt-image-1", "prompt": "a hat", "input_fidelity": "high",
                 "images": [{"image_url": IMAGE}, {"file_id": "file-1"}]},
         2 * 65 + 4160 + 6240 + 129, 2 * 65 + 4160 + 6240 + 5 * 129 + 100),
        # 12.5 s of 16-bit mono at 16 kHz; a minute of 128 kbit/s
        (CHAT, chat("gpt-audio", {"type": "input_audio", "input_audio": {"format": "wav",
            "data": base64.b64encode(WAVE + b"\0" * 400_000).decode()}}), 125, 190),
        (CHAT, chat("gpt-audio", {"type": "input_audio", "input_audio": {"format": "mp3",
            "data": base64.b64encode(b"\xff\xfb" + b"\0" * 960_000).decode()}}), 600, 660),
        (CHAT, chat("gpt-4o", {"type": "file", "file": {"filename": "a.pdf",
            "file_data": inline(b"%PDF-1.7", "application/pdf", 2_000_000)}}), 40_000, 60_000),
        (RESPONSES, said({"type": "input_file", "filename": "a.pdf",
            "file_data": inline(b"%PDF-1.7", "application/pdf", 30_000_000)}), 150_000, 150_100),
        (RESPONSES, said({"type": "input_file", "file_url": "https://example.com/a.pdf"}),
         5000, 5100),
        (RESPONSES, said({"type": "input_file", "filename": "a.csv",
            "file_data": inline(b"", "text/csv", 40_000)}), 10_000, 10_100),
    ],
)  # fmt: skip
def test_images_files_and_audio_count_what_is_charged_wherever_they_are(
    endpoint: str, value: dict[str, Any], least: int, most: int
) -> None:
    assert least <= estimate(endpoint, value) <= most
    assert tokens.has_media(endpoint, value)


@pytest.mark.parametrize(
    ("endpoint", "value", "counted"),
    [
        (EMBEDDINGS, {"model": "m", "input": [100_000] * 450}, 451),
        (EMBEDDINGS, {"model": "m", "input": [[1, 2, 3], [4, 5]]}, 6),
        ("/v1/completions", {"model": "m", "prompt": [[1, 2, 3]]}, 4),
    ],
)
def test_token_ids_count_one_each(endpoint: str, value: dict[str, Any], counted: int) -> None:
    assert estimate(endpoint, value) == counted
    assert tokens.at_least(value) == counted - 1


@pytest.mark.parametrize(
    ("endpoint", "value"),
    [
        (CHAT, {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello " * 1000}]}),
        (RESPONSES, {"model": "gpt-4o", "input": "data:image/png;base64," + "A" * 4000}),
        (EMBEDDINGS, {"model": "m", "input": ["a text", "another"]}),
        (CHAT, {"model": "gpt-4o", "messages": [{"role": "user", "content": [
            {"type": "text", "text": "x" * 5000}]}], "tools": [{"type": "function"}]}),
    ],
)  # fmt: skip
def test_texts_count_by_their_bytes(endpoint: str, value: dict[str, Any]) -> None:
    size = len(canonical_json.encode(canonical_json.parse(json.dumps(value).encode())))
    assert estimate(endpoint, value) == size // 4 + 1
    assert not tokens.has_media(endpoint, value)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"messages": [{"role": "system", "content": "Be brief."},
                       {"role": "user", "content": [{"type": "text", "text": "one two\nthree"}]}]},
         5),
        ({"instructions": "Be brief.", "input": "don't stop"}, 4),
        ({"input": ["one two", "three"]}, 3),
        ({"prompt": "one  two"}, 2),
        ({"input": "no-spaces," * 1000}, 1),
        (chat("gpt-4o", picture(IMAGE)), 0),
    ],
)  # fmt: skip
def test_a_call_has_at_least_as_many_tokens_as_words(value: dict[str, Any], words: int) -> None:
    assert tokens.at_least(value) == words


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url"},
        {"type": "image_url", "image_url": {"url": 5, "detail": []}},
        {"type": "input_image", "image_url": ["x"]},
        {"type": "input_image", "image_url": "data:no comma"},
        {"type": "input_audio", "input_audio": {"data": 7}},
        {"type": "input_audio", "input_audio": {"data": "é" * 50}},
        {"type": "file", "file": "x"},
        {"type": {"type": []}},
    ],
)
@pytest.mark.parametrize("endpoint", [CHAT, EDITS, EMBEDDINGS])
def test_what_is_not_as_documented_is_estimated_all_the_same(
    endpoint: str, part: dict[str, Any]
) -> None:
    for value in (chat("gpt-4o", part), {"model": "m", "input": [part]}, {"images": [part, 5]}):
        assert estimate(endpoint, value) > 0
        assert tokens.at_least(value) >= 0
