"""Which addresses something may be sent to, however they are written."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halfrate.base.addresses import Reach, is_host, may_reach, reach_of, read_address, read_allowed

PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "52.95.110.1",
    "100.63.255.255",
    "100.128.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "192.167.255.255",
    "223.255.255.255",
    "2606:4700:4700::1111",
    "2a00:1450:4001:81b::200e",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
]
PRIVATE = [
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.127.255.254",
    "127.0.0.1",
    "127.255.255.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "::1",
    "fc00::1",
    "fdff:ffff::1",
    "::ffff:127.0.0.1",
    "::ffff:7f00:1",
    "::ffff:10.1.2.3",
    "64:ff9b::10.0.0.1",
    "64:ff9b::7f00:1",
]
SPECIAL = [
    "0.0.0.0",  # noqa: S104
    "0.1.2.3",
    "169.254.169.254",
    "169.254.0.1",
    "168.63.129.16",
    "100.100.100.200",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.7",
    "203.0.113.9",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::2",
    "::7f00:1",  # IPv4 in IPv6 as it was before ::ffff:
    "::127.0.0.1",
    "::ffff:0:127.0.0.1",  # IPv4-translated
    "::ffff:169.254.169.254",
    "64:ff9b::169.254.169.254",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",  # Teredo
    "2001:2::1",
    "2001:10::1",
    "2001:20::1",
    "2001:db8::1",
    "2002:7f00:1::1",  # 6to4 of 127.0.0.1
    "2002:808:808::1",
    "3fff::1",
    "5f00::1",
    "fd00:ec2::254",
    "fd20:ce::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "ff05::2",
    "4000::1",
]


@pytest.mark.parametrize(
    ("reach", "text"),
    [(reach, text) for reach, texts in zip(Reach, (PUBLIC, PRIVATE, SPECIAL), strict=True) for text in texts],
)
def test_whose_an_address_is(reach: Reach, text: str) -> None:
    address = read_address(text)
    assert address is not None
    assert reach_of(address) is reach
    assert may_reach("example.com", text) is (reach is Reach.PUBLIC)


@given(st.ip_addresses())
def test_what_python_knows_to_be_private_is_not_taken_for_public(address: ipaddress.IPv4Address) -> None:
    """Another table, with gaps of its own, that may be stricter here and there."""
    found = read_address(str(address))
    assert found is not None
    if (
        found.is_private
        or found.is_link_local
        or found.is_multicast
        or found.is_loopback
        or found.is_unspecified
    ):
        assert reach_of(found) is not Reach.PUBLIC


@pytest.mark.parametrize(
    "text", ["", "localhost", "127.1", "2130706433", "0x7f.0.0.1", "0177.0.0.1", "1.2.3", "[::1]", "::1::"]
)
def test_what_is_no_address_is_reached_by_nobody(text: str) -> None:
    assert read_address(text) is None
    assert not may_reach("example.com", text, ("0.0.0.0/0", "::/0"))


def test_a_host_that_is_allowed_may_be_at_private_addresses_and_no_other() -> None:
    allowed = ("hooks.internal",)
    assert may_reach("hooks.internal", "10.1.2.3", allowed)
    assert may_reach("Hooks.Internal.", "::1", allowed)
    assert may_reach("hooks.internal", "8.8.8.8", allowed)
    assert not may_reach("other.internal", "10.1.2.3", allowed)
    # Where credentials are handed out is no place of a host's.
    for text in SPECIAL:
        assert not may_reach("hooks.internal", text, allowed), text


def test_a_network_that_is_allowed_is_that_and_no_more() -> None:
    allowed = ("10.1.0.0/16", "fd12::/64")
    assert may_reach("any.example", "10.1.255.1", allowed)
    assert may_reach("any.example", "::ffff:10.1.0.1", allowed)
    assert may_reach("any.example", "fd12::7", allowed)
    assert not may_reach("any.example", "10.2.0.1", allowed)
    assert not may_reach("any.example", "fd12:0:0:1::7", allowed)
    assert may_reach("any.example", "169.254.169.254", ("169.254.169.254/32",))


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("hooks.internal", "hooks.internal"),
        (" Hooks.INTERNAL. ", "hooks.internal"),
        ("localhost", "localhost"),
        ("10.0.3.7", "10.0.3.7/32"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("::1", "::1/128"),
        ("[::1]", "::1/128"),
        ("fd00::/8", "fd00::/8"),
        ("::ffff:10.0.0.1", "10.0.0.1/32"),
    ],
)
def test_what_can_be_allowed(text: str, read: str) -> None:
    assert read_allowed(text) == read


@pytest.mark.parametrize(
    "text",
    ["", "*", "10.0.0.1/8", "10.0.0/8", "10.0.0.0/33", "127.1", "a b", "http://x", "a/b", "0x7f000001"],
)
def test_what_cannot_be_allowed(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        read_allowed(text)


@pytest.mark.parametrize(
    "text", ["example.com", "a.b.c.", "localhost", "xn--bcher-kva.example", "my_host", "1e100.net"]
)
def test_names_of_hosts(text: str) -> None:
    assert is_host(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "a..b",
        "-a.com",
        "a-.com",
        "b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher.example",
        "a b",
        "a/b",
        "x" * 64,
        "127.1",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "1.2.3.4.5",
        "x.0x1",
        "a." * 130 + "com",
    ],
)
def test_what_is_no_name_of_a_host(text: str) -> None:
    assert not is_host(text)
