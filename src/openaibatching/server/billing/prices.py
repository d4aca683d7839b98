"""What tokens cost: OpenAI's prices in real time and by batch, as `genai-prices` has them.

The list has OpenAI's batch sheet as price variants (`processing=batch`). Where the sheet has no
price, the list answers with the full one, without a sign of it. There are three cases:

- A model without a variant: half of the ordinary price, in and out, as OpenAI says of all
  models (https://platform.openai.com/docs/guides/batch). Fees of tools are not halved.
- A variant without a row for cached input, where there is one in real time (gpt-4o, gpt-4.1, o1,
  o3, o3-mini, o4-mini): OpenAI's sheet has no such row either, and by batch these models have no
  discount on cached input (https://developers.openai.com/cookbook, Prompt Caching 201), so it
  costs as other input does.
- A variant without another row for tokens (gpt-3.5-turbo-1106): the price is unknown.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal

import genai_prices
import msgspec
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelInfo, ModelPrice, TieredPrices

from openaibatching.server.domain.request import Receipt
from openaibatching.server.domain.tokens import Tokens
from openaibatching.server.domain.usage import Usage

BATCH = {"processing": "batch"}
BATCH_DISCOUNT = Decimal("0.5")
"""Of the ordinary price, where the list has no batch price."""
LONG_WRITES = 2
"""A write that is kept for 12 hours costs 2.5 times the input, one for 30 minutes 1.25 times
(https://developers.openai.com/api/docs/guides/prompt-caching)."""
MODELS_MAX = 1000
PRICES_S = 3600
"""How long a looked-up price is used: a list may know when a price changes."""
ZERO = Decimal(0)
_MILLION, _THOUSAND = Decimal(1_000_000), Decimal(1000)

_PLAIN = ("input_mtok", "cache_read_mtok", "cache_write_mtok", "output_mtok")
# The list charges these as ordinary tokens, or nothing, where it has no price of their own.
_SPECIAL = {
    "input_audio_tokens": "input_audio_mtok",
    "output_audio_tokens": "output_audio_mtok",
    "web_searches": "web_searches_kcount",
    "storage_searches": "storage_searches_kcount",
}
_FEES = ("web_searches_kcount", "storage_searches_kcount")

Prices = Mapping[str, Decimal | TieredPrices]


class Rates(msgspec.Struct, frozen=True, gc=False):
    """USD a token."""

    input: Decimal
    cached: Decimal
    written: Decimal
    output: Decimal

    def usd(self, tokens: Tokens, written: int = 0, written_12h: int = 0) -> Decimal:
        """What the tokens cost; `written` and, among these, `written_12h` went to the cache."""
        usd = (tokens.input - tokens.cached - written) * self.input + tokens.output * self.output
        if tokens.cached:
            usd += tokens.cached * self.cached
        if written:
            usd += (written + (LONG_WRITES - 1) * written_12h) * self.written
        return usd


class Sheet:
    """The prices of one model, in one way of processing.

    `steps` has the rates from a number of input tokens on, the longest first.
    """

    def __init__(self, prices: Prices) -> None:
        self._listed = ModelPrice(**prices)
        self.prices = prices
        starts = {0} | {
            tier.start
            for price in prices.values()
            if isinstance(price, TieredPrices)
            for tier in price.tiers
        }
        self.steps = [(start, self._rates(start)) for start in sorted(starts, reverse=True)]

    def rate(self, name: str, start: int = 0) -> Decimal | None:
        """USD for one of what `name` prices, from `start` input tokens on; None: no such price."""
        price = self.prices.get(name)
        if isinstance(price, TieredPrices):
            reached = [tier.price for tier in price.tiers if tier.start <= start]
            price = reached[-1] if reached else price.base
        return (
            None if price is None else price / (_MILLION if name.endswith("_mtok") else _THOUSAND)
        )

    def _rates(self, start: int) -> Rates:
        input_, cached, written, output = (self.rate(name, start) for name in _PLAIN)
        input_ = input_ or ZERO
        return Rates(
            input_,
            input_ if cached is None else cached,
            input_ if written is None else written,
            output or ZERO,
        )

    def at(self, input_tokens: int) -> Rates:
        """The rates of a call with so many input tokens."""
        for start, rates in self.steps:
            if input_tokens > start:
                return rates
        return self.steps[-1][1]

    def listed_usd(self, usage: Usage) -> Decimal:
        """What the list itself makes of the usage. Raises ValueError where that is not enough."""
        counts = {
            "input_tokens": usage.tokens.input,
            "cache_read_tokens": usage.tokens.cached,
            "cache_write_tokens": usage.written,
            "output_tokens": usage.tokens.output,
        }
        counted = genai_prices.Usage(**counts, **(usage.other or {}))
        usd = self._listed.calc_price(counted)["total_price"]
        if usage.written_12h:
            usd += (LONG_WRITES - 1) * usage.written_12h * self.at(usage.tokens.input).written
        return usd


class Price:
    """What a model costs, in real time and by batch. `name`: the list's own name of the model.

    `searches`: it searches the web at each call, for a fee that no usage tells.
    """

    def __init__(
        self,
        name: str,
        window: int | None,
        realtime: Prices,
        batch: Prices,
        *,
        searches: bool = False,
    ) -> None:
        self.name = name
        self.context_window = window
        self.realtime = Sheet(realtime)
        self.batch = Sheet(batch)
        self.searches = searches
        self.free = not any(map(_charges, realtime.values()))
        tokens = {name for name in realtime if name.endswith("_mtok") and name not in _PLAIN}
        modal = {name for name in tokens if "_audio_" in name or "_image_" in name}
        self._plain = tokens == modal and "requests_kcount" not in realtime

    def receipt(self, usage: Usage | None) -> Receipt | None:
        """What an answer cost; None where that is unknown, as without usage if it is not free."""
        if usage is None:
            return Receipt(ZERO, ZERO) if self.free else None
        tokens, written = usage.tokens, usage.written
        if tokens.cached + written > tokens.input:
            return None
        if self._plain and usage.other is None:
            counts = tokens, written, usage.written_12h
            realtime = self.realtime.at(tokens.input).usd(*counts)
            paid = self.batch.at(tokens.input).usd(*counts)
        else:
            try:
                realtime, paid = self.realtime.listed_usd(usage), self.batch.listed_usd(usage)
            except ValueError:  # such as cached tokens that may be text or images
                return None
        return Receipt(realtime, paid, usage.incomplete or self._lacks(usage))

    def _lacks(self, usage: Usage) -> bool:
        if self.free:
            return False
        priced = self.realtime.prices
        if (usage.written and "cache_write_mtok" not in priced) or self.searches:
            return True
        other = usage.other or {}
        return any(_SPECIAL[name] not in priced for name in other if name in _SPECIAL)

    @property
    def fee_most(self) -> Decimal | None:
        """USD that a call of a hosted tool costs at most; None where a fee is not known."""
        fees = [self.batch.rate(name) for name in _FEES]
        return None if None in fees else max(fee for fee in fees if fee is not None)


def flat(usd_a_million: Decimal) -> Price:
    """One price for each token, whatever it is."""
    prices = dict.fromkeys(_PLAIN, usd_a_million)
    return Price("", None, prices, prices)


class PriceList:
    """OpenAI's prices. `clock` gives seconds since 1970."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._hour = 0.0
        self._known: dict[str, Price | None] = {}

    def of(self, model: str) -> Price | None:
        """What the model costs now, or the one that the name is a snapshot of; None: unknown."""
        hour = self._clock() // PRICES_S
        if hour != self._hour or len(self._known) > MODELS_MAX:
            self._hour, self._known = hour, {}
        try:
            return self._known[model]
        except KeyError:
            found = self._known[model] = _look_up(model, datetime.fromtimestamp(self._clock(), UTC))
            return found

    def receipt(self, usage: Usage | None, *models: str) -> Receipt | None:
        """What an answer cost by the first of these models that has a price."""
        for model in models:
            price = self.of(model)
            if price is not None:
                return price.receipt(usage)
        return None

    def lost_usd(self, model: str, tokens: Tokens) -> Decimal | None:
        """What tokens of many calls cost by batch, of which only their sum is known."""
        price = self.of(model)
        return None if price is None else price.batch.steps[-1][1].usd(tokens)


def _look_up(model: str, at: datetime) -> Price | None:
    try:
        _, found = get_snapshot().find_provider_model(model, None, "openai", None)
    except LookupError:
        return None
    realtime = _listed(found.get_prices(at))
    batch = _batch(found, realtime, at)
    if batch is None:
        return None
    searches = "-search-" in model
    return Price(found.id, found.context_window, realtime, batch, searches=searches)


def _listed(prices: ModelPrice) -> dict[str, Decimal | TieredPrices]:
    return {name: price for name, price in vars(prices).items() if price is not None}


def _batch(model: ModelInfo, realtime: Prices, at: datetime) -> Prices | None:
    variants = [
        variant
        for variant in model.price_variants or ()
        if variant.when == BATCH and (variant.constraint is None or variant.constraint.active(at))
    ]
    if not variants:
        return {name: _halved(name, price) for name, price in realtime.items()}
    batch = _listed(variants[0].prices)
    for name in realtime.keys() - batch.keys():
        if not name.endswith("_mtok"):
            batch[name] = realtime[name]
        elif not (name.startswith("cache_") and name.endswith("_read_mtok")):
            return None
    return batch


def _halved(name: str, price: Decimal | TieredPrices) -> Decimal | TieredPrices:
    if not name.endswith("_mtok"):
        return price
    if isinstance(price, TieredPrices):
        tiers = [
            genai_prices.types.Tier(tier.start, tier.price * BATCH_DISCOUNT) for tier in price.tiers
        ]
        return TieredPrices(price.base * BATCH_DISCOUNT, tiers)
    return price * BATCH_DISCOUNT


def _charges(price: Decimal | TieredPrices) -> bool:
    return bool(price.base if isinstance(price, TieredPrices) else price)


FREE = flat(ZERO)
