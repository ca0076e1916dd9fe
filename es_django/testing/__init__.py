"""What a project's tests need: an event store without a database, and aggregates told as given, when, then."""

from es_django.testing.memory import in_memory as in_memory
from es_django.testing.scenario import Scenario as Scenario
from es_django.testing.scenario import given as given
