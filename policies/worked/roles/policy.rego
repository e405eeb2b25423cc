# Roles to tools: a caller may call a tool that one of its roles has in data.yaml.
#
# The roles are those that the caller's issuer may vouch for; what a caller says of itself never gets here.
package tollgate

default decision := {"decision": false, "context": {
	"rule": "no_role",
	"reason": "None of your roles allows this",
}}

decision := {"decision": true, "context": {"rule": concat(" ", ["role", role])}} if role := granting[0]

else := {"decision": true, "context": {"rule": "connect"}} if connects

# All roles of the caller that have the tool. The first is what the record names.
granting := [role |
	input.action.name == "mcp.tools/call"
	input.resource.type == "tool"
	some role in input.subject.properties.roles
	some name in [input.resource.id, concat("", [input.resource.properties.upstream, "/*"])]
	name in data.tools[role]
]

# What a known client needs to connect and look around: methods without an object (initialize, ping, tools/list). A list
# is filtered by asking about each of its items.
connects if {
	input.resource.type == "endpoint"
	startswith(input.action.name, "mcp.")
	not input.context.direction
	input.subject.id != "anonymous"
}
