# Delegation depth: how long the chain may be from the person a token speaks for to the agent that calls.
#
# subject.properties.delegated_by is that chain as the token's `act` claims say it (RFC 8693), the present actor first, each
# <issuer's name>/<sub>. The gateway refuses tokens whose actors are of issuers it does not know.
package tollgate

default decision := {"decision": false, "context": {
	"rule": "shape",
	"reason": "This policy is about tools, and about callers who are known",
}}

decision := {"decision": false, "context": {
	"rule": "depth",
	"reason": sprintf("%v agents stand between you and who you act for; here %v may", [depth, most]),
}} if {
	calls
	depth > most
}

else := {"decision": false, "context": {
	"rule": "loop",
	"reason": "An agent stands twice in the chain of delegation",
}} if {
	calls
	count({actor | some actor in input.subject.properties.delegated_by}) < depth
}

else := {"decision": false, "context": {
	"rule": "actor",
	"reason": "An agent in the chain of delegation is not one of those that may act for others here",
}} if {
	calls
	not every_actor_is_ours
}

else := {"decision": true, "context": {"rule": sprintf("depth %v", [depth])}} if calls

else := {"decision": true, "context": {"rule": "connect"}} if connects

calls if {
	input.action.name == "mcp.tools/call"
	input.resource.type == "tool"
	input.subject.id != "anonymous"
	is_array(input.subject.properties.delegated_by)
}

depth := count(input.subject.properties.delegated_by)

most := own if own := data.delegation.tools[input.resource.id]

else := data.delegation.most

every_actor_is_ours if {
	every actor in input.subject.properties.delegated_by {
		strings.any_prefix_match(actor, data.delegation.actors)
	}
}

# What a known client needs to connect and look around.
connects if {
	input.resource.type == "endpoint"
	startswith(input.action.name, "mcp.")
	not input.context.direction
	input.subject.id != "anonymous"
}
