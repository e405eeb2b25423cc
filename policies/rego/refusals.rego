# What is refused whoever asks, with the reason the caller is told. The first that applies counts.
#
# An argument that a rule is about must have the type the rule expects: a list where one text is expected is refused,
# not searched for a harmless member.
package tollgate

# Named in data.yaml with a reason of its own.
refusal := {"rule": "forbidden", "reason": reason} if reason := data.forbidden[input.resource.id]

else := {"rule": "resource_path", "reason": "A resource address with .. or an escaped dot or slash is not allowed"} if {
	input.resource.type == "resource"
	climbs(lower(input.resource.id))
}

else := {"rule": "arguments", "reason": argument_refusal} if {
	input.context.listing == false # an item of a list has no arguments yet
	not input.context.direction
	data.arguments[input.resource.id]
	argument_refusal
}

climbs(address) if contains(address, "..")

climbs(address) if contains(address, "%2e")

climbs(address) if contains(address, "%2f")

climbs(address) if contains(address, "\\")

# `amount: {most: N}` bounds the argument `amount`.
argument_refusal := sprintf("amount must be a number above 0 for %s", [input.resource.id]) if {
	data.arguments[input.resource.id].amount
	not amount_is_positive
}

else := sprintf("amount %v is more than the %v that %s allows", [
	input.context.arguments.amount,
	data.arguments[input.resource.id].amount.most,
	input.resource.id,
]) if {
	input.context.arguments.amount > data.arguments[input.resource.id].amount.most
}

# `path: {below: [FOLDER, ...]}` confines the argument `path`.
else := sprintf("path must be one text for %s", [input.resource.id]) if {
	data.arguments[input.resource.id].path
	not path_is_text
}

else := "path must not have a .. segment, a backslash or a NUL in it" if {
	data.arguments[input.resource.id].path
	path_is_unsafe
}

else := sprintf("path is outside of what %s may touch: %s", [
	input.resource.id,
	concat(", ", data.arguments[input.resource.id].path.below),
]) if {
	data.arguments[input.resource.id].path
	not path_is_confined
}

# Rules of their own, because `not` is safe before a rule: a missing argument makes the rule undefined and the `not` true.
amount_is_positive if {
	is_number(input.context.arguments.amount)
	input.context.arguments.amount > 0
}

path_is_text if is_string(input.context.arguments.path)

path_is_unsafe if ".." in split(input.context.arguments.path, "/")

path_is_unsafe if contains(input.context.arguments.path, "\\")

path_is_unsafe if contains(input.context.arguments.path, "\u0000")

path_is_confined if input.context.arguments.path in data.arguments[input.resource.id].path.below

path_is_confined if {
	some folder in data.arguments[input.resource.id].path.below
	startswith(input.context.arguments.path, concat("", [trim_suffix(folder, "/"), "/"]))
}
