"""Bodies of a table's rows, for each family of models on Bedrock.

A job is run by InvokeModel, where every family has a body of its own, or by Converse, which has one for all. Facts are
from Bedrock's user guide (inference parameters; batch inference) and the model cards of Llama and Mistral, as of 2026.
Neither tools nor structured output are to be had in a batch.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeAlias

import msgspec

from halfrate.base.errors import UsageError
from halfrate.base.types import RequestSpec
from halfrate.providers.bodies import PROMPT, splice, with_params

Invocation: TypeAlias = Literal["InvokeModel", "Converse"]

_DEFAULT_MAX_TOKENS: Final = 4096
_GEOGRAPHY: Final = re.compile(r"^(?:us|us-gov|eu|apac|jp|au|ca|in|global)\.")
_TOOLS: Final = ("tools", "tool_choice", "toolConfig")
_FORMS: Final = ("output_config", "outputConfig", "output_format", "response_format")


class _Head(msgspec.Struct):
    messages: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    anthropic_version: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    schema_version: msgspec.Raw | msgspec.UnsetType = msgspec.field(
        name="schemaVersion", default=msgspec.UNSET
    )


_decode_head = msgspec.json.Decoder(_Head).decode
_MARK: Final = msgspec.json.encode(PROMPT)[1:-1]


def bare_name(model: str) -> str:
    """A model's own id, without the ARN and the geography of an inference profile."""
    return _GEOGRAPHY.sub("", model.rpartition("/")[2])


def _named(spec: RequestSpec) -> str:
    return bare_name(spec.options.get("serves") or spec.model)


def invocation_of(model: str, options: Mapping[str, str]) -> Invocation:
    """How a job's rows are run: as chosen, else by the family's own bodies where they are known here."""
    chosen = options.get("invocation")
    if chosen is not None:
        return "Converse" if chosen == "converse" else "InvokeModel"
    name = bare_name(options.get("serves") or model)
    return "InvokeModel" if _family(name, _CHATS) or _family(name, _EMBEDDINGS) else "Converse"


def invocation_in(body: bytes | msgspec.Raw) -> Invocation:
    """How a body of ours is to be run: those of Converse alone hold messages and no version of their form."""
    head = _decode_head(body)
    versioned = head.anthropic_version is not msgspec.UNSET or head.schema_version is not msgspec.UNSET
    return "Converse" if head.messages is not msgspec.UNSET and not versioned else "InvokeModel"


def body_of(spec: RequestSpec) -> tuple[bytes, bytes]:
    """The body of a row before and after its prompt. Raises UsageError for what a batch on Bedrock cannot do."""
    if spec.schema is not None or any(name in spec.params for name in _FORMS):
        raise UsageError(
            "Bedrock has no structured output in batches, so --schema cannot be kept there. Ask for JSON in the "
            "prompt, or give the rows to another provider. Nothing was sent."
        )
    if any(name in spec.params for name in _TOOLS):
        raise UsageError("Bedrock takes no tools in batches. Nothing was sent.")
    if spec.endpoint == "embeddings":
        return splice(_embedding(spec))
    name = _named(spec)
    if invocation_of(spec.model, spec.options) == "Converse":
        return splice(with_params(_converse(spec), spec))
    make = _family(name, _CHATS)
    if make is None:
        raise UsageError(
            f"How {name} is asked by InvokeModel is not known here. Leave `--option invocation` out: it is asked by "
            "Converse then. Nothing was sent."
        )
    return _spliced(with_params(make(spec), spec))


def _spliced(body: dict[str, Any]) -> tuple[bytes, bytes]:
    """As `splice`. A prompt that is one text with its template goes in without its quotes: what is before ends amid a
    string then, which whoever writes the rows can tell."""
    if PROMPT in body.get("prompt", ""):
        before, _, after = msgspec.json.encode(body).partition(_MARK)
        return before, after
    return splice(body)


def _family(
    name: str, families: Mapping[str, Callable[[RequestSpec], dict[str, Any]]]
) -> Callable[[RequestSpec], dict[str, Any]] | None:
    return next((make for pattern, make in families.items() if re.match(pattern, name)), None)


def _embedding(spec: RequestSpec) -> dict[str, Any]:
    given = {"--system": spec.system, "--max-tokens": spec.max_tokens, "--temperature": spec.temperature}
    for option, value in given.items():
        if value is not None:
            raise UsageError(f"Embeddings take no {option}.")
    name = _named(spec)
    make = _family(name, _EMBEDDINGS)
    if make is None or spec.options.get("invocation") == "converse":
        raise UsageError(
            f"{name} gives no embeddings on Bedrock as far as is known here: Titan and Cohere do, by InvokeModel. "
            "Nothing was sent."
        )
    return with_params(make(spec), spec)


def _anthropic(spec: RequestSpec) -> dict[str, Any]:
    body: dict[str, Any] = {
        "anthropic_version": "bedrock-2023-05-31",
        "max_tokens": spec.max_tokens or _DEFAULT_MAX_TOKENS,
    }
    if spec.system:
        body["system"] = spec.system
    if spec.temperature is not None:
        body["temperature"] = spec.temperature
    body["messages"] = [{"role": "user", "content": PROMPT}]
    return body


def _converse(spec: RequestSpec) -> dict[str, Any]:
    body: dict[str, Any] = {}
    if spec.system:
        body["system"] = [{"text": spec.system}]
    body["messages"] = [{"role": "user", "content": [{"text": PROMPT}]}]
    config = {"maxTokens": spec.max_tokens, "temperature": spec.temperature}
    config = {name: value for name, value in config.items() if value is not None}
    if config:
        body["inferenceConfig"] = config
    return body


def _nova(spec: RequestSpec) -> dict[str, Any]:
    return {"schemaVersion": "messages-v1", **_converse(spec)}


def _llama(spec: RequestSpec, begin: str, end: str, eot: str) -> dict[str, Any]:
    def turn(role: str, text: str) -> str:
        return f"{begin}{role}{end}\n\n{text}{eot}"

    system = turn("system", spec.system) if spec.system else ""
    prompt = f"<|begin_of_text|>{system}{turn('user', PROMPT)}{begin}assistant{end}\n\n"
    return _limited({"prompt": prompt}, spec, "max_gen_len")


def _llama3(spec: RequestSpec) -> dict[str, Any]:
    return _llama(spec, "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")


def _llama4(spec: RequestSpec) -> dict[str, Any]:
    return _llama(spec, "<|header_start|>", "<|header_end|>", "<|eot|>")


def _mistral(spec: RequestSpec) -> dict[str, Any]:
    # Its template knows no system prompt: it stands before the first question.
    system = f"{spec.system}\n\n" if spec.system else ""
    return _limited({"prompt": f"<s>[INST] {system}{PROMPT} [/INST]"}, spec, "max_tokens")


def _limited(body: dict[str, Any], spec: RequestSpec, limit: str) -> dict[str, Any]:
    if spec.max_tokens is not None:
        body[limit] = spec.max_tokens
    if spec.temperature is not None:
        body["temperature"] = spec.temperature
    return body


def _titan_embedding(_: RequestSpec) -> dict[str, Any]:
    return {"inputText": PROMPT}


def _cohere_embedding(_: RequestSpec) -> dict[str, Any]:
    return {"texts": [PROMPT], "input_type": "search_document"}


_CHATS: Final[Mapping[str, Callable[[RequestSpec], dict[str, Any]]]] = {
    r"anthropic\.": _anthropic,
    r"amazon\.nova-": _nova,
    r"meta\.llama3": _llama3,
    r"meta\.llama4": _llama4,
    # Later ones have no text completion: they are asked by Converse.
    r"mistral\.(?:mistral-7b|mixtral-8x7b|mistral-(?:small|large)-2402)": _mistral,
}
_EMBEDDINGS: Final[Mapping[str, Callable[[RequestSpec], dict[str, Any]]]] = {
    r"amazon\.titan-embed-text": _titan_embedding,
    r"cohere\.embed-": _cohere_embedding,
}
