"""What the parts of the admin API's description are put together from: references, bodies, and the answers that all
of them give. Each function makes what stands in OpenAPI 3.1; what is said is in openapi.py and the openapi_*.py.
"""

from __future__ import annotations

from gateway.core.canonical import Json

TEXT: Json = {"type": "string"}
DATE: dict[str, Json] = {"type": "string", "format": "date-time"}
REFUSED: Json = {"$ref": "#/components/responses/Problem"}
UNCHANGED: Json = {"description": "The ETag in If-None-Match is still right"}


def ref(schema: str) -> Json:
    return {"$ref": f"#/components/schemas/{schema}"}


def members(properties: dict[str, Json], *required: str) -> Json:
    """An object of these."""
    return {"type": "object", "required": list(required), "properties": properties}


def query(name: str, schema: Json, text: str = "", *, required: bool = False) -> Json:
    """A parameter of the query."""
    found: dict[str, Json] = {"name": name, "in": "query"}
    if text:
        found["description"] = text
    found["schema"] = schema
    return found | {"required": True} if required else found


def content(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}


def body(schema: Json) -> Json:
    """What has to be sent along."""
    return {"required": True, "content": content(schema)}


def said(text: str, schema: Json) -> Json:
    """One answer."""
    return {"description": text, "content": content(schema)}


def refused(*codes: str) -> dict[str, Json]:
    return dict.fromkeys(codes, REFUSED)


def responses(summary: str, schema: Json, *codes: str) -> dict[str, Json]:
    """200, what every operation on one thing may refuse with, and `codes` besides."""
    return {"200": said(summary, schema), **refused("400", "401", "403", "404", "503", *codes)}


def read(summary: str, schema: Json, *parameters: Json) -> dict[str, Json]:
    """A GET that has an ETag."""
    found: dict[str, Json] = {
        "summary": summary,
        "responses": {**responses(summary, schema), "304": UNCHANGED},
    }
    if parameters:
        found["parameters"] = list(parameters)
    return found
