"""The members of agent cards as their canonical forms need them: A2A v1.0 (a2a.proto) and v0.3, which it replaced.

`keep` says what becomes of a default value: "required" members stay, "optional" ones (the keyword of proto3) stay where
they are there, others are left out. `signatures` is no member: it never is part of what is signed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class Member:
    """`kind`: text, flag, texts (a list), textmap, message, messages (a list), map (of messages), open (any object),
    any. `of` are the members of the message."""

    kind: str
    keep: str = ""
    of: Mapping[str, Member] = field(default_factory=dict)


_TEXT, _FLAG, _TEXTS = Member("text"), Member("flag"), Member("texts")
_TEXT_REQUIRED, _TEXTS_REQUIRED = Member("text", "required"), Member("texts", "required")
_TEXT_OPTIONAL, _FLAG_OPTIONAL = Member("text", "optional"), Member("flag", "optional")
_SCOPES, _SCOPES_REQUIRED = Member("textmap"), Member("textmap", "required")

_REQUIREMENT = {"schemes": Member("map", of={"list": _TEXTS})}
_EXTENSION = {"uri": _TEXT, "description": _TEXT, "required": _FLAG, "params": Member("open")}
_PROVIDER = {"url": _TEXT_REQUIRED, "organization": _TEXT_REQUIRED}

_FLOWS = {
    "authorizationCode": Member(
        "message",
        of={
            "authorizationUrl": _TEXT_REQUIRED,
            "tokenUrl": _TEXT_REQUIRED,
            "refreshUrl": _TEXT,
            "scopes": _SCOPES_REQUIRED,
            "pkceRequired": _FLAG,
        },
    ),
    "clientCredentials": Member(
        "message", of={"tokenUrl": _TEXT_REQUIRED, "refreshUrl": _TEXT, "scopes": _SCOPES_REQUIRED}
    ),
    "implicit": Member("message", of={"authorizationUrl": _TEXT, "refreshUrl": _TEXT, "scopes": _SCOPES}),
    "password": Member("message", of={"tokenUrl": _TEXT, "refreshUrl": _TEXT, "scopes": _SCOPES}),
    "deviceCode": Member(
        "message",
        of={
            "deviceAuthorizationUrl": _TEXT_REQUIRED,
            "tokenUrl": _TEXT_REQUIRED,
            "refreshUrl": _TEXT,
            "scopes": _SCOPES_REQUIRED,
        },
    ),
}

_SCHEME = {
    "apiKeySecurityScheme": Member(
        "message", of={"description": _TEXT, "location": _TEXT_REQUIRED, "name": _TEXT_REQUIRED}
    ),
    "httpAuthSecurityScheme": Member(
        "message", of={"description": _TEXT, "scheme": _TEXT_REQUIRED, "bearerFormat": _TEXT}
    ),
    "oauth2SecurityScheme": Member(
        "message",
        of={"description": _TEXT, "flows": Member("message", "required", _FLOWS), "oauth2MetadataUrl": _TEXT},
    ),
    "openIdConnectSecurityScheme": Member("message", of={"description": _TEXT, "openIdConnectUrl": _TEXT_REQUIRED}),
    "mtlsSecurityScheme": Member("message", of={"description": _TEXT}),
}

_SKILL = {
    "id": _TEXT_REQUIRED,
    "name": _TEXT_REQUIRED,
    "description": _TEXT_REQUIRED,
    "tags": _TEXTS_REQUIRED,
    "examples": _TEXTS,
    "inputModes": _TEXTS,
    "outputModes": _TEXTS,
    "securityRequirements": Member("messages", of=_REQUIREMENT),
}

CARD: Mapping[str, Member] = {
    "name": _TEXT_REQUIRED,
    "description": _TEXT_REQUIRED,
    "supportedInterfaces": Member(
        "messages",
        "required",
        {"url": _TEXT_REQUIRED, "protocolBinding": _TEXT_REQUIRED, "tenant": _TEXT, "protocolVersion": _TEXT_REQUIRED},
    ),
    "provider": Member("message", of=_PROVIDER),
    "version": _TEXT_REQUIRED,
    "documentationUrl": _TEXT_OPTIONAL,
    "capabilities": Member(
        "message",
        "required",
        {
            "streaming": _FLAG_OPTIONAL,
            "pushNotifications": _FLAG_OPTIONAL,
            "extensions": Member("messages", of=_EXTENSION),
            "extendedAgentCard": _FLAG_OPTIONAL,
        },
    ),
    "securitySchemes": Member("map", of=_SCHEME),
    "securityRequirements": Member("messages", of=_REQUIREMENT),
    "defaultInputModes": _TEXTS_REQUIRED,
    "defaultOutputModes": _TEXTS_REQUIRED,
    "skills": Member("messages", "required", _SKILL),
    "iconUrl": _TEXT_OPTIONAL,
}

_ANY = Member("any")
_LEGACY_INTERFACE = {"url": _TEXT_REQUIRED, "transport": _TEXT_REQUIRED}
_LEGACY_SKILL = {
    **{name: member for name, member in _SKILL.items() if name != "securityRequirements"},
    "security": _ANY,
}
_LEGACY_FLOWS = {
    name: Member(
        "message",
        of={inner: replace(member, keep="") for inner, member in flow.of.items() if inner != "pkceRequired"},
    )
    for name, flow in _FLOWS.items()
    if name != "deviceCode"
}
_LEGACY_SCHEME = {
    **dict.fromkeys(("type", "description", "in", "name", "scheme", "bearerFormat"), _TEXT),
    "openIdConnectUrl": _TEXT,
    "oauth2MetadataUrl": _TEXT,
    "flows": Member("message", of=_LEGACY_FLOWS),
}

LEGACY_CARD: Mapping[str, Member] = {
    "name": _TEXT_REQUIRED,
    "description": _TEXT_REQUIRED,
    "url": _TEXT_REQUIRED,
    "preferredTransport": _TEXT_OPTIONAL,
    "additionalInterfaces": Member("messages", of=_LEGACY_INTERFACE),
    "protocolVersion": _TEXT_OPTIONAL,
    "provider": Member("message", of=_PROVIDER),
    "version": _TEXT_REQUIRED,
    "documentationUrl": _TEXT_OPTIONAL,
    "iconUrl": _TEXT_OPTIONAL,
    "capabilities": Member(
        "message",
        "required",
        {
            "streaming": _FLAG_OPTIONAL,
            "pushNotifications": _FLAG_OPTIONAL,
            "stateTransitionHistory": _FLAG_OPTIONAL,
            "extensions": Member(
                "messages", of={**_EXTENSION, "required": _FLAG_OPTIONAL, "description": _TEXT_OPTIONAL}
            ),
        },
    ),
    "securitySchemes": Member("map", of=_LEGACY_SCHEME),
    "security": _ANY,
    "defaultInputModes": _TEXTS_REQUIRED,
    "defaultOutputModes": _TEXTS_REQUIRED,
    "skills": Member("messages", "required", _LEGACY_SKILL),
    "supportsAuthenticatedExtendedCard": _FLAG_OPTIONAL,
}
