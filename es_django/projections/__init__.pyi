from es_django.projections.base import Projection as Projection
from es_django.projections.base import projects as projects
from es_django.projections.operations import pause as pause
from es_django.projections.operations import resume as resume
from es_django.projections.operations import skip as skip
from es_django.projections.rebuild import start_rebuild as start_rebuild
from es_django.projections.runner import run_projection as run_projection
from es_django.projections.runner import run_projections as run_projections
from es_django.projections.waiting import await_for as await_for
from es_django.projections.waiting import wait_for as wait_for
from es_django.store.hooks import is_replaying as is_replaying

__all__: list[str]
