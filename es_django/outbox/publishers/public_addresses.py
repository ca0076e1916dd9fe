"""Keeps a URL that somebody else chose from reaching into the own network.

The name is resolved here, all its addresses are checked, and the connection is made to a checked address itself, so
that a name that resolves to another address a moment later (DNS rebinding) gains nothing.
"""

import asyncio
import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

import httpx

NAT64 = IPv6Network("64:ff9b::/96")


class RefusedAddress(Exception):
    """The host has an address that is not one of the public Internet."""


class PublicTransport(httpx.AsyncHTTPTransport):
    """Connects to public addresses only."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        host = url.raw_host.decode("ascii")
        # The certificate must be that of the name; the header Host has it already.
        extensions = {**request.extensions, "sni_hostname": host}
        failure: httpx.TransportError = httpx.ConnectError("the name has no address")
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
        raise RefusedAddress("the host has an address that is not public; the option allow_private allows it")
    return addresses


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether it is an address of the public Internet, and holds no other address that is not."""
    if isinstance(address, IPv6Address):
        held = address.ipv4_mapped or address.sixtofour
        if address in NAT64:
            held = IPv4Address(int(address) & 0xFFFFFFFF)
        if held is not None:
            return is_public(held)
    return address.is_global and not address.is_multicast and not address.is_reserved
