"""What a project's tests need: aggregates told as given, when, then; an event store without a database; what was
sent; and events and messages for projections and handlers."""

from es_django.testing.builders import message as message
from es_django.testing.builders import recorded as recorded
from es_django.testing.builders import staged as staged
from es_django.testing.memory import in_memory as in_memory
from es_django.testing.outbox import outbox_messages as outbox_messages
from es_django.testing.scenario import Scenario as Scenario
from es_django.testing.scenario import given as given
