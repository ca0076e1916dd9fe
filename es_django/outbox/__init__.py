"""The transactional outbox: a message is stored in the transaction of a change, and published after the commit."""

from es_django._lazy import public_names

__getattr__, __dir__, __all__ = public_names(__name__, __file__)
