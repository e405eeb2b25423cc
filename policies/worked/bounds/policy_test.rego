package bounds_test

limits := {
	"transfer": {"most": 100, "currencies": ["EUR"]},
	"read_file": {"below": "/srv/"},
	"send": {"most": 3, "domain": "@acme.example"},
}

answer(tool, arguments) := result if {
	result := data.tollgate.decision with data.bounds as limits with data.unbounded as ["weather/now"] with input as {
		"subject": {"type": "agent", "id": "agent:idp/ann", "properties": {"roles": []}},
		"action": {"name": "mcp.tools/call"},
		"resource": {"type": "tool", "id": tool, "properties": {}},
		"context": {"listing": false, "arguments": arguments},
	}
}

allowed(tool, arguments) if answer(tool, arguments).decision == true

denied(tool, arguments) if answer(tool, arguments).context.rule == "bounds"

test_an_amount_within_its_bounds_is_allowed if {
	allowed("bank/transfer", {"amount": 100, "currency": "EUR"})
	allowed("bank/transfer", {"amount": 0.01, "currency": "EUR"})
}

test_an_amount_beyond_its_bounds_is_denied if {
	denied("bank/transfer", {"amount": 100.01, "currency": "EUR"})
	denied("bank/transfer", {"amount": 0, "currency": "EUR"})
	denied("bank/transfer", {"amount": -1, "currency": "EUR"})
}

test_an_amount_that_is_no_number_is_denied if {
	every amount in ["1", true, null, [1], {"value": 1}] {
		denied("bank/transfer", {"amount": amount, "currency": "EUR"})
	}
	denied("bank/transfer", {"currency": "EUR"})
}

test_another_currency_is_denied if {
	denied("bank/transfer", {"amount": 1, "currency": "XXX"})
	denied("bank/transfer", {"amount": 1, "currency": ["EUR"]})
	denied("bank/transfer", {"amount": 1})
}

test_a_path_below_the_folder_is_allowed if {
	allowed("files/read_file", {"path": "/srv/a/b.txt"})
	allowed("files/read_file", {"path": "/srv/a..b"})
}

test_a_path_that_leads_elsewhere_is_denied if {
	every path in ["/etc/passwd", "/srv", "/srv/../etc", "/srv/a/..", "/srv/a\\b", "/srv/a\u0000", "", ["/srv/a"], null] {
		denied("files/read_file", {"path": path})
	}
	denied("files/read_file", {})
}

test_one_to_three_addresses_of_the_domain_are_allowed if {
	allowed("mail/send", {"to": ["ann@acme.example"]})
	allowed("mail/send", {"to": ["a@acme.example", "b@acme.example", "c@acme.example"]})
}

test_other_recipients_are_denied if {
	every to in [[], ["a@evil.example"], ["a@acme.example", "b@evil.example"], [1], "a@acme.example", {"a": "a@acme.example"}] {
		denied("mail/send", {"to": to})
	}
	denied("mail/send", {"to": ["a@acme.example", "b@acme.example", "c@acme.example", "d@acme.example"]})
	denied("mail/send", {})
}

test_an_unbounded_tool_takes_any_arguments if {
	allowed("weather/now", {"anything": ["at", "all"]})
	allowed("weather/now", {})
}

test_a_tool_that_is_not_listed_is_denied if answer("weather/later", {}).context.rule == "not_listed"

test_an_item_of_a_list_is_shown_without_arguments if {
	result := data.tollgate.decision with input as {
		"subject": {"type": "agent", "id": "agent:idp/ann", "properties": {"roles": []}},
		"action": {"name": "mcp.tools/call"},
		"resource": {"type": "tool", "id": "mail/send", "properties": {}},
		"context": {"listing": true},
	}
	result.context.rule == "listed"
}

test_another_action_on_a_tool_is_denied if {
	result := data.tollgate.decision with data.unbounded as ["weather/now"] with input as {
		"subject": {"type": "agent", "id": "agent:idp/ann", "properties": {"roles": []}},
		"action": {"name": "mcp.tools/install"},
		"resource": {"type": "tool", "id": "weather/now", "properties": {}},
		"context": {"listing": false},
	}
	result.decision == false
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
