"""Who may send messages: whoever signs them, after Standard Webhooks, with one of the secrets."""

import base64
import binascii
from collections.abc import Mapping

from django.core.exceptions import ImproperlyConfigured
from standardwebhooks import Webhook

from es_django import conf

PREFIX = "whsec_"


def is_signed(headers: Mapping[str, str], body: bytes) -> bool:
    """Whether the body, and the id and time that the headers give, bear a signature by one of the secrets, not older or
    newer than five minutes. Raises `ImproperlyConfigured` if a secret is none."""
    secrets = conf.settings().ingress.secrets
    for index, secret in enumerate(secrets):
        if not is_secret(secret):
            raise ImproperlyConfigured(f'ES_DJANGO["INGRESS"]["SECRETS"][{index}] is no secret of Standard Webhooks')
    return any(_is_signed_with(secret, headers, body) for secret in secrets)


def is_secret(secret: str) -> bool:
    """Whether this is a secret of Standard Webhooks: "whsec_" and the base64 of 24 to 64 bytes."""
    encoded = secret.removeprefix(PREFIX)
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        return False
    return secret.startswith(PREFIX) and 24 <= len(key) <= 64


def _is_signed_with(secret: conf.Secret, headers: Mapping[str, str], body: bytes) -> bool:
    try:
        Webhook(str(secret)).verify(body, dict(headers), json_parse=False)
    except Exception:
        # A header that is not even formed as one fails in the package as whatever it trips over.
        return False
    return True
