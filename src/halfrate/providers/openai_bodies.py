"""Bodies of requests in OpenAI's form, for the rows of a table."""

from collections.abc import Callable
from typing import Any, Final

from halfrate.base.errors import UsageError
from halfrate.base.types import Endpoint, RequestSpec
from halfrate.providers.bodies import PROMPT, strict_schema, with_params


def _chat(spec: RequestSpec) -> dict[str, Any]:
    messages: list[dict[str, Any]] = []
    if spec.system:
        messages.append({"role": "system", "content": spec.system})
    messages.append({"role": "user", "content": PROMPT})
    body: dict[str, Any] = {"model": spec.model, "messages": messages}
    if spec.max_tokens is not None:
        body["max_completion_tokens"] = spec.max_tokens
    if spec.temperature is not None:
        body["temperature"] = spec.temperature
    if spec.schema is not None:
        form = {"name": "answer", "strict": True, "schema": strict_schema(spec.schema)}
        body["response_format"] = {"type": "json_schema", "json_schema": form}
    return with_params(body, spec)


def _responses(spec: RequestSpec) -> dict[str, Any]:
    body: dict[str, Any] = {"model": spec.model, "input": PROMPT}
    if spec.system:
        body["instructions"] = spec.system
    if spec.max_tokens is not None:
        body["max_output_tokens"] = spec.max_tokens
    if spec.temperature is not None:
        body["temperature"] = spec.temperature
    if spec.schema is not None:
        schema = strict_schema(spec.schema)
        body["text"] = {"format": {"type": "json_schema", "name": "answer", "strict": True, "schema": schema}}
    return with_params(body, spec)


def embeddings(spec: RequestSpec) -> dict[str, Any]:
    given = {"--system": spec.system, "--max-tokens": spec.max_tokens, "--temperature": spec.temperature}
    for option, value in given.items():
        if value is not None:
            raise UsageError(f"Embeddings take no {option}.")
    if spec.schema is not None:
        raise UsageError("Embeddings take no --schema.")
    return with_params({"model": spec.model, "input": PROMPT}, spec)


BODIES: Final[dict[Endpoint, Callable[[RequestSpec], dict[str, Any]]]] = {
    "chat": _chat,
    "responses": _responses,
    "embeddings": embeddings,
}
