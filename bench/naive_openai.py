"""The script that the articles show, for OpenAI: official SDK, json, a dict of all answers.

Usage: python -m bench.naive_openai INPUT OUTPUT
"""

import json
import sys
import time

from openai import OpenAI

BATCH_ROWS = 50_000

client = OpenAI()

with open(sys.argv[1], encoding="utf-8") as f:  # noqa: PTH123 - as the articles have it
    rows = [json.loads(line) for line in f]

batch_ids: list[str] = []
for start in range(0, len(rows), BATCH_ROWS):
    lines = [
        json.dumps(
            {
                "custom_id": f"row-{number}",
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": {
                    "model": "gpt-4.1-mini",
                    "messages": [{"role": "user", "content": row["text"]}],
                },
            }
        )
        for number, row in enumerate(rows[start : start + BATCH_ROWS], start)
    ]
    data = "\n".join(lines).encode()
    uploaded = client.files.create(file=("input.jsonl", data), purpose="batch")
    batch = client.batches.create(
        input_file_id=uploaded.id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    batch_ids.append(batch.id)

answers: dict[str, tuple[str, int, int]] = {}
for batch_id in batch_ids:
    batch = client.batches.retrieve(batch_id)
    while batch.status not in {"completed", "failed", "expired", "cancelled"}:
        time.sleep(30)
        batch = client.batches.retrieve(batch_id)
    assert batch.output_file_id is not None
    for line in client.files.content(batch.output_file_id).text.splitlines():
        result = json.loads(line)
        body = result["response"]["body"]
        usage = body["usage"]
        answers[result["custom_id"]] = (
            body["choices"][0]["message"]["content"],
            usage["prompt_tokens"],
            usage["completion_tokens"],
        )

input_tokens = output_tokens = 0
with open(sys.argv[2], "w", encoding="utf-8") as f:  # noqa: PTH123 - as the articles have it
    for number, row in enumerate(rows):
        row["answer"], row["input_tokens"], row["output_tokens"] = answers[f"row-{number}"]
        input_tokens += row["input_tokens"]
        output_tokens += row["output_tokens"]
        f.write(json.dumps(row) + "\n")

print(json.dumps({"rows": len(rows), "input_tokens": input_tokens, "output_tokens": output_tokens}))
