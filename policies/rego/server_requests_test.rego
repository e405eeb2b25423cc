# What an upstream may ask of the caller.
package tollgate_test

from_kitchen(roles, action, arguments) := {
	"subject": {"type": "agent", "id": "user:idp/ann", "properties": {"roles": roles}},
	"action": {"name": action},
	"resource": {"type": "endpoint", "id": "kitchen", "properties": {"route": "open", "upstream": "kitchen"}},
	"context": {"listing": false, "direction": "server", "arguments": arguments},
}

test_sampling_is_denied_with_a_reason_that_says_so if {
	found := answer(from_kitchen(["cook"], "mcp.sampling/createMessage", {}))
	found.decision == false
	contains(found.context.reason, "sampling")
}

test_sampling_may_be_granted if allowed(from_kitchen(["chef"], "mcp.sampling/createMessage", {}))

test_the_answer_to_sampling_is_judged_like_the_request if {
	response := json.patch(from_kitchen(["cook"], "mcp.sampling/createMessage", {}), [{
		"op": "replace", "path": "context/direction", "value": "response",
	}])
	denied(response)
}

test_a_form_may_be_shown_to_everyone if {
	allowed(from_kitchen([], "mcp.elicitation/create", {"message": "How many?"}))
	allowed(from_kitchen([], "mcp.elicitation/create", {"mode": "form"}))
}

test_a_web_address_may_not if {
	found := answer(from_kitchen(["cook"], "mcp.elicitation/create", {"mode": "url", "url": "https://evil.example"}))
	found.decision == false
	contains(found.context.reason, "web address")
}

test_a_mode_nobody_knows_counts_as_the_dangerous_one if {
	denied(from_kitchen([], "mcp.elicitation/create", {"mode": "hologram"}))
	denied(from_kitchen([], "mcp.elicitation/create", {"mode": ["form"]}))
	denied(from_kitchen([], "mcp.elicitation/create", {"mode": null}))
}

test_a_web_address_may_be_granted if allowed(from_kitchen(["chef"], "mcp.elicitation/create", {"mode": "url"}))

test_roots_may_be_listed_and_nothing_unknown if {
	allowed(from_kitchen([], "mcp.roots/list", {}))
	found := answer(from_kitchen([], "mcp.files/write", {}))
	found.decision == false
	contains(found.context.reason, "files/write")
}

test_what_the_caller_may_call_the_upstream_may_not_ask if {
	request := json.patch(from_kitchen(["cook"], "mcp.tools/call", {}), [
		{"op": "replace", "path": "resource/type", "value": "tool"},
		{"op": "replace", "path": "resource/id", "value": "kitchen/boil"},
	])
	denied(request)
}
