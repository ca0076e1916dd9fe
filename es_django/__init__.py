"""Event sourcing and a transactional outbox for Django.

The names below are the public ones. They are imported on first use, so that `INSTALLED_APPS` can load this package
before the app registry is ready.
"""

from es_django._lazy import public_names

__getattr__, __dir__, __all__ = public_names(__name__, __file__)
