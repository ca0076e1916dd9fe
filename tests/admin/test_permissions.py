from collections.abc import Callable
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from es_django.models import (
    InboxReceipt,
    OutboxMessage,
    ProjectionCheckpoint,
    Snapshot,
    StoredEvent,
    Stream,
)
from tests.admin.builders import list_url, notes, one_of_each, page_url, stream_of

MODELS = [Stream, StoredEvent, Snapshot, OutboxMessage, InboxReceipt, ProjectionCheckpoint]
each_model = pytest.mark.parametrize("model", MODELS)


def row_of(model: type[Any]) -> Any:
    return next(row for row in one_of_each() if isinstance(row, model))


def stored() -> list[list[dict[str, Any]]]:
    """All columns of all rows."""
    return [list(model._default_manager.order_by("pk").values()) for model in MODELS]


def url(model: type[Any], view: str, *args: object) -> str:
    return reverse(f"admin:es_django_{model._meta.model_name}_{view}", args=args)


@pytest.mark.django_db
def test_the_only_permissions_are_to_view_each_model_to_replay_messages_and_to_operate_projections() -> None:
    codenames = Permission.objects.filter(content_type__app_label="es_django").values_list("codename", flat=True)
    models = apps.get_app_config("es_django").get_models()
    views = [f"view_{model._meta.model_name}" for model in models]
    assert sorted(codenames) == sorted([*views, "replay_inboxreceipt", "operate_projectioncheckpoint"])


@each_model
def test_view_permission_shows_list_and_page(staff: Callable[..., Client], model: type[Any]) -> None:
    row, client = row_of(model), staff(f"view_{model._meta.model_name}")
    assert client.get(list_url(model)).status_code == 200
    assert client.get(page_url(row)).status_code == 200


@each_model
def test_staff_without_the_permission_sees_neither(staff: Callable[..., Client], model: type[Any]) -> None:
    row = row_of(model)
    others = [f"view_{other._meta.model_name}" for other in MODELS if other is not model]
    client = staff(*others)
    assert client.get(list_url(model)).status_code == 403
    assert client.get(page_url(row)).status_code == 403
    assert client.get(url(model, "change", "no such row")).status_code == 403


@each_model
def test_an_anonymous_visitor_is_sent_to_the_login(client: Client, db: None, model: type[Any]) -> None:
    for address in (list_url(model), page_url(row_of(model))):
        response = client.get(address)
        assert response.status_code == 302
        assert response["Location"].startswith(reverse("admin:login"))


@each_model
def test_nobody_adds_changes_or_deletes(superuser: Client, model: type[Any]) -> None:
    row = row_of(model)
    before = stored()
    selected = {"action": "delete_selected", "_selected_action": [row.pk], "index": "0", "post": "yes"}
    for address in (url(model, "add"), url(model, "delete", row.pk)):
        assert superuser.get(address).status_code == 403
        assert superuser.post(address, {"post": "yes"}).status_code == 403
    for address in (page_url(row), list_url(model)):
        assert superuser.post(address, selected).status_code == 403
        assert superuser.put(address).status_code == 403
    assert stored() == before


@each_model
def test_a_page_offers_nothing_that_changes(staff: Callable[..., Client], model: type[Any]) -> None:
    row, client = row_of(model), staff(f"view_{model._meta.model_name}")
    for address in (list_url(model), page_url(row)):
        html = client.get(address).content.decode()
        for trace in ('name="action"', 'name="_save"', "/add/", "/delete/", "submit-row", "delete_selected"):
            assert trace not in html.replace("/auth/group/add/", "").replace("/auth/user/add/", "")


@each_model
def test_a_row_that_does_not_exist_is_not_found(superuser: Client, model: type[Any]) -> None:
    for pk in ("987654", "no such row", "9" * 30, "-1", "_00"):
        assert superuser.get(url(model, "change", pk)).status_code == 404


def test_reading_changes_nothing(superuser: Client) -> None:
    rows = one_of_each()
    before = stored()
    for row in rows:
        superuser.get(list_url(type(row)))
        superuser.get(page_url(row))
    assert stored() == before


def test_events_are_hidden_on_the_stream_page_from_who_may_not_see_events(staff: Callable[..., Client]) -> None:
    notes(note="confidential")
    html = staff("view_stream").get(page_url(stream_of())).content.decode()
    assert "confidential" not in html
    assert "You may not see events." in html


def test_there_is_no_link_to_what_the_user_may_not_see(staff: Callable[..., Client]) -> None:
    notes()
    event = StoredEvent.objects.get()
    html = staff("view_storedevent").get(page_url(event)).content.decode()
    assert "note note-1" in html
    assert page_url(stream_of()) not in html
