"""Read models, kept up to date from events: inline or from a checkpoint, run, controlled, rebuilt and waited for."""

from typing import TYPE_CHECKING

from es_django.public import on_first_use

if TYPE_CHECKING:
    from es_django.projections.base import Projection as Projection
    from es_django.projections.base import projects as projects
    from es_django.projections.control import pause as pause
    from es_django.projections.control import resume as resume
    from es_django.projections.control import skip as skip
    from es_django.projections.rebuild import start_rebuild as start_rebuild
    from es_django.projections.runner import run_projection as run_projection
    from es_django.projections.runner import run_projections as run_projections
    from es_django.projections.waiting import await_for as await_for
    from es_django.projections.waiting import wait_for as wait_for
    from es_django.store.reactions import is_replaying as is_replaying

_HOME = {
    "Projection": "projections.base",
    "await_for": "projections.waiting",
    "is_replaying": "store.reactions",
    "pause": "projections.control",
    "projects": "projections.base",
    "resume": "projections.control",
    "run_projection": "projections.runner",
    "run_projections": "projections.runner",
    "skip": "projections.control",
    "start_rebuild": "projections.rebuild",
    "wait_for": "projections.waiting",
}

__all__ = sorted(_HOME)  # noqa: PLE0605

__getattr__, __dir__ = on_first_use(__name__, _HOME)
