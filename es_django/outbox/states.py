"""The statuses of an outbox message, the transitions between them, and the states that an operator sees.

The admin, `monitoring.health` and the checks take their queries from this module, so that their numbers agree.
"""

from enum import Enum, StrEnum

from django.db.models import Q
from django.db.models.functions import Now

from es_django.models import OutboxMessage

Status = OutboxMessage.Status


class Transition(Enum):
    """A change of status from one of the `origins` to the `target`. `value` is a past participle for use in texts."""

    # By a relay
    CLAIM = "claimed", {Status.PENDING, Status.CLAIMED}, Status.CLAIMED
    """A claimed message can be claimed again once its lease has expired."""
    PUBLISH = "published", {Status.CLAIMED}, Status.PUBLISHED
    RETRY = "postponed", {Status.CLAIMED}, Status.PENDING
    RETURN = "returned", {Status.CLAIMED}, Status.PENDING
    """No attempt is counted: the publisher did not get the message, or its destination was unreachable."""
    DEAD_LETTER = "dead-lettered", {Status.CLAIMED}, Status.DEAD

    # By an operator, with `outbox.operations`
    REQUEUE = "requeued", {Status.DEAD}, Status.PENDING
    RELEASE = "released", {Status.CLAIMED, Status.PENDING}, Status.PENDING
    DISCARD = "discarded", {Status.PENDING, Status.DEAD}, Status.DISCARDED

    origins: frozenset[Status]
    target: Status

    def __new__(cls, word: str, origins: set[Status], target: Status) -> "Transition":
        transition = object.__new__(cls)
        transition._value_ = word
        transition.origins = frozenset(origins)
        transition.target = target
        return transition


OPEN = Transition.CLAIM.origins
"""The statuses of messages that are still to be published."""


class MessageState(StrEnum):
    """What a message waits for, or how it ended.

    Pending and claimed messages are divided into states by their times. Every message is in exactly one state. `query`
    finds the messages in a state.
    """

    READY = "ready", Status.PENDING, Q(available_at__lte=Now())
    SCHEDULED = "scheduled", Status.PENDING, Q(available_at__gt=Now(), attempts=0)
    BACKING_OFF = "backing_off", Status.PENDING, Q(available_at__gt=Now(), attempts__gt=0)
    IN_FLIGHT = "in_flight", Status.CLAIMED, Q(claimed_until__gt=Now())
    ABANDONED = "abandoned", Status.CLAIMED, Q(claimed_until__lte=Now())
    """The worker did not settle its claim before the lease ran out."""
    PUBLISHED = "published", Status.PUBLISHED, Q()
    DEAD = "dead", Status.DEAD, Q()
    DISCARDED = "discarded", Status.DISCARDED, Q()

    status: Status
    query: Q

    def __new__(cls, value: str, status: Status, condition: Q) -> "MessageState":
        state = str.__new__(cls, value)
        state._value_ = value
        state.status = status
        state.query = Q(status=status) & condition
        return state

    @property
    def label(self) -> str:
        return self.value.replace("_", " ").capitalize()
