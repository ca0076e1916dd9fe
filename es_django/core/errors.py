"""Errors of the event model, and the base of every error of this package."""

from dataclasses import dataclass
from typing import ClassVar


class EsDjangoError(Exception):
    """The base of every error of this package.

    Each error is a dataclass whose fields hold the facts of the failure. `retryable` says whether a retry can succeed.
    `outcome` is the label of the failed work in metrics and traces.
    """

    retryable: bool = False
    outcome: ClassVar[str] = "failed"
    __match_args__: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        # Pickle and Celery rebuild an error from its `args`, which the `__init__` of a dataclass does not set.
        if self.__match_args__:
            super().__init__(*(getattr(self, name) for name in self.__match_args__))


@dataclass(eq=False)
class DefinitionError(EsDjangoError):
    """A class or function of the project is declared wrongly. `reason` names the declaration and the remedy."""

    reason: str

    def __str__(self) -> str:
        return self.reason


@dataclass(eq=False)
class InvalidStreamId(EsDjangoError):
    """A stream's category or key cannot be stored."""

    field: str
    value: object
    reason: str

    def __str__(self) -> str:
        return f"a stream's {self.field} {self.reason}, got {self.value!r:.80}"


@dataclass(eq=False)
class PayloadError(EsDjangoError):
    """A payload cannot be stored as JSON in both PostgreSQL and SQLite. `field` is the path of the wrong value."""

    owner: str
    field: str
    reason: str

    def __str__(self) -> str:
        return f"{self.owner}{'.' if self.field else ''}{self.field}: {self.reason}"
