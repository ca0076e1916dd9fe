"""Signatures of Standard Webhooks, with one parser of secrets for messages that are sent and that are received."""

import base64
import binascii
from collections.abc import Mapping

from django.core.exceptions import ImproperlyConfigured
from standardwebhooks import Webhook

from es_django import conf

PREFIX = "whsec_"


def signer(secret: str, name: str) -> Webhook:
    """Return the object that signs and verifies with a secret.

    Raises `ImproperlyConfigured`, which shows `name` and not the secret, unless the secret is "whsec_" followed by the
    base64 of 24 to 64 bytes.
    """
    encoded = secret.removeprefix(PREFIX)
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(PREFIX) or not 24 <= len(key) <= 64:
        raise ImproperlyConfigured(f'{name} must be "{PREFIX}" followed by the base64 of 24 to 64 random bytes')
    return Webhook(key)


def ingress_signer(index: int, secret: str) -> Webhook:
    return signer(secret, f'ES_DJANGO["INGRESS"]["SECRETS"][{index}]')


def is_signed(headers: Mapping[str, str], body: bytes) -> bool:
    """Return whether a secret of the ingress signed the body, and the headers' id and time, within five minutes.

    Raises `ImproperlyConfigured` if one of the secrets is malformed, whichever of them signed.
    """
    signers = [ingress_signer(index, secret) for index, secret in enumerate(conf.settings().ingress.secrets)]
    return any(_verifies(signer, headers, body) for signer in signers)


def _verifies(signer: Webhook, headers: Mapping[str, str], body: bytes) -> bool:
    try:
        signer.verify(body, dict(headers), json_parse=False)
    except Exception:
        # The package raises any kind of exception for a malformed header.
        return False
    return True
