"""The agent card as it is served at the route: every way to the agent leads through the gateway, or is not in it.

1. An interface whose URL lies at or below the upstream's URL gets the route's public URL instead, the path behind kept.
One that names the public URL already stays. 2. Every other interface is dropped, and gRPC and bindings that are not
judged here with it (ruling 32). 3. A card without an interface left is not served. 4. `signatures` are removed: they
are of another card, and the gateway signs this one (a2a_card_answer.py). 5. A card with a member that only a careless
reader would take for one of these is not served.
All other members stay as they are, in their order. The public URL comes from the configuration, never from a request.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from gateway.core.canonical import Json
from gateway.core.exchange import Exchange
from gateway.core.reasons import Malformed
from gateway.core.snapshot import Upstream

_JUDGED = frozenset({"JSONRPC", "HTTP+JSON"})
_OURS = ("supportedInterfaces", "url", "preferredTransport", "additionalInterfaces", "signatures", "skills")
_CARELESS = frozenset(name.casefold() for name in _OURS)
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Way:
    """Where the agent is, and where callers find it instead. `public` has no trailing slash."""

    upstream: Upstream
    public: str

    def through(self, url: Json) -> str | None:
        """The public form of an interface's URL, None where it does not lead through the gateway."""
        if not isinstance(url, str):
            return None
        if _behind(url, self.public) is not None:
            return url  # 1
        try:
            parts = urlsplit(url)
            there = _origin(parts)
        except ValueError:
            return None
        upstream = self.upstream
        if there != (upstream.scheme, _host(upstream.host), upstream.port) or "@" in parts.netloc:
            return None
        rest = _behind(parts.path, upstream.path.removesuffix("/"))
        if rest is None:
            return None
        return self.public + rest + (f"?{parts.query}" if parts.query else "")


def way(exchange: Exchange) -> Way:
    """From the configuration: the public URL, or the route's own host at the public URL's scheme and port."""
    route, public = exchange.route, exchange.snapshot.public_url.rstrip("/")
    if route.host:
        scheme, _, authority = public.partition("://")
        port = authority.partition("/")[0].rpartition("]")[2].partition(":")[2]
        public = f"{scheme}://{route.host}" + (f":{port}" if port else "")
    return Way(exchange.upstream, public + route.path)


def rewritten(card: Json, to: Way) -> dict[str, Json]:
    """The card to serve, without a look at its skills. Raises Malformed."""
    if not isinstance(card, dict):
        raise Malformed("an agent card is an object")
    for name in card:
        if name not in _OURS and name.replace("_", "").casefold() in _CARELESS:
            raise Malformed(f"the card has {name[:40]!r}, which some readers take for another member")  # 5
    found = {name: value for name, value in card.items() if name != "signatures"}  # 4
    current = _current(found, to)
    if not _legacy(found, to) and not current:
        raise Malformed("no interface of the card lies at or below the upstream's url")  # 3
    return found


def older(card: dict[str, Json]) -> None:
    """Says again, for readers of v0.3, what a v1.0 card says of interfaces that speak it."""
    listed = card.get("supportedInterfaces")
    spoken = [
        item
        for item in (listed if isinstance(listed, list) else [])
        if isinstance(item, dict) and str(item.get("protocolVersion") or "0.3").startswith("0.")
    ]
    if not spoken:
        return
    first = spoken[0]
    card["url"], card["preferredTransport"] = first["url"], first["protocolBinding"]
    card["protocolVersion"] = first.get("protocolVersion") or "0.3.0"
    if spoken[1:]:
        others: list[Json] = [{"url": item["url"], "transport": item["protocolBinding"]} for item in spoken[1:]]
        card["additionalInterfaces"] = others


def _current(card: dict[str, Json], to: Way) -> bool:
    """v1.0: `supportedInterfaces`. Whether one is left."""
    if "supportedInterfaces" not in card:
        return False
    kept = _kept(card["supportedInterfaces"], "protocolBinding", to)
    card["supportedInterfaces"] = kept
    if not kept and "url" in card:
        del card["supportedInterfaces"]  # else a reader of both versions would stop at an empty list
    return bool(kept)


def _legacy(card: dict[str, Json], to: Way) -> bool:
    """v0.3: `url` with `preferredTransport`, and `additionalInterfaces`. Whether one is left; the first takes the place
    of a main one that is gone."""
    if "url" not in card:
        card.pop("additionalInterfaces", None)
        return False
    others = _kept(card.get("additionalInterfaces"), "transport", to)
    if "additionalInterfaces" in card:
        card["additionalInterfaces"] = others
    main = to.through(card["url"]) if _judged(card.get("preferredTransport", "JSONRPC")) else None
    if main is not None:
        card["url"] = main
        return True
    first = others[0] if others else None
    if isinstance(first, dict):
        card["url"], card["preferredTransport"] = first["url"], first["transport"]
        return True
    for name in ("url", "preferredTransport", "additionalInterfaces"):
        card.pop(name, None)
    return False


def _kept(interfaces: Json, binding: str, to: Way) -> list[Json]:
    if interfaces is None:
        return []
    if not isinstance(interfaces, list):
        raise Malformed("the card's interfaces are not a list")
    kept: list[Json] = []
    for item in interfaces:
        if isinstance(item, dict) and _judged(item.get(binding)):
            url = to.through(item.get("url"))
            if url is not None:
                kept.append({**item, "url": url})
    return kept  # 2


def _judged(binding: Json) -> bool:
    return isinstance(binding, str) and binding.upper() in _JUDGED


def _behind(path: str, prefix: str) -> str | None:
    """What follows `prefix`, on a segment border."""
    if not path.startswith(prefix):
        return None
    rest = path[len(prefix) :]
    return rest if not rest or rest[0] in "/?" else None


def _origin(parts: SplitResult) -> tuple[str, str, int | None]:
    return parts.scheme, _host(parts.hostname or ""), parts.port or _PORTS.get(parts.scheme)


def _host(name: str) -> str:
    """One name for this machine: an agent on loopback often knows itself by another one of them."""
    name = name.strip("[]").lower()
    return "localhost" if name in _LOOPBACK else name
