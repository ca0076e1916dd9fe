"""Find the Celery app of the project.

Celery makes an app of its own where it finds none. That app publishes to `amqp://localhost//`, where nobody reads. So
es_django never uses it.
"""

from typing import Any

from celery import Celery, _state

MISSING = (
    "the project has no Celery app: create one (celery.py) and import it in __init__.py of the project's package, so "
    "that every process has it"
)


_apps: Any = _state


class NoCeleryApp(Exception):
    """The project has no Celery app, or has several and none is the current one."""


def project_app() -> Celery:
    """Return the Celery app of the project, in any thread.

    Raise `NoCeleryApp` if the project has none, or has several and none is the current or the default app.
    """
    app: Celery | None
    for app in (_apps._tls.current_app, _apps.default_app):
        if app is not None and not _is_made_by_celery(app):
            return app
    # Celery keeps the current app for each thread. Other threads do not know an app that was imported after the start.
    found: list[Celery] = [app for app in _apps._get_active_apps() if not _is_made_by_celery(app)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise NoCeleryApp(MISSING)
    names = ", ".join(sorted(repr(app.main) for app in found))
    raise NoCeleryApp(f"the project has several Celery apps ({names}): call set_default() of one of them")


def _is_made_by_celery(app: Any) -> bool:
    return app.main == "default" and not app.set_as_current
