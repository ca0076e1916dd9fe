"""Read models, kept up to date from events: inline or from a checkpoint, run, controlled, rebuilt and waited for."""

from es_django._lazy import public_names

__getattr__, __dir__, __all__ = public_names(__name__, __file__)
