"""The turns of a Messages request of Anthropic's, block by block, as the messages of a chat in OpenAI's form.

What differs is settled here. With Anthropic turns of one side in a row are one turn; calls of tools and their results
are blocks among others, results first in the user's turn; a conversation that ends with the assistant asks for that
turn to be written on. In a chat the results are messages of their own right after the assistant's, calls stand after
its texts, and only the user can show images.
"""

from typing import Any, Final

import msgspec

from halfrate.providers.translation.anthropic import IMAGES, short
from halfrate.providers.translation.completion import tool_call
from halfrate.providers.translation.conversation import holds_base64
from halfrate.providers.translation.fields import Fields, Untranslatable

_ROLES: Final = frozenset({"user", "assistant", "system"})
_THOUGHTS: Final = frozenset({"thinking", "redacted_thinking"})

_FAILED: Final = "Error"
"""Stands before what a tool said that failed: a chat has no field for that."""


class _Turn(msgspec.Struct, frozen=True):
    """Messages of one side in a row; `path` is that of the first."""

    role: str
    blocks: list[Fields]
    path: str


def system(body: Fields) -> list[dict[str, Any]]:
    """The instructions before the conversation: one message, or none."""
    texts = _texts(_blocks(body, "system"))
    return [{"role": "system", "content": short(texts)}] if texts else []


def messages(body: Fields) -> list[dict[str, Any]]:
    """The conversation.

    Raises:
        Untranslatable: it holds a block that a chat has no equivalent for, a call without its result right after it or
            a result without its call, or asks for the assistant's last turn to be written on.
    """
    turns = _turns(body)
    if not turns:
        raise body.refusal("messages", "is empty")
    if turns[-1].role == "assistant":
        raise Untranslatable(
            f"{turns[-1].path}.role",
            f"ends the conversation: {body.taker} would answer it, not go on writing it",
        )
    out: list[dict[str, Any]] = []
    waiting: dict[str, str] = {}
    for turn in turns:
        if turn.role == "assistant":
            said, waiting = _assistant(turn)
            out.append(said)
        else:
            out += _others(turn, waiting)
    return out


def unmark(block: Fields) -> None:
    """Take the mark of a cache away: it changes what a request costs and how soon its answer is there, and nothing of
    the answer. Chat completions are cached unasked, where they are."""
    mark = block.inner("cache_control")
    if mark is not None:
        kind = mark.needed_text("type")
        if kind != "ephemeral":
            raise mark.refusal("type", f"is {kind!r}, which is no kind of cache of Anthropic's")
        mark.text("ttl")
        mark.finish()


def _turns(body: Fields) -> list[_Turn]:
    turns: list[_Turn] = []
    for message in body.each("messages"):
        role = message.needed_text("role")
        if role not in _ROLES:
            raise message.refusal("role", f"is {role!r}, which is none of Anthropic's")
        blocks = _blocks(message, "content")
        message.finish()
        if turns and turns[-1].role == role:
            turns[-1].blocks.extend(blocks)
        else:
            turns.append(_Turn(role, blocks, message.path))
    return turns


def _assistant(turn: _Turn) -> tuple[dict[str, Any], dict[str, str]]:
    """The assistant's message, and the paths of its calls by their ids."""
    texts: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    paths: dict[str, str] = {}
    for block in turn.blocks:
        kind = _kind(block)
        if kind == "text":
            texts += _text(block)
        elif kind == "tool_use":
            call = _call(block)
            if call["id"] in paths:
                raise block.refusal("id", "is used a second time")
            paths[call["id"]] = block.path
            calls.append(call)
        elif kind in _THOUGHTS:
            raise block.refusal("type", f"is {kind!r}, which is for Claude alone to read")
        else:
            raise block.refusal("type", f"is {kind!r}, which {block.taker} does not let the assistant say")
        block.finish()
    if not (texts or calls):
        raise Untranslatable(f"{turn.path}.content", "is empty")
    message: dict[str, Any] = {"role": "assistant", "content": short(texts) if texts else None}
    return ({**message, "tool_calls": calls} if calls else message), paths


def _others(turn: _Turn, waiting: dict[str, str]) -> list[dict[str, Any]]:
    """The messages in a turn of the user's, or of instructions. Calls that have their result wait no longer."""
    results: list[dict[str, Any]] = []
    parts: list[dict[str, Any]] = []
    for block in turn.blocks:
        kind = _kind(block)
        if kind == "text":
            parts += _text(block)
        elif kind == "image" and turn.role == "user":
            parts.append(_image(block))
        elif kind == "tool_result" and turn.role == "user":
            # Anthropic refuses it as well: "Messages following tool_use blocks must begin with a matching number of
            # tool_result blocks".
            if parts:
                raise block.refusal("type", "is 'tool_result' after other content: results stand first")
            results.append(_result(block, waiting))
        else:
            raise block.refusal("type", f"is {kind!r}, which has no equivalent with {block.taker}")
        block.finish()
    for path in waiting.values():
        raise Untranslatable(path, "has no result in the turn right after it")
    if not (results or parts):
        raise Untranslatable(f"{turn.path}.content", "is empty")
    return [*results, {"role": turn.role, "content": short(parts)}] if parts else results


def _blocks(holder: Fields, name: str) -> list[Fields]:
    """The blocks of a field that may be a string instead."""
    content = holder.take(name)
    if isinstance(content, str):
        return [Fields({"type": "text", "text": content}, holder.taker, holder.at(name))]
    return Fields({name: content}, holder.taker, holder.path).each(name)


def _kind(block: Fields) -> str:
    unmark(block)
    return block.needed_text("type")


def _texts(blocks: list[Fields]) -> list[dict[str, Any]]:
    """What blocks say of which all have to be text."""
    texts: list[dict[str, Any]] = []
    for block in blocks:
        kind = _kind(block)
        if kind != "text":
            raise block.refusal("type", f"is {kind!r} where {block.taker} takes only text")
        texts += _text(block)
        block.finish()
    return texts


def _text(block: Fields) -> list[dict[str, Any]]:
    """A text, unless it is empty and says nothing."""
    text = block.needed_text("text")
    if block.take("citations"):
        raise block.refusal("citations", f"has no equivalent with {block.taker}")
    return [{"type": "text", "text": text}] if text else []


def _image(block: Fields) -> dict[str, Any]:
    source = block.needed_inner("source")
    kind = source.needed_text("type")
    if kind == "base64":
        url = _data_url(source)
    elif kind == "url":
        url = source.needed_text("url")
        if not url.lower().startswith(("https://", "http://")):
            raise source.refusal("url", "is neither an https URL nor an http one")
    else:
        raise source.refusal("type", f"is {kind!r}, which has no equivalent with {block.taker}")
    source.finish()
    changes = block.inner("transformations")
    if changes is not None:
        # To make an image smaller that is too large is what everybody does anyway.
        if changes.text("oversized_image") not in {None, "downsize"}:
            raise changes.refusal("oversized_image", f"has no equivalent with {block.taker}")
        changes.finish()
    return {"type": "image_url", "image_url": {"url": url}}


def _data_url(source: Fields) -> str:
    media_type = source.needed_text("media_type")
    if media_type not in IMAGES:
        raise source.refusal("media_type", f"is {media_type!r}, which {source.taker} does not take")
    data = source.needed_text("data")
    if not holds_base64(data):
        raise source.refusal("data", "holds no base64")
    return f"data:{media_type};base64,{data}"


def _call(block: Fields) -> dict[str, Any]:
    call_id = block.needed_text("id")
    name = block.needed_text("name")
    given = block.mapping("input")
    if given is None:
        raise block.refusal("input", "is missing")
    caller = block.inner("caller")
    if caller is not None:
        kind = caller.needed_text("type")
        if kind != "direct":
            raise caller.refusal("type", f"is {kind!r}, which has no equivalent with {block.taker}")
        caller.finish()
    return tool_call(call_id, name, given)


def _result(block: Fields, waiting: dict[str, str]) -> dict[str, Any]:
    call_id = block.needed_text("tool_use_id")
    if waiting.pop(call_id, None) is None:
        raise block.refusal("tool_use_id", "answers no call that waits for its result")
    texts = _texts(_blocks(block, "content"))
    if block.flag("is_error"):
        first = f"{_FAILED}: {texts[0]['text']}" if texts else _FAILED
        texts = [{"type": "text", "text": first}, *texts[1:]]
    return {"role": "tool", "tool_call_id": call_id, "content": short(texts) if texts else ""}
