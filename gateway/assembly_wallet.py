"""What the gateway is admitted with at its upstreams, as the configuration says it, kept across reloads.

The rule: tokens that were fetched go on as long as nothing about how they are fetched has changed; whatever did change
starts from nothing. Called from assembly.py for each upstream, from app.py for the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

from gateway import config
from gateway.assembly_keys import secret_at
from gateway.core.fetching import Fetcher
from gateway.core.ports import Clock, UpstreamCredentials
from gateway.core.snapshot import Upstream
from gateway.identity.grants import Client
from gateway.identity.kept_tokens import KeptTokenError, KeptTokens
from gateway.identity.upstream_tokens import ClientGrant, ExchangedToken, ExchangeGrant, OwnToken, Tokens
from gateway.identity.vaulted_tokens import VaultedTokens, VaultGrant

_Source: TypeAlias = "OwnToken | ExchangedToken | KeptTokens | VaultedTokens"


def read_yaml(data: bytes) -> object:
    """Files of keys and tokens, read as strictly as the configuration. Raises ValueError."""
    return config.read_plain(data)


class Wallet:
    """`source` may be called in a thread, one at a time; `keep` follows once a snapshot is in force."""

    def __init__(self, fetcher: Fetcher, load_yaml: Callable[[bytes], object], clock: Clock) -> None:
        self._fetcher = fetcher
        self._load_yaml = load_yaml
        self._clock = clock
        self._made: dict[tuple[str, config.Credentials, config.Vault | None], _Source] = {}

    def source(
        self, upstream: str, found: config.Credentials | None, vault: config.Vault | None
    ) -> UpstreamCredentials | None:
        """None where a fixed header or nothing is sent. Raises KeptTokenError, OSError."""
        if found is None or found.value is not None:
            return None
        name = upstream, found, vault if found.per_caller is not None else None
        made = self._made.get(name)
        if isinstance(made, KeptTokens):
            made.poll()
        if made is None:
            made = self._made[name] = self._make(*name)
        return made

    def keep(self, upstreams: Iterable[Upstream]) -> None:
        """Forgets what none of them uses."""
        used = [upstream.source for upstream in upstreams if upstream.source is not None]
        for name, source in tuple(self._made.items()):
            if not any(source is one for one in used):
                del self._made[name]
                source.close()

    def poll(self) -> None:
        """Looks at the files again."""
        for source in tuple(self._made.values()):
            if isinstance(source, KeptTokens):
                source.poll()

    def close(self) -> None:
        """Ends what is under way."""
        for source in self._made.values():
            source.close()

    def _make(self, upstream: str, found: config.Credentials, vault: config.Vault | None) -> _Source:
        kept = found.per_caller
        if kept is not None and kept.file is not None:
            return KeptTokens(kept.file, found.header, found.scheme, self._load_yaml)
        if kept is not None and kept.vault is not None and vault is not None:
            try:
                grant = VaultGrant(secret_at(vault, kept.vault.field), kept.refresh)
            except RuntimeError as error:
                raise KeptTokenError(str(error)) from None
            tokens = Tokens(upstream, found.header, grant, self._clock, found.scheme)
            return VaultedTokens(kept.vault.path, tokens)
        if found.client_credentials is not None:
            own_grant = ClientGrant(_client(found.client_credentials), self._fetcher)
            return OwnToken(Tokens(upstream, found.header, own_grant, self._clock))
        wanted = found.token_exchange
        if wanted is None:
            raise ValueError(f"upstream {upstream}: no way to get credentials")  # the configuration refuses it before
        actor: str | Tokens | None = wanted.actor.reveal() if isinstance(wanted.actor, config.Secret) else None
        if isinstance(wanted.actor, str):
            own = ClientGrant(_client(wanted, plain=True), self._fetcher)
            actor = Tokens(upstream, found.header, own, self._clock)
        exchange = ExchangeGrant(_client(wanted), self._fetcher, actor)
        return ExchangedToken(Tokens(upstream, found.header, exchange, self._clock))


def _client(found: config.ClientCredentials | config.TokenExchange, *, plain: bool = False) -> Client:
    """`plain`: nothing in particular is asked for, as for a token that only says who acts."""
    return Client(
        token_url=found.token_url,
        client_id=found.client_id,
        client_secret=found.client_secret.reveal(),
        post=found.client_auth == "post",
        scope="" if plain else found.scope,
        audience="" if plain else found.audience,
        resource="" if plain else found.resource,
    )
