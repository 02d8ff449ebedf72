"""Which addresses are anybody's, and which are this machine's or of the network that it stands in. Pure.

Whoever is told where to send something must not be led to what only this machine can reach: a database, a router, the
service that hands out a cloud machine's credentials. What is not known to be public is not.

From the IANA registries of special-purpose addresses (IPv4 and IPv6, 2026), and the addresses that clouds give to
services of theirs. Python's own `is_global` has changed its mind between its versions.
"""

import enum
import re
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Final, TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address


class Reach(enum.Enum):
    """Whose an address is."""

    PUBLIC = "public"
    PRIVATE = "private"
    """This machine's, or of the network that it stands in."""
    SPECIAL = "special"
    """Nobody's that a message could be for: link-local, metadata services, multicast, reserved."""


_PRIVATE: Final = tuple(
    ip_network(text)
    for text in ("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1", "fc00::/7")
)  # fmt: skip
_METADATA: Final = frozenset(
    ip_address(text)
    for text in (
        "100.100.100.200",  # Alibaba
        "168.63.129.16",  # Azure, in a public range
        "169.254.169.254",
        "192.0.0.192",  # Oracle
        "fd00:ec2::254",  # AWS
        "fd20:ce::254",  # Google
        "fd00:42::42",  # Scaleway
    )
)
_SPECIAL_4: Final = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "169.254.0.0/16",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
_GLOBAL_6: Final = IPv6Network("2000::/3")
"""All that is given out of IPv6 for everybody."""
_SPECIAL_6: Final = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # Teredo, benchmarking, ORCHID
        "2001:db8::/32",
        "2002::/16",  # 6to4
        "3fff::/20",
    )
)
_NAT64: Final = IPv6Network("64:ff9b::/96")
"""IPv4 as hosts without any see it; what counts is which."""
_LABEL: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")


def read_address(text: str) -> Address | None:
    """An address from its text, the one that it really leads to; None for what is none."""
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(found, IPv6Address):
        if found.ipv4_mapped is not None:
            return found.ipv4_mapped
        if found in _NAT64:
            return IPv4Address(int(found) & 0xFFFFFFFF)
    return found


def reach_of(address: Address) -> Reach:
    if address in _METADATA:
        return Reach.SPECIAL
    if any(address in network for network in _PRIVATE):
        return Reach.PRIVATE
    if isinstance(address, IPv4Address):
        special = any(address in network for network in _SPECIAL_4)
    else:
        special = address not in _GLOBAL_6 or any(address in network for network in _SPECIAL_6)
    return Reach.SPECIAL if special else Reach.PUBLIC


def may_reach(host: str, address: str, allowed: tuple[str, ...] = ()) -> bool:
    """Whether something for `host` may be sent to an address that it is at.

    `allowed`: hosts that may be at private addresses, and networks of which any address may be reached.
    """
    found = read_address(address)
    if found is None:
        return False
    reach = reach_of(found)
    if reach is Reach.PUBLIC or any(found in network for network in _networks(allowed)):
        return True
    return reach is Reach.PRIVATE and host.lower().rstrip(".") in allowed


def read_allowed(text: str) -> str:
    """A host or a network as `may_reach` takes it. Raises ValueError for what is neither."""
    plain = text.strip().lower().removeprefix("[").removesuffix("]").rstrip(".")
    address = read_address(plain)
    if address is not None:
        return str(ip_network(address))
    if "/" in plain:
        # Bits beyond the mask are as likely a slip in the mask as in the address.
        return str(ip_network(plain))
    if not is_host(plain):
        raise ValueError(text)
    return plain


def is_host(text: str) -> bool:
    """Whether this can be a host's name, in ASCII. What some read as an address in other numbers is none."""
    labels = text.lower().rstrip(".").split(".")
    plain = len(text) <= 253 and all(_LABEL.fullmatch(label) for label in labels)
    return plain and not _NUMBER.fullmatch(labels[-1])


def _networks(allowed: tuple[str, ...]) -> list[IPv4Network | IPv6Network]:
    return [ip_network(text) for text in allowed if "/" in text]
