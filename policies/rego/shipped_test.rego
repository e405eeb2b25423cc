# What data.yaml grants as it is shipped. Change these together with the tables.
package tollgate_test

by(roles, action, kind, id, upstream, arguments) := result if {
	result := data.tollgate.decision with input as {
		"subject": {"type": "agent", "id": "agent:idp/planner", "properties": {"roles": roles}},
		"action": {"name": action},
		"resource": {"type": kind, "id": id, "properties": {"route": upstream, "upstream": upstream}},
		"context": {"listing": false, "arguments": arguments},
	}
}

test_a_reader_may_ask_for_the_forecast if {
	by(["reader"], "mcp.tools/call", "tool", "weather/get_forecast", "weather", {"city": "Oslo"}).decision
	by(["reader"], "mcp.resources/read", "resource", "weather://cities", "weather", {}).decision
	by(["reader"], "mcp.prompts/get", "prompt", "weather/packing", "weather", {}).decision
}

test_nobody_may_delete_a_station if {
	every roles in [["reader"], ["payments"], ["reader", "research", "files", "payments"]] {
		found := by(roles, "mcp.tools/call", "tool", "weather/delete_station", "weather", {"station": "Oslo"})
		not found.decision
		contains(found.context.reason, "Ask the weather team")
	}
}

test_payments_are_made_up_to_the_bound_by_who_may_pay if {
	by(["payments"], "mcp.tools/call", "tool", "weather/transfer", "weather", {"account": "A", "amount": 20}).decision
	not by(["payments"], "mcp.tools/call", "tool", "weather/transfer", "weather", {"account": "A", "amount": 501}).decision
	not by(["reader"], "mcp.tools/call", "tool", "weather/transfer", "weather", {"account": "A", "amount": 20}).decision
}

test_models_go_by_role if {
	by(["reader"], "llm.chat", "model", "small-1", "model", {}).decision
	not by(["reader"], "llm.chat", "model", "large-1", "model", {}).decision
	by(["research"], "llm.chat", "model", "large-1", "model", {}).decision
	by([], "llm.models", "endpoint", "model", "model", {}).decision
}

test_a_reader_may_talk_to_the_concierge if {
	by(["reader"], "a2a.SendStreamingMessage", "agent", "concierge", "concierge", {}).decision
	not by(["reader"], "a2a.CreateTaskPushNotificationConfig", "agent", "concierge", "concierge", {}).decision
	by([], "a2a.GetAgentCard", "agent", "concierge", "concierge", {}).decision
}

test_files_are_worked_on_below_their_folders if {
	by(["files"], "mcp.tools/call", "tool", "files/write_file", "files", {"path": "/srv/shared/out/a"}).decision
	not by(["files"], "mcp.tools/call", "tool", "files/write_file", "files", {"path": "/srv/shared/a"}).decision
}

test_everyone_may_connect_and_look_around if {
	every method in ["initialize", "tools/list", "notifications/initialized", "server/discover", "session.end"] {
		by([], concat("", ["mcp.", method]), "endpoint", "weather", "weather", {}).decision
	}
}

test_only_the_reference_route_is_open_to_callers_without_a_credential if {
	open := {
		"subject": {"type": "anonymous", "id": "anonymous", "properties": {"roles": []}},
		"action": {"name": "mcp.tools/call"},
		"resource": {"type": "tool", "id": "any/tool", "properties": {"route": "reference", "upstream": "any"}},
		"context": {"listing": false},
	}
	found := data.tollgate.decision with input as open
	found.decision
	closed := json.patch(open, [{"op": "replace", "path": "resource/properties/route", "value": "weather"}])
	other := data.tollgate.decision with input as closed
	not other.decision
}
