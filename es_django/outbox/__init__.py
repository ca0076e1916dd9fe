"""The transactional outbox: messages are stored with the change that they tell of, and published afterwards."""

from es_django._lazy import public_names

__getattr__, __dir__, __all__ = public_names(__name__, __file__)
