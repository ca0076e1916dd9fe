"""The share of a full batch that a destination gets: a batch that outlives its lease is too large, so it is halved.

Without smaller batches, a slow database or publisher could lose every claim and never publish anything.
"""

from django.core.signals import setting_changed

SMALLEST = 2.0**-20
_shares: dict[str, float] = {}


def of(destination: str) -> float:
    """Return the share of a full batch to claim, of rows and of bytes. It is at most 1."""
    return _shares.get(destination, 1.0)


def record(destination: str, *, in_time: bool) -> None:
    """Halve the share after a batch that lost claims, and double it after another one."""
    share = of(destination)
    _shares[destination] = min(1.0, share * 2) if in_time else max(SMALLEST, share / 2)


def _forget(setting: str, **kwargs: object) -> None:
    if setting == "ES_DJANGO":
        _shares.clear()


setting_changed.connect(_forget)
