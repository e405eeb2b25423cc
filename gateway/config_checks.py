"""What must hold between keys of a configuration whose every value was read: numbered, each with its own message.

1. Listening beyond loopback needs TLS or a TLS proxy, and the public https URL. 2. Names are unique where they are
compared. 3. Every reference leads somewhere. 4. No two routes match the same requests. 5. A protocol's options fit the
protocol. 6. Files that are read at start are there. 7. A credential cannot break the framing of a request. 8. Scopes
are asked for where somebody is asked who it is, and never `offline_access`, which is between a client and its issuer.
9. Secrets travel over https. 10. What is done for each caller needs callers. 11. Where the upstream asks its callers
itself, the gateway knows nobody and has no Authorization of its own to send; both are written out. 12. A
caller's descriptor needs a caller, and somebody who may sign it. 13. What is in a vault needs the vault. 14. The keys
of who signs policy are on this machine: what decides must not wait for the network at a start. 15. Several addresses
are one service: each once, all with one scheme and one path.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from gateway.config_actions import ACTIONS, meant
from gateway.config_budgets import check_names
from gateway.config_engine_checks import check_engines, engine_files
from gateway.config_values import Address
from gateway.core.bundles import OWN_SIGNER

if TYPE_CHECKING:
    from gateway.config_credentials import Credentials
    from gateway.config_schema import Reading
    from gateway.config_types import Issuer, Route, Settings, Upstream

# Headers the gateway or the connection owns: a configured credential must not set them.
_OWNED_HEADERS = frozenset(
    {"connection", "content-length", "content-type", "date", "expect", "host", "keep-alive", "proxy-connection", "te"}
    | {"traceparent", "tracestate", "trailer", "transfer-encoding", "upgrade", "via", "x-request-id"}
)
# How a protocol can let a deny look: JSON-RPC has a way to say "no such thing", and only mcp has tools that fail.
_DENIES = {"mcp": ("error", "hidden", "tool_error"), "a2a": ("error", "hidden")}


def check(settings: Settings, at: Reading) -> None:
    """Tells `at` every rule that does not hold."""
    _listeners(settings, at)
    _issuers(settings, at)
    _routes(settings, at)
    for name, upstream in settings.upstreams.items():
        _upstream(f"upstreams.{name}", upstream, at)
        _card(f"upstreams.{name}.card", upstream, settings, at)
        _tools(f"upstreams.{name}.tools", upstream, settings, at)
    check_names(settings.limits, settings.budgets, at)
    _vault(settings, at)
    _bundle_signers(settings, at)
    check_engines(settings.policy, at)
    _files(settings, at)


def _vault(settings: Settings, at: Reading) -> None:
    found = settings.vault
    if found is None:  # 13
        for _, key, *_ in at.vaulted:
            at.at(key, "there is no vault to read it from", "write where it is under vault:")
        if settings.keys.transit is not None:
            at.at("keys.transit", "there is no vault to sign in", "write where it is under vault:")
        for name, upstream in settings.upstreams.items():
            kept = upstream.credentials.per_caller if upstream.credentials is not None else None
            if kept is not None and kept.vault is not None:
                key = f"upstreams.{name}.credentials.per_caller.vault"
                at.at(key, "there is no vault to read it from", "write where it is under vault:")
    elif found.url.startswith("http://") and not _local(found.url):  # 9
        at.at("vault.url", "secrets over plain http", "use https")


def _listeners(settings: Settings, at: Reading) -> None:
    ways = (
        ("listen", settings.listen, "public_url", settings.public_url),
        ("admin.listen", settings.admin.listen, "admin.public_url", settings.admin.public_url),
    )
    for key, address, url_key, url in ways:
        if address.loopback:
            continue
        if settings.tls is None and not settings.behind_tls_proxy:  # 1
            at.at(
                key, "beyond loopback without TLS", "set tls, or behind_tls_proxy: true if something in front ends it"
            )
        if url_key not in at.places:
            at.at(key, f"beyond loopback without {url_key}", f"set {url_key} to what callers use")
        elif not url.startswith("https://"):
            at.at(url_key, "not https, though the listener is beyond loopback", "use https")
    if settings.tls is not None and settings.behind_tls_proxy:
        at.at("behind_tls_proxy", "true beside tls", "keep one of the two")
    if _same(settings.listen, settings.admin.listen):
        at.at("admin.listen", "the same as listen", "give the admin plane a port of its own")


def _same(one: Address, other: Address) -> bool:
    return one == other and one.port != 0


def _issuers(settings: Settings, at: Reading) -> None:
    seen: dict[str, str] = {}
    for issuer in settings.trust.issuers:
        key = f"trust.issuers.{issuer.name}"
        if issuer.issuer in seen:  # 2
            at.at(f"{key}.issuer", f"the same issuer as {seen[issuer.issuer]}", "let one entry speak for it")
        seen[issuer.issuer] = issuer.name
        _secure(f"{key}.jwks.url", issuer.jwks.url, at)
        _roles_of(key, issuer, at)
    names = {issuer.name for issuer in settings.trust.issuers}
    for entry in settings.trust.signatures:
        key = f"trust.signatures.{entry.name}"
        if entry.name in names:  # 2: the ids of their callers would be the same
            at.at(f"{key}.name", "an issuer has the same name", "give it a name of its own")
        _secure(f"{key}.jwks.url", entry.jwks.url if entry.jwks is not None else None, at)
        for directory in entry.directories:
            _secure(f"{key}.directories", directory, at)
    listed = [directory for entry in settings.trust.signatures for directory in entry.directories]
    if len(set(listed)) != len(listed):  # 2
        at.at("trust.signatures", "a directory is listed twice", "let one entry speak for it")
    for signer in settings.trust.signers:
        _secure(f"trust.signers.{signer.name}.jwks.url", signer.jwks.url if signer.jwks is not None else None, at)


def _secure(key: str, url: str | None, at: Reading) -> None:
    if url is not None and url.startswith("http://") and not _local(url):
        at.at(key, "keys over plain http", "use https, or a file")


def _roles_of(key: str, issuer: Issuer, at: Reading) -> None:
    if issuer.roles is not None and issuer.roles.const is not None:
        at.at(f"{key}.roles", "const is for org", "name the claim that has the roles")


def _local(url: str) -> bool:
    return Address(urlsplit(url).hostname or "", 0).loopback


def _routes(settings: Settings, at: Reading) -> None:
    seen: dict[tuple[str, str], str] = {}
    for route in settings.routes:
        key = f"routes.{route.name}"
        written = {name for name in ("path", "host") if f"{key}.match.{name}" in at.places}
        if not written:
            at.at(f"{key}.match", "empty", "give it a path, a host, or both")
        first = seen.setdefault((route.match.host, route.match.path), route.name)
        if first != route.name:  # 4
            at.at(f"{key}.match", f"the same as that of route {first}", "no request could reach this one")
        upstream = settings.upstreams.get(route.upstream)
        if upstream is None:  # 3
            names = ", ".join(settings.upstreams) or "none"
            at.at(f"{key}.upstream", "no upstream has that name", f"there are: {names}")
            continue
        if upstream.protocol != "http" and route.body == "opaque":  # 5
            at.at(f"{key}.body", f"opaque on a route to {upstream.protocol}", "its messages must be read to be judged")
        if upstream.protocol != "openai" and route.include_usage != "as_asked":  # 5
            at.at(f"{key}.include_usage", f"inject on a route to {upstream.protocol}", "it is for openai")
        looks = _DENIES.get(upstream.protocol, ("error",))
        if route.deny_as not in looks:
            what = f"{route.deny_as} on a route to {upstream.protocol}, which cannot say it"
            at.at(f"{key}.deny_as", what, f"use {' or '.join(looks)}")
        _scopes(key, route, upstream, at)
        if route.descriptor == "required" and route.auth == "anonymous":  # 12
            at.at(f"{key}.descriptor", "required of anonymous callers", "set auth: required")
        if route.descriptor == "required" and not settings.trust.signers:  # 12
            at.at(f"{key}.descriptor", "required, though nobody may sign one", "name a signer in trust.signers")
        if upstream.auth == "transparent" and route.auth != "anonymous":  # 11
            what = f"upstream {route.upstream} asks its callers itself (auth: transparent): nobody is known here"
            at.at(f"{key}.auth", what, "set auth: anonymous")


def _scopes(key: str, route: Route, upstream: Upstream, at: Reading) -> None:
    if route.auth == "anonymous" and upstream.credentials is not None and upstream.credentials.about_callers:  # 10
        what = f"anonymous callers, though upstream {route.upstream} has credentials for each caller"
        at.at(f"{key}.auth", what, "set auth: required")
    if route.auth == "anonymous" and (route.scopes or route.action_scopes):  # 8
        what = "scopes" if route.scopes else "action_scopes"
        at.at(f"{key}.{what}", "scopes of callers who need no credential", "set auth: required")
    if any("offline_access" in scopes for scopes in (route.scopes, *route.action_scopes.values())):  # 8
        at.at(f"{key}.scopes", "offline_access is no scope of a resource", "take it out")
    for action in route.action_scopes:
        if action not in ACTIONS[upstream.protocol]:  # 5: it would never apply
            what = f"no action of {upstream.protocol}"
            at.at(f"{key}.action_scopes.{action}", what, meant(action, upstream.protocol))


def _addresses(key: str, upstream: Upstream, at: Reading) -> None:
    """15."""
    if bool(upstream.urls) == (f"{key}.url" in at.places):
        at.at(key, "exactly one of url, urls is needed here", "urls is for several addresses of one service")
        return
    if f"{key}.balance" in at.places and len(upstream.urls) < 2:
        at.at(f"{key}.balance", "balance without several urls", "it is for urls")
    if len({urlsplit(url).netloc.lower() for url in upstream.urls}) < len(upstream.urls):
        at.at(f"{key}.urls", "the same address twice", "name each once")
    if len({(urlsplit(url).scheme, urlsplit(url).path) for url in upstream.urls}) > 1:
        at.at(f"{key}.urls", "urls of different schemes or paths", "they differ in host and port alone")
    if upstream.auth == "transparent" and len(upstream.urls) > 1 and not upstream.resource:
        at.at(f"{key}.resource", "auth: transparent with several urls", "say what it calls itself")
    if upstream.breaker is not None and upstream.breaker.per == "tool" and upstream.protocol != "mcp":
        at.at(f"{key}.breaker.per", f"tools of an upstream that speaks {upstream.protocol}", "it is for mcp")


def _upstream(key: str, upstream: Upstream, at: Reading) -> None:
    _addresses(key, upstream, at)
    if f"{key}.tools" in at.places and upstream.protocol != "mcp":  # 5
        at.at(f"{key}.tools", f"tools of an upstream that speaks {upstream.protocol}", "it is for mcp")
    if (upstream.tools.manifest is None) != (not upstream.tools.signers):
        at.at(f"{key}.tools", "signers and manifest belong together", "say who signs, and where what they signed is")
    if upstream.tls is not None:
        if not upstream.url.startswith("https://"):
            at.at(f"{key}.tls", "tls for an http URL", "use an https URL")
        if (upstream.tls.cert is None) != (upstream.tls.key is None):
            at.at(f"{key}.tls", "cert and key belong together", "give both or none")
    transparent = upstream.auth == "transparent"
    if upstream.credentials is not None:
        _credentials(f"{key}.credentials", upstream.credentials, at)
        if transparent and (
            upstream.credentials.header.lower() == "authorization" or upstream.credentials.about_callers
        ):
            at.at(f"{key}.credentials", "credentials beside auth: transparent", "keep one of the two")  # 11
    if upstream.resource and not transparent:  # 11
        at.at(f"{key}.resource", "a resource without auth: transparent", "the gateway's own routes say what they are")


def _tools(key: str, upstream: Upstream, settings: Settings, at: Reading) -> None:
    known = {signer.name: signer for signer in settings.trust.signers}
    for wanted in upstream.tools.signers:
        if wanted not in known:  # 3
            at.at(f"{key}.signers", f"no signer has the name {wanted}", f"there are: {', '.join(known) or 'none'}")
        elif known[wanted].jwks is None:  # 5
            at.at(
                f"{key}.signers", f"{wanted} has no jwks", "a manifest's jku is not followed; give the signer its keys"
            )


def _card(key: str, upstream: Upstream, settings: Settings, at: Reading) -> None:
    if upstream.card is None:
        return
    if upstream.protocol != "a2a":  # 5
        at.at(key, f"the card of an upstream that speaks {upstream.protocol}", "it is for a2a")
    known = [signer.name for signer in settings.trust.signers]
    for wanted in upstream.card.signers:
        if wanted not in known:  # 3
            at.at(f"{key}.signers", f"no signer is called {wanted}", f"there are: {', '.join(known) or 'none'}")


def _credentials(key: str, credentials: Credentials, at: Reading) -> None:
    if credentials.header.lower() in _OWNED_HEADERS:  # 7
        at.at(f"{key}.header", "a header the gateway sets itself", "use Authorization or one of its own")
    value = credentials.value
    if value is not None and value.known and not _fits_a_header(value.reveal()):
        at.at(f"{key}.value", "has a space at an end or a character no header may have", "check the secret")
    fetched = credentials.fetched
    if fetched is not None and fetched.token_url.startswith("http://") and not _local(fetched.token_url):  # 9
        way = "client_credentials" if credentials.client_credentials is not None else "token_exchange"
        at.at(f"{key}.{way}.token_url", "secrets and tokens over plain http", "use https")


def _fits_a_header(value: str) -> bool:
    return value == value.strip() and all(" " <= character <= "~" for character in value)


def _files(settings: Settings, at: Reading) -> None:
    if settings.policy.engine == "embedded" and not settings.policy.bundle.exists():  # 6
        what = f"{settings.policy.bundle}: no such folder or file"
        at.at("policy.bundle", what, "name the folder that has your .rego files, or a signed .tar.gz")
    _candidates(settings, at)
    for key, path in _named_files(settings):
        if not os.access(path, os.R_OK):
            what = "cannot be read" if path.exists() else "no such file"
            at.at(key, f"{path}: {what}", f"paths are relative to {Path.cwd()}")


def _bundle_signers(settings: Settings, at: Reading) -> None:
    known = {signer.name: signer for signer in settings.trust.signers}
    if OWN_SIGNER in known:  # 2
        at.at(f"trust.signers.{OWN_SIGNER}.name", "it means the gateway's own key", "give it another name")
    if settings.policy.engine == "embedded" and settings.policy.bundle.is_file() and not settings.policy.signers:
        at.at("policy.bundle", "a bundle that nobody may sign", "name who may in policy.signers, or a folder")  # 3
    for name in settings.policy.signers:
        if name == OWN_SIGNER:
            continue
        signer = known.get(name)
        if signer is None:  # 3
            at.at("policy.signers", f"no signer is called {name}", "write it under trust.signers")
        elif signer.jwks is None or signer.jwks.file is None:  # 14
            at.at("policy.signers", f"the keys of {name} are not in a file", "name them as jwks.file: no policy waits")


def _candidates(settings: Settings, at: Reading) -> None:
    policy = settings.policy
    if policy.shadow is not None and policy.shadow.cerbos is not None and policy.shadow.cerbos.jwt is not None:
        what = "a shadow is asked later, when the caller's token is not kept any more"
        at.at("policy.shadow.cerbos.jwt", what, "take it out")
    for key, side in (("policy.shadow", policy.shadow), ("policy.rollout", policy.rollout)):
        if side is None or side.engine != "embedded":
            continue
        do = "name the folder that has the candidate's .rego files, or a signed .tar.gz"
        if side.bundle is None:
            at.at(f"{key}.bundle", "the key is missing", do)
        elif not side.bundle.exists():  # 6
            at.at(f"{key}.bundle", f"{side.bundle}: no such folder or file", do)
        elif side.bundle.is_file() and not policy.signers:  # 3
            at.at(f"{key}.bundle", "a bundle that nobody may sign", "name who may in policy.signers, or a folder")


def _named_files(settings: Settings) -> Iterable[tuple[str, Path]]:
    found: list[tuple[str, Path | None]] = []
    add: Callable[[tuple[str, Path | None]], None] = found.append
    if settings.tls is not None:
        add(("tls.cert", settings.tls.cert))
        add(("tls.key", settings.tls.key))
        add(("tls.client_ca", settings.tls.client_ca))
    if settings.trust.api_keys is not None:
        add(("trust.api_keys.file", settings.trust.api_keys.file))
    for issuer in settings.trust.issuers:
        add((f"trust.issuers.{issuer.name}.jwks.file", issuer.jwks.file))
    for entry in settings.trust.signatures:
        add((f"trust.signatures.{entry.name}.jwks.file", entry.jwks.file if entry.jwks is not None else None))
    for signer in settings.trust.signers:
        add((f"trust.signers.{signer.name}.jwks.file", signer.jwks.file if signer.jwks is not None else None))
    for descriptor in settings.trust.descriptors:
        add((f"trust.descriptors.{descriptor.name}.file", descriptor.file))
    found += engine_files(settings.policy)
    add(("trust.fetch.ca", settings.trust.fetch.ca))
    add(("prices", settings.prices))
    if settings.vault is not None:
        add(("vault.ca", settings.vault.ca))
    for name, upstream in settings.upstreams.items():
        if upstream.tools.manifest is not None:
            add((f"upstreams.{name}.tools.manifest.file", upstream.tools.manifest.file))
        if upstream.tls is not None:
            add((f"upstreams.{name}.tls.ca", upstream.tls.ca))
            add((f"upstreams.{name}.tls.cert", upstream.tls.cert))
            add((f"upstreams.{name}.tls.key", upstream.tls.key))
        if upstream.credentials is not None and upstream.credentials.per_caller is not None:
            add((f"upstreams.{name}.credentials.per_caller.file", upstream.credentials.per_caller.file))
    return [(key, path) for key, path in found if path is not None]
