"""The transactional outbox: messages are stored with the change that they tell of, and published afterwards."""

from es_django.outbox.messages import asend as asend
from es_django.outbox.messages import publishes as publishes
from es_django.outbox.messages import send as send
from es_django.outbox.operations import discard as discard
from es_django.outbox.operations import release as release
from es_django.outbox.operations import requeue as requeue
