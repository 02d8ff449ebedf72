"""One message to somebody else's server, at an address that was checked.

The name is resolved once, here; all of its addresses have to be such that something may be sent there; and the
connection is made to one of these, whatever the name says a moment later. TLS and the head of the request speak of the
name. No redirect is followed, no proxy of the environment's is asked, and what is answered is not read.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeAlias

import aiohttp
import yarl
from aiohttp.abc import AbstractResolver, ResolveResult

from halfrate.base.addresses import Address, may_reach, read_address
from halfrate.base.version import VERSION
from halfrate.core.webhooks import Answer, Webhook
from halfrate.service.webhooks import target_of

TIMEOUT: Final = 15.0
"""Seconds from the look-up of the name to the head of the reply."""
_RESOLVERS: Final = 16
"""Names that are looked up at a time. Whoever serves them slowly holds up none but these."""

Resolve: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]


class Outgoing:
    """Sends messages. `resolve` gives the addresses of a host and port, and raises OSError where there are none."""

    def __init__(self, resolve: Resolve | None = None, *, timeout: float = TIMEOUT) -> None:
        self._resolve = resolve or self._looked_up
        self._timeout = timeout
        self._threads = ThreadPoolExecutor(_RESOLVERS, "names")
        # Here, and not by the client when it is imported: whom to trust is this process's to say.
        self._tls = ssl.create_default_context()

    async def post(self, webhook: Webhook, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send one message, once. Whatever comes of it is an answer."""
        try:
            async with asyncio.timeout(self._timeout):
                return await self._post(webhook, headers, body)
        except TimeoutError:
            return Answer(problem=f"no answer within {self._timeout:g} s")

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _post(self, webhook: Webhook, headers: Mapping[str, str], body: bytes) -> Answer:
        host, port = target_of(webhook.url)
        try:
            addresses = await self._resolve(host, port)
        except (OSError, UnicodeError):
            addresses = ()
        if not addresses:
            return Answer(problem="the host's name leads nowhere")
        for address in addresses:
            # One is enough: whoever mixes them wants to be led there sometimes.
            if not may_reach(host, address, webhook.allowed):
                return Answer(problem=f"the host is at {address}, which is no public address")
        return await self._sent(webhook.url, headers, body, addresses)

    async def _sent(
        self, url: str, headers: Mapping[str, str], body: bytes, addresses: Sequence[str]
    ) -> Answer:
        connector = aiohttp.TCPConnector(
            resolver=_Pinned(addresses),
            use_dns_cache=False,
            force_close=True,
            ssl=self._tls,
            socket_factory=_only_to({found for found in map(read_address, addresses) if found is not None}),
        )
        own = {"content-type": "application/json", "user-agent": f"halfrate/{VERSION}"}
        try:
            async with (
                aiohttp.ClientSession(
                    connector=connector,
                    cookie_jar=aiohttp.DummyCookieJar(),
                    timeout=aiohttp.ClientTimeout(),
                    auto_decompress=False,
                    trust_env=False,
                ) as session,
                session.post(
                    yarl.URL(url, encoded=True), data=body, headers={**own, **headers}, allow_redirects=False
                ) as reply,
            ):
                answer = Answer(status=reply.status, retry_after=_asked(reply))
                reply.close()
                return answer
        except aiohttp.ClientSSLError:
            return Answer(problem="its TLS or its certificate is not as it should be")
        except aiohttp.ClientConnectorError:
            return Answer(problem="no connection to the host")
        except (aiohttp.ClientError, OSError, ValueError):
            return Answer(problem="the connection broke, or the answer was no HTTP")

    async def _looked_up(self, host: str, port: int) -> Sequence[str]:
        def ask() -> list[str]:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            return list(dict.fromkeys(str(one[4][0]) for one in found))

        return await asyncio.get_running_loop().run_in_executor(self._threads, ask)


class _Pinned(AbstractResolver):
    """Knows one answer, whatever it is asked."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            {
                "hostname": host,
                "host": address,
                "port": port,
                "family": socket.AF_INET6 if ":" in address else socket.AF_INET,
                "proto": 0,
                "flags": socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            }
            for address in self._addresses
        ]

    async def close(self) -> None:
        """There is nothing to let go of."""


def _only_to(addresses: AbstractSet[Address]) -> Callable[[tuple[Any, ...]], socket.socket]:
    """Makes the sockets of connections, at the last moment before they are made, and none to anywhere else."""

    def made(info: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, place = info
        if read_address(str(place[0])) not in addresses:
            raise PermissionError("this is not where the message is to go")
        return socket.socket(family, kind, protocol)

    return made


def _asked(reply: aiohttp.ClientResponse) -> float | None:
    """Seconds that a server asks to be left alone for."""
    text = reply.headers.get("retry-after", "")
    if reply.status not in {429, 503} or not (text.isascii() and text.isdecimal() and len(text) < 8):
        return None
    return float(text)
