from es_django.outbox.operations import discard as discard
from es_django.outbox.operations import release as release
from es_django.outbox.operations import requeue as requeue
from es_django.outbox.sending import asend as asend
from es_django.outbox.sending import publishes as publishes
from es_django.outbox.sending import send as send

__all__: list[str]
