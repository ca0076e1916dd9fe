from collections.abc import Callable
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.admin.models import LogEntry
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
from tests.admin.forms import choose

MODELS = [Stream, StoredEvent, Snapshot, OutboxMessage, InboxReceipt, ProjectionCheckpoint]
each_model = pytest.mark.parametrize("model", MODELS)


def row_of(model: type[Any]) -> Any:
    return next(row for row in one_of_each() if isinstance(row, model))


def stored() -> list[list[dict[str, Any]]]:
    """Return all columns of all rows."""
    return [list(model._default_manager.order_by("pk").values()) for model in MODELS]


def url(model: type[Any], view: str, *args: object) -> str:
    return reverse(f"admin:es_django_{model._meta.model_name}_{view}", args=args)


ACTIONS = [(model, action) for model in MODELS for action in admin.site.get_model_admin(model).actions or ()]
each_action = pytest.mark.parametrize(("model", "action"), ACTIONS)
answers = pytest.mark.parametrize("answer", [{}, {"confirmed": "yes"}])


def addresses() -> list[str]:
    """Return the address of every page of the app. Pages of a row refer to a row that exists."""
    rows = {type(row): row for row in one_of_each()}
    found = [reverse("admin:app_list", args=["es_django"])]
    for model in MODELS:
        for pattern in admin.site.get_model_admin(model).get_urls():
            if pattern.name:
                arguments = [rows[model].pk] if "object_id" in pattern.pattern.converters else []
                found.append(reverse(f"admin:{pattern.name}", args=arguments))
    return found


class TestReading:
    @each_model
    def test_view_permission_opens_list_and_page(self, staff: Callable[..., Client], model: type[Any]) -> None:
        row, client = row_of(model), staff(f"view_{model._meta.model_name}")
        assert client.get(list_url(model)).status_code == 200
        assert client.get(page_url(row)).status_code == 200

    @each_model
    def test_staff_without_permission_is_denied(self, staff: Callable[..., Client], model: type[Any]) -> None:
        row = row_of(model)
        others = [f"view_{other._meta.model_name}" for other in MODELS if other is not model]
        client = staff(*others)
        assert client.get(list_url(model)).status_code == 403
        assert client.get(page_url(row)).status_code == 403
        assert client.get(url(model, "change", "no such row")).status_code == 403

    @each_model
    def test_anonymous_visitor_is_sent_to_the_login(self, client: Client, db: None, model: type[Any]) -> None:
        for address in (list_url(model), page_url(row_of(model))):
            response = client.get(address)
            assert response.status_code == 302
            assert response["Location"].startswith(reverse("admin:login"))

    @each_model
    def test_missing_row_is_answered_with_not_found(self, superuser: Client, model: type[Any]) -> None:
        for pk in ("987654", "no such row", "9" * 30, "-1", "_00"):
            assert superuser.get(url(model, "change", pk)).status_code == 404

    def test_reading_every_page_changes_no_row(self, superuser: Client) -> None:
        rows = one_of_each()
        before = stored()
        for row in rows:
            superuser.get(list_url(type(row)))
            superuser.get(page_url(row))
        assert stored() == before


class TestNoChanges:
    @each_model
    def test_add_change_and_delete_are_denied_to_everyone(self, superuser: Client, model: type[Any]) -> None:
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
    def test_pages_have_no_controls_that_change_rows(self, staff: Callable[..., Client], model: type[Any]) -> None:
        row, client = row_of(model), staff(f"view_{model._meta.model_name}")
        for address in (list_url(model), page_url(row)):
            html = client.get(address).content.decode()
            for trace in ('name="action"', 'name="_save"', "/add/", "/delete/", "submit-row", "delete_selected"):
                assert trace not in html.replace("/auth/group/add/", "").replace("/auth/user/add/", "")

    def test_post_requests_of_a_viewer_change_nothing(self, staff: Callable[..., Client]) -> None:
        urls = addresses()
        client = staff(*(f"view_{model._meta.model_name}" for model in MODELS))
        before = stored()
        for address in urls:
            assert client.post(address, {"post": "yes", "confirmed": "yes"}).status_code in (200, 403), address
            assert client.get(address).status_code in (200, 403), address
        assert stored() == before


class TestActions:
    @pytest.mark.django_db
    def test_only_view_action_and_sensitive_data_permissions_exist(self) -> None:
        codenames = Permission.objects.filter(content_type__app_label="es_django").values_list("codename", flat=True)
        models = apps.get_app_config("es_django").get_models()
        views = [f"view_{model._meta.model_name}" for model in models]
        assert sorted(set(codenames) - set(views)) == [
            "discard_outboxmessage",
            "operate_projectioncheckpoint",
            "release_outboxmessage",
            "replay_inboxreceipt",
            "requeue_outboxmessage",
            "view_sensitive_data",
        ]

    @each_action
    @answers
    def test_view_permission_does_not_allow_actions(
        self, staff: Callable[..., Client], model: type[Any], action: str, answer: dict[str, str]
    ) -> None:
        row, client = row_of(model), staff(*(f"view_{each._meta.model_name}" for each in MODELS))
        before = stored()
        assert choose(client, action, row, **answer).status_code == 403
        assert stored() == before
        assert not LogEntry.objects.exists()

    @each_action
    @answers
    def test_action_permission_needs_view_permission(
        self, staff: Callable[..., Client], model: type[Any], action: str, answer: dict[str, str]
    ) -> None:
        row = row_of(model)
        every = Permission.objects.filter(content_type__app_label="es_django").values_list("codename", flat=True)
        client = staff(*(each for each in every if each != f"view_{model._meta.model_name}"))
        before = stored()
        assert choose(client, action, row, **answer).status_code == 403
        assert stored() == before

    @each_action
    @answers
    def test_action_sends_anonymous_visitor_to_the_login(
        self, client: Client, db: None, model: type[Any], action: str, answer: dict[str, str]
    ) -> None:
        row = row_of(model)
        before = stored()
        response = choose(client, action, row, **answer)
        assert response.status_code == 302
        assert response["Location"].startswith(reverse("admin:login"))
        assert stored() == before

    @each_action
    def test_every_action_has_a_permission(self, model: type[Any], action: str) -> None:
        function = getattr(type(admin.site.get_model_admin(model)), action)
        assert function.allowed_permissions
        assert not {"view", "add", "change", "delete"} & set(function.allowed_permissions)


class TestEveryPage:
    def test_every_registered_model_is_covered_here(self) -> None:
        registered = {model for model in admin.site._registry if model._meta.app_label == "es_django"}
        assert registered == set(MODELS)
        assert len(ACTIONS) >= 8

    def test_staff_without_permissions_is_denied(self, staff: Callable[..., Client]) -> None:
        client = staff()
        for address in addresses():
            for method in (client.get, client.post):
                assert method(address).status_code in (403, 404), address

    def test_anonymous_visitor_is_sent_to_the_login(self, client: Client, db: None) -> None:
        for address in addresses():
            for method in (client.get, client.post):
                response = method(address)
                assert response.status_code == 302, address
                assert response["Location"].startswith(reverse("admin:login"))


class TestLinks:
    def test_stream_page_hides_events_without_permission(self, staff: Callable[..., Client]) -> None:
        notes(note="confidential")
        html = staff("view_stream").get(page_url(stream_of())).content.decode()
        assert "confidential" not in html
        assert "You do not have permission to view events." in html

    def test_pages_have_no_links_to_forbidden_pages(self, staff: Callable[..., Client]) -> None:
        notes()
        event = StoredEvent.objects.get()
        html = staff("view_storedevent").get(page_url(event)).content.decode()
        assert "note note-1" in html
        assert page_url(stream_of()) not in html
