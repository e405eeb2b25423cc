"""The digest of one file of a bundle, as OPA makes it (its v1/bundle/hash.go), byte for byte.

A file that is text is hashed as it is. `data.json` and `.manifest` are hashed by what they say: members sorted by name,
no space, strings as Go writes them without escaping for HTML, and every number with the digits it was written with:
`1.50` stays `1.50`. That is not RFC 8785, whose digest is another. What Go would read leniently (a name twice, a lone
surrogate, bytes that are not UTF-8) has no digest here: two readers would not see the same document.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.core.reasons import Malformed

ALGORITHMS: Mapping[str, str] = {"SHA-256": "sha256", "SHA-384": "sha384", "SHA-512": "sha512"}
STRUCTURED = frozenset({"data.json", ".manifest"})  # by the last part of the name


@dataclass(frozen=True, slots=True)
class _Digits:
    """A number as it was written."""

    text: str


def file_hash(name: str, content: bytes, algorithm: str = "SHA-256") -> str:
    """Lower-case hex. Raises Malformed for a document that cannot be read, KeyError for an unknown algorithm."""
    hashed = hashlib.new(ALGORITHMS[algorithm])
    if name.rpartition("/")[2] in STRUCTURED:
        try:
            _write(_read(content), lambda text: hashed.update(text.encode("utf-8")))
        except RecursionError:
            raise Malformed("it is nested too deeply") from None
        except UnicodeEncodeError:
            raise Malformed("a lone surrogate is not text") from None
    else:
        hashed.update(content)
    return hashed.hexdigest()


def _read(content: bytes) -> Any:
    try:
        return json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_members,
            parse_float=_Digits,
            parse_int=_Digits,
            parse_constant=_constant,
        )
    except UnicodeDecodeError as error:
        raise Malformed(f"not UTF-8 at byte {error.start}") from None
    except ValueError as error:
        raise Malformed(str(error)) from None


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Malformed("a member is there twice")
    return found


def _constant(name: str) -> Any:
    raise Malformed(f"{name} is not JSON")


def _write(value: Any, put: Callable[[str], None]) -> None:
    if isinstance(value, dict):
        put("{")
        for count, name in enumerate(sorted(value)):  # by code points, which is the order of their UTF-8 bytes
            put((",") if count else "")
            put(_string(name) + ":")
            _write(value[name], put)
        put("}")
    elif isinstance(value, list):
        put("[")
        for count, item in enumerate(value):
            put("," if count else "")
            _write(item, put)
        put("]")
    elif isinstance(value, _Digits):
        put(value.text)
    elif isinstance(value, str):
        put(_string(value))
    else:
        put({None: "null", True: "true", False: "false"}[value])


def _string(text: str) -> str:
    """As Go's encoder: the two line separators are escaped, which JavaScript could not read once."""
    return json.dumps(text, ensure_ascii=False).replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
