package roles_test

tables := {"cook": ["kitchen/boil"], "chef": ["kitchen/*"]}

answer(roles, tool) := result if {
	result := data.tollgate.decision with data.tools as tables with input as {
		"subject": {"type": "agent", "id": "agent:idp/ann", "properties": {"roles": roles}},
		"action": {"name": "mcp.tools/call"},
		"resource": {"type": "tool", "id": concat("/", tool), "properties": {"upstream": tool[0]}},
		"context": {"listing": false},
	}
}

test_a_role_has_its_tools if {
	answer(["cook"], ["kitchen", "boil"]) == {"decision": true, "context": {"rule": "role cook"}}
}

test_any_of_several_roles_is_enough if answer(["waiter", "cook"], ["kitchen", "boil"]).decision == true

test_a_star_is_all_tools_of_one_upstream if {
	answer(["chef"], ["kitchen", "fry"]).decision == true
	answer(["chef"], ["cellar", "fry"]).decision == false
}

test_another_tool_is_denied_with_a_reason if {
	answer(["cook"], ["kitchen", "fry"]) == {"decision": false, "context": {
		"rule": "no_role",
		"reason": "None of your roles allows this",
	}}
}

test_names_are_compared_as_they_are_written if {
	answer(["cook"], ["kitchen", "Boil"]).decision == false
	answer(["Cook"], ["kitchen", "boil"]).decision == false
	answer(["cook"], ["kitchen", "boil_over"]).decision == false
}

test_no_role_is_no_tool if answer([], ["kitchen", "boil"]).decision == false

other(action, kind) := result if {
	result := data.tollgate.decision with data.tools as tables with input as {
		"subject": {"type": "agent", "id": "agent:idp/ann", "properties": {"roles": ["cook"]}},
		"action": {"name": action},
		"resource": {"type": kind, "id": "kitchen/boil", "properties": {"upstream": "kitchen"}},
		"context": {"listing": false},
	}
}

test_another_action_and_another_kind_of_thing_are_denied if {
	other("mcp.tools/install", "tool").decision == false
	other("mcp.tools/call", "resource").decision == false
	other("mcp.tools/call", "tool").decision == true
}

connecting(id, action, context) := result if {
	result := data.tollgate.decision with input as {
		"subject": {"type": "agent", "id": id, "properties": {"roles": []}},
		"action": {"name": action},
		"resource": {"type": "endpoint", "id": "kitchen", "properties": {"upstream": "kitchen"}},
		"context": context,
	}
}

test_a_known_caller_may_connect if {
	connecting("agent:idp/ann", "mcp.initialize", {"listing": false}).context.rule == "connect"
}

test_a_stranger_may_not if connecting("anonymous", "mcp.initialize", {"listing": false}).decision == false

test_what_the_server_asks_is_not_connecting if {
	connecting("agent:idp/ann", "mcp.sampling/createMessage", {"direction": "server"}).decision == false
}

test_another_protocol_is_not_connecting if connecting("agent:idp/ann", "llm.models", {}).decision == false
