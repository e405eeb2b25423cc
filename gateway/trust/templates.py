"""Which resources a URI template (RFC 6570) stands for, as MCP servers use them.

The rule it keeps: whatever the template could expand to matches; what matches besides is only text that the template's
own literals allow. An expression is any text, since servers differ in what they let a variable hold. A template whose
braces do not pair stands for itself alone. Matching is linear in the length of the URI for each expression.
"""

from __future__ import annotations

import re
from functools import lru_cache

_EXPRESSION = re.compile(r"\{[^{}]+\}")
MAX_EXPRESSIONS = 16  # more of them could make matching slow, and no server has them


@lru_cache(maxsize=4096)
def pattern(template: str) -> re.Pattern[str]:
    """For `fullmatch`. Each expression takes as little as it can up to the next literal (atomically, so that a URI is
    walked once); the last one takes the rest."""
    literals = _EXPRESSION.split(template)
    if any("{" in literal or "}" in literal for literal in literals) or len(literals) > MAX_EXPRESSIONS + 1:
        return re.compile(re.escape(template))
    if len(literals) == 1:
        return re.compile(re.escape(template))
    first, *middle, last = literals
    parts = [re.escape(first)]
    parts += [f"(?>.*?{re.escape(literal)})" for literal in middle]
    parts.append(".*" + re.escape(last))
    return re.compile("".join(parts), re.DOTALL)
