"""Liveness and readiness of a web process, for an orchestrator such as Kubernetes.

Add `path("health/", include("es_django.monitoring.probes"))` to the URLs to get `health/live` and `health/ready`. Both
work without a login, so they reveal no internals.
"""

from functools import cache

from django.db import Error as DatabaseFailure
from django.db import connections, transaction
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import URLPattern, path
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from es_django import conf


@require_safe
@never_cache
def liveness(request: HttpRequest) -> HttpResponse:
    """Return 200 if the process answers. Do not query the database: restarting this process would not repair it."""
    return HttpResponse("alive\n", content_type="text/plain")


@require_safe
@never_cache
def readiness(request: HttpRequest) -> JsonResponse:
    """Return 200 if the database answers and has the migrations of es_django, otherwise 503.

    The body holds the two results, as in `{"database": true, "migrations": false}`. The problems of `health.status()`
    do not count: a lagging projection or a dead message is not a reason to take web processes out of service. Watch
    such problems with `es_status` or the metrics.
    """
    answers = _answers()
    ready = {"database": answers, "migrations": answers and is_migrated()}
    return JsonResponse(ready, status=200 if all(ready.values()) else 503)


# With ATOMIC_REQUESTS, Django opens a transaction before the view. Without a database this fails, and the probe could
# not answer.
for _alias in connections:
    liveness = transaction.non_atomic_requests(using=_alias)(liveness)
    readiness = transaction.non_atomic_requests(using=_alias)(readiness)

app_name = "es_django_probes"
urlpatterns: list[URLPattern] = [path("live", liveness, name="live"), path("ready", readiness, name="ready")]


def is_migrated() -> bool:
    """Return whether every es_django migration of this release has been applied to the database."""
    recorder = MigrationRecorder(connections[conf.settings().database])
    try:
        applied = set(recorder.migration_qs.filter(app="es_django").values_list("name", flat=True))
    except DatabaseFailure:
        return False
    return _migrations() <= applied


@cache
def _migrations() -> frozenset[str]:
    loader = MigrationLoader(None)
    return frozenset(name for app, name in loader.disk_migrations if app == "es_django")


def _answers() -> bool:
    try:
        with connections[conf.settings().database].cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseFailure:
        return False
    return True
