package classification_test

tables := {
	"levels": {"public": 0, "internal": 1, "confidential": 2, "secret": 3},
	"labels": {"weather/*": "public", "wiki/*": "internal", "crm/*": "confidential", "crm/all": "secret"},
	"clearance": {"staff": "internal", "analyst": "confidential", "officer": "secret"},
}

ours := {"org": "acme", "delegated_by": []}

answer(properties, action, kind, id, upstream) := result if {
	result := data.tollgate.decision with data.levels as tables.levels with data.labels as tables.labels
		with data.clearance as tables.clearance
		with data.owner as "acme"
		with data.delegated as "internal"
		with input as {
			"subject": {"type": "agent", "id": "agent:idp/ann", "properties": properties},
			"action": {"name": action},
			"resource": {"type": kind, "id": id, "properties": {"upstream": upstream}},
			"context": {"listing": false},
		}
}

called(properties, upstream, name) := answer(properties, "mcp.tools/call", "tool", concat("/", [upstream, name]), upstream)

allowed(roles, upstream, name) if called(object.union(ours, {"roles": roles}), upstream, name).decision == true

denied(roles, upstream, name) if called(object.union(ours, {"roles": roles}), upstream, name).decision == false

test_what_is_public_needs_no_role if allowed([], "weather", "now")

test_a_role_sees_its_class_and_what_is_below if {
	allowed(["staff"], "wiki", "read")
	denied(["staff"], "crm", "find")
	allowed(["analyst"], "wiki", "read")
	allowed(["analyst"], "crm", "find")
	denied(["analyst"], "crm", "all")
	allowed(["officer"], "crm", "all")
}

test_the_highest_of_several_roles_counts if allowed(["staff", "nobody", "analyst"], "crm", "find")

test_without_a_role_only_what_is_public_is_seen if {
	denied([], "wiki", "read")
	denied(["nobody"], "wiki", "read")
}

test_what_has_no_label_is_secret if {
	denied(["analyst"], "new", "thing")
	allowed(["officer"], "new", "thing")
}

test_another_org_sees_nothing_above_internal if {
	theirs := {"roles": ["officer"], "org": "other", "delegated_by": []}
	called(theirs, "wiki", "read").decision == true
	called(theirs, "crm", "find").decision == false
	called({"roles": ["officer"], "delegated_by": []}, "crm", "find").decision == false
}

test_an_agent_that_acts_for_somebody_sees_nothing_above_internal if {
	passed := {"roles": ["officer"], "org": "acme", "delegated_by": ["agents/a"]}
	called(passed, "wiki", "read").decision == true
	called(passed, "crm", "find").decision == false
}

test_the_reason_says_the_class if {
	result := called(object.union(ours, {"roles": ["staff"]}), "crm", "find")
	result.context.rule == "label confidential"
	result.context.reason == "This gives out data that is confidential, and you are not cleared for it"
}

test_a_resource_has_the_label_of_its_upstream if {
	answer(object.union(ours, {"roles": ["staff"]}), "mcp.resources/read", "resource", "wiki://a", "wiki").decision == true
	answer(object.union(ours, {"roles": ["staff"]}), "mcp.resources/read", "resource", "wiki://a", "crm").decision == false
}

test_another_action_is_denied if {
	answer(object.union(ours, {"roles": ["officer"]}), "mcp.prompts/get", "prompt", "wiki/a", "wiki").decision == false
	answer(object.union(ours, {"roles": ["officer"]}), "mcp.tools/call", "resource", "wiki/a", "wiki").decision == false
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
