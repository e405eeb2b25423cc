# Data classification: who may see data of which class.
#
# Three bounds, and the lowest counts: the caller's clearance by role, what other organisations may see, and what an agent
# may see that acts for somebody else. The label is that of the tool or of the upstream's resource that gives the data out.
package tollgate

default decision := {"decision": false, "context": {
	"rule": "shape",
	"reason": "This policy is about tools and resources",
}}

decision := {"decision": true, "context": {"rule": concat(" ", ["label", label])}} if {
	asks
	cleared
	owned
	not_passed_on
}

else := {"decision": false, "context": {
	"rule": concat(" ", ["label", label]),
	"reason": sprintf("This gives out data that is %s, and you are not cleared for it", [label]),
}} if {
	asks
}

else := {"decision": true, "context": {"rule": "connect"}} if connects

asks if {
	input.action.name == "mcp.tools/call"
	input.resource.type == "tool"
}

asks if {
	input.action.name == "mcp.resources/read"
	input.resource.type == "resource"
}

# A resource's id is its address, so it has the label of its upstream.
label := own if own := data.labels[input.resource.id]

else := rest if rest := data.labels[rest_of_upstream]

else := "secret"

rest_of_upstream := concat("", [input.resource.properties.upstream, "/*"])

cleared if label == "public"

cleared if {
	some role in input.subject.properties.roles
	data.levels[data.clearance[role]] >= data.levels[label]
}

owned if data.levels[label] <= data.levels.internal

owned if input.subject.properties.org == data.owner

not_passed_on if data.levels[label] <= data.levels[data.delegated]

not_passed_on if count(input.subject.properties.delegated_by) == 0

# What a known client needs to connect and look around.
connects if {
	input.resource.type == "endpoint"
	startswith(input.action.name, "mcp.")
	not input.context.direction
	input.subject.id != "anonymous"
}
