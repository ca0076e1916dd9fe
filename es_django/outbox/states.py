"""What may happen to a message, in one place: each move, where it starts and where it leads."""

from enum import Enum

from es_django.models import OutboxMessage

Status = OutboxMessage.Status


class Move(Enum):
    """A step of a message from one of the `origins` to the `target`; `value` says it in a word."""

    CLAIM = "claimed", {Status.PENDING, Status.CLAIMED}, Status.CLAIMED
    """By a relay; from another one whose lease has run out."""
    PUBLISH = "published", {Status.CLAIMED}, Status.PUBLISHED
    RETRY = "postponed", {Status.CLAIMED}, Status.PENDING
    HAND_BACK = "handed back", {Status.CLAIMED}, Status.PENDING
    BURY = "buried", {Status.CLAIMED}, Status.DEAD
    REQUEUE = "requeued", {Status.DEAD}, Status.PENDING
    RELEASE = "released", {Status.CLAIMED, Status.PENDING}, Status.PENDING
    DISCARD = "discarded", {Status.PENDING, Status.DEAD}, Status.DISCARDED

    origins: frozenset[Status]
    target: Status

    def __new__(cls, word: str, origins: set[Status], target: Status) -> "Move":
        move = object.__new__(cls)
        move._value_ = word
        move.origins = frozenset(origins)
        move.target = target
        return move
