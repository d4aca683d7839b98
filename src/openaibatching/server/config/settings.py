"""The settings: environment first, every one but the secrets also a flag of `serve`.

Operators rely on the names, defaults and meanings; docs/settings.md has the same table, and a
test holds the two together.
"""

from __future__ import annotations

import re
from decimal import Decimal
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import platformdirs
from pydantic import AnyHttpUrl, Field, SecretStr, TypeAdapter, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from openaibatching import secret_file
from openaibatching.server.config.postgres_url import libpq_form
from openaibatching.server.config.tenant_limits import TenantLimit, parse_limit
from openaibatching.server.errors import ConfigError

SECRETS = ("openai_api_key", "openai_webhook_secret", "batch_server_api_key", "postgres_url")

# OpenAI's own limits (https://platform.openai.com/docs/guides/batch): a batch holds at most
# this many lines, its file this many bytes, its embedding calls together this many inputs.
UPSTREAM_LINES_MAX = 50_000
UPSTREAM_FILE_BYTES_MAX = 209_715_200
UPSTREAM_INPUTS_MAX = 50_000
UPSTREAM_CREATES_PER_HOUR = 2_000

TENANT_LIMITS = (
    "tenant_rate_max", "tenant_concurrency_max", "tenant_queued_max", "tenant_models_max",
)  # fmt: skip

LEASE_S = 20.0
"""Seconds after which a batch whose server shows no sign of life goes to another server."""

_HTTP_URL = TypeAdapter(AnyHttpUrl)
# What is seen at the end of a base URL that was copied from an example of a call.
_BELOW_BASE = (
    "/responses", "/chat/completions", "/completions", "/embeddings", "/moderations",
    "/images/generations", "/images/edits", "/batches", "/files", "/models",
)  # fmt: skip

Seconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]


D = TypeVar("D", bound="DatabaseSettings")


def _text(default: str | None, meaning: str) -> Any:
    return Field(default=default, description=meaning)


def _by_tenant(default: str | None, meaning: str) -> Any:
    meaning = f"{meaning}: a number, or name=number by tenant, or both"
    return Field(default=default, description=meaning, coerce_numbers_to_str=True)


class DatabaseSettings(BaseSettings):
    """Where the database is: all that a command needs that works on it directly."""

    model_config = SettingsConfigDict(
        env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    postgres_url: SecretStr | None = Field(
        default=None, description="PostgreSQL 14 or newer; unset: embedded in the data folder"
    )
    data_dir: Path = Field(
        default_factory=lambda: Path(platformdirs.user_data_dir("openaibatching")),
        description="embedded database, made key, spool files",
    )
    database_wait_s: Seconds = Field(
        default=10, description="how long the start waits for an unreachable database"
    )


class Settings(DatabaseSettings):
    """All that can be set. Frozen: what the server started with is what it runs with."""

    openai_api_key: SecretStr = Field(description="the upstream key")
    openai_base_url: str = _text("https://api.openai.com/v1", "the upstream")
    openai_org_id: str | None = _text(None, "as the official SDK reads it")
    openai_project_id: str | None = _text(None, "as the official SDK reads it")
    openai_webhook_secret: SecretStr | None = Field(
        default=None, description="the secret that OpenAI signs its webhooks with"
    )
    batch_server_api_key: SecretStr | None = Field(
        default=None,
        description="what callers present: one key, or name=key,name2=key2 for tenants; "
        "unset: made at first start and kept in the data folder, for loopback only",
    )
    host: str = Field(default="127.0.0.1", description="the address to listen on")
    port: int = Field(default=9487, ge=0, le=65_535, description="the port to listen on")
    ssl_certfile: Path | None = Field(default=None, description="TLS certificate chain (PEM)")
    ssl_keyfile: Path | None = Field(default=None, description="TLS private key (PEM)")
    batch_linger_s: Seconds = Field(
        default=60, description="how long the oldest queued request waits for others"
    )
    batch_requests_max: int = Field(
        default=50_000, ge=1, le=UPSTREAM_LINES_MAX, description="requests in a full batch"
    )
    batch_bytes_max: int = Field(
        default=200_000_000,
        ge=1024,
        le=UPSTREAM_FILE_BYTES_MAX,
        description="bytes in a full batch",
    )
    batch_poll_s: Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)] = Field(
        default=30, description="first wait between two looks at a batch; grows to 5 times this"
    )
    batch_attempts_max: int = Field(
        default=3, ge=1, le=100, description="sendings before a retryable failure is final"
    )
    batch_settle_s: Seconds = Field(
        default=60,
        description="how long a create of unknown outcome is looked for before creating again",
    )
    request_bytes_max: int = Field(
        default=33_554_432, ge=1, description="a larger body is refused with 413"
    )
    wait_s_max: Seconds = Field(default=600, description="the longest that Prefer: wait holds")
    result_ttl_days: Annotated[float, Field(gt=0, le=36_500, allow_inf_nan=False)] = Field(
        default=30, description="finished requests are deleted after this"
    )
    batch_budget_usd_day: str | None = _text(
        None, "USD that a day (UTC) may cost: 100 for all, or name=5,name2=10 by tenant, or both"
    )
    batch_budget_unpriced: str = Field(
        default="refuse",
        description="where a budget is set, calls of models without a known price: refuse, allow "
        "(they count nothing), or USD a million tokens that they count",
    )
    tenant_rate_max: str = _by_tenant("2000", "calls a second of a tenant, at each server")
    tenant_concurrency_max: str = _by_tenant(
        "5000", "calls at a time of a tenant, at each server; the lines of a bulk call are none"
    )
    tenant_queued_max: str | None = _by_tenant(None, "requests that a tenant may have queued")
    tenant_models_max: str = _by_tenant("1000", "distinct models that a tenant may have queued")
    log_format: Literal["text", "json"] = Field(
        default="text", description="one log line an event, as text or as JSON"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="the least important lines that are logged"
    )

    @property
    def spool_dir(self) -> Path:
        """Where what is too large for the memory waits, in nameless files; made if missing."""
        folder = self.data_dir / "spool"
        self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.mkdir(exist_ok=True, mode=0o700)
        return folder

    @property
    def budgets(self) -> dict[str, Decimal]:
        """{tenant, or "" for all together: USD a day}; empty without a budget."""
        return parse_budgets(self.batch_budget_usd_day or "")

    @property
    def refuses_unpriced(self) -> bool:
        """Whether a budget keeps out what has no known price."""
        return self.batch_budget_unpriced == "refuse"

    @property
    def unpriced_usd_mtok(self) -> Decimal:
        """What budgets count for a million tokens without a known price, in USD."""
        return parse_unpriced(self.batch_budget_unpriced)

    def limit(self, name: str) -> TenantLimit:
        """The limit of each tenant in the setting of that name. Raises ConfigError."""
        return parse_limit(name.upper(), getattr(self, name) or "")

    @property
    def tls(self) -> bool:
        """Whether the port speaks https."""
        return self.ssl_certfile is not None


def load(flags: dict[str, Any] | None = None) -> Settings:
    """Settings from `flags` (a flag wins) and the environment; what is empty counts as unset.

    Raises ConfigError with one line that names each wrong variable.
    """
    settings = _read(Settings, flags)
    _check(settings)
    return settings


def load_database(flags: dict[str, Any] | None = None) -> DatabaseSettings:
    """As `load`, of what says where the database is."""
    return _read(DatabaseSettings, flags)


def _read(kind: type[D], flags: dict[str, Any] | None) -> D:
    given = {name: value for name, value in (flags or {}).items() if value not in (None, "")}
    try:
        return _in_our_forms(kind(**{**_from_files(kind), **given}))
    except ValidationError as error:
        raise ConfigError("; ".join(_say(e) for e in error.errors())) from None


def _from_files(kind: type[DatabaseSettings]) -> dict[str, str]:
    """The secrets of `kind` that are in files. Raises ConfigError."""
    try:
        found = {
            name: secret_file.from_file(name.upper())
            for name in SECRETS
            if name in kind.model_fields
        }
    except ValueError as error:
        raise ConfigError(str(error)) from None
    return {name: text for name, text in found.items() if text is not None}


def _in_our_forms(settings: D) -> D:
    """The same settings, with URLs as we use them. Raises ConfigError."""
    changed: dict[str, Any] = {}
    for name, value in settings:
        if isinstance(value, Path) and "\0" in str(value):
            raise ConfigError(f"{name.upper()} is not a path: it has a null character")
    if settings.postgres_url is not None:
        changed["postgres_url"] = SecretStr(libpq_form(settings.postgres_url.get_secret_value()))
    if isinstance(settings, Settings):
        changed["openai_base_url"] = _base_url(settings.openai_base_url)
    return settings.model_copy(update=changed)


def _say(error: Any) -> str:
    name = str(error["loc"][0]).upper() if error["loc"] else "settings"
    if error["type"] == "missing":
        return f"{name} is required but not set"
    return f"{name} is not valid: {error['msg']}"


def _check(settings: Settings) -> None:
    if not _presentable(settings.openai_api_key.get_secret_value()):
        raise ConfigError("OPENAI_API_KEY must be printable ASCII without spaces")
    for name in ("openai_org_id", "openai_project_id"):
        if not _presentable(getattr(settings, name) or "unset"):
            raise ConfigError(f"{name.upper()} must be printable ASCII without spaces")
    _ = settings.budgets
    _ = settings.unpriced_usd_mtok
    for name in TENANT_LIMITS:
        _ = settings.limit(name)
    if (settings.ssl_certfile is None) != (settings.ssl_keyfile is None):
        raise ConfigError("SSL_CERTFILE and SSL_KEYFILE must be set together")
    for name in ("ssl_certfile", "ssl_keyfile"):
        path: Path | None = getattr(settings, name)
        try:
            there = path is None or path.is_file()
        except OSError as error:  # a folder on the way to it is closed
            raise ConfigError(f"{name.upper()}: {path} cannot be read: {error.strerror}") from None
        if not there:
            raise ConfigError(f"{name.upper()} names a file that does not exist: {path}")
    if settings.batch_server_api_key is not None:
        keys = parse_keys(settings.batch_server_api_key.get_secret_value())
        shortest = min(map(len, keys.values()))
        if shortest < KEY_CHARACTERS_MIN and not _is_loopback(settings.host):
            raise ConfigError(
                f"BATCH_SERVER_API_KEY must have {KEY_CHARACTERS_MIN} characters a key or more "
                f"when HOST is not loopback (it is {settings.host}): openssl rand -hex 32 makes one"
            )
    elif not _is_loopback(settings.host):
        raise ConfigError(
            f"BATCH_SERVER_API_KEY must be set when HOST is not loopback (it is {settings.host})"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _base_url(given: str) -> str:
    """The base URL as OpenAI's SDKs want it: OpenAI's own host serves nothing outside of /v1."""
    url = given.strip()
    try:
        parsed = _HTTP_URL.validate_python(url)
    except ValidationError:
        raise ConfigError(
            "OPENAI_BASE_URL is not valid: it must look like https://host/v1"
        ) from None
    path = (parsed.path or "").rstrip("/")
    for endpoint in _BELOW_BASE:
        if path.endswith(endpoint):
            raise ConfigError(
                f"OPENAI_BASE_URL ends in an endpoint: leave out {endpoint}, it must look like "
                "https://host/v1"
            )
    host = parsed.host or ""
    if not path and not parsed.query and f".{host}".endswith(".api.openai.com"):
        return f"{url.rstrip('/')}/v1"
    return url


def _presentable(key: str) -> bool:
    """Whether a key can stand in a header."""
    return bool(key) and key.isascii() and key.isprintable() and " " not in key


DEFAULT_TENANT = "default"
KEY_CHARACTERS_MIN = 16
"""Of a key that others than this machine's users may try to guess."""
TENANT = re.compile(r"[A-Za-z0-9._-]{1,64}")
_NAMED = re.compile(rf"({TENANT.pattern})=([^=].*)")


def parse_keys(text: str) -> dict[str, str]:
    """{tenant: key} of `key` or `name=key,name2=key2`. Raises ConfigError.

    A lone key may end in '=' (base64): only a name with something behind its '=' is a tenant.
    """
    parts = [part.strip() for part in text.split(",")]
    named = [_NAMED.fullmatch(part) for part in parts]
    if len(parts) == 1 and named[0] is None:
        keys = {DEFAULT_TENANT: parts[0]}
    else:
        if not all(named):
            raise ConfigError("BATCH_SERVER_API_KEY must be one key, or name=key,name2=key2")
        keys = {match[1]: match[2] for match in named if match}
    if len(keys) < len(parts) or len(set(keys.values())) < len(parts):
        raise ConfigError("BATCH_SERVER_API_KEY has the same name or the same key twice")
    if not all(_presentable(key) for key in keys.values()):
        raise ConfigError("BATCH_SERVER_API_KEY must hold printable ASCII without spaces")
    return keys


ALL_TENANTS = ""
"""The name of the budget of all of them together."""
_USD = re.compile(r"\d{1,9}(?:\.\d{1,6})?")
_BUDGET = re.compile(rf"(?:([A-Za-z0-9._-]{{1,64}})=)?({_USD.pattern})")


def parse_budgets(text: str) -> dict[str, Decimal]:
    """{tenant: USD} of `100`, `name=5,name2=10` or both; "" is all tenants. Raises ConfigError."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    found = [_BUDGET.fullmatch(part) for part in parts]
    budgets = {match[1] or ALL_TENANTS: Decimal(match[2]) for match in found if match}
    if len(budgets) < len(parts):
        raise ConfigError(
            "BATCH_BUDGET_USD_DAY must be a number of USD, or name=5,name2=10 by tenant, or both"
        )
    return budgets


def parse_unpriced(text: str) -> Decimal:
    """USD a million tokens; 0 for `refuse` and `allow`. Raises ConfigError."""
    if text in ("refuse", "allow"):
        return Decimal(0)
    if not _USD.fullmatch(text):
        raise ConfigError(
            "BATCH_BUDGET_UNPRICED must be refuse, allow, or a number of USD a million tokens"
        )
    return Decimal(text)
