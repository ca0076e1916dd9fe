"""Errors of the event model, and the base of every error of this package."""


class EsDjangoError(Exception):
    """The base of all errors of this package; `retryable` says whether trying again can help."""

    retryable: bool = False


class DefinitionError(EsDjangoError):
    """A class or function of the project is declared in a way that cannot work; `reason` names it and the remedy."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class InvalidStreamId(EsDjangoError):
    """A stream's category or key is not usable as one."""

    def __init__(self, field: str, value: object, reason: str) -> None:
        super().__init__(field, value, reason)
        self.field = field
        self.value = value
        self.reason = reason

    def __str__(self) -> str:
        shown = repr(self.value)
        return f"a stream's {self.field} {self.reason}, got {shown if len(shown) <= 80 else shown[:77] + '...'}"


class PayloadError(EsDjangoError):
    """A payload cannot be stored as JSON on both databases; `field` is the path of what stands in the way."""

    def __init__(self, owner: str, field: str, reason: str) -> None:
        super().__init__(owner, field, reason)
        self.owner = owner
        self.field = field
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.owner}{'.' if self.field else ''}{self.field} {self.reason}"
