"""What the gateway shows of itself: its description at `/openapi.json`, and at `/` a page for people made of the same.

The page's style is in it, it asks for nothing from anywhere, and it runs nothing: its policy allows the one style
sheet, by its hash, and nothing else.
"""

import base64
import hashlib
import re
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from halfrate.gateway.anthropic_batches import base_of
from halfrate.gateway.calls import JSON
from halfrate.gateway.openapi.operation import Json

_CODE: Final = re.compile("`([^`]*)`")
_BASE: Final = "https://gateway.invalid"
"""Stands in the page that is kept for where its reader found it."""
_OPENAI: Final = f'''from pathlib import Path

from openai import OpenAI

client = OpenAI(base_url="{_BASE}/v1", api_key="hr_...")

file = client.files.create(file=Path("rows.jsonl"), purpose="batch")
batch = client.batches.create(
    input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
)
print(client.batches.retrieve(batch.id).status)'''
_ANTHROPIC: Final = f'''from anthropic import Anthropic

client = Anthropic(base_url="{_BASE}", api_key="hr_...")

question = {{"role": "user", "content": "What is two plus two?"}}
params = {{"model": "claude-haiku-4-5", "max_tokens": 100, "messages": [question]}}
batch = client.messages.batches.create(requests=[{{"custom_id": "row-1", "params": params}}])
print(client.messages.batches.retrieve(batch.id).processing_status)'''


class Pages:
    """Answers `/` and `/openapi.json`."""

    def __init__(self, document: Json) -> None:
        self._document = msgspec.json.encode(document)
        style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
        self._page = _page(document, style)
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        self._headers = {
            "content-security-policy": f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; "
            "form-action 'none'; frame-ancestors 'none'",
            "referrer-policy": "no-referrer",
            "x-content-type-options": "nosniff",
        }

    async def show(self, request: Request) -> Response:
        text = self._page.replace(_BASE, escape(base_of(request)))
        return Response(text, headers=self._headers, media_type="text/html")

    async def describe(self, _request: Request) -> Response:
        return Response(self._document, media_type=JSON)


def _page(document: Json, style: str) -> str:
    info, shapes = document["info"], document["components"]["schemas"]
    groups = [(tag, list(_operations(document, tag["name"]))) for tag in document["tags"]]
    body = [
        f"<h1>{escape(info['title'])}</h1>",
        f'<p class="soft">Version {escape(info["version"])}. <a href="openapi.json">The same for programs</a>.</p>',
        *(f"<p>{_prose(one)}</p>" for one in info["description"].split("\n\n")),
        _contents([tag["name"] for tag, _ in groups]),
        "<h2>How to call it</h2>",
        "<p>Whoever has a program that uses an official client changes its address and its key, and nothing else.</p>",
        '<div class="samples">',
        _sample("OpenAI's client", _OPENAI),
        _sample("Anthropic's client", _ANTHROPIC),
        "</div>",
    ]
    for tag, operations in groups:
        body += [
            f'<h2 id="{_anchor(tag["name"])}">{escape(tag["name"])}</h2>',
            f"<p>{_prose(tag['description'])}</p>",
        ]
        body += operations
    body += ['<h2 id="shapes">Shapes</h2>', "<p>What calls take and give.</p>"]
    body += [_shape(name, schema) for name, schema in shapes.items()]
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(info['title'])}</title>",
            f"<style>{style}</style>",
            "</head>",
            "<body>",
            *body,
            "</body>",
            "</html>",
            "",
        ]
    )


def _contents(names: Sequence[str]) -> str:
    links = "".join(f'<li><a href="#{_anchor(name)}">{escape(name)}</a></li>' for name in [*names, "Shapes"])
    return f"<nav><ul>{links}</ul></nav>"


def _sample(title: str, code: str) -> str:
    return f"<div><h3>{escape(title)}</h3><pre>{escape(code)}</pre></div>"


# ---------------------------------------------------------------- calls


def _operations(document: Json, tag: str) -> Iterator[str]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if tag in operation["tags"]:
                yield _operation(method.upper(), path, operation)


def _operation(method: str, path: str, operation: Json) -> str:
    inside: list[str] = []
    if "description" in operation:
        inside.append(f"<p>{_prose(operation['description'])}</p>")
    parameters = operation.get("parameters", [])
    if parameters:
        rows = [_parameter(one) for one in parameters]
        inside.append(f"<h4>Parameters</h4>{_table(('name', 'in', 'type', ''), rows)}")
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        inside.append(f"<h4>Body</h4><p>{_kind(content['schema'])} as <code>{escape(kind)}</code></p>")
    rows = [_reply(status, reply) for status, reply in operation["responses"].items()]
    inside.append(f"<h4>Replies</h4>{_table(('status', 'what', 'body', 'headers'), rows)}")
    return (
        f'<details><summary><span class="method {method.lower()}">{method}</span> <code>{escape(path)}</code> '
        f'<span class="soft">{escape(operation["summary"])}</span></summary>'
        f'<div class="inside" id="{escape(operation["operationId"])}">{"".join(inside)}</div></details>'
    )


def _parameter(parameter: Json) -> tuple[str, ...]:
    name = f"<code>{escape(parameter['name'])}</code>"
    return name, parameter["in"], _kind(parameter["schema"]), _prose(parameter["description"])


def _reply(status: str, reply: Json) -> tuple[str, ...]:
    bodies = [
        _kind(content["schema"]) if "schema" in content else f"<code>{escape(kind)}</code>"
        for kind, content in reply["content"].items()
    ]
    headers = " ".join(f"<code>{escape(name)}</code>" for name in reply["headers"])
    return (
        f'<span class="status s{status[0]}">{status}</span>',
        _prose(reply["description"]),
        ", ".join(bodies),
        headers,
    )


# ---------------------------------------------------------------- shapes


def _shape(name: str, schema: Json) -> str:
    rows = [
        (
            f"<code>{escape(field)}</code>",
            _kind(kind),
            _prose(kind.get("description", "")),
            "" if always else "optional",
        )
        for field, kind, always in _fields(schema)
    ]
    return (
        f"<details><summary><code>{escape(name)}</code> "
        f'<span class="soft">{_prose(schema["description"])}</span></summary>'
        f'<div class="inside" id="{_anchor(f"shape {name}")}">{_table(("field", "type", "", ""), rows)}</div></details>'
    )


def _fields(schema: Json, before: str = "") -> Iterator[tuple[str, Json, bool]]:
    """Fields of an object, those of objects within it behind their own, and whether they are always there."""
    for name, kind in schema.get("properties", {}).items():
        yield f"{before}{name}", kind, name in schema["required"]
        for inner in (kind, *kind.get("anyOf", ())):
            yield from _fields(inner, f"{before}{name}.")


def _kind(schema: Json) -> str:
    """What a value is, in a few words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f'<a href="#{_anchor(f"shape {name}")}">{escape(name)}</a>'
    if "anyOf" in schema:
        return " or ".join(map(_kind, schema["anyOf"]))
    if "enum" in schema:
        return " ".join(f"<code>{escape(_value(one))}</code>" for one in schema["enum"])
    kinds: str | list[str] = schema["type"]
    words = kinds if isinstance(kinds, str) else " or ".join(kinds)
    if "items" in schema:
        words = f"{escape(words)} of {_kind(schema['items'])}"
    if "format" in schema:
        words += f" ({escape(schema['format'])})"
    if "maximum" in schema:
        least = schema.get("minimum", schema.get("exclusiveMinimum"))
        words += f", {least:,} to {schema['maximum']:,}"
    if "maxLength" in schema:
        words += f", at most {schema['maxLength']:,} characters"
    if "default" in schema:
        words += f", default {escape(_value(schema['default']))}"
    return words


def _value(value: object) -> str:
    return f"{value:,}" if type(value) is int else value if isinstance(value, str) else str(value).lower()


# ---------------------------------------------------------------- parts


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(one)}</th>" for one in heads)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _prose(text: str) -> str:
    return _CODE.sub(r"<code>\1</code>", escape(text))


def _anchor(name: str) -> str:
    return escape(name.lower().replace(" ", "-"))
