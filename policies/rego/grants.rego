# Who may do what: the tables of data.yaml, looked up by what is asked.
#
# Cheapest first: a name that a role of the caller has for this very upstream; then a name for all upstreams or that
# everyone has; patterns last.
package tollgate

# The rule that grants it, undefined when none does.
grant := concat(" ", ["role", role]) if role := named_here[0]

else := concat(" ", ["role", role]) if role := named[0]

else := concat(" ", ["role", role]) if role := matched[0]

else := "anonymous" if {
	input.subject.id == "anonymous"
	some upstream in [input.resource.properties.upstream, "*"]
	some pattern in data.anonymous[input.resource.properties.route][asked.kind][upstream]
	fits(pattern, asked.name)
}

named_here := [role |
	input.subject.id != "anonymous"
	what := asked
	some role in input.subject.properties.roles
	what.name in data.roles[role][what.kind][input.resource.properties.upstream]
]

named := [role |
	input.subject.id != "anonymous"
	what := asked
	some role in array.concat(["everyone"], input.subject.properties.roles)
	some upstream in [input.resource.properties.upstream, "*"]
	what.name in data.roles[role][what.kind][upstream]
]

matched := [role |
	input.subject.id != "anonymous"
	what := asked
	some role in array.concat(["everyone"], input.subject.properties.roles)
	some upstream in [input.resource.properties.upstream, "*"]
	some pattern in data.roles[role][what.kind][upstream]
	endswith(pattern, "*")
	startswith(what.name, trim_suffix(pattern, "*"))
]

# A pattern is the whole name, or its beginning and a star.
fits(pattern, name) if pattern == name

fits(pattern, name) if {
	endswith(pattern, "*")
	startswith(name, trim_suffix(pattern, "*"))
}

# In which table to look, and for which name. A request of the server is never looked up among the caller's own.
asked := {"kind": "server_requests", "name": from_server} if input.context.direction

else := {"kind": "tools", "name": trim_prefix(input.resource.id, prefix)} if {
	input.resource.type == "tool"
	prefix := concat("", [input.resource.properties.upstream, "/"])
}

else := {"kind": "models", "name": input.resource.id} if input.resource.type == "model"

else := {"kind": "agents", "name": trim_prefix(input.action.name, "a2a.")} if input.resource.type == "agent"

else := {"kind": "prompts", "name": trim_prefix(input.resource.id, prefix)} if {
	input.resource.type == "prompt"
	prefix := concat("", [input.resource.properties.upstream, "/"])
}

else := {"kind": "resources", "name": input.resource.id} if input.resource.type == "resource"

else := {"kind": "http", "name": concat(" ", [trim_prefix(input.action.name, "http."), input.resource.id])} if {
	startswith(input.action.name, "http.")
}

else := {"kind": "http", "name": concat(" ", ["WS", input.resource.id])} if startswith(input.action.name, "ws.")

else := {"kind": "methods", "name": trim_prefix(input.action.name, "mcp.")} if input.resource.type == "endpoint"

# An elicitation is the plain one only when its mode is absent or says so.
from_server := "elicitation/create url" if {
	input.action.name == "mcp.elicitation/create"
	input.context.arguments.mode != "form"
}

else := trim_prefix(input.action.name, "mcp.")
