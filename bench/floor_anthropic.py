"""The floor for Anthropic. Usage: python -m bench.floor_anthropic INPUT OUTPUT"""

import os
import sys
import time

import msgspec

from .floor import Connection, Requests, Spool, line_blocks, run

_PATH = b"/v1/messages/batches"
_OPENING = b'{"requests":['
_BEFORE_PROMPT = (
    b'{"custom_id":"%d","params":{"model":"claude-haiku-4-5","max_tokens":256,'
    b'"messages":[{"role":"user","content":'
)
_AFTER_PROMPT = b"}]}},\n"
_CLOSING = b"}]}}]}"
_ANSWER = b',"answer":%b,"input_tokens":%d,"output_tokens":%d}\n'


class _Block(msgspec.Struct, gc=False):
    text: msgspec.Raw


class _Usage(msgspec.Struct, gc=False):
    input_tokens: int
    output_tokens: int


class _Message(msgspec.Struct, gc=False):
    content: tuple[_Block]
    usage: _Usage


class _Outcome(msgspec.Struct, gc=False):
    message: _Message


class _Result(msgspec.Struct, gc=False):
    custom_id: int
    result: _Outcome


class _Anthropic:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def submit(self, requests: Requests) -> str:
        connection = self._connection
        body = requests.body(_OPENING, _BEFORE_PROMPT, _AFTER_PROMPT, _CLOSING)
        return connection.json(connection.stream(_PATH, body, b"application/json"))["id"]

    def collect(self, batch_id: str, spool: Spool) -> None:
        connection = self._connection
        path = _PATH + b"/" + batch_id.encode()
        while connection.json(connection.request(b"GET", path))["processing_status"] != "ended":
            time.sleep(30)
        length = connection.request(b"GET", path + b"/results")
        # The id is a string that holds a number: not strict lets the decoder make the number of it.
        decode = msgspec.json.Decoder(_Result, strict=False).decode_lines
        places, first = spool.places, spool.first
        at = total_in = total_out = 0
        for block in line_blocks(connection.readinto, length):
            answers: list[bytes] = []
            for result in decode(block):
                message = result.result.message
                usage = message.usage
                came, went = usage.input_tokens, usage.output_tokens
                answer = _ANSWER % (message.content[0].text, came, went)
                size = len(answer)
                places[result.custom_id - first] = at << 24 | size
                at += size
                total_in += came
                total_out += went
                answers.append(answer)
            spool.write(answers)
        spool.input_tokens, spool.output_tokens = total_in, total_out
        connection.json(connection.request(b"DELETE", path))


if __name__ == "__main__":
    run(_Anthropic(Connection(os.environ["ANTHROPIC_BASE_URL"])), sys.argv[1], sys.argv[2])
