package delegation_test

limits := {"most": 1, "tools": {"bank/pay": 0, "weather/now": 2}, "actors": ["agents/", "bots/"]}

asked(id, action, tool, chain) := result if {
	result := data.tollgate.decision with data.delegation as limits with input as {
		"subject": {"type": "user", "id": id, "properties": {"roles": [], "delegated_by": chain}},
		"action": {"name": action},
		"resource": {"type": "tool", "id": tool, "properties": {}},
		"context": {"listing": false},
	}
}

answer(tool, chain) := asked("user:idp/ann", "mcp.tools/call", tool, chain)

test_nobody_between_is_always_allowed if {
	answer("bank/pay", []) == {"decision": true, "context": {"rule": "depth 0"}}
	answer("wiki/read", []).decision == true
}

test_a_tool_that_is_not_named_has_the_usual_depth if {
	answer("wiki/read", ["agents/a"]).context.rule == "depth 1"
	answer("wiki/read", ["agents/a", "agents/b"]).context.rule == "depth"
}

test_a_tool_that_is_named_has_its_own_depth if {
	answer("weather/now", ["agents/a", "bots/b"]).decision == true
	answer("weather/now", ["agents/a", "bots/b", "agents/c"]).decision == false
	answer("bank/pay", ["agents/a"]).decision == false
}

test_the_reason_says_how_many_and_how_many_may if {
	answer("bank/pay", ["agents/a"]).context.reason == "1 agents stand between you and who you act for; here 0 may"
}

test_an_agent_that_stands_twice_is_denied if answer("weather/now", ["agents/a", "agents/a"]).context.rule == "loop"

test_an_agent_of_somebody_else_is_denied if {
	answer("weather/now", ["agents/a", "partner/b"]).context.rule == "actor"
	answer("weather/now", ["my-agents/a"]).context.rule == "actor"
}

test_a_caller_whose_chain_is_not_known_is_denied if {
	result := data.tollgate.decision with data.delegation as limits with input as {
		"subject": {"type": "user", "id": "user:idp/ann", "properties": {"roles": []}},
		"action": {"name": "mcp.tools/call"},
		"resource": {"type": "tool", "id": "wiki/read", "properties": {}},
		"context": {"listing": false},
	}
	result.context.rule == "shape"
	answer("wiki/read", "").context.rule == "shape"
}

test_a_stranger_and_another_action_are_denied if {
	asked("anonymous", "mcp.tools/call", "wiki/read", []).context.rule == "shape"
	asked("user:idp/ann", "mcp.tools/install", "wiki/read", []).context.rule == "shape"
}

connecting(id, action, context) := result if {
	result := data.tollgate.decision with input as {
		"subject": {"type": "agent", "id": id, "properties": {"roles": [], "delegated_by": []}},
		"action": {"name": action},
		"resource": {"type": "endpoint", "id": "kitchen", "properties": {"upstream": "kitchen"}},
		"context": context,
	}
}

test_a_known_caller_may_connect if {
	connecting("agent:idp/ann", "mcp.initialize", {"listing": false}).context.rule == "connect"
}

test_a_stranger_may_not_connect if connecting("anonymous", "mcp.initialize", {"listing": false}).decision == false

test_what_the_server_asks_is_not_connecting if {
	connecting("agent:idp/ann", "mcp.sampling/createMessage", {"direction": "server"}).decision == false
}

test_another_protocol_is_not_connecting if connecting("agent:idp/ann", "llm.models", {}).decision == false
