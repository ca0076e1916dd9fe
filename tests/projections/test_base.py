"""A projection that is defined wrongly is rejected when its class is created."""

from collections.abc import Sequence
from typing import Any

import pytest

from es_django import Event, Projection, RecordedEvent, projects
from es_django.errors import DefinitionError
from es_django.projections.base import registered_projections
from es_django.store.hooks import inline_projections
from testproject.bank.models import Balance


class Unused(Event):
    """No other test appends this event: its appends would take the lock of an inline projection defined here."""

    class Meta:
        name = "tests.unused"


class Named(Projection):
    class Meta:
        name = "tests.named"

    @projects
    def unused(self, event: Unused, recorded: RecordedEvent) -> None:
        """Writes nothing."""


def batch_of(annotation: Any) -> dict[str, Any]:
    def project_batch(self: Any, events: Any) -> None:
        pass

    project_batch.__annotations__["events"] = annotation
    return {"Meta": type("Meta", (), {"name": "tests.batch"}), "project_batch": project_batch}


def _projection(projection: object) -> Projection:
    assert isinstance(projection, Projection)
    return projection


class TestDefinition:
    @pytest.mark.parametrize("annotation", [Any, Sequence[Any], Sequence[Unused], Sequence[RecordedEvent[Any]]])
    def test_project_batch_without_annotated_event_classes_is_rejected(self, annotation: Any) -> None:
        with pytest.raises(DefinitionError, match="annotate the event"):
            type("Batch", (Projection,), batch_of(annotation))

    def test_a_projection_with_project_batch_and_marked_methods_is_rejected(self) -> None:
        both = {**batch_of(Sequence[RecordedEvent[Unused]]), "unused": Named.unused}
        with pytest.raises(DefinitionError, match="keep one kind"):
            type("Both", (Projection,), both)

    @pytest.mark.parametrize(("mode", "partitions"), [("inline", 2), ("async", 0), ("async", "many"), ("async", True)])
    def test_invalid_partitions_are_rejected(self, mode: str, partitions: object) -> None:
        meta = type("Meta", (), {"name": "tests.parted", "mode": mode, "partitions": partitions})
        with pytest.raises(DefinitionError, match=r"Meta\.partitions"):
            type("Parted", (Projection,), {"Meta": meta})

    def test_a_projection_without_a_name_or_with_a_wrong_mode_is_rejected(self) -> None:
        with pytest.raises(DefinitionError, match=r"Nameless\.Meta\.name"):
            type("Nameless", (Projection,), {})
        wrong: dict[str, Any] = {"Meta": type("Meta", (), {"name": "tests.wrong", "mode": "sync"})}
        with pytest.raises(DefinitionError, match="not 'sync'"):
            type("Wrong", (Projection,), wrong)

    @pytest.mark.parametrize("models", ["bank.Balance", ["bank.Balance"], Balance, [Balance, None], 7])
    def test_invalid_models_are_rejected(self, models: object) -> None:
        meta = type("Meta", (), {"name": "tests.modelled", "models": models})
        with pytest.raises(DefinitionError, match=r"Modelled\.Meta\.models must be a list of model classes, not"):
            type("Modelled", (Projection,), {"Meta": meta, "unused": Named.unused})

    def test_a_projection_without_events_is_rejected(self) -> None:
        with pytest.raises(DefinitionError, match="Idle follows no events: mark a method with @projects"):
            type("Idle", (Projection,), {"Meta": type("Meta", (), {"name": "tests.idle"})})

    def test_a_second_projection_with_the_same_name_is_rejected(self) -> None:
        with pytest.raises(DefinitionError, match=r"are both named 'tests\.named'"):
            type("Other", (Projection,), {"Meta": type("Meta", (), {"name": "tests.named"}), "unused": Named.unused})
        assert sum(each.name == "tests.named" for each in map(_projection, inline_projections)) == 1
        assert registered_projections()["tests.named"] in inline_projections
