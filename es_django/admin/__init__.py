"""Read-only pages of the event store, the outbox, the inbox and the projections in Django's admin.

`EventHistoryMixin` shows the events of a stream on the History page of your own `ModelAdmin`.
"""

from es_django.admin import events as _events  # noqa: F401  # each module registers its pages
from es_django.admin import inbox as _inbox  # noqa: F401
from es_django.admin import outbox as _outbox  # noqa: F401
from es_django.admin import projections as _projections  # noqa: F401
from es_django.admin import streams as _streams  # noqa: F401
from es_django.admin.history import EventHistoryMixin as EventHistoryMixin
