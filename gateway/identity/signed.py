"""What a message signature covers (RFC 9421): from a head to the one signature on it and the bytes that were signed.

Sans-I/O, and without a verdict: whose key it is and what must be covered is signature.py's. Rules, numbered as in the
code: 1. Exactly one signature, under one label, in `Signature-Input` and `Signature`; both headers stand once. 2. Its
parameters are among those of section 2.3, of the right types, with `keyid` and `created`. 3. Components are those of
section 2.2 that a request has, and header fields; each once; of their parameters only `key` is known. 4. Everything
covered is there. 5. Values are those of our own canonical head: the raw target, Host as it was read, headers as they
came. The scheme is the one that callers use.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gateway.core.exchange import Head
from gateway.core.reasons import Malformed
from gateway.identity.structured import Bare, InnerList, Item, read_dictionary

FIELD_LIMIT_BYTES = 8 * 1024  # of each of the two headers; a real one is below 1 KiB
NONCE_LIMIT = 256  # characters

_PARAMETERS: Mapping[str, type] = {"created": int, "expires": int, "nonce": str, "alg": str, "keyid": str, "tag": str}
_FIELD = re.compile(r"[a-z0-9-]{1,64}")
_STANDARD = {"http": ":80", "https": ":443"}


@dataclass(frozen=True, slots=True)
class Signed:
    """One signature as its head presents it. `covered` are the components as they are written; times are epoch
    seconds; `expires` None where none was said. Texts that are absent are ""."""

    label: str
    covered: tuple[Item, ...]
    names: frozenset[str]
    key: str
    created: int
    expires: int | None
    nonce: str
    algorithm: str
    tag: str
    said: str
    signature: bytes

    def base(self, head: Head, scheme: str) -> bytes:
        """The bytes that were signed (section 2.5). Raises Malformed for what is not there (4)."""
        lines = [f"{item}: ".encode() + _value(head, scheme, item) for item in self.covered]
        lines.append(b'"@signature-params": ' + self.said.encode())
        return b"\n".join(lines)


def read_signed(head: Head) -> Signed:
    """Rules 1 to 3. Raises Malformed."""
    inputs, signatures = (_dictionary(head, name) for name in (b"signature-input", b"signature"))
    if len(inputs) != 1 or inputs.keys() != signatures.keys():
        raise Malformed("there must be exactly one signature, under the same label in both headers")  # 1
    [(label, said)], [value] = inputs.items(), signatures.values()
    if not isinstance(said, InnerList) or not isinstance(value, Item) or value.parameters:
        raise Malformed("Signature-Input is not a list of components, or Signature not bytes")  # 1
    signature = value.value
    if not isinstance(signature, bytes):
        raise Malformed("Signature is not bytes")  # 1
    texts, numbers = _read_parameters(said.parameters)  # 2
    written = {str(item) for item in said.items}
    if len(written) != len(said.items):
        raise Malformed("a component is covered twice")  # 3
    return Signed(
        label=label,
        covered=said.items,
        names=frozenset(_checked(item) for item in said.items),
        key=texts["keyid"],
        created=numbers["created"],
        expires=numbers.get("expires"),
        nonce=texts.get("nonce", ""),
        algorithm=texts.get("alg", ""),
        tag=texts.get("tag", ""),
        said=str(said),
        signature=signature,
    )


def _dictionary(head: Head, name: bytes) -> Mapping[str, Item | InnerList]:
    values = head.values(name)
    if len(values) != 1 or len(values[0]) > FIELD_LIMIT_BYTES or not values[0].isascii():
        raise Malformed(f"there must be one {name.decode()} header of at most {FIELD_LIMIT_BYTES} bytes")  # 1
    return read_dictionary(values[0].decode("ascii"))


def _read_parameters(found: Mapping[str, Bare]) -> tuple[dict[str, str], dict[str, int]]:
    texts: dict[str, str] = {}
    numbers: dict[str, int] = {}
    for name, value in found.items():
        if name not in _PARAMETERS or type(value) is not _PARAMETERS[name]:
            raise Malformed("a parameter is not known, or of another type")  # 2
        if isinstance(value, str):
            texts[name] = value
        elif isinstance(value, int):
            numbers[name] = value
    if "keyid" not in texts or "created" not in numbers:
        raise Malformed("keyid and created are needed")  # 2
    if len(texts.get("nonce", "")) > NONCE_LIMIT:
        raise Malformed(f"the nonce is longer than {NONCE_LIMIT} characters")  # 2
    return texts, numbers


def _checked(item: Item) -> str:
    """The name of a component that can be covered (3); the value is looked for later."""
    name = item.value
    if not isinstance(name, str) or (name not in _DERIVED and _FIELD.fullmatch(name) is None):
        raise Malformed("a component is not known")
    key = item.parameters.get("key", "-")
    if not {"key"}.issuperset(item.parameters) or not isinstance(key, str) or (name in _DERIVED and item.parameters):
        raise Malformed("a component has a parameter that is not known")
    return name


def _value(head: Head, scheme: str, item: Item) -> bytes:
    name = str(item.value)
    derived = _DERIVED.get(name)
    if derived is not None:
        return derived(head, scheme).encode("ascii")  # 5
    values = head.values(name.encode("ascii"))
    if not values:
        raise Malformed(f"{name} is covered and not there")  # 4
    key = item.parameters.get("key")
    if key is None:
        return b", ".join(values)  # section 2.1; the front has stripped them
    joined = b", ".join(values)
    if not joined.isascii():
        raise Malformed(f"{name} is not ASCII")
    member = read_dictionary(joined.decode("ascii")).get(str(key))
    if member is None:
        raise Malformed(f"{name} has no such member")  # 4
    return str(member).encode("ascii")  # section 2.1.2


def authority(head: Head, scheme: str) -> str:
    """Section 2.2.3: lower case, without the scheme's own port."""
    return head.authority.removesuffix(_STANDARD.get(scheme, "\0"))


_DERIVED: Mapping[str, Callable[[Head, str], str]] = {
    "@method": lambda head, scheme: head.method,
    "@target-uri": lambda head, scheme: f"{scheme}://{authority(head, scheme)}{head.target}",
    "@authority": authority,
    "@scheme": lambda head, scheme: scheme,
    "@request-target": lambda head, scheme: head.target,
    "@path": lambda head, scheme: head.path or "/",
    "@query": lambda head, scheme: "?" + head.query,
}
