"""`tollgate card`: agent cards signed and verified, without a gateway.

What is verified here is what the gateway verifies: the same reading, the same forms, the same rules about keys. A card
of which only a part was signed is said to be so, since its reader may look at the rest.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import click

from gateway.cli.output import OK, UNVERIFIED, USAGE, Stop, data, json_line, json_option, message
from gateway.cli.signing import from_file, from_ring, passphrase_of
from gateway.core.canonical import Json, digest
from gateway.core.descriptors import CARD_PATHS
from gateway.core.fetching import FetchFailed
from gateway.core.reasons import Malformed
from gateway.trust.cards import (
    CARD_LIMIT_BYTES,
    Believed,
    Voucher,
    addresses,
    origin_of,
    read_card,
    sign_card,
    verify_card,
)
from gateway.trust.fetcher import GuardedFetcher, Listed
from gateway.trust.jose import SET_LIMIT_BYTES, KeySet, read_jwks
from gateway.wire.fetch import Carrier

_FETCH_SECONDS = 10.0
_FORMS = {"spec": ("spec",), "sdk": ("compat",), "any": ("spec", "compat")}
_EPILOG = """\b
Examples:
  tollgate card verify card.json --jwks acme.jwks.json
  tollgate card verify https://agent.example/.well-known/agent-card.json --allow-jku https://agent.example
  tollgate card sign card.json --key acme.pem --kid acme-1 > signed.json
  tollgate card sign card.json --data-dir var            with the gateway's own key for cards
"""


@click.group("card", epilog=_EPILOG)
def command() -> None:
    """Agent cards (A2A): sign and verify."""


@command.command("verify")
@click.argument("source", metavar="FILE|-|URL")
@click.option("--jwks", type=click.Path(path_type=Path), help="The keys of whom you trust, a JWK set.")
@click.option("--form", type=click.Choice(list(_FORMS)), default="any", show_default=True, help="What may be signed.")
@click.option("--allow-jku", multiple=True, metavar="ORIGIN", help="Where a signature's jku may lead; repeatable.")
@json_option
def verify_command(source: str, jwks: Path | None, form: str, allow_jku: tuple[str, ...], as_json: bool) -> int:
    """Verify a card: exit code 0 when somebody trusted signed it, 4 when not."""
    if jwks is None and not allow_jku:
        raise Stop("say whom you trust: --jwks FILE, or --allow-jku ORIGIN for the keys that the card names", USAGE)
    origins = frozenset(_origin(item) for item in allow_jku)
    own = _key_set(jwks) if jwks is not None else None
    try:
        body, believed = asyncio.run(_verified(source, own, origins, _FORMS[form]))
    except (Malformed, FetchFailed) as error:
        if as_json:
            json_line({"verified": False, "why": str(error)})
        raise Stop(f"not verified: {error}", UNVERIFIED) from None
    found: dict[str, Json] = {
        "verified": True,
        "form": believed.form,
        "kid": believed.kid,
        "key": believed.key,
        "digest": believed.digest,
        "original": digest(body),
        "uncovered": list(_uncovered(read_card(body), believed.card, "")),
    }
    uncovered = found["uncovered"]
    if uncovered and not as_json:
        message(f"not covered by the signature, and not to be believed: {', '.join(map(str, _listed(uncovered)))}")
    data(found, "\n".join(f"{name}: {value}" for name, value in found.items() if name != "uncovered"), as_json)
    return OK


@command.command("sign")
@click.argument("source", metavar="FILE|-")
@click.option("--key", type=click.Path(path_type=Path), help="A private key in PEM: Ed25519, P-256, P-384 or RSA.")
@click.option("--kid", default="", help="Its name; default its RFC 7638 thumbprint.")
@click.option("--pss", is_flag=True, help="RSA: sign PS256 instead of RS256.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Instead of --key: the gateway's own key for cards.")
@click.option("--passphrase-file", type=click.Path(path_type=Path), help="What the private key is encrypted under.")
@click.option("--jku", default="", metavar="URL", help="Where its public half is published.")
@click.option("--add", is_flag=True, help="Keep the signatures that are there.")
@json_option
def sign_command(
    source: str,
    key: Path | None,
    kid: str,
    pss: bool,
    data_dir: Path | None,
    passphrase_file: Path | None,
    jku: str,
    add: bool,
    as_json: bool,
) -> int:
    """Sign a card; print it with its signatures."""
    if (key is None) == (data_dir is None):
        raise Stop("exactly one of --key and --data-dir is needed", USAGE)
    passphrase = passphrase_of(passphrase_file)
    by = from_file(key, kid, pss, passphrase) if key is not None else from_ring(data_dir or Path(), "cards", passphrase)
    try:
        card = read_card(_local(source))
        made = sign_card(card, by, jku=jku)
    except Malformed as error:
        raise Stop(f"{source}: {error}") from None
    former, new = card.get("signatures"), made["signatures"]
    if add and isinstance(former, list) and isinstance(new, list):
        made["signatures"] = [*former, *new]
    json_line(made)
    if not as_json:
        message(f"signed with {by.algorithm} key {by.kid}")
    return OK


async def _verified(
    source: str, own: KeySet | None, origins: frozenset[str], names: tuple[str, ...]
) -> tuple[bytes, Believed]:
    """The card's bytes and what of it is believed. Raises Malformed, FetchFailed."""
    fetcher = GuardedFetcher(Carrier(None), Listed.read(sorted(origins)))  # a listed origin may be on this machine
    if source.startswith(("https://", "http://")):
        body = await _fetched(fetcher, source if "/" in source.partition("://")[2] else source + CARD_PATHS[0])
    else:
        body = _local(source)
    card = read_card(body)
    voucher = Voucher("trusted", own, origins)
    sets: dict[str, KeySet | None] = {}
    for _, url in addresses(card, [voucher]):
        try:
            sets[url] = read_jwks(await _fetched(fetcher, url, named=True))
        except (Malformed, FetchFailed) as error:
            message(f"the keys at {origin_of(url)} cannot be had: {error}")
    return body, verify_card(card, [Voucher("trusted", own, origins, sets)], time.time(), names)


async def _fetched(fetcher: GuardedFetcher, url: str, *, named: bool = False) -> bytes:
    """`named`: the URL came with the card, so that only listed origins may be private."""
    limit = SET_LIMIT_BYTES if named else CARD_LIMIT_BYTES
    answer = await fetcher.get(
        url, max_bytes=limit, deadline_s=_FETCH_SECONDS, headers=(("accept", "application/json"),), configured=not named
    )
    if answer.status != 200:
        raise FetchFailed(f"{origin_of(url)} answered {answer.status}")
    return answer.body


def _uncovered(card: Json, covered: Json, place: str) -> list[str]:
    """Where the card says more than was signed."""
    if isinstance(card, dict) and isinstance(covered, dict):
        found = []
        for name, value in card.items():
            where = f"{place}.{name}" if place else name
            if name in covered:
                found += _uncovered(value, covered[name], where)
            elif where != "signatures" and value is not None:
                found.append(where)
        return found
    if isinstance(card, list) and isinstance(covered, list):
        if len(card) != len(covered):
            return [place]
        return [
            item
            for n, pair in enumerate(zip(card, covered, strict=True))
            for item in _uncovered(*pair, f"{place}[{n}]")
        ]
    return [] if card == covered else [place]


def _listed(found: Json) -> list[Json]:
    return found if isinstance(found, list) else []


def _origin(text: str) -> str:
    found = origin_of(text)
    if not found or found != text.rstrip("/").lower():
        raise Stop(f"--allow-jku {text}: an origin is a scheme and a host, like https://acme.example", USAGE)
    return found


def _key_set(path: Path) -> KeySet:
    try:
        return read_jwks(_read(path, SET_LIMIT_BYTES))
    except Malformed as error:
        raise Stop(f"{path}: {error}", USAGE) from None


def _local(source: str) -> bytes:
    if source == "-":
        return sys.stdin.buffer.read(CARD_LIMIT_BYTES + 1)
    return _read(Path(source), CARD_LIMIT_BYTES)


def _read(path: Path, limit: int) -> bytes:
    with path.open("rb") as file:
        return file.read(limit + 1)
