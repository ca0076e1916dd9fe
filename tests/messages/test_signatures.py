"""Secrets of Standard Webhooks are parsed strictly, and by one parser for both directions."""

import base64
from datetime import UTC, datetime

import pytest
from django.core.exceptions import ImproperlyConfigured

from es_django.messages.signatures import signer


def secret_of(length: int) -> str:
    return "whsec_" + base64.b64encode(b"k" * length).decode()


class TestSigner:
    @pytest.mark.parametrize("length", [24, 32, 64])
    def test_a_secret_of_a_valid_length_signs_and_verifies(self, length: int) -> None:
        now = datetime.now(UTC)
        headers = {
            "webhook-id": "m-1",
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": signer(secret_of(length), "it").sign("m-1", now, "body"),
        }
        signer(secret_of(length).rstrip("="), "it").verify("body", headers, json_parse=False)

    @pytest.mark.parametrize(
        "secret",
        ["", "whsec_", secret_of(23), secret_of(65), secret_of(32)[6:], secret_of(32)[:-4] + "hunter2!"],
        ids=["empty", "no key", "too short", "too long", "no prefix", "not base64"],
    )
    def test_an_invalid_secret_is_rejected_and_not_shown(self, secret: str) -> None:
        with pytest.raises(ImproperlyConfigured) as rejected:
            signer(secret, "the secret")
        message = 'the secret must be "whsec_" followed by the base64 of 24 to 64 random bytes'
        assert str(rejected.value) == message
