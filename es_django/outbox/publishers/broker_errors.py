"""Classify the errors of brokers: an outage of the broker, or the failure of a message."""

import socket

from amqp import exceptions as amqp

from es_django.outbox.errors import DestinationUnreachable, PublishError

_AMQP_OUTAGES = (amqp.ChannelError, amqp.ConnectionError)
"""The broker closed the channel or the connection: an exchange is missing, access is refused, the broker stops."""
_REDIS_REFUSES_ALL = frozenset(
    {"OutOfMemoryError", "ReadOnlyError", "BusyLoadingError", "MasterDownError", "ClusterDownError", "TryAgainError"}
    | {"AuthenticationError", "AuthorizationError", "NoPermissionError", "MaxConnectionsError"}
)
"""Names, because the package redis is optional."""
_REDIS_CODES = ("OOM", "READONLY", "LOADING", "MISCONF", "MASTERDOWN", "CLUSTERDOWN", "NOREPLICAS", "BUSY", "NOAUTH")
_REDIS_CODES_OF_A_QUEUE = ("WRONGTYPE", "NOPERM")
_PIPELINE = "of pipeline caused error: "
"""redis-py quotes the command before this text, and the command contains the data of the message."""


def broker_error(error: BaseException) -> PublishError:
    """Return the outcome of a message whose publication raised this error."""
    if isinstance(error, PublishError):
        return error
    cause = error.__cause__ or error
    name, text = type(cause).__name__, str(cause).rpartition(_PIPELINE)[2]
    reason = f"{name}: {text}"
    if is_about_message(cause):
        return PublishError(reason, retryable=False)
    if name in _REDIS_REFUSES_ALL or text.startswith(_REDIS_CODES):
        return DestinationUnreachable(reason, is_certain=True)
    if isinstance(cause, ConnectionRefusedError | socket.gaierror) or text.startswith(_REDIS_CODES_OF_A_QUEUE):
        return DestinationUnreachable(reason)
    if isinstance(cause, _AMQP_OUTAGES):
        return DestinationUnreachable(reason)
    return PublishError(reason)


def is_about_message(error: BaseException) -> bool:
    """Return whether the broker refuses a message that is above its limit: `max_message_size`, `proto-max-bulk-len`."""
    too_large_for_rabbitmq = isinstance(error, amqp.PreconditionFailed) and "message size" in str(error)
    return too_large_for_rabbitmq or "invalid bulk length" in str(error)


def may_be_about_message(error: BaseException) -> bool:
    """Return whether one message may be the reason: Redis may close the connection at a message above its limit."""
    cause = error.__cause__ or error
    is_lost = type(cause).__name__ == "ConnectionError" or isinstance(cause, ConnectionError)
    return is_about_message(cause) or is_lost
