"""The OpenAPI description as a page for people: one file of HTML, made here, without scripts and without anything from elsewhere.

It needs nothing of a browser but its own style, so that the policy of every answer (`app.rest.headers`) holds for it too.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, Final

from litestar import Request
from litestar.openapi.plugins import OpenAPIRenderPlugin

STYLE: Final = """
:root { color-scheme: light dark; }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
code, pre { font: .875rem/1.45 ui-monospace, monospace; }
pre { overflow-x: auto; padding: .75rem; border-radius: .375rem; background: #8881; }
details { border-top: 1px solid #8884; padding: .4rem 0; }
details > div { padding: 0 1rem; }
summary { cursor: pointer; }
table { border-collapse: collapse; width: 100%; }
td { border-top: 1px solid #8883; padding: .25rem .75rem .25rem 0; vertical-align: top; }
.required::after { content: " *"; color: #c33; }
"""
STYLE_SOURCE: Final = f"'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'"
"""The style's hash as a Content-Security-Policy names it."""

_BOUNDS: Final = {"minimum": "at least", "maximum": "at most", "minLength": "characters, at least"} | {
    "maxLength": "characters, at most",
    "default": "default",
}


class DescriptionPage(OpenAPIRenderPlugin):
    """Made once: the description does not change while the service runs."""

    _page: bytes | None = None

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """The page."""
        if self._page is None:
            self._page = "".join(_page(openapi_schema, self.get_openapi_json_route(request))).encode()
        return self._page


def _page(description: Mapping[str, Any], json_path: str) -> Iterator[str]:
    title, version = escape(description["info"]["title"]), escape(description["info"]["version"])
    yield (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head><body><h1>{title} {version}</h1>"
        f"<p>{_prose(description['info']['description'])}</p>"
        f'<p>For programs: <a href="{escape(json_path)}">{escape(json_path)}</a>. In what follows <code>$API</code> is where '
        "the service is, and <code>$TOKEN</code> a portal token.</p>"
    )
    operations = [
        (method, path, operation)
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    ]
    for tag in description["tags"]:
        yield f"<h2>{escape(tag['name'])}</h2><p>{_prose(tag['description'])}</p>"
        for method, path, operation in operations:
            if tag["name"] in operation["tags"]:
                yield from _operation(method.upper(), path, operation, is_open={} in operation.get("security", []))
    yield "<h2>Schemas</h2>"
    for name, schema in sorted(description["components"]["schemas"].items()):
        yield from _schema(name, schema)
    yield "</body></html>"


def _operation(method: str, path: str, operation: Mapping[str, Any], *, is_open: bool) -> Iterator[str]:
    yield (
        f"<details><summary><code>{method} {escape(path)}</code> {_prose(operation['summary'])}</summary>"
        f'<div id="{escape(operation["operationId"])}"><p>{_prose(operation["description"])}</p>'
    )
    body = operation.get("requestBody", {}).get("content", {})
    example = next((content["example"] for content in body.values() if "example" in content), None)
    yield f"<pre>{escape(_curl(method, path, example, is_open=is_open))}</pre>"
    if parameters := operation.get("parameters"):
        yield "<h4>Parameters</h4><table>"
        for each in parameters:
            where = f"{_type(each['schema'])}, in the {escape(each['in'])}"
            yield _row(each["name"], where, each.get("description", ""), is_required=each["required"])
        yield "</table>"
    for content in body.values():
        yield f"<h4>Body</h4><p>{_type(content['schema'])}</p>"
    yield "<h4>Answers</h4>"
    for status, answer in sorted(operation["responses"].items()):
        for media_type, content in answer["content"].items():
            what = f"{_prose(answer['description'])}: {_type(content.get('schema', {}))}, <code>{escape(media_type)}</code>"
            yield f"<p><code>{escape(status)}</code> {what}</p>"
            # Errors all look alike: their schema tells it.
            yield from [] if int(status) >= 400 else map(_example, content.get("examples", {}).values())
    yield "</div></details>"


def _example(example: Mapping[str, Any]) -> str:
    value = example["value"]
    return f"<pre>{escape(value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False))}</pre>"


def _schema(name: str, schema: Mapping[str, Any]) -> Iterator[str]:
    yield f'<details><summary><code>{escape(name)}</code></summary><div id="{escape(name)}">'
    if properties := schema.get("properties"):
        yield "<table>"
        for field, each in properties.items():
            yield _row(field, _type(each), each.get("description", ""), is_required=field in schema.get("required", ()))
        yield "</table>"
    else:
        yield f"<p>{_type(schema)}</p>"
    yield "</div></details>"


def _row(name: str, type_: str, description: str, *, is_required: bool) -> str:
    mark = ' class="required"' if is_required else ""
    return f"<tr><td><code{mark}>{escape(name)}</code></td><td>{type_}</td><td>{_prose(description)}</td></tr>"


def _type(schema: Mapping[str, Any]) -> str:
    """A schema in a few words of HTML; of a part that has a name, a link to it."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    if choices := schema.get("oneOf") or schema.get("anyOf"):
        return " or ".join(_type(each) for each in choices)
    if "enum" in schema:
        words = " | ".join(f"<code>{escape(str(value))}</code>" for value in schema["enum"])
    elif "items" in schema:
        words = f"list of {_type(schema['items'])}"
    else:
        types = schema.get("type", "any value")
        words = escape(schema.get("format") or (types if isinstance(types, str) else " or ".join(types)))
    bounds = [f"{word} <code>{escape(str(schema[key]))}</code>" for key, word in _BOUNDS.items() if key in schema]
    return ", ".join([words, *bounds])


def _curl(method: str, path: str, body: Any, *, is_open: bool) -> str:
    words = ["curl", *([] if method == "GET" else ["-X", method]), f'"$API{path}"']
    if not is_open:
        words.append('-H "Authorization: Bearer $TOKEN"')
    if body is not None:
        words.append(f"-H 'Content-Type: application/json' -d '{json.dumps(body)}'")
    return " ".join(words)


def _prose(text: str) -> str:
    """Words of ours, in which backticks mark code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
