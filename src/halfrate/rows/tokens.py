"""Counting the tokens of requests with a model's own vocabulary, on this machine.

The vocabularies are splintr's (the extra `tokens`). Which model has which: OpenAI's are tiktoken 0.14's table; the
others are those that their makers publish with the weights. Anthropic, Google and xAI publish none of their present
models.
"""

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from halfrate.base.errors import SettingsError, UsageError
from halfrate.base.types import RequestSpec

_VOCABULARIES: Final = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (r"gpt-oss", "gpt-oss"),
        (r"gpt-4\.[15]|gpt-4o|gpt-5|\bo[134](-|$)", "o200k_base"),
        (r"gpt-4|gpt-3\.5|gpt-35|text-embedding-(3|ada)", "cl100k_base"),
        (r"llama-?3", "llama3"),
        (r"qwen-?[23]", "qwen3"),
        (r"deepseek-?(v3|r1|chat|reasoner)", "deepseek_v3"),
        (r"glm-?4", "glm4"),
        (r"kimi-k2|moonshotai/kimi", "kimi_k2"),
        (r"mistral-(nemo|large)|pixtral", "mistral_v3"),
        (r"phi-?4", "phi4"),
    )
)
# Around each message, and before the answer (OpenAI Cookbook, "How to count tokens with tiktoken").
_A_MESSAGE: Final = 4
_THE_ANSWER: Final = 3

_decode = msgspec.json.Decoder(list[str]).decode


def vocabulary_of(model: str) -> str | None:
    """The name of a model's vocabulary, None where none is published."""
    name = model.lower()
    return next((vocabulary for pattern, vocabulary in _VOCABULARIES if pattern.search(name)), None)


class TokenCounter:
    """Counts the tokens of rows as they are encoded. `total`: of the requests so far.

    The text is counted exactly; what frames it, as OpenAI documents it for its own models. What a schema adds is not
    known. Raises UsageError where the model's vocabulary is not known, SettingsError where it is not installed.
    """

    def __init__(self, spec: RequestSpec) -> None:
        if spec.native is not None:
            raise UsageError(
                "Tokens are counted of a prompt's rows; a batch file's are estimated. Leave --count-tokens out."
            )
        vocabulary = vocabulary_of(spec.model)
        if vocabulary is None:
            raise UsageError(
                f"Nobody has published how {spec.model} cuts text into tokens, so they cannot be counted here. Leave "
                "--count-tokens out, and they are estimated. Nothing was sent."
            )
        try:
            from splintr import Tokenizer
        except ImportError:
            raise SettingsError(
                "Counting tokens needs one more package: pip install 'halfrate[tokens]'. Nothing was sent."
            ) from None
        self.total = 0
        self._tokenizer: Any = Tokenizer.from_pretrained(vocabulary)
        self._each = 0
        if spec.endpoint != "embeddings":
            self._each = _A_MESSAGE + _THE_ANSWER
            if spec.system:
                self._each += _A_MESSAGE + self._count([spec.system])

    def add(self, prompts: Sequence[bytes | msgspec.Raw]) -> None:
        """Prompts as JSON strings."""
        texts = _decode(b"[%b]" % b",".join(prompts))
        self.total += self._count(texts) + len(texts) * self._each

    def _count(self, texts: list[str]) -> int:
        # A text that spells a special token is only a text: `encode_ordinary` takes it so, and the batch form does not.
        return sum(len(self._tokenizer.encode_ordinary(text)) for text in texts)
