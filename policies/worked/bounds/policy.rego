# Argument bounds: tools whose arguments may be only so much, so far, to so many.
#
# Each rule says what an argument must be, its type first: what is missing or of another type is refused, because the rule
# that asks for it does not hold. Nothing is looked up by a name that the caller chose.
package tollgate

default decision := {"decision": false, "context": {
	"rule": "not_listed",
	"reason": "This policy has no bounds for this, and what it has no bounds for it does not allow",
}}

decision := {"decision": true, "context": {"rule": "listed"}} if shown

else := {"decision": true, "context": {"rule": "within bounds"}} if within

else := {"decision": true, "context": {"rule": "connect"}} if connects

else := {"decision": false, "context": {"rule": "bounds", "reason": reasons[input.resource.id]}} if calls

reasons := {
	"bank/transfer": "The amount must be a number above 0 and within the limit, in a currency that is allowed",
	"files/read_file": "The path must be one text below the shared folder, without .. segments, backslashes or NULs",
	"mail/send": "The recipients must be a list of one to three addresses of our own domain",
}

calls if {
	input.action.name == "mcp.tools/call"
	input.resource.type == "tool"
}

within if {
	calls
	input.resource.id in data.unbounded
}

within if {
	calls
	input.resource.id == "bank/transfer"
	is_number(input.context.arguments.amount)
	input.context.arguments.amount > 0
	input.context.arguments.amount <= data.bounds.transfer.most
	input.context.arguments.currency in data.bounds.transfer.currencies
}

within if {
	calls
	input.resource.id == "files/read_file"
	is_string(input.context.arguments.path)
	startswith(input.context.arguments.path, data.bounds.read_file.below)
	not climbs
}

within if {
	calls
	input.resource.id == "mail/send"
	is_array(input.context.arguments.to)
	count(input.context.arguments.to) > 0
	count(input.context.arguments.to) <= data.bounds.send.most
	every address in input.context.arguments.to {
		is_string(address)
		endswith(address, data.bounds.send.domain)
	}
}

climbs if ".." in split(input.context.arguments.path, "/")

climbs if contains(input.context.arguments.path, "\\")

climbs if contains(input.context.arguments.path, "\u0000")

# An item of a list has no arguments yet: it is shown if it could be called with some.
shown if {
	calls
	input.context.listing == true
	reasons[input.resource.id]
}

# What a known client needs to connect and look around.
connects if {
	input.resource.type == "endpoint"
	startswith(input.action.name, "mcp.")
	not input.context.direction
	input.subject.id != "anonymous"
}
