package hours_test

office := {
	"zone": "Europe/Oslo",
	"from": 8,
	"to": 17,
	"days": ["Monday", "Friday"],
	"holidays": [[12, 25]],
	"always": ["on-call"],
	"open": ["weather/now"],
}

asked(id, roles, action, tool, time) := result if {
	result := data.tollgate.decision with data.hours as office with input as {
		"subject": {"type": "agent", "id": id, "properties": {"roles": roles}},
		"action": {"name": action},
		"resource": {"type": "tool", "id": tool, "properties": {}},
		"context": {"listing": false, "time": time},
	}
}

rule(time) := asked("agent:idp/ann", ["reader"], "mcp.tools/call", "wiki/read", time).context.rule

test_the_hours_are_those_of_the_place_in_winter if {
	rule("2026-11-23T07:00:00Z") == "working hours"
	rule("2026-11-23T06:59:59Z") == "hours"
	rule("2026-11-23T15:59:59Z") == "working hours"
	rule("2026-11-23T16:00:00Z") == "hours"
}

test_the_hours_are_those_of_the_place_in_summer if {
	rule("2026-07-20T06:00:00Z") == "working hours"
	rule("2026-07-20T05:59:59Z") == "hours"
	rule("2026-07-20T15:00:00Z") == "hours"
}

test_the_day_is_that_of_the_place if {
	rule("2026-11-22T12:00:00Z") == "hours"
	rule("2026-11-23T12:00:00Z") == "working hours"
	rule("2026-11-24T12:00:00Z") == "hours"
}

test_a_holiday_is_no_working_day if {
	rule("2026-12-25T12:00:00Z") == "hours"
	rule("2026-12-18T12:00:00Z") == "working hours"
}

test_the_reason_says_when if {
	result := asked("agent:idp/ann", [], "mcp.tools/call", "wiki/read", "2026-11-22T12:00:00Z")
	result.decision == false
	result.context.reason == "This may be called on working days from 8 to 17 o'clock (Europe/Oslo)"
}

test_who_is_on_call_is_not_bound_by_the_clock if {
	result := asked("agent:idp/ann", ["reader", "on-call"], "mcp.tools/call", "wiki/read", "2026-11-22T12:00:00Z")
	result == {"decision": true, "context": {"rule": "on call"}}
}

test_an_open_tool_may_be_called_at_any_time if {
	result := asked("agent:idp/ann", [], "mcp.tools/call", "weather/now", "2026-11-22T02:00:00Z")
	result == {"decision": true, "context": {"rule": "any time"}}
}

test_without_a_time_it_is_not_working_hours if {
	result := data.tollgate.decision with data.hours as office with input as {
		"subject": {"type": "agent", "id": "agent:idp/ann", "properties": {"roles": []}},
		"action": {"name": "mcp.tools/call"},
		"resource": {"type": "tool", "id": "wiki/read", "properties": {}},
		"context": {"listing": false},
	}
	result.context.rule == "hours"
}

test_a_stranger_and_another_action_are_denied_at_any_time if {
	asked("anonymous", ["on-call"], "mcp.tools/call", "wiki/read", "2026-11-23T12:00:00Z").context.rule == "shape"
	asked("agent:idp/ann", [], "mcp.tools/install", "wiki/read", "2026-11-23T12:00:00Z").context.rule == "shape"
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

test_a_stranger_may_not_connect if connecting("anonymous", "mcp.initialize", {"listing": false}).decision == false

test_what_the_server_asks_is_not_connecting if {
	connecting("agent:idp/ann", "mcp.sampling/createMessage", {"direction": "server"}).decision == false
}

test_another_protocol_is_not_connecting if connecting("agent:idp/ann", "llm.models", {}).decision == false
