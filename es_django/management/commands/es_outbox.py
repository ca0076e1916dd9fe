from argparse import ArgumentParser
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError

from es_django import conf, outbox
from es_django.management.arguments import add_by, one_line
from es_django.models import OutboxMessage
from es_django.outbox.errors import UnknownDestination
from es_django.outbox.states import Transition

OPERATIONS = {
    "requeue": (outbox.requeue, Transition.REQUEUE),
    "release": (outbox.release, Transition.RELEASE),
    "discard": (outbox.discard, Transition.DISCARD),
}
CHANGEABLE: frozenset[OutboxMessage.Status] = frozenset().union(
    *(transition.origins for _, transition in OPERATIONS.values())
)


class Command(BaseCommand):
    help = (
        "Requeue dead messages, release pending or claimed messages, or discard pending or dead messages. Choose the "
        "messages by id or by destination."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("operation", choices=OPERATIONS)
        parser.add_argument("message_ids", nargs="*", type=UUID, metavar="message-id")
        parser.add_argument(
            "--destination", help="change all messages to this destination whose status permits the operation"
        )
        parser.add_argument("--type", help="with --destination: change only messages of this type")
        add_by(parser)

    def handle(
        self,
        *,
        operation: str,
        message_ids: list[UUID],
        destination: str | None,
        type: str | None,
        by: str,
        **options: Any,
    ) -> None:
        if bool(message_ids) == bool(destination):
            raise CommandError("Give either message ids or --destination.")
        if type and not destination:
            raise CommandError("--type needs --destination.")
        if destination:
            self._require_destination(destination)
        function, transition = OPERATIONS[operation]
        wanted = message_ids or self._of(destination, type, transition)
        count = len(function(wanted, by=by))
        messages = "1 message was" if count == 1 else f"{count} messages were"
        line = f"{messages} {transition.value}"
        if skipped := len(wanted) - count:
            line += f"; {skipped} skipped: not found, or status is not {' or '.join(sorted(transition.origins))}"
        self.stdout.write(line)

    def _require_destination(self, destination: str) -> None:
        settings = conf.settings()
        changeable = OutboxMessage.objects.using(settings.database).filter(
            destination=destination, status__in=CHANGEABLE
        )
        if destination not in settings.destinations and not changeable.exists():
            raise one_line(UnknownDestination(destination, list(settings.destinations)))

    def _of(self, destination: str | None, type: str | None, transition: Transition) -> list[UUID]:
        messages = OutboxMessage.objects.using(conf.settings().database)
        chosen = messages.filter(destination=destination, status__in=transition.origins)
        return list((chosen.filter(type=type) if type else chosen).order_by("id").values_list("message_id", flat=True))
