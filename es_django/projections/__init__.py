"""Projections keep read models up to date from events, inline or asynchronously.

- `base`: the base class, and the registry. `states`: the statuses of a checkpoint.
- `runner`: applies events from a checkpoint. `failure_policy`: what happens when an event fails.
- `rebuild`, `handover`, `side_effects`: replay the log without repeating a side effect, while events are appended.
- `operations`: pause, resume and skip. `waiting`: wait until a projection has caught up.
"""

from es_django._lazy import public_names

__getattr__, __dir__, __all__ = public_names(__name__, __file__)
