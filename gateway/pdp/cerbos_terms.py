"""A question in Cerbos's words, and Cerbos's answer in ours. Pure; the same over gRPC and over its AuthZEN API.

| Cerbos | from the question |
|---|---|
| principal id | `subject.id` |
| principal roles | `subject.properties.roles`; for a caller without any `anonymous`: an empty list is refused |
| principal attr | `subject.properties`, and `type` |
| resource kind, id | `resource.type`, `resource.id` |
| resource attr | `resource.properties`, and `context`: all of the question's, so `R.attr.context.arguments.city` |
| action | `action.name` |
| policy version, scope | the configuration's |

A rule's output counts where it is a text (the reason) or an object with `reason`, `rule` or `obligations`; without one
the rule is the policy that matched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gateway.core.canonical import Json
from gateway.pdp.free_form import meant, merged

ANONYMOUS = "anonymous"
_NO_MATCH = frozenset({"", "NO_MATCH"})


def roles_of(subject: Mapping[str, Json]) -> list[str]:
    roles = _object(subject.get("properties")).get("roles")
    found = [role for role in roles if isinstance(role, str) and role] if isinstance(roles, list) else []
    return found or [ANONYMOUS]


def principal_attr(subject: Mapping[str, Json]) -> dict[str, Json]:
    return {**_object(subject.get("properties")), "type": subject.get("type")}


def resource_attr(document: Mapping[str, Json]) -> dict[str, Json]:
    properties = _object(_object(document.get("resource")).get("properties"))
    return {**properties, "context": document.get("context", {})}


def answer_of(allow: bool, policy: str, outputs: Iterable[Json], invalid: bool = False) -> dict[str, Json]:
    """The answer as policies give it. `policy` is the one that matched, `invalid`: the attributes broke its schema."""
    said = merged(_said(output) for output in outputs)
    if "rule" not in said:
        said["rule"] = "schema" if invalid and not allow else "no_rule_matched" if policy in _NO_MATCH else policy
    return {"decision": allow, "context": said}


def _said(output: Json) -> dict[str, Json]:
    if isinstance(output, str):
        return {"reason": output}
    return meant(output) if isinstance(output, dict) else {}


def _object(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, dict) else {}
