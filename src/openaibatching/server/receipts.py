"""What answers cost: tokens from OpenAI's `usage`, prices from `genai-prices`. Pure.

By batch OpenAI charges half of the ordinary price, in and out
(https://platform.openai.com/docs/guides/batch).
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache

import genai_prices
import msgspec

from openaibatching.server.model import NO_TOKENS, Failed, Result, Spent, Tokens

BATCH_PRICE = Decimal("0.5")
"""Of the ordinary price."""
MODELS_MAX = 1000
PRICES_S = 3600
"""How long a looked-up price is used: a list may know when a price changes."""
ZERO = Decimal(0)
_MILLION = Decimal(1_000_000)

Price = Callable[[Tokens], Decimal]


class _Details(msgspec.Struct):
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct):
    """`usage` of every endpoint: chat, completions and embeddings name it in the older way."""

    input_tokens: int | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens_details: _Details | None = None
    prompt_tokens_details: _Details | None = None
    output_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None


_usage = msgspec.json.Decoder(_Usage | None)
_NO_DETAILS = _Details()


def read_usage(raw: bytes | msgspec.Raw) -> Tokens | None:
    """The tokens that a `usage` tells; None for one that is missing or makes no sense."""
    try:
        usage = _usage.decode(raw) if raw else None
    except (msgspec.DecodeError, RecursionError):
        return None
    if usage is None:
        return None
    read = usage.input_tokens_details or usage.prompt_tokens_details or _NO_DETAILS
    written = usage.output_tokens_details or usage.completion_tokens_details or _NO_DETAILS
    tokens = Tokens(
        usage.input_tokens or usage.prompt_tokens or 0,
        read.cached_tokens or 0,
        usage.output_tokens or usage.completion_tokens or 0,
        written.reasoning_tokens or 0,
    )
    sane = 0 <= tokens.cached <= tokens.input < 2**31 and 0 <= tokens.reasoning < 2**31
    return tokens if sane and 0 <= tokens.output < 2**31 else None


def realtime_usd(model: str, tokens: Tokens | None) -> Decimal | None:
    """What these tokens cost in real time, in USD; None where the model has no known price.

    Without tokens only what is free has a price.
    """
    hour = int(datetime.now(UTC).timestamp()) // PRICES_S
    price = _price(model, hour)
    if price is None:
        return None
    if tokens is None:
        return ZERO if price(Tokens(1, 0, 1, 0)) == 0 else None
    return price(tokens)


def load_prices() -> None:
    """Read the list of prices, at a time when nobody waits: the first use takes 20 ms."""
    context_window("")


@lru_cache(MODELS_MAX)
def context_window(model: str) -> int | None:
    """How many tokens the model takes and gives at most; None where the list does not say."""
    try:
        return _ask(model, Tokens(1, 0, 1, 0)).model.context_window
    except LookupError:
        return None


@lru_cache(MODELS_MAX)
def _price(model: str, _hour: int) -> Price | None:
    """How the list prices the model now.

    Asking it takes 70 us, for each of 50,000 answers. Most prices are one number a token, and these
    are multiplied here; one that has steps is left to the list.
    """
    try:
        found = _ask(model, Tokens(1, 0, 1, 0)).model_price
    except LookupError:
        return None
    prices = {name: price for name, price in vars(found).items() if price is not None}
    if "requests_kcount" in prices or not all(isinstance(p, Decimal) for p in prices.values()):
        return lambda tokens: _ask(model, tokens).total_price
    input_ = prices.get("input_mtok", ZERO) / _MILLION
    cached = prices.get("cache_read_mtok", input_ * _MILLION) / _MILLION
    output = prices.get("output_mtok", ZERO) / _MILLION
    return lambda tokens: (
        (tokens.input - tokens.cached) * input_ + tokens.cached * cached + tokens.output * output
    )


def _ask(model: str, tokens: Tokens) -> genai_prices.types.PriceCalculation:
    usage = genai_prices.Usage(
        input_tokens=tokens.input, cache_read_tokens=tokens.cached, output_tokens=tokens.output
    )
    return genai_prices.calc_price(usage, model, provider_id="openai")


# ----- adding up -----


def spent(results: Iterable[Result], tenants: Mapping[uuid.UUID, str]) -> list[Spent]:
    """What the completed ones among these results cost each tenant."""
    by_tenant: defaultdict[str, list[Result]] = defaultdict(list)
    for result in results:
        if result.state == "completed":
            by_tenant[tenants[result.id]].append(result)
    return [_sum(tenant, its) for tenant, its in sorted(by_tenant.items())]


def _sum(tenant: str, results: Sequence[Result]) -> Spent:
    realtime = sum((r.realtime for r in results if r.realtime is not None), ZERO)
    return Spent(
        tenant,
        answers=len(results),
        unpriced=sum(r.realtime is None for r in results),
        tokens=sum((r.tokens for r in results), NO_TOKENS),
        realtime=realtime,
        paid=realtime * BATCH_PRICE,
        lost=ZERO,
    )


def failed(results: Iterable[Result], tenants: Mapping[uuid.UUID, str]) -> list[Failed]:
    """The reasons why some of these results failed for good, counted."""
    counted: dict[tuple[str, int, str], tuple[int, uuid.UUID]] = {}
    for result in results:
        if result.state == "failed":
            reason = (tenants[result.id], result.status_code or 0, result.code)
            counted[reason] = (counted.get(reason, (0, result.id))[0] + 1, result.id)
    return [Failed(*reason, n, example) for reason, (n, example) in sorted(counted.items())]


def lost(model: str, tokens: Tokens, shares: Sequence[tuple[str, int]]) -> list[Spent]:
    """Tokens that were paid for and brought no answer, charged to the batch's tenants by their
    `shares` of its requests; to the token, whatever the shares are."""
    usd = realtime_usd(model, tokens)
    total = sum(share for _, share in shares)
    charged: list[Spent] = []
    before = 0
    for tenant, share in shares:
        part = _between(tokens, before, before + share, total)
        paid = ZERO if usd is None else usd * BATCH_PRICE * share / total
        charged.append(Spent(tenant, 0, 0, part, ZERO, paid, paid))
        before += share
    return charged


def _between(tokens: Tokens, start: int, end: int, total: int) -> Tokens:
    """The part of the tokens from `start` to `end` of `total`: neighbours add up to the whole."""
    return Tokens(*(n * end // total - n * start // total for n in msgspec.structs.astuple(tokens)))
