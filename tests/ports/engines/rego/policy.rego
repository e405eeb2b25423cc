# The policy of tests/ports/test_decision_point.py, in Rego. Its twin is in ../cerbos.
package tollgate

default decision := {"decision": false, "context": {"rule": "no_rule_matched"}}

decision := refused if refused

else := granted if granted

roles := {role | some role in input.subject.properties.roles}

called if {
	input.resource.type == "tool"
	input.action.name == "mcp.tools/call"
}

refused := {"decision": false, "context": {"rule": "depth", "reason": "Too many stand between you and the owner"}} if {
	called
	count(input.subject.properties.delegated_by) > 2
}

else := {"decision": false, "context": {"rule": "city", "reason": "There is no weather in Atlantis \u2013 it sank"}} if {
	called
	input.resource.id == "weather/get"
	input.context.arguments.city == "Atlantis"
}

granted := {"decision": true, "context": {"rule": "readers"}} if {
	called
	input.resource.id == "weather/get"
	"reader" in roles
}

else := {"decision": true, "context": {"rule": "payments", "reason": "A small amount"}} if {
	called
	input.resource.id == "bank/pay"
	input.subject.properties.org == "acme"
	"payer" in roles
	input.context.arguments.amount <= 100.5
	input.context.arguments.currency in ["NOK", "EUR"]
}

else := {"decision": true, "context": {"rule": "masked", "obligations": [{"type": "redact", "paths": ["/customer/iban"]}]}} if {
	called
	input.resource.id == "crm/find"
	"reader" in roles
}

else := {"decision": true, "context": {"rule": "odd", "obligations": [{"type": "dance", "steps": 3}]}} if {
	called
	input.resource.id == "crm/odd"
}

else := {"decision": true, "context": {"rule": "anyone"}} if {
	input.resource.type == "endpoint"
	input.action.name == "mcp.initialize"
}

else := {"decision": true, "context": {"rule": "listed"}} if {
	input.resource.type == "prompt"
	input.context.listing == true
	"reader" in roles
}
