# The answer to every request: first what is refused whoever asks, then what somebody granted, then no.
#
# `input` is the request (subject, action, resource, context), `data` is data.yaml. A list is filtered by asking this
# very rule for each of its items, so what a caller sees listed is what it may call.
package tollgate

default decision := {"decision": false, "context": {
	"rule": "shape",
	"reason": "The request is not one that this policy understands",
}}

decision := {"decision": false, "context": refusal} if refusal

else := {"decision": true, "context": {"rule": grant}} if grant

else := {"decision": false, "context": {"rule": "no_grant", "reason": missing}}
