"""Tokens, as OpenAI counts them for an answer."""

from __future__ import annotations

import msgspec


class Tokens(msgspec.Struct, frozen=True, gc=False):
    """What OpenAI counted: `cached` are among the input, `reasoning` among the output."""

    input: int = 0
    cached: int = 0
    output: int = 0
    reasoning: int = 0

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(
            self.input + other.input,
            self.cached + other.cached,
            self.output + other.output,
            self.reasoning + other.reasoning,
        )


NO_TOKENS = Tokens()


def token_columns(tokens: Tokens | None) -> dict[str, int | None]:
    """Tokens by the names that tables and answers have for them."""
    names = ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")
    values = (None,) * len(names) if tokens is None else msgspec.structs.astuple(tokens)
    return dict(zip(names, values, strict=True))
