"""Errors of projections."""

from collections.abc import Sequence

from es_django.core.errors import EsDjangoError


class UnknownProjection(EsDjangoError):
    """No projection of that name is registered."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(name, known)
        self.name = name
        self.known = known

    def __str__(self) -> str:
        return f"no projection is named {self.name!r} (there is {', '.join(sorted(self.known)) or 'none'})"


class ProjectionTimeout(EsDjangoError):
    """A projection has not come to a position in the time that the caller was willing to wait."""

    retryable = True

    def __init__(self, name: str, position: int, timeout: float, state: str) -> None:
        super().__init__(name, position, timeout, state)
        self.name = name
        self.position = position
        self.timeout = timeout
        self.state = state

    def __str__(self) -> str:
        return f"projection {self.name!r} was not at position {self.position} in {self.timeout} s: it {self.state}"


class ProjectionStatusError(EsDjangoError):
    """What was asked for cannot be done to a projection as it stands."""

    def __init__(self, name: str, wanted: str, reason: str) -> None:
        super().__init__(name, wanted, reason)
        self.name = name
        self.wanted = wanted
        self.reason = reason

    def __str__(self) -> str:
        return f"projection {self.name!r} cannot be {self.wanted}: {self.reason}"


class PartitionsChanged(EsDjangoError):
    """A projection's checkpoints are those of another number of partitions than it has now."""

    def __init__(self, name: str, stored: int, wanted: int) -> None:
        super().__init__(name, stored, wanted)
        self.name = name
        self.stored = stored
        self.wanted = wanted

    def __str__(self) -> str:
        return (
            f"projection {self.name!r} has checkpoints for Meta.partitions = {self.stored}, not {self.wanted}: "
            f"set it back, or build the projection anew with manage.py es_rebuild {self.name}"
        )


class ModeChanged(EsDjangoError):
    """A projection is asynchronous now, and was moved by the appends before; what it has missed since is not known."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return (
            f"projection {self.name!r} was inline and is async now, and what it has missed since is not known: set "
            f"Meta.mode back to inline, migrate, pause it (manage.py es_project --pause {self.name}), change the mode "
            f"again, and rebuild it (manage.py es_rebuild {self.name})"
        )
