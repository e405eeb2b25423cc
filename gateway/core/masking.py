"""What must not be kept of a decision's input, found and replaced before anything is written.

1. A member whose name means a secret (built-in words, and those of the configuration) is masked whatever it holds.
2. So is what a configured path leads to; `*` stands for any one member or list item.
3. Text that looks like a secret is masked in whatever member it stands: private keys, JWTs, bearer tokens, keys of this
   gateway and of known vendors, `password=...` inside text, card numbers (by their check digit), when asked e-mail
   addresses. A text that is all secret becomes a marker, a part of one is replaced in place.
4. A marker says what was found, the type and the length, never the value. Every masked place is listed by its path.
It is a net, not a proof: what looks like nothing known passes. Who cannot have that keeps shapes, or nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple, TypeAlias

import orjson

from gateway.core.canonical import Json, parse
from gateway.core.reasons import Malformed

Path: TypeAlias = "tuple[str, ...]"

ANY: Final = "*"
_NOTHING: Final = re.compile(r"(?!)")

# Words of a name, however they are joined: client_secret, clientSecret, client-secret.
_WORDS: Final = frozenset({
    "apikey", "auth", "authorization", "cookie", "cookies", "credential", "credentials", "cvc", "cvv", "jwt",
    "passcode", "passphrase", "passwd", "password", "passwords", "privatekey", "pwd", "secret", "secrets", "signature",
    "ssn", "token",
})  # fmt: skip
_PAIRS: Final = frozenset({
    ("access", "key"), ("api", "key"), ("card", "number"), ("encryption", "key"), ("private", "key"), ("secret", "key"),
    ("session", "key"), ("signing", "key"), ("security", "code"),
})  # fmt: skip
_ENDS: Final = (
    "password",
    "passwd",
    "secret",
    "token",
    "apikey",
    "privatekey",
    "credential",
    "credentials",
    "cardnumber",
)
_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\x00-\x7f]+")
NAME_CHARACTERS: Final = 128  # of a name, that are looked at

_SECRET_NAME: Final = (
    r"(?:pass(?:word|wd|phrase|code)|pwd|secret|token|api[_-]?key|private[_-]?key|access[_-]?key|credentials?"
    r"|authorization)"
)
_NAMED: Final = ("pass", "pwd", "secret", "token", "key", "credential", "authorization")
_QUOTED: Final = rf"(?is)({_SECRET_NAME}\\{{0,4}}[\"']?\s{{0,3}}[:=]\s{{0,3}}(?P<q>\\{{0,4}}[\"']))(.+?)(?=(?P=q))"
_UNQUOTED: Final = rf"(?i)({_SECRET_NAME}[\"']?\s{{0,3}}[:=]\s{{0,3}})([^\s\"'\\,;&{{}}\[\]]+)"
_OPENED: Final = (
    rf"(?is)({_SECRET_NAME}\\{{0,4}}[\"']?\s{{0,3}}[:=]\s{{0,3}})((?!\[masked )[\[{{].*)"  # where it ends, nobody knows
)
_PEM: Final = r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----(?:[^-]|-(?!----END))*(?:-----END[A-Z ]{0,50}(?:-----)?)?"


class _Pattern(NamedTuple):
    """`needles`: one of them must be in the text in lower case, which is much sooner seen than the pattern."""

    what: str
    needles: tuple[str, ...]
    pattern: re.Pattern[str]


_PATTERNS: Final = (
    _Pattern("private_key", ("private key",), re.compile(_PEM)),
    _Pattern("jwt", ("eyj",), re.compile(r"\beyJ[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*){1,3}")),
    _Pattern("api_key", ("tg_",), re.compile(r"\btg_[A-Za-z0-9-]{1,64}_[A-Za-z0-9_-]{43}\b")),
    _Pattern("api_key", ("sk-", "sk_", "pk_", "rk_"), re.compile(r"\b[spr]k[-_](?:[a-z]{2,8}[-_])?[A-Za-z0-9_-]{20,}")),
    _Pattern("api_key", ("akia", "aiza"), re.compile(r"\bAKIA[0-9A-Z]{16}\b|\bAIza[A-Za-z0-9_-]{35}")),
    _Pattern("api_key", ("gh", "xox"), re.compile(r"\bgh[pousr]_[A-Za-z0-9]{30,}|\bxox[abeoprs]-[A-Za-z0-9-]{10,}")),
)
_AFTER: Final = (  # the last group goes, the first stays
    _Pattern("bearer", ("bearer", "basic"), re.compile(r"(?i)(\b(?:bearer|basic)\s{1,3})([A-Za-z0-9._~+/-]{8,}=*)")),
    _Pattern("name", _NAMED, re.compile(_QUOTED)),
    _Pattern("name", _NAMED, re.compile(_UNQUOTED)),
    _Pattern("name", _NAMED, re.compile(_OPENED)),
)
_CARD: Final = re.compile(r"(?<![0-9A-Za-z])[2-6](?:[ -]?[0-9]){12,18}(?![0-9A-Za-z])")
_EMAIL: Final = re.compile(r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,8}")
_DIGITS: Final = re.compile(r"[0-9]")
_LEAST: Final = 8  # characters: no pattern is shorter


@dataclass(frozen=True, slots=True)
class Masking:
    """What is masked besides the built-in: `paths` from the input's root, `names` of members, e-mail addresses."""

    paths: tuple[Path, ...] = ()
    names: tuple[str, ...] = ()
    emails: bool = False


class Masker:
    """Masks documents; holds nothing of them."""

    def __init__(self, masking: Masking = Masking()) -> None:
        self._paths: Final = masking.paths
        self._names: Final = frozenset(_folded(name) for name in masking.names)
        self._email: Final = _EMAIL if masking.emails else _NOTHING
        self._known: Final[dict[str, bool]] = {}

    def mask(self, value: Json, place: Path = ()) -> tuple[Json, list[Path]]:
        """The value without what must not be kept, and where something was masked. The given one is not changed."""
        masked: list[Path] = []
        return self._walk(value, place, masked), masked

    def secret(self, name: str) -> bool:
        """Whether a member of this name is masked whatever it holds (1)."""
        known = self._known.get(name)
        if known is None:
            if len(self._known) >= 4096:
                self._known.clear()
            known = self._known[name] = _means_secret(name) or _folded(name) in self._names
        return known

    def wanted(self, place: Path) -> bool:
        """Whether a configured path leads here (2)."""
        return any(
            len(path) == len(place) and all(one in (ANY, other) for one, other in zip(path, place, strict=True))
            for path in self._paths
        )

    def text(self, text: str) -> str:
        """The text with what looks like a secret replaced in place (3)."""
        if len(text) < _LEAST:
            return text
        found, low = text, text.lower()
        for what, needles, pattern in _PATTERNS:
            if any(needle in low for needle in needles):
                found = pattern.sub(_replaced(what), found)
        for what, needles, pattern in _AFTER:
            if any(needle in low for needle in needles):
                found = pattern.sub(_kept_before(what), found)
        if _DIGITS.search(found) is not None:
            found = _CARD.sub(_card, found)
        return self._email.sub(_replaced("email"), found)

    def _walk(self, value: Json, place: Path, masked: list[Path]) -> Json:
        if isinstance(value, dict):
            found: dict[str, Json] = {}
            for name, item in value.items():
                below = (*place, name)
                if item is not None and not isinstance(item, bool) and self.secret(name):
                    found[name] = marker("name", item)  # 1
                    masked.append(below)
                elif self.wanted(below):
                    found[name] = marker("path", item)  # 2
                    masked.append(below)
                else:
                    shown = self.text(name)
                    if shown != name:  # the name itself is one: then its object is no longer what it was
                        masked.append(place)
                    found[shown] = self._walk(item, below, masked)
            return found
        if isinstance(value, list):
            return [self._item(item, (*place, str(index)), masked) for index, item in enumerate(value)]
        return self._leaf(value, place, masked)

    def _item(self, item: Json, place: Path, masked: list[Path]) -> Json:
        if self.wanted(place):
            masked.append(place)
            return marker("path", item)
        return self._walk(item, place, masked)

    def _leaf(self, value: Json, place: Path, masked: list[Path]) -> Json:
        if isinstance(value, str):
            shown = self._document(value) or self.text(value)
            if shown == value:
                return value
            masked.append(place)
            whole = _WHOLE.fullmatch(shown)
            return shown if whole is None else marker(whole[1], value)
        if isinstance(value, int) and not isinstance(value, bool) and _CARD.fullmatch(str(value)) and luhn(str(value)):
            masked.append(place)
            return marker("card", value)
        return value

    def _document(self, text: str) -> str:
        """Text that is JSON, as arguments of models' tool calls are, looked through like JSON; "" for other text, and
        where nothing in it was masked."""
        if len(text) < _LEAST or not text[:64].lstrip().startswith(("{", "[")):
            return ""
        try:
            found, masked = self.mask(parse(text.encode()))
        except (Malformed, UnicodeEncodeError, RecursionError):
            return ""
        return orjson.dumps(found).decode() if masked else ""


_WHOLE: Final = re.compile(r"\[masked ([a-z_]+) [0-9]+\]")


def marker(what: str, value: Json) -> dict[str, Json]:
    """What stands in place of a value (4). `what`: name, path, or the kind of secret its text looked like."""
    found: dict[str, Json] = {"masked": what, "type": kind(value)}
    if isinstance(value, str):
        found["chars"] = len(value)
    elif isinstance(value, dict):
        found["members"] = len(value)
    elif isinstance(value, list):
        found["items"] = len(value)
    elif kind(value) == "number":
        found["chars"] = len(str(value))
    return found


def kind(value: Json) -> str:
    """The JSON type."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, str):
        return "string"
    if isinstance(value, dict):
        return "object"
    return "array" if isinstance(value, list) else "number"


def luhn(text: str) -> bool:
    """Whether the digits of `text` carry a right check digit (ISO/IEC 7812-1, annex B)."""
    total = 0
    for index, digit in enumerate(reversed([int(mark) for mark in text if mark.isascii() and mark.isdigit()])):
        doubled = digit * 2 if index % 2 else digit
        total += doubled - 9 if doubled > 9 else doubled
    return total % 10 == 0


def parse_paths(texts: Iterable[str]) -> tuple[Path, ...]:
    """`context.arguments.customer.*` as its parts."""
    return tuple(tuple(text.split(".")) for text in texts)


def _means_secret(name: str) -> bool:
    words = [word.lower() for word in _WORD.findall(name[:NAME_CHARACTERS])]
    if not _WORDS.isdisjoint(words) or any(pair in _PAIRS for pair in pairwise(words)):
        return True
    return bool(words) and "".join(words).endswith(_ENDS)


def _folded(name: str) -> str:
    return re.sub(r"[-_. ]", "", name).lower()


def _replaced(what: str) -> Callable[[re.Match[str]], str]:
    return lambda found: f"[masked {what} {len(found[0])}]"


def _kept_before(what: str) -> Callable[[re.Match[str]], str]:
    def replaced(found: re.Match[str]) -> str:
        gone = found[found.lastindex or 0]
        return found[0] if gone.startswith("[masked ") else f"{found[1]}[masked {what} {len(gone)}]"

    return replaced


def _card(found: re.Match[str]) -> str:
    text = found[0]
    return f"[masked card {len(text)}]" if luhn(text) else text


def describe(masked: Iterable[Path]) -> list[Json]:
    """The masked places as a capture lists them, each once, in order."""
    return [list(path) for path in sorted(set(masked))]


def places(listed: Json) -> tuple[Path, ...]:
    """The reverse of `describe`; what is no list of paths is none, and then nothing may be read of the input."""
    if not isinstance(listed, list):
        return ((),)
    found: list[Path] = []
    for path in listed:
        if not isinstance(path, list) or not all(isinstance(part, str) for part in path):
            return ((),)
        found.append(tuple(str(part) for part in path))
    return tuple(found)
