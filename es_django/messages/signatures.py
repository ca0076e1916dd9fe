"""Signatures of Standard Webhooks, for messages that are sent and for messages that are received."""

import base64
import binascii
from collections.abc import Mapping

from django.core.exceptions import ImproperlyConfigured
from standardwebhooks import Webhook

from es_django import conf

PREFIX = "whsec_"


def signer(secret: str, name: str) -> Webhook:
    """Return the object that signs and verifies with a secret.

    A secret is "whsec_" followed by the base64 of 24 to 64 bytes. If it is malformed, raise `ImproperlyConfigured`. The
    error shows `name`, but never the secret.
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
    """Return whether a secret of the ingress signed the body and the headers' id and time at most five minutes ago.

    Raise `ImproperlyConfigured` if any secret is malformed, even if another secret made the signature.
    """
    signers = [ingress_signer(index, secret) for index, secret in enumerate(conf.settings().ingress.secrets)]
    return any(_verifies(signer, headers, body) for signer in signers)


def _verifies(signer: Webhook, headers: Mapping[str, str], body: bytes) -> bool:
    try:
        signer.verify(body, dict(headers), json_parse=False)
    except Exception:
        # For a malformed header, standardwebhooks raises exceptions of many classes.
        return False
    return True
