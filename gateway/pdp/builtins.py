"""Which Rego builtins a policy may call here, and what is known of each.

The rule: a builtin is allowed only if the conformance vectors prove that this engine answers as OPA does, or with an
error. What is missing or answers differently without an error is refused when the policy is loaded, never met at run
time. Nothing may be added to `ALLOWED` without a vector that passes, and without a comparison with OPA on inputs of
wrong types and odd shapes, which is what took others out again. What is known to differ still is
listed for policy authors in policies/README.md.
"""

from __future__ import annotations

from collections.abc import Mapping

ALLOWED: frozenset[str] = frozenset({
    "abs", "array.concat", "array.reverse", "array.slice", "base64.encode", "base64url.encode",
    "base64url.encode_no_pad", "bits.and", "bits.lsh", "bits.negate", "bits.or", "bits.xor", "ceil", "concat",
    "contains", "count", "endswith", "floor", "format_int", "glob.match", "graph.reachable", "hex.encode",
    "intersection", "is_array", "is_boolean", "is_null", "is_number", "is_object", "is_set", "is_string", "lower",
    "max", "net.cidr_contains", "net.cidr_expand", "numbers.range", "numbers.range_step", "object.filter", "object.get",
    "object.keys", "object.remove", "object.union", "object.union_n", "product", "rand.intn",
    "regex.find_all_string_submatch_n", "regex.find_n", "regex.match", "replace", "round", "semver.compare", "sort",
    "split", "sprintf", "startswith", "strings.any_prefix_match", "strings.any_suffix_match", "strings.reverse",
    "substring", "sum", "time.clock", "time.date", "time.now_ns", "time.parse_rfc3339_ns", "time.weekday", "to_number",
    "trim", "trim_left", "trim_prefix", "trim_right", "trim_space", "trim_suffix", "type_name", "union", "upper",
    "uuid.rfc4122", "walk",
})  # fmt: skip

REFUSED: Mapping[str, str] = {
    "http.send": "a decision must not wait for a network; bring the facts in as data or in the request",
    "net.lookup_ip_addr": "a decision must not wait for a network; bring the facts in as data or in the request",
    "opa.runtime": "a decision must not depend on the process it is made in",
    "strings.count": "the embedded engine counts overlapping matches, OPA does not; use count(split(s, t)) - 1",
    "json.match_schema": "the embedded engine answers in another form than OPA; check the members with is_* rules",
    "graph.reachable_paths": "the embedded engine finds other paths than OPA in cycles; use graph.reachable",
    "object.subset": "the embedded engine answers false where OPA has an error; compare the members",
    "indexof": "the embedded engine finds the empty text, OPA does not; use contains",
    "glob.quote_meta": "the embedded engine leaves [ ] { } as they are; use == or startswith",
    "json.marshal": "the embedded engine writes some numbers and signs otherwise than OPA; compare the values",
    "json.remove": "the embedded engine fails on an empty path, OPA does not; use object.remove",
    "json.filter": "the embedded engine keeps all for an empty path, OPA nothing; use object.filter",
    "min": "the embedded engine counts null as least, OPA leaves it out; use sort(x)[0]",
    "regex.replace": "the engines read some patterns differently; use regex.match and replace",
    "regex.split": "the embedded engine splits at empty matches otherwise than OPA; use split",
    "regex.template_match": "the embedded engine ignores what OPA finds wrong; use regex.match",
    "yaml.marshal": "the embedded engine quotes otherwise than OPA; compare the values",
    "json.unmarshal": "the engines read large numbers and names that occur twice differently",
    "time.parse_duration_ns": "some texts make the embedded engine panic; write durations as numbers",
    "time.add_date": "the embedded engine counts months otherwise than OPA; compare nanoseconds",
    "print": "a policy that is served prints nothing; keep print in the tests",
    "trace": "a policy that is served prints nothing; ask `tollgate decide --explain`",
}
"""Builtins whose refusal has a reason worth saying; every other unlisted one is unknown to the embedded engine."""

NONDETERMINISTIC: frozenset[str] = frozenset({"rand.intn", "time.now_ns", "uuid.rfc4122"})
"""The answer depends on more than the input: decisions that may use one are never cached."""

UNBOUNDED: Mapping[str, str] = {
    "numbers.range": "makes as many numbers as its arguments say",
    "numbers.range_step": "makes as many numbers as its arguments say",
    "net.cidr_expand": "makes as many addresses as its argument says",
    "bits.lsh": "makes a number as long as its argument says",
    "walk": "visits every value below its argument",
    "graph.reachable": "visits a whole graph",
}
"""One call can run for longer than any deadline, whatever the size of the input."""

CHEAP: frozenset[str] = frozenset({
    "count", "endswith", "is_array", "is_boolean", "is_null", "is_number", "is_object", "is_set", "is_string",
    "startswith", "type_name",
})  # fmt: skip
"""Does not look through its first argument, however long that is."""


def why_refused(name: str) -> str | None:
    """None for a builtin that may be called, else the reason."""
    if name in ALLOWED:
        return None
    return REFUSED.get(
        name, "the embedded engine does not have it, or not as OPA has it; a function of yours: import it"
    )
