# What a caller is told when nobody granted what it asks for: what was missing, and what would help.
package tollgate

missing := "The upstream wants this caller's model to answer for it (sampling). No role of this caller permits that" if {
	asked.kind == "server_requests"
	asked.name == "sampling/createMessage"
}

else := "The upstream wants to send this caller to a web address (elicitation by URL). No role of this caller permits that" if {
	asked.kind == "server_requests"
	asked.name == "elicitation/create url"
}

else := sprintf("The upstream may not ask this caller for %s", [asked.name]) if asked.kind == "server_requests"

else := sprintf("Callers without a credential may not use %s here. Present a token or an API key", [asked.name]) if {
	input.subject.id == "anonymous"
}

else := sprintf("%s has no role, and without one %s on %s is not allowed", [
	input.subject.id,
	asked.name,
	input.resource.properties.upstream,
]) if {
	count(input.subject.properties.roles) == 0
}

else := sprintf("None of the roles of %s (%s) allows %s on %s", [
	input.subject.id,
	concat(", ", input.subject.properties.roles),
	asked.name,
	input.resource.properties.upstream,
])
