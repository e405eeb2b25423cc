# What callers are told when nobody granted what they ask for.
package tollgate_test

test_a_caller_with_roles_learns_which_did_not_suffice if {
	reason := answer(cook("mcp.tools/call", "tool", "kitchen/flambe")).context.reason
	reason == "None of the roles of user:idp/ann (cook) allows flambe on kitchen"
	answer(cook("mcp.tools/call", "tool", "kitchen/flambe")).context.rule == "no_grant"
}

test_a_caller_without_roles_learns_that_it_has_none if {
	reason := answer(asking("user:idp/cleo", [], "mcp.tools/call", "tool", "kitchen/boil")).context.reason
	reason == "user:idp/cleo has no role, and without one boil on kitchen is not allowed"
}

test_a_caller_without_a_credential_learns_to_present_one if {
	reason := answer(asking("anonymous", [], "mcp.tools/call", "tool", "kitchen/boil")).context.reason
	contains(reason, "Present a token or an API key")
}
