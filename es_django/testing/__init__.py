"""Tools for the tests of a project.

- `given(...).when(...).then(...)` tests an aggregate.
- `in_memory` runs code without a database.
- `outbox_messages` returns the messages that code has sent.
- `staged`, `recorded` and `message` build arguments for publications, projections and handlers.
"""

from es_django.testing.builders import message as message
from es_django.testing.builders import recorded as recorded
from es_django.testing.builders import staged as staged
from es_django.testing.memory import in_memory as in_memory
from es_django.testing.outbox import outbox_messages as outbox_messages
from es_django.testing.scenario import Scenario as Scenario
from es_django.testing.scenario import given as given
