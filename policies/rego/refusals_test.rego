# What is refused whoever asks: the type of an argument counts as much as its value.
package tollgate_test

bounds := {
	"kitchen/buy": {"amount": {"most": 500}},
	"kitchen/read": {"path": {"below": ["/srv/shared", "/srv/menus/"]}},
}

chef(id, arguments) := {
	"subject": {"type": "agent", "id": "user:idp/bea", "properties": {"roles": ["chef"]}},
	"action": {"name": "mcp.tools/call"},
	"resource": {"type": "tool", "id": id, "properties": {"route": "open", "upstream": "kitchen"}},
	"context": {"listing": false, "arguments": arguments},
}

judged(request) := result if {
	result := data.tollgate.decision with input as request with data.roles as tables with data.anonymous as guests
		with data.forbidden as {"kitchen/burn": "No fires"} with data.arguments as bounds
}

refused(request, words) if {
	judged(request).decision == false
	contains(judged(request).context.reason, words)
}

buying(amount) := chef("kitchen/buy", {"amount": amount})

reading(path) := chef("kitchen/read", {"path": path})

test_what_is_forbidden_has_its_own_reason if {
	found := judged(chef("kitchen/burn", {}))
	found == {"decision": false, "context": {"rule": "forbidden", "reason": "No fires"}}
}

test_an_amount_within_the_bound_is_allowed if {
	judged(buying(500)).decision
	judged(buying(0.01)).decision
}

test_an_amount_above_the_bound_is_refused_with_both_figures if {
	refused(buying(500.01), "500.01")
	refused(buying(500.01), "500 ")
}

test_an_amount_that_takes_instead_of_giving_is_refused if {
	refused(buying(-1), "above 0")
	refused(buying(0), "above 0")
}

test_an_amount_of_another_type_is_refused if {
	every amount in ["499", [1], {"value": 1}, true, null] {
		refused(buying(amount), "must be a number")
	}
}

test_a_missing_amount_is_refused if {
	refused(chef("kitchen/buy", {}), "must be a number")
	refused(chef("kitchen/buy", ["amount", 5]), "must be a number")
	refused(json.remove(buying(5), ["context/arguments"]), "must be a number")
}

test_a_path_below_a_folder_is_allowed if {
	judged(reading("/srv/shared/a.txt")).decision
	judged(reading("/srv/shared")).decision
	judged(reading("/srv/menus/monday")).decision
	judged(reading("/srv/shared/a..b")).decision
}

test_a_path_outside_is_refused_with_what_is_allowed if {
	every path in ["/etc/passwd", "/srv/sharedother/x", "/srv", "srv/shared/x", "", "~/x", "/srv/menus"] {
		refused(reading(path), "/srv/shared")
	}
}

test_a_path_that_climbs_is_refused if {
	every path in ["/srv/shared/../../etc/passwd", "/srv/shared/..", "..", "/srv/shared\\..\\x", "/srv/shared/\u0000"] {
		refused(reading(path), "must not have")
	}
}

test_a_path_of_another_type_is_refused if {
	every path in [["/srv/shared/ok", "/etc/passwd"], ["/srv/shared/ok"], {"0": "/srv/shared/ok"}, 7, null] {
		refused(reading(path), "one text")
	}
}

test_a_missing_path_is_refused if refused(chef("kitchen/read", {"paths": "/srv/shared/x"}), "one text")

test_an_item_of_a_list_is_shown_without_arguments if {
	item := json.patch(json.remove(buying(5), ["context/arguments"]), [{
		"op": "replace", "path": "context/listing", "value": true,
	}])
	judged(item).decision
}

test_a_resource_address_that_climbs_is_refused if {
	every address in ["recipes://soup/../cake", "recipes://soup/%2E%2E/cake", "recipes://soup/a%2fb", "recipes://soup\\x"] {
		refused(asking("user:idp/ann", ["cook"], "mcp.resources/read", "resource", address), "resource address")
	}
}
