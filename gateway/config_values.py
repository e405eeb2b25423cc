"""The values a configuration is made of: durations, sizes, rates, addresses, names, URLs, secrets.

Each `parse_*` takes text and returns the value or raises ValueError, whose text says what is wrong and never quotes
more than a name. Units are part of the text (ruling 25): a bare number is never a duration or a size.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_WINDOW_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
_LABEL = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"

DURATION = r"\d{1,9}(ms|s|m|h|d)"
SIZE = r"\d{1,9}(B|KiB|MiB|GiB)"
RATE = r"[1-9]\d{0,8}/(second|minute|hour|day)"
PERCENT = r"\d{1,3}(\.\d{1,6})?%"
NAME = "[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
UPSTREAM_NAME = "[a-z0-9-]{1,63}"
HOST = rf"({_LABEL}(\.{_LABEL})*|\[[0-9a-f:.]+\])"
HEADER = r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}"
PATH = r"/[A-Za-z0-9._~!$&'()*+,=:@/-]*"


class Secret:
    """A value from the environment, a file or a vault. Never prints, copies into a dict or pickles; `reveal` is the way
    to it.

    No dataclass on purpose: `asdict` and `fields` would show the value. `file` is where it came from, None for the
    environment; a secret whose file is made by the program has no value yet.
    """

    __slots__ = ("_value", "file", "source")

    def __init__(self, source: str, file: Path | None = None, value: str | None = None) -> None:
        self.source = source
        self.file = file
        self._value = value

    def fill(self, value: str) -> None:
        """What a vault said, once: the rest of the configuration is read before it can be asked."""
        if self._value is not None:
            raise LookupError(f"the secret from {self.source} is there already")
        self._value = value

    @property
    def known(self) -> bool:
        return self._value is not None

    def reveal(self) -> str:
        if self._value is None:
            raise LookupError(f"the secret from {self.source} was not read")
        return self._value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret) or self.source != other.source or self.known != other.known:
            return False
        return hmac.compare_digest((self._value or "").encode(), (other._value or "").encode())

    def __hash__(self) -> int:
        return hash(self.source)

    def __repr__(self) -> str:
        return f"<secret from {self.source}>"

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce__(self) -> str:
        raise TypeError("a secret is not serialised")


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen. Port 0 lets the system choose."""

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Rate:
    """`count` per `seconds`."""

    count: int
    seconds: int


def parse_duration(text: str) -> float:
    """Seconds of `30s`, `250ms`, `5m`."""
    unit = text.lstrip("0123456789")
    return int(text.removesuffix(unit)) * _SECONDS[unit]


def parse_positive_duration(text: str) -> float:
    seconds = parse_duration(text)
    if seconds <= 0:
        raise ValueError("a duration of nothing")
    return seconds


def parse_size(text: str) -> int:
    """Bytes of `64KiB`."""
    unit = text.lstrip("0123456789")
    found = int(text.removesuffix(unit)) * _BYTES[unit]
    if not 0 < found <= 1024 * _BYTES["GiB"]:
        raise ValueError("a size of nothing or above 1024GiB")
    return found


def parse_rate(text: str) -> Rate:
    """`100/minute`."""
    count, _, window = text.partition("/")
    return Rate(int(count), _WINDOW_SECONDS[window])


def parse_percent(text: str) -> float:
    """A share from 0 to 1 of `1%`."""
    share = float(text.removesuffix("%")) / 100
    if share > 1:
        raise ValueError("more than 100%")
    return share


def parse_address(text: str) -> Address:
    """`127.0.0.1:8080`, `[::1]:8080`, `localhost:8080`."""
    host, colon, port = text.rpartition(":")
    if not colon or not re.fullmatch(r"\d{1,5}", port) or int(port) > 65535:
        raise ValueError("an address without a port from 0 to 65535")
    if host.startswith("[") and host.endswith("]"):
        return Address(str(ipaddress.IPv6Address(host[1:-1])), int(port))
    if ":" in host:
        raise ValueError("an IPv6 address without brackets")
    if host != "localhost":
        ipaddress.IPv4Address(host)
    return Address(host, int(port))


_CLAIM_PART = r"(?:[^.\\\x00-\x1f]|\\[.\\])+"
CLAIM = rf"{_CLAIM_PART}(\.{_CLAIM_PART}){{0,7}}"


def parse_claim(text: str) -> str:
    """The name of a claim, or a path of at most eight: a dot descends; in a name it is `\\.`, a backslash `\\\\`."""
    if re.match(r"https?://[^\\]*\.", text):
        escaped = re.sub(r"(?<!\\)\.", r"\\.", text)
        raise ValueError(f"a dot descends into the claim before it; the name of a URL is written {escaped}")
    if re.fullmatch(CLAIM, text) is None or len(text) > 256:
        raise ValueError("not a path of at most eight names in 256 characters")
    return text


def parse_host(text: str) -> str:
    """A host name without port, lower case; IPv6 in brackets."""
    found = text.lower()
    if re.fullmatch(HOST, found) is None or len(found) > 253:
        raise ValueError("not a host name without port")
    if found.startswith("["):
        return f"[{ipaddress.IPv6Address(found[1:-1])}]"
    return found


def parse_network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """An address or a CIDR block."""
    return ipaddress.ip_network(text)


def parse_fetchable(text: str) -> str:
    """An origin, a host name, an address or a block of addresses (not of all there are)."""
    if "://" in text:
        return parse_origin(text)
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        if re.fullmatch(r"[0-9.:/a-fA-F]*[:/][0-9.:/a-fA-F]*|[0-9.]+", text):
            raise
        return parse_host(text)
    if network.prefixlen == 0:
        raise ValueError("every address there is: list those that are yours")
    return str(network)


def parse_origin(text: str) -> str:
    """`https://app.example[:port]`: a scheme, a host, perhaps a port, nothing else; lower case."""
    found = parse_url(text)
    parts = urlsplit(found)
    if parts.path not in ("", "/"):
        raise ValueError("an origin has no path")
    return f"{parts.scheme}://{parts.netloc.lower()}"


def parse_url(text: str) -> str:
    """An http or https URL without user, query or fragment, every character visible ASCII."""
    if re.fullmatch(r"[\x21-\x7e]+", text) is None or "\\" in text:
        raise ValueError("a URL with a character that does not belong in one")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise ValueError("a URL whose host or port cannot be read") from error
    if parts.scheme not in ("http", "https"):
        raise ValueError("a URL that is neither http nor https")
    if "@" in parts.netloc or "?" in text or "#" in text:
        raise ValueError("a URL with a user, a query or a fragment")
    if not parts.hostname or port == 0 or parts.netloc.endswith(":"):
        raise ValueError("a URL without a host, or with an empty port")
    if parts.netloc.startswith("["):
        ipaddress.IPv6Address(parts.hostname)
    else:
        parse_host(parts.hostname)
    return text


def parse_base_url(text: str) -> str:
    """As `parse_url`, and what is appended begins with a slash, so the URL must not end with one (`/` alone is cut)."""
    found = parse_url(text)
    path = urlsplit(found).path
    if path == "/":
        return found.removesuffix("/")
    if path.endswith("/") or re.fullmatch(PATH, path or "/") is None or _odd_segments(path):
        raise ValueError("a URL whose path ends with a slash or is not in its plain form")
    return found


def parse_path(text: str) -> str:
    """A route's path in its one spelling: `/` alone matches everything and becomes the empty prefix."""
    if text == "/":
        return ""
    if text.endswith("/") or _odd_segments(text):
        raise ValueError("a path that ends with a slash or has an empty or dot segment")
    if text == "/.well-known" or text.startswith("/.well-known/"):
        raise ValueError("/.well-known is answered by the gateway itself")
    return text


def _odd_segments(path: str) -> bool:
    return any(segment in ("", ".", "..") for segment in path.split("/")[1:]) if path else False
