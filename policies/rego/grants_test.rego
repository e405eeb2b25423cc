# How grants work, on tables of these tests' own: they stay true whatever data.yaml says.
package tollgate_test

tables := {
	"everyone": {
		"methods": {"*": ["initialize", "notifications/*"]},
		"server_requests": {"*": ["roots/list", "elicitation/create"]},
	},
	"cook": {
		"tools": {"kitchen": ["boil", "cut_*"]},
		"prompts": {"*": ["menu"]},
		"resources": {"kitchen": ["recipes://soup/*"]},
		"agents": {"waiter": ["SendMessage"]},
		"models": {"*": ["small-*"]},
		"http": {"pantry": ["GET /pantry/*", "WS /pantry/bell"]},
	},
	"chef": {
		"tools": {"*": ["*"]},
		"server_requests": {"kitchen": ["sampling/createMessage", "elicitation/create url"]},
	},
}

guests := {"open": {"tools": {"*": ["look", "taste_*"]}, "methods": {"*": ["initialize"]}}}

asking(subject, roles, action, kind, id) := {
	"subject": {"type": "agent", "id": subject, "properties": {"roles": roles}},
	"action": {"name": action},
	"resource": {"type": kind, "id": id, "properties": {"route": "open", "upstream": "kitchen"}},
	"context": {"listing": false},
}

answer(request) := result if {
	result := data.tollgate.decision with input as request with data.roles as tables with data.anonymous as guests
		with data.forbidden as {"kitchen/burn": "No fires"} with data.arguments as {}
}

allowed(request) if answer(request).decision == true

denied(request) if answer(request).decision == false

cook(action, kind, id) := asking("user:idp/ann", ["cook"], action, kind, id)

test_a_tool_is_granted_by_its_name if {
	allowed(cook("mcp.tools/call", "tool", "kitchen/boil"))
	answer(cook("mcp.tools/call", "tool", "kitchen/boil")).context.rule == "role cook"
}

test_a_tool_is_granted_by_a_pattern if allowed(cook("mcp.tools/call", "tool", "kitchen/cut_onions"))

test_a_pattern_is_a_beginning_and_not_an_end if {
	denied(cook("mcp.tools/call", "tool", "kitchen/uncut_onions"))
	denied(cook("mcp.tools/call", "tool", "kitchen/boil_over"))
	denied(cook("mcp.tools/call", "tool", "kitchen/cut"))
}

test_a_name_is_matched_as_it_is_written if {
	denied(cook("mcp.tools/call", "tool", "kitchen/BOIL"))
	denied(cook("mcp.tools/call", "tool", "kitchen/boil "))
}

test_a_tool_of_another_upstream_is_not_granted if {
	request := json.patch(cook("mcp.tools/call", "tool", "garden/boil"), [{
		"op": "replace", "path": "resource/properties/upstream", "value": "garden",
	}])
	denied(request)
}

test_a_star_stands_for_all_upstreams if {
	allowed(asking("user:idp/bea", ["chef"], "mcp.tools/call", "tool", "kitchen/anything"))
}

test_any_of_several_roles_is_enough if {
	allowed(asking("user:idp/bea", ["nobody", "cook"], "mcp.tools/call", "tool", "kitchen/boil"))
}

test_a_prompt_is_granted if {
	allowed(cook("mcp.prompts/get", "prompt", "kitchen/menu"))
	denied(cook("mcp.prompts/get", "prompt", "kitchen/boil"))
}

test_completing_a_prompt_needs_the_prompt if {
	allowed(cook("mcp.completion/complete", "prompt", "kitchen/menu"))
	denied(cook("mcp.completion/complete", "prompt", "kitchen/secret"))
}

test_a_resource_is_granted_by_its_address if {
	allowed(cook("mcp.resources/read", "resource", "recipes://soup/leek"))
	denied(cook("mcp.resources/read", "resource", "recipes://cake/plum"))
}

test_an_operation_of_an_agent_is_granted if {
	request := json.patch(cook("a2a.SendMessage", "agent", "waiter"), [{
		"op": "replace", "path": "resource/properties/upstream", "value": "waiter",
	}])
	allowed(request)
	denied(json.patch(request, [{"op": "replace", "path": "action/name", "value": "a2a.CancelTask"}]))
}

test_a_model_is_granted_on_any_upstream if {
	allowed(cook("llm.chat", "model", "small-1"))
	denied(cook("llm.chat", "model", "large-1"))
}

test_a_path_is_granted_with_its_method if {
	request := json.patch(cook("http.GET", "endpoint", "/pantry/shelf"), [{
		"op": "replace", "path": "resource/properties/upstream", "value": "pantry",
	}])
	allowed(request)
	denied(json.patch(request, [{"op": "replace", "path": "action/name", "value": "http.DELETE"}]))
	denied(json.patch(request, [{"op": "replace", "path": "resource/id", "value": "/pantry"}]))
	denied(json.patch(request, [{"op": "replace", "path": "resource/id", "value": "/pantryman/x"}]))
}

test_a_web_socket_is_granted_with_its_messages if {
	request := json.patch(cook("ws.open", "endpoint", "/pantry/bell"), [{
		"op": "replace", "path": "resource/properties/upstream", "value": "pantry",
	}])
	allowed(request)
	allowed(json.patch(request, [{"op": "replace", "path": "action/name", "value": "ws.message"}]))
}

test_everyone_who_is_known_may_connect if {
	allowed(asking("key:k1", [], "mcp.initialize", "endpoint", "kitchen"))
	answer(asking("key:k1", [], "mcp.initialize", "endpoint", "kitchen")).context.rule == "role everyone"
	allowed(asking("key:k1", [], "mcp.notifications/cancelled", "endpoint", "kitchen"))
	denied(asking("key:k1", [], "mcp.logging/setLevel", "endpoint", "kitchen"))
}

test_a_caller_without_a_credential_has_only_what_its_route_grants if {
	allowed(asking("anonymous", [], "mcp.tools/call", "tool", "kitchen/look"))
	answer(asking("anonymous", [], "mcp.tools/call", "tool", "kitchen/look")).context.rule == "anonymous"
	allowed(asking("anonymous", [], "mcp.tools/call", "tool", "kitchen/taste_soup"))
	denied(asking("anonymous", [], "mcp.tools/call", "tool", "kitchen/boil"))
	denied(asking("anonymous", [], "mcp.tools/call", "tool", "kitchen/look_away"))
	denied(asking("anonymous", [], "mcp.notifications/cancelled", "endpoint", "kitchen"))
}

test_a_caller_without_a_credential_has_no_role if {
	denied(asking("anonymous", ["chef", "cook", "everyone"], "mcp.tools/call", "tool", "kitchen/boil"))
}

test_what_is_granted_to_a_route_is_not_granted_to_another if {
	denied(json.patch(asking("anonymous", [], "mcp.tools/call", "tool", "kitchen/look"), [{
		"op": "replace", "path": "resource/properties/route", "value": "closed",
	}]))
}

test_what_is_granted_to_callers_without_a_credential_is_not_granted_to_known_ones if {
	denied(asking("user:idp/cleo", [], "mcp.tools/call", "tool", "kitchen/look"))
}

test_a_list_shows_what_may_be_called if {
	item := json.patch(cook("mcp.tools/call", "tool", "kitchen/boil"), [{
		"op": "replace", "path": "context/listing", "value": true,
	}])
	allowed(item)
	denied(json.patch(item, [{"op": "replace", "path": "resource/id", "value": "kitchen/flambe"}]))
	denied(json.patch(item, [{"op": "replace", "path": "resource/id", "value": "kitchen/burn"}]))
}

test_a_type_nobody_knows_is_denied if {
	denied(cook("mcp.tools/call", "castle", "kitchen/boil"))
	denied(cook("mcp.initialize", "castle", "kitchen"))
}

test_a_request_without_a_shape_is_denied if {
	answer({}).decision == false
	answer({}).context.rule == "shape"
	denied({"subject": {"id": "user:idp/ann", "properties": {}}, "action": {"name": "mcp.initialize"}})
}
