"""How a caller is told that it is nobody here: 401, 400 and 503, with RFC 6750's challenge and RFC 9728's pointer.

The text says what to do, and of what was wrong only what its sender may know anyway; no byte of a credential and no
name of a key gets in. Addresses come from `public_url` and the route, never from the request. A challenge names all
scopes that the operation needs: a client that must ask for more asks once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import urlsplit

from gateway.core.reasons import Reason, Refusal
from gateway.core.snapshot import Route

WELL_KNOWN = "/.well-known/oauth-protected-resource"
UNAVAILABLE_RETRY_SECONDS = 5
PROOF_ALGS = "EdDSA ES256"  # RFC 9449 section 7.1: what a DPoP proof may be signed with

_DESCRIPTION = re.compile(r"[^\x20\x21\x23-\x5b\x5d-\x7e]")  # RFC 6750 section 3: no quote, no backslash, no controls


class Challenges:
    """Builds refusals for one `public_url`."""

    __slots__ = ("_base", "_scheme_port")

    def __init__(self, public_url: str) -> None:
        parts = urlsplit(public_url)
        self._base = public_url.rstrip("/")
        self._scheme_port = (parts.scheme, f":{parts.port}" if parts.port else "")

    def metadata_url(self, path: str, host: str) -> str:
        """Where the metadata of a route's protected resource is (RFC 9728 section 3.1). A route that is matched by its
        own host name is a resource of that host."""
        return self._origin(host) + WELL_KNOWN + path

    def resource_url(self, path: str, host: str) -> str:
        """What that metadata must call itself (`resource`): the address that callers use."""
        return self._origin(host) + path

    def missing(self, route: Route) -> Refusal:
        """Nothing was presented: no error code, as RFC 6750 section 3.1 asks."""
        return self._refuse(Reason.UNAUTHENTICATED, route, "Send an access token or an API key", "", "no_credential")

    def invalid(self, route: Route, text: str, rule: str) -> Refusal:
        return self._refuse(Reason.UNAUTHENTICATED, route, text, "invalid_token", rule)

    def malformed(self, route: Route, text: str, rule: str) -> Refusal:
        return self._refuse(Reason.MALFORMED, route, text, "invalid_request", rule)

    def scope_insufficient(self, route: Route, text: str, scopes: Sequence[str] = (), rule: str = "") -> Refusal:
        return self._refuse(Reason.SCOPE_INSUFFICIENT, route, text, "insufficient_scope", rule, scopes)

    def proof(self, route: Route, text: str, error: str, rule: str, nonce: str = "") -> Refusal:
        """A token that is bound to a key wants the key's proof (RFC 9449, sections 7.1 and 9); `nonce` is what the next
        one must contain."""
        refusal = self._refuse(Reason.UNAUTHENTICATED, route, text, error, rule, scheme=f'DPoP algs="{PROOF_ALGS}", ')
        return replace(refusal, headers=(*refusal.headers, (b"dpop-nonce", nonce.encode()))) if nonce else refusal

    def address(self, route: Route, path: str) -> str:
        """What callers of this route call a path of the gateway's; the path stands as it came."""
        return self._origin(route.host) + path

    def unavailable(self, issuer: str) -> Refusal:
        return Refusal(
            Reason.IDENTITY_UNAVAILABLE,
            "The keys of your token's issuer cannot be had at the moment; try again",
            rule=issuer,
            retry_after=UNAVAILABLE_RETRY_SECONDS,
        )

    def _origin(self, host: str) -> str:
        if not host:
            return self._base
        scheme, port = self._scheme_port
        return f"{scheme}://{host}{port}"

    def _refuse(
        self, reason: Reason, route: Route, text: str, error: str, rule: str, scopes: Sequence[str] = (),
        scheme: str = "Bearer ",
    ) -> Refusal:  # fmt: skip
        said = [f'resource_metadata="{self.metadata_url(route.path, route.host)}"']
        if scopes or route.scopes:
            said.insert(0, f'scope="{" ".join(scopes or route.scopes)}"')
        if error:
            said[:0] = [f'error="{error}"', f'error_description="{_DESCRIPTION.sub("", text)}"']
        challenge = (scheme + ", ".join(said)).encode("ascii", "replace")
        return Refusal(reason, text, rule=rule, headers=((b"www-authenticate", challenge),))
