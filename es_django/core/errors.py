"""Errors of the event model, and the base of every error of this package."""

from dataclasses import dataclass


class EsDjangoError(Exception):
    """The base of every error of this package.

    Each error is a dataclass whose fields are its facts. `retryable` says whether a retry can succeed.
    """

    retryable: bool = False
    __match_args__: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        # The `__init__` of a dataclass does not set `args`, and pickle and Celery rebuild an error from them.
        if self.__match_args__:
            super().__init__(*(getattr(self, name) for name in self.__match_args__))


@dataclass(eq=False)
class DefinitionError(EsDjangoError):
    """A class or function of the project is declared in a way that cannot work; `reason` names it and the remedy."""

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
    """A payload cannot be stored as JSON on both databases. `field` is the path of the value that cannot."""

    owner: str
    field: str
    reason: str

    def __str__(self) -> str:
        return f"{self.owner}{'.' if self.field else ''}{self.field}: {self.reason}"
