"""Errors of projections."""

from collections.abc import Sequence
from dataclasses import dataclass

from es_django.core.errors import EsDjangoError


@dataclass(eq=False)
class UnknownProjection(EsDjangoError):
    """No projection with this name is registered."""

    name: str
    known: Sequence[str]

    def __str__(self) -> str:
        return f"no projection is named {self.name!r} (registered: {', '.join(sorted(self.known)) or 'none'})"


@dataclass(eq=False)
class ProjectionTimeout(EsDjangoError):
    """A projection did not reach a position within `timeout` seconds."""

    retryable = True

    name: str
    position: int
    timeout: float
    state: str

    def __str__(self) -> str:
        return (
            f"projection {self.name!r} did not reach position {self.position} within {self.timeout:g} s "
            f"({self.state}). Is a worker running?"
        )


@dataclass(eq=False)
class ProjectionStatusError(EsDjangoError):
    """The projection's status does not allow the operation."""

    name: str
    wanted: str
    reason: str

    def __str__(self) -> str:
        return f"projection {self.name!r} cannot be {self.wanted}: {self.reason}"


@dataclass(eq=False)
class PartitionsChanged(EsDjangoError):
    """`Meta.partitions` differs from the number of partitions in the projection's checkpoints."""

    name: str
    stored: int
    wanted: int

    def __str__(self) -> str:
        return (
            f"projection {self.name!r} has checkpoints for {self.stored} partitions, but Meta.partitions is "
            f"{self.wanted}: set Meta.partitions back, or rebuild the projection (manage.py es_rebuild {self.name})"
        )


@dataclass(eq=False)
class ModeChanged(EsDjangoError):
    """A projection changed from inline to asynchronous without a pause. It may have missed events since then."""

    name: str

    def __str__(self) -> str:
        return (
            f"projection {self.name!r} changed from inline to async and may have missed events. Set Meta.mode back to "
            f"inline, migrate, pause the projection (manage.py es_project --pause {self.name}), change the mode again, "
            f"and rebuild it (manage.py es_rebuild {self.name})"
        )
