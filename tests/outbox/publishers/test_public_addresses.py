"""`is_public` accepts only addresses of the public internet."""

from ipaddress import ip_address

import pytest

from es_django.outbox.publishers.public_addresses import is_public


class TestIsPublic:
    @pytest.mark.parametrize(
        "address", ["93.184.216.34", "2606:2800:220:1::1", "::ffff:93.184.216.34", "64:ff9b::5db8:d822"]
    )
    def test_an_internet_address_is_public(self, address: str) -> None:
        assert is_public(ip_address(address))

    @pytest.mark.parametrize(
        "address",
        [
            *("127.0.0.1", "127.1.2.3", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1"),
            *("169.254.169.254", "100.64.0.1", "192.0.2.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"),
            *("::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1"),
            *("::ffff:10.0.0.1", "::ffff:169.254.169.254", "2002:a00:1::", "64:ff9b::a00:1", "64:ff9b::7f00:1"),
        ],
    )
    def test_an_address_that_is_or_embeds_a_private_one_is_not_public(self, address: str) -> None:
        assert not is_public(ip_address(address))
