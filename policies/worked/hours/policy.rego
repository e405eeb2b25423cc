# Business hours: tools may be called while somebody is there to notice.
#
# The time is the gateway's, when the request was complete (context.time, in UTC): the same for every engine, and what the
# record holds, so that a decision can be looked at again. A decision by the time is made anew for each request.
package tollgate

default decision := {"decision": false, "context": {
	"rule": "shape",
	"reason": "This policy is about tools, and about callers who are known",
}}

decision := {"decision": true, "context": {"rule": "any time"}} if {
	calls
	input.resource.id in data.hours.open
}

else := {"decision": true, "context": {"rule": "on call"}} if {
	calls
	some role in input.subject.properties.roles
	role in data.hours.always
}

else := {"decision": true, "context": {"rule": "working hours"}} if {
	calls
	at_work
}

else := {"decision": false, "context": {
	"rule": "hours",
	"reason": sprintf("This may be called on working days from %v to %v o'clock (%v)", [
		data.hours.from,
		data.hours.to,
		data.hours.zone,
	]),
}} if {
	calls
}

else := {"decision": true, "context": {"rule": "connect"}} if connects

calls if {
	input.action.name == "mcp.tools/call"
	input.resource.type == "tool"
	input.subject.id != "anonymous"
}

moment := [time.parse_rfc3339_ns(input.context.time), data.hours.zone]

at_work if {
	time.clock(moment)[0] >= data.hours.from
	time.clock(moment)[0] < data.hours.to
	time.weekday(moment) in data.hours.days
	not is_holiday
}

is_holiday if {
	today := time.date(moment)
	[today[1], today[2]] in data.hours.holidays
}

# What a known client needs to connect and look around.
connects if {
	input.resource.type == "endpoint"
	startswith(input.action.name, "mcp.")
	not input.context.direction
	input.subject.id != "anonymous"
}
