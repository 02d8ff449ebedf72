"""The floor for OpenAI. Usage: python -m bench.floor_openai INPUT OUTPUT"""

import os
import sys
import time

import msgspec

from .floor import Connection, Requests, Spool, line_blocks, run

_BOUNDARY = b"halfrate-floor"
_OPENING = (
    b'--%b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    b'--%b\r\nContent-Disposition: form-data; name="file"; filename="shard.jsonl"\r\n'
    b"Content-Type: application/octet-stream\r\n\r\n" % (_BOUNDARY, _BOUNDARY)
)
_BEFORE_PROMPT = (
    b'{"custom_id":"%d","method":"POST","url":"/v1/chat/completions",'
    b'"body":{"model":"gpt-4.1-mini","messages":[{"role":"user","content":'
)
_AFTER_PROMPT = b"}]}}\n"
_CLOSING = _AFTER_PROMPT + b"\r\n--%b--\r\n" % _BOUNDARY
_ANSWER = b',"answer":%b,"input_tokens":%d,"output_tokens":%d}\n'


class _Message(msgspec.Struct, gc=False):
    content: msgspec.Raw


class _Choice(msgspec.Struct, gc=False):
    message: _Message


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: int
    completion_tokens: int


class _Body(msgspec.Struct, gc=False):
    choices: tuple[_Choice]
    usage: _Usage


class _Response(msgspec.Struct, gc=False):
    body: _Body


class _Result(msgspec.Struct, gc=False):
    custom_id: int
    response: _Response


class _OpenAI:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def submit(self, requests: Requests) -> str:
        connection = self._connection
        body = requests.body(_OPENING, _BEFORE_PROMPT, _AFTER_PROMPT, _CLOSING)
        kind = b"multipart/form-data; boundary=" + _BOUNDARY
        file = connection.json(connection.stream(b"/v1/files", body, kind))
        asked = {"input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        return connection.json(connection.request(b"POST", b"/v1/batches", msgspec.json.encode(asked)))["id"]

    def collect(self, batch_id: str, spool: Spool) -> None:
        connection = self._connection
        path = b"/v1/batches/" + batch_id.encode()
        while (batch := connection.json(connection.request(b"GET", path)))["status"] != "completed":
            time.sleep(30)
        output = b"/v1/files/" + batch["output_file_id"].encode()
        length = connection.request(b"GET", output + b"/content")
        # The id is a string that holds a number: not strict lets the decoder make the number of it.
        decode = msgspec.json.Decoder(_Result, strict=False).decode_lines
        places, first = spool.places, spool.first
        at = total_in = total_out = 0
        for block in line_blocks(connection.readinto, length):
            answers: list[bytes] = []
            for result in decode(block):
                body = result.response.body
                usage = body.usage
                came, went = usage.prompt_tokens, usage.completion_tokens
                answer = _ANSWER % (body.choices[0].message.content, came, went)
                size = len(answer)
                places[result.custom_id - first] = at << 24 | size
                at += size
                total_in += came
                total_out += went
                answers.append(answer)
            spool.write(answers)
        spool.input_tokens, spool.output_tokens = total_in, total_out
        for file in (output, b"/v1/files/" + batch["input_file_id"].encode()):
            connection.json(connection.request(b"DELETE", file))


if __name__ == "__main__":
    run(_OpenAI(Connection(os.environ["OPENAI_BASE_URL"])), sys.argv[1], sys.argv[2])
