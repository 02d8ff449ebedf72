"""A line to the provider that can be cut: run as a script, `line.py <from port> <to port>` passes bytes on.

Killed, it takes every connection with it, with requests half sent and replies half read.
"""

import asyncio
import contextlib
import sys

from parent import while_it_lives


async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
        sink.write_eof()


async def serve(here: int, there: int) -> None:
    async def passed_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", there)
            await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))
            far_writer.close()
        finally:
            writer.close()

    server = await asyncio.start_server(passed_on, "127.0.0.1", here, reuse_port=True)
    print("listening", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(while_it_lives(serve(int(sys.argv[1]), int(sys.argv[2]))))
