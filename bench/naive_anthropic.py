"""The script that the articles show, for Anthropic: official SDK, a list of Request objects, a dict of all answers.

Usage: python -m bench.naive_anthropic INPUT OUTPUT
"""

import json
import sys
import time

from anthropic import Anthropic
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming
from anthropic.types.messages.batch_create_params import Request

BATCH_ROWS = 50_000

client = Anthropic()

with open(sys.argv[1], encoding="utf-8") as f:  # noqa: PTH123 - as the articles have it
    rows = [json.loads(line) for line in f]

batch_ids: list[str] = []
for start in range(0, len(rows), BATCH_ROWS):
    batch = client.messages.batches.create(
        requests=[
            Request(
                custom_id=f"row-{number}",
                params=MessageCreateParamsNonStreaming(
                    model="claude-haiku-4-5",
                    max_tokens=256,
                    messages=[{"role": "user", "content": row["text"]}],
                ),
            )
            for number, row in enumerate(rows[start : start + BATCH_ROWS], start)
        ]
    )
    batch_ids.append(batch.id)

answers: dict[str, tuple[str, int, int]] = {}
for batch_id in batch_ids:
    while client.messages.batches.retrieve(batch_id).processing_status != "ended":
        time.sleep(30)
    for result in client.messages.batches.results(batch_id):
        if result.result.type == "succeeded":
            message = result.result.message
            block = message.content[0]
            text = block.text if block.type == "text" else ""
            answers[result.custom_id] = (text, message.usage.input_tokens, message.usage.output_tokens)

input_tokens = output_tokens = 0
with open(sys.argv[2], "w", encoding="utf-8") as f:  # noqa: PTH123 - as the articles have it
    for number, row in enumerate(rows):
        row["answer"], row["input_tokens"], row["output_tokens"] = answers[f"row-{number}"]
        input_tokens += row["input_tokens"]
        output_tokens += row["output_tokens"]
        f.write(json.dumps(row) + "\n")

print(json.dumps({"rows": len(rows), "input_tokens": input_tokens, "output_tokens": output_tokens}))
