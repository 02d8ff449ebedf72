"""Bodies of generateContent and embedContent, for the rows of a table."""

from typing import Any, cast

from halfrate.base.errors import UsageError
from halfrate.base.types import RequestSpec
from halfrate.providers.bodies import PROMPT, splice


def body_of(spec: RequestSpec) -> tuple[bytes, bytes]:
    """The encoded body before and after the prompt."""
    return splice(_embedding(spec) if spec.endpoint == "embeddings" else _generation(spec))


def _generation(spec: RequestSpec) -> dict[str, Any]:
    body: dict[str, Any] = {"contents": [{"role": "user", "parts": [{"text": PROMPT}]}]}
    if spec.system:
        body["systemInstruction"] = {"parts": [{"text": spec.system}]}
    config: dict[str, Any] = {}
    if spec.max_tokens is not None:
        config["maxOutputTokens"] = spec.max_tokens
    if spec.temperature is not None:
        config["temperature"] = spec.temperature
    if spec.schema is not None:
        config |= {"responseMimeType": "application/json", "responseJsonSchema": spec.schema}
    return _with(body, "generationConfig", config, spec.params)


def _embedding(spec: RequestSpec) -> dict[str, Any]:
    given = {"--system": spec.system, "--max-tokens": spec.max_tokens, "--temperature": spec.temperature}
    for option, value in {**given, "--schema": spec.schema}.items():
        if value is not None:
            raise UsageError(f"Embeddings take no {option}.")
    return {"content": {"parts": [{"text": PROMPT}]}, **spec.params}


def _with(body: dict[str, Any], name: str, config: dict[str, Any], params: dict[str, Any]) -> dict[str, Any]:
    """The user's own parameters last: they win. What they say of the configuration is added to it."""
    theirs = params.get(name)
    if isinstance(theirs, dict):
        config = {**config, **cast("dict[str, Any]", theirs)}
        params = {key: value for key, value in params.items() if key != name}
    return {**body, **({name: config} if config else {}), **params}
