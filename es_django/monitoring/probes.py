"""Tells an orchestrator whether a web process lives and can serve: `path("health/", include("es_django.probes"))`.

That is `health/live` and `health/ready`; neither needs a login, and neither tells anything of the inside.
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
    """200 from a process that answers at all. The database is not asked: no restart of this process would mend it."""
    return HttpResponse("alive\n", content_type="text/plain")


@require_safe
@never_cache
def readiness(request: HttpRequest) -> JsonResponse:
    """200 if the database answers and has the migrations of es_django, else 503; `{"database": true, "migrations":
    false}` tells which.

    The problems of `es_django.health.status()` are none here: a projection that lags or a message that is dead is no
    reason to take web processes out of service. Watch those with `es_status` or the metrics.
    """
    answers = _answers()
    ready = {"database": answers, "migrations": answers and is_migrated()}
    return JsonResponse(ready, status=200 if all(ready.values()) else 503)


# Otherwise ATOMIC_REQUESTS would ask a database, and fail, before the view could tell.
for _alias in connections:
    liveness = transaction.non_atomic_requests(using=_alias)(liveness)
    readiness = transaction.non_atomic_requests(using=_alias)(readiness)

app_name = "es_django_probes"
urlpatterns: list[URLPattern] = [path("live", liveness, name="live"), path("ready", readiness, name="ready")]


def is_migrated() -> bool:
    """Whether the database has every migration of es_django that this release has."""
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
