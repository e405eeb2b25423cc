"""What must hold of an engine's keys together; called for policy, policy.shadow and policy.rollout alike.

1. An engine that is asked over a network has a url, and only such a one. 2. A key of one engine beside another is an
error. 3. Secrets, and callers' tokens, travel over https, on this machine or through a socket file. 4. TLS keys belong
to https, a certificate to its key. 5. A PDP's metadata names its URL: a socket file has none.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from gateway.config_values import Address

if TYPE_CHECKING:
    from gateway.config_policy import Policy, Rollout, Shadow
    from gateway.config_schema import Reading

_BELONGS = {
    "query": ("opa",),
    "token": ("opa", "authzen"),
    "tls": ("opa", "cerbos", "authzen"),
    "cerbos": ("cerbos",),
    "authzen": ("authzen",),
}


def engine_parts(policy: Policy) -> Iterable[tuple[str, Policy | Shadow | Rollout]]:
    yield "policy", policy
    if policy.shadow is not None:
        yield "policy.shadow", policy.shadow
    if policy.rollout is not None:
        yield "policy.rollout", policy.rollout


def check_engines(policy: Policy, at: Reading) -> None:
    for key, found in engine_parts(policy):
        _check(key, found, at)


def engine_files(policy: Policy) -> Iterable[tuple[str, Path | None]]:
    for key, found in engine_parts(policy):
        if found.tls is not None:
            yield f"{key}.tls.ca", found.tls.ca
            yield f"{key}.tls.cert", found.tls.cert
            yield f"{key}.tls.key", found.tls.key


def _check(key: str, found: Policy | Shadow | Rollout, at: Reading) -> None:
    if found.engine == "embedded":
        if found.url:  # 1
            at.at(f"{key}.url", "the embedded engine is not asked over a network", "name the engine, or take it out")
    elif not found.url:
        at.at(f"{key}.url", f"{found.engine} without a url", "write where it is")
    for name, engines in _BELONGS.items():  # 2
        if f"{key}.{name}" in at.places and found.engine not in engines:
            at.at(f"{key}.{name}", f"belongs to {' and '.join(engines)}, the engine is {found.engine}", "take it out")
    secret = found.token is not None or (found.cerbos is not None and found.cerbos.jwt is not None)
    if secret and _open(found.url):  # 3
        at.at(f"{key}.url", "a token over plain http", "use https")
    if found.tls is not None:  # 4
        if found.url and not found.url.startswith("https://"):
            at.at(f"{key}.tls", "the url is not https", "use https, or take it out")
        if (found.tls.cert is None) != (found.tls.key is None):
            at.at(f"{key}.tls", "cert and key go together", "write both")
    if found.authzen is not None and found.authzen.discovery and found.url.startswith("unix:"):  # 5
        at.at(f"{key}.authzen.discovery", "a socket file has no metadata of its own", "use its http or https url")
    if found.engine == "cerbos" and urlsplit(found.url).path and not found.url.startswith("unix:"):
        at.at(f"{key}.url", "a path: Cerbos is asked over gRPC", "write scheme, host and port alone")


def _open(url: str) -> bool:
    """Whether others could read along."""
    return url.startswith("http://") and not Address(urlsplit(url).hostname or "", 0).loopback
