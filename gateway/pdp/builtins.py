"""Which Rego builtins a policy may call here, and what is known of each.

The rule: a builtin is allowed only if the conformance vectors prove that this engine answers as OPA does, or with an
error. What is missing or answers differently without an error is refused when the policy is loaded, never met at run
time. Nothing may be added to `ALLOWED` without a vector that passes.
"""

from __future__ import annotations

from collections.abc import Mapping

ALLOWED: frozenset[str] = frozenset({
    "abs", "array.concat", "array.reverse", "array.slice", "base64.decode", "base64.encode", "base64.is_valid",
    "base64url.decode", "base64url.encode", "base64url.encode_no_pad", "bits.and", "bits.lsh", "bits.negate", "bits.or",
    "bits.rsh", "bits.xor", "ceil", "concat", "contains", "count", "endswith", "floor", "format_int", "glob.match",
    "glob.quote_meta", "graph.reachable", "hex.decode", "hex.encode", "indexof", "indexof_n", "intersection",
    "is_array", "is_boolean", "is_null", "is_number", "is_object", "is_set", "is_string", "json.filter",
    "json.is_valid", "json.marshal", "json.marshal_with_options", "json.patch", "json.remove", "json.unmarshal",
    "lower", "max", "min", "net.cidr_contains", "net.cidr_expand", "net.cidr_is_valid", "numbers.range",
    "numbers.range_step", "object.filter", "object.get", "object.keys", "object.remove", "object.subset",
    "object.union", "object.union_n", "product", "rand.intn", "regex.find_all_string_submatch_n", "regex.find_n",
    "regex.is_valid", "regex.match", "regex.replace", "regex.split", "regex.template_match", "replace", "round",
    "semver.compare", "semver.is_valid", "sort", "split", "sprintf", "startswith", "strings.any_prefix_match",
    "strings.any_suffix_match", "strings.replace_n", "strings.reverse", "substring", "sum", "time.add_date",
    "time.clock", "time.date", "time.diff", "time.format", "time.now_ns", "time.parse_duration_ns", "time.parse_ns",
    "time.parse_rfc3339_ns", "time.weekday", "to_number", "trim", "trim_left", "trim_prefix", "trim_right",
    "trim_space", "trim_suffix", "type_name", "union", "units.parse", "units.parse_bytes", "upper", "urlquery.decode",
    "urlquery.decode_object", "urlquery.encode", "urlquery.encode_object", "uuid.parse", "uuid.rfc4122", "walk",
    "yaml.is_valid", "yaml.marshal", "yaml.unmarshal",
})  # fmt: skip

REFUSED: Mapping[str, str] = {
    "http.send": "a decision must not wait for a network; bring the facts in as data or in the request",
    "net.lookup_ip_addr": "a decision must not wait for a network; bring the facts in as data or in the request",
    "opa.runtime": "a decision must not depend on the process it is made in",
    "strings.count": "the embedded engine counts overlapping matches, OPA does not; use count(split(s, t)) - 1",
    "json.match_schema": "the embedded engine answers in another form than OPA; check the members with is_* rules",
    "graph.reachable_paths": "the embedded engine finds other paths than OPA in cycles; use graph.reachable",
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
    "yaml.unmarshal": "follows aliases, which multiply",
    "yaml.is_valid": "follows aliases, which multiply",
}
"""One call can run for longer than any deadline, whatever the size of the input."""

PATTERNED: Mapping[str, int] = {
    "regex.match": 0,
    "regex.find_n": 0,
    "regex.find_all_string_submatch_n": 0,
    "regex.is_valid": 0,
    "regex.replace": 1,
    "regex.split": 0,
    "regex.template_match": 0,
    "glob.match": 0,
    "sprintf": 0,
}
"""Which argument is compiled (or sets the width of what is made): bounded only if it does not come from the input."""


CHEAP: frozenset[str] = frozenset({
    "count", "endswith", "is_array", "is_boolean", "is_null", "is_number", "is_object", "is_set", "is_string",
    "startswith", "type_name",
})  # fmt: skip
"""Does not look through its first argument, however long that is."""


def why_refused(name: str) -> str | None:
    """None for a builtin that may be called, else the reason."""
    if name in ALLOWED:
        return None
    return REFUSED.get(name, "the embedded engine does not have it, or not as OPA has it")
