"""As what requests in the form of OpenAI's or Anthropic's API are put to a provider that has another."""

from halfrate.base.types import Capabilities, Endpoint, Translated


def form_of(endpoint: Endpoint) -> Translated:
    """The form by which requests of an endpoint reach all others: responses and messages do as chats."""
    return "embeddings" if endpoint == "embeddings" else "chat"


def spoken(facts: Capabilities, form: Translated) -> Endpoint | None:
    """The provider's own endpoint that takes them, as they are or translated; None where there is none."""
    if form in facts.endpoints:
        return form
    return facts.endpoints[0] if form in facts.translates else None
