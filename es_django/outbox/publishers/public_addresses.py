"""Keep URLs that other people choose from reaching the private network.

This module resolves the host name, checks all its addresses, and connects to a checked address. So DNS rebinding fails:
it does not matter if the name resolves to a private address a moment later.
"""

import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from httpcore import ConnectError

NAT64 = IPv6Network("64:ff9b::/96")


class PrivateAddress(Exception):
    """The host has an address outside the public Internet."""


def addresses_of(host: str) -> list[str]:
    """Return the addresses of a host. Raise `ConnectError` if its name has none."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ConnectError("the host name cannot be resolved") from error
    return [str(address[0]) for *_, address in found]


def public_addresses_of(host: str) -> list[str]:
    """Return the addresses of a host. Raise `PrivateAddress` if one is private, or `ConnectError` without any."""
    addresses = addresses_of(host)
    if not all(is_public(ip_address(address)) for address in addresses):
        raise PrivateAddress("the host has a private address; to send there, set the option allow_private")
    return addresses


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Return whether the address belongs to the public Internet. If it embeds an IPv4 address, that one decides."""
    if isinstance(address, IPv6Address):
        embedded = address.ipv4_mapped or address.sixtofour
        if address in NAT64:
            embedded = IPv4Address(int(address) & 0xFFFFFFFF)
        if embedded is not None:
            return is_public(embedded)
    return address.is_global and not address.is_multicast and not address.is_reserved
