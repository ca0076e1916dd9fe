"""Keep URLs that other people choose from reaching the private network.

This module resolves the host name, checks all its addresses, and connects to a checked address. So DNS rebinding fails:
it does not matter if the name resolves to a private address a moment later.
"""

import asyncio
import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

import httpx

NAT64 = IPv6Network("64:ff9b::/96")


class PrivateAddress(Exception):
    """The host has an address outside the public Internet."""


class PublicTransport(httpx.AsyncHTTPTransport):
    """Connects to public addresses only."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        host = url.raw_host.decode("ascii")
        # The certificate must match the host name, not the address. The Host header already holds the name.
        extensions = {**request.extensions, "sni_hostname": host}
        failure: httpx.TransportError = httpx.ConnectError("the host name has no address")
        for address in await _public_addresses(host):
            pinned = httpx.Request(
                request.method,
                url.copy_with(host=address),
                headers=request.headers,
                stream=request.stream,
                extensions=extensions,
            )
            try:
                return await super().handle_async_request(pinned)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                failure = error
        raise failure


async def _public_addresses(host: str) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    addresses = [str(address[0]) for *_, address in found]
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
