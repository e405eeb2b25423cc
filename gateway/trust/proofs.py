"""DPoP proofs as tokens (RFC 9449, section 4.2): the one kind of JWT that brings its own key.

What such a token proves is only that its maker holds that key; what its claims must be, and whose key it may be, is
judged by identity/dpop.py. Rules, besides those of jose.py:
1. `typ` is exactly `dpop+jwt`: no other token can be taken for a proof. 2. The algorithm is EdDSA or ES256. 3. The key
in `jwk` is public, asymmetric and as strong as one of a key set. 4. The signature is right under that very key.
"""

from __future__ import annotations

from gateway.core.reasons import Malformed
from gateway.core.tokens import Proof
from gateway.trust.jose import read_own_key, read_token

PROOF_ALGORITHMS = frozenset({"EdDSA", "ES256"})


def read_proof(data: bytes) -> Proof:
    """Raises Malformed; the text says which rule, never what stood in the proof."""
    token = read_token(data, own_key=True)
    if token.type != "dpop+jwt":
        raise Malformed("its typ is not dpop+jwt")  # 1
    if token.algorithm not in PROOF_ALGORITHMS:
        raise Malformed("its algorithm is not one of " + ", ".join(sorted(PROOF_ALGORITHMS)))  # 2
    if token.jwk is None:
        raise Malformed("it brings no key")  # 3
    key = read_own_key(token.jwk)  # 3
    if not key.verifies(token):
        raise Malformed("its signature is wrong")  # 4
    return Proof(key.thumbprint, token.claims())
