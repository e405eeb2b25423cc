"""The configuration file as types. `load` is the only way in; what it returns was checked whole.

The rule: unknown is an error, a feature of a later version is an error that says so, nothing beyond loopback is open by
omission, and every error names file, line and key. `load` reads the file, the secrets it names and nothing else; it
opens no socket.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from gateway.config_audit import Audit, Checkpoint, Mask
from gateway.config_breakers import Balance, Breaker, Health, Retries
from gateway.config_budgets import Budget, Limit
from gateway.config_callers import CallerDescriptor, Dpop, Signature
from gateway.config_cards import Card
from gateway.config_checks import check
from gateway.config_counters import Counters, RedisUrl
from gateway.config_credentials import ClientCredentials, Credentials, PerCaller, TokenExchange
from gateway.config_descriptors import Tools
from gateway.config_engines import AuthzenKeys, CerbosKeys, EngineBreaker, EngineTls
from gateway.config_keys import Keys, OpenVault, Transit, Vault
from gateway.config_keysets import Jwks, Signer
from gateway.config_policy import Policy, Rollout, Shadow
from gateway.config_prices import (
    AgentPrice,
    FreeOfCharge,
    HttpPrice,
    ModelPrice,
    PriceList,
    Service,
    Tier,
    ToolPrice,
    prices_schema,
    read_prices,
    seconds,
)
from gateway.config_reference import reference
from gateway.config_schema import Of, Reading
from gateway.config_secrets import SECRET_LIMIT_BYTES
from gateway.config_types import (
    Admin,
    ApiKeys,
    Claim,
    Fetch,
    Front,
    Issuer,
    Match,
    Otlp,
    Route,
    Settings,
    Shed,
    Stores,
    Telemetry,
    Timeouts,
    Tls,
    Trust,
    Upstream,
    UpstreamTls,
)
from gateway.config_usage import AlertDigest, Alerts, UsageEvents
from gateway.config_values import DURATION, Address, Rate, Secret, parse_duration
from gateway.config_yaml import FILE_LIMIT_BYTES, ConfigError, Node, Place, Problem, override, read_plain, read_text
from gateway.core.canonical import Json

__all__ = [
    "DURATION",
    "FILE_LIMIT_BYTES",
    "Address",
    "Admin",
    "AgentPrice",
    "AlertDigest",
    "Alerts",
    "ApiKeys",
    "Audit",
    "AuthzenKeys",
    "Balance",
    "Breaker",
    "Budget",
    "CallerDescriptor",
    "Card",
    "CerbosKeys",
    "Checkpoint",
    "Claim",
    "ClientCredentials",
    "ConfigError",
    "Counters",
    "Credentials",
    "Dpop",
    "EngineBreaker",
    "EngineTls",
    "Fetch",
    "FreeOfCharge",
    "Front",
    "Health",
    "HttpPrice",
    "Issuer",
    "Jwks",
    "Keys",
    "Limit",
    "Mask",
    "Match",
    "ModelPrice",
    "OpenVault",
    "Otlp",
    "PerCaller",
    "Place",
    "Policy",
    "PriceList",
    "Problem",
    "Rate",
    "RedisUrl",
    "Retries",
    "Rollout",
    "Route",
    "Secret",
    "Service",
    "Settings",
    "Shadow",
    "Shed",
    "Signature",
    "Signer",
    "Stores",
    "Telemetry",
    "Tier",
    "Timeouts",
    "Tls",
    "TokenExchange",
    "ToolPrice",
    "Tools",
    "Transit",
    "Trust",
    "Upstream",
    "UpstreamTls",
    "UsageEvents",
    "Vault",
    "json_schema",
    "load",
    "parse_duration",
    "prices_schema",
    "read",
    "read_plain",
    "read_prices",
    "reference",
    "seconds",
]


def load(path: Path, environ: Mapping[str, str], *, secrets: bool = True, vault: OpenVault | None = None) -> Settings:
    """The checked settings. Raises ConfigError with everything that is wrong.

    `secrets=False` does not read them, for a check on a machine that has none. `vault` opens the one the file names:
    then this waits for it, so not while serving.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(FILE_LIMIT_BYTES + 1)
        text = data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError([Problem(Place(str(path), line), "", "not UTF-8", "save the file as UTF-8")]) from None
    except OSError as error:
        do = f"write one with: tollgate check --example > {path}" if isinstance(error, FileNotFoundError) else ""
        raise ConfigError([Problem(Place(str(path)), "", f"cannot be read: {error.strerror}", do)]) from None
    if len(data) > FILE_LIMIT_BYTES:
        raise ConfigError([Problem(Place(str(path)), "", f"larger than {FILE_LIMIT_BYTES} bytes")])
    return read(text, str(path), environ, secrets=secrets, vault=vault)


def read(
    text: str, source: str, environ: Mapping[str, str], *, secrets: bool = True, vault: OpenVault | None = None
) -> Settings:
    """As `load`, from text; `source` is what messages call it."""
    problems: list[Problem] = []
    root = read_text(text, source, problems)
    if root is None:
        raise ConfigError(problems)
    if root.value is None:
        root = Node({}, root.place)
    override(root, environ, problems)
    reading = Reading(environ, problems, secrets=secrets)
    settings = Of(Settings).read(root, "", reading)
    if problems or not isinstance(settings, Settings):
        raise ConfigError(problems)
    settings = _completed(settings)
    if secrets:
        _from_vault(settings, reading, vault)
    check(settings, reading)
    if problems:
        raise ConfigError(problems)
    return settings


def _from_vault(settings: Settings, reading: Reading, open_vault: OpenVault | None) -> None:
    """Fills the secrets that a vault keeps. Only once all else is right is anybody asked."""
    if not reading.vaulted or settings.vault is None:  # config_checks.py says so
        return
    if open_vault is None:
        raise LookupError("secrets in a vault are not read here")
    try:
        ask = open_vault(settings.vault)
    except (OSError, RuntimeError) as error:
        reading.at("vault", str(error))
        return
    for node, key, secret, path, field in reading.vaulted:
        try:
            value = ask(path, field)
        except OSError as error:
            reading.fail(node, key, str(error), f"put it there, or let the token of vault.token read {path}")
            continue
        if not value or len(value) > SECRET_LIMIT_BYTES:
            reading.fail(node, key, f"{secret.source} is empty or too large")
            continue
        secret.fill(value)


def _completed(settings: Settings) -> Settings:
    """Defaults that follow from other keys. A port that is not known yet leaves its public_url empty."""
    admin, tls = settings.admin, settings.tls is not None
    routes = []
    for route in settings.routes:
        upstream = settings.upstreams.get(route.upstream)
        opaque = upstream is not None and upstream.protocol == "http"
        routes.append(route if route.body else replace(route, body="opaque" if opaque else "json"))
    return replace(
        settings,
        public_url=settings.public_url or _url(settings.listen, tls),
        admin=replace(admin, public_url=admin.public_url or _url(admin.listen, tls and not admin.listen.loopback)),
        routes=tuple(routes),
        upstreams={
            name: replace(found, url=found.urls[0]) if found.urls and not found.url else found
            for name, found in settings.upstreams.items()
        },
    )


def _url(address: Address, tls: bool) -> str:
    return f"{'https' if tls else 'http'}://{address}" if address.port else ""


def json_schema() -> dict[str, Json]:
    """JSON Schema 2020-12 of the file."""
    head: dict[str, Json] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Tollgate configuration",
    }
    return head | Of(Settings).schema()
