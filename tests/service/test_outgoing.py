"""One message to a server: where it goes, and to which places it does not."""

import asyncio
import datetime
import socket
import ssl
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from halfrate.base.addresses import read_address
from halfrate.core.webhooks import Answer, Webhook
from halfrate.service.outgoing import Outgoing, _only_to

from .receiver import receiving

LOOPBACK = ("127.0.0.0/8",)


def answers(url: str, outgoing: Outgoing, allowed: tuple[str, ...] = ()) -> Answer:
    """What comes of one message to a webhook that was let in, as it may have been when its name led elsewhere."""
    webhook = Webhook(id="wh", team="default", url=url, created_at=1.0, allowed=allowed)
    try:
        return asyncio.run(outgoing.post(webhook, {"webhook-id": "evt"}, b"{}"))
    finally:
        outgoing.close()


class Names:
    """A name server of the tests': each look-up takes the next answer, and the last for ever."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append((host, port))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "localhost",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
    ],
)
def test_no_spelling_of_this_machine_is_connected_to(host: str) -> None:
    """By the system's own look-up, which understands all of them."""
    with receiving() as receiver:
        found = answers(f"http://{host}:{receiver.port}/x", Outgoing())
        assert found.status is None
        assert "no public address" in found.problem or "nowhere" in found.problem
        assert receiver.connections == 0


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["::1"],
        ["10.0.0.1"],
        ["169.254.169.254"],
        ["fd00:ec2::254"],
        ["::ffff:10.0.0.1"],
        ["64:ff9b::a9fe:a9fe"],
        ["2002:7f00:1::"],
        ["100.64.1.1"],
        ["0.0.0.0"],  # noqa: S104
        ["224.0.0.1"],
        ["255.255.255.255"],
        ["fe80::1%eth0"],
        ["no address"],
        ["93.184.216.34", "127.0.0.1"],
        ["127.0.0.1", "93.184.216.34"],
    ],
)
def test_a_name_that_leads_to_a_private_address_is_not_connected_to(
    addresses: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []

    class Watched(socket.socket):
        def connect(self, *args: Any) -> None:
            made.append(args)
            super().connect(*args)

    monkeypatch.setattr(socket, "socket", Watched)
    names = Names(addresses)
    found = answers("http://hooks.example.com:81/x", Outgoing(names))
    assert "no public address" in found.problem
    assert names.asked == [("hooks.example.com", 81)]
    assert made == []


def test_a_name_is_looked_up_once_and_what_was_checked_is_what_is_connected_to() -> None:
    """A second look-up, between the check and the connection, would lead elsewhere."""
    with receiving() as checked, receiving() as rebound:
        # Two places on this machine: one is allowed, and stands for what is public.
        names = Names(["127.0.0.1"], ["127.0.0.2"])
        with pytest.MonkeyPatch.context() as patch:

            def look_up(*_args: Any, **_options: Any) -> Any:
                raise AssertionError("the name was looked up again")

            patch.setattr(socket, "getaddrinfo", look_up)
            found = answers(f"http://hooks.example.com:{checked.port}/x", Outgoing(names), ("127.0.0.1/32",))
        assert found.status == 200
        assert names.asked == [("hooks.example.com", checked.port)]
        assert checked.got[0].headers["host"] == f"hooks.example.com:{checked.port}"
        assert rebound.connections == 0


def test_each_message_looks_the_name_up_anew() -> None:
    with receiving() as receiver:
        webhook = Webhook(
            id="wh",
            team="default",
            url=f"http://hooks.example.com:{receiver.port}/x",
            created_at=1.0,
            allowed=("127.0.0.1/32",),
        )
        outgoing = Outgoing(Names(["127.0.0.1"], ["10.0.0.1"]))

        async def twice() -> list[Answer]:
            return [await outgoing.post(webhook, {}, b"{}") for _ in range(2)]

        first, second = asyncio.run(twice())
        outgoing.close()
    assert first.status == 200
    assert second.problem == "the host is at 10.0.0.1, which is no public address"
    assert receiver.connections == 1


def test_a_connection_to_anywhere_else_is_not_made() -> None:
    """Should the client ever choose a place of its own, the socket is not given to it."""
    checked = read_address("93.184.216.34")
    assert checked is not None
    make = _only_to({checked})
    make((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("93.184.216.34", 80))).close()
    for place in ("127.0.0.1", "93.184.216.35", "", "localhost"):
        with pytest.raises(PermissionError):
            make((socket.AF_INET, socket.SOCK_STREAM, 0, "", (place, 80)))


def test_no_proxy_of_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving() as proxy, receiving() as receiver:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        assert answers(receiver.url, Outgoing(), LOOPBACK).status == 200
        assert proxy.connections == 0


def test_a_name_that_leads_nowhere() -> None:
    async def unknown(_host: str, _port: int) -> Sequence[str]:
        raise socket.gaierror(-2, "Name or service not known")

    assert answers("http://hooks.example.com/x", Outgoing(unknown)).problem == "the host's name leads nowhere"
    assert answers("http://hooks.example.com/x", Outgoing(Names([]))).status is None


def test_a_name_server_that_does_not_answer_is_part_of_the_time() -> None:
    async def slow(_host: str, _port: int) -> Sequence[str]:
        await asyncio.sleep(30)
        return []

    began = time.monotonic()
    found = answers("http://hooks.example.com/x", Outgoing(slow, timeout=0.3))
    assert found.problem == "no answer within 0.3 s"
    assert time.monotonic() - began < 5


# ---------------------------------------------------------------- TLS


def certificate(folder: Path, name: str) -> tuple[Path, ssl.SSLContext]:
    """A certificate for a name, and a server's side of TLS that notes for whom it was asked."""
    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(who)
        .issuer_name(who)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    public, private = folder / f"{name}.pem", folder / f"{name}.key"
    public.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    return public, context


def test_tls_is_the_names_though_the_connection_is_to_the_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    public, context = certificate(tmp_path, "hooks.example.com")
    asked: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: asked.append(name)
    monkeypatch.setenv("SSL_CERT_FILE", str(public))
    with receiving(tls=context) as receiver:
        url = f"https://hooks.example.com:{receiver.port}/x"
        assert answers(url, Outgoing(Names(["127.0.0.1"])), LOOPBACK).status == 200
        assert receiver.got[0].headers["host"] == f"hooks.example.com:{receiver.port}"
    assert asked == ["hooks.example.com"]


@pytest.mark.parametrize("trusted", [True, False])
def test_a_certificate_that_is_anothers_or_nobodys_is_not_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trusted: bool
) -> None:
    public, context = certificate(tmp_path, "other.example.com" if trusted else "hooks.example.com")
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(public))
    with receiving(tls=context) as receiver:
        url = f"https://hooks.example.com:{receiver.port}/x"
        found = answers(url, Outgoing(Names(["127.0.0.1"])), LOOPBACK)
        assert found.problem == "its TLS or its certificate is not as it should be"
        assert receiver.got == []


def test_who_speaks_no_tls_gets_nothing_in_the_clear() -> None:
    with receiving() as receiver:
        url = f"https://127.0.0.1:{receiver.port}/x"
        assert answers(url, Outgoing(), LOOPBACK).status is None
        assert receiver.got == []
