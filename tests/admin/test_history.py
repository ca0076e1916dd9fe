"""The History page of a project's own admin shows the events of an object to users who may view events."""

from collections.abc import Callable

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from es_django import StreamId
from es_django.admin import EventHistoryMixin
from es_django.core.streams import NAME_RULE
from es_django.models import Stream
from testproject.bank.admin import BalanceAdmin
from testproject.bank.models import Balance
from tests.admin.builders import notes, page_url, stored_event, stream_of
from tests.admin.pages import Page

Get = Callable[..., Page]


@pytest.fixture
def history(db: None) -> str:
    """Store an account with two events, and return the address of the history of its balance."""
    notes(30, key="ada", category="account")
    balance = Balance.objects.create(account="ada", owner="Ada", balance=1)
    return reverse("admin:bank_balance_history", args=[balance.pk])


def client_with(*permissions: str) -> Client:
    user = User.objects.create_user("staff", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


class TestEvents:
    def test_history_page_shows_the_events(self, get: Get, history: str) -> None:
        page = get(history.replace("history", "change"))
        assert page.link("History") == history
        page = get(history)
        assert [each.text for each in page.all("h2")][-2:] == ["Events of account ada", "Changes made in the admin"]
        assert page.link("account ada") == page_url(stream_of("ada", "account"))
        assert page.link("tests.admin.noted") == page_url(stored_event(1, "ada"))

    def test_events_are_paged(self, get: Get, history: str) -> None:
        page = get(get(history).follow(history, "Newer"))
        assert [each.text for each in page.all("span.es-version")] == ["26", "27", "28", "29", "30"]

    @pytest.mark.parametrize("stream", [None, StreamId("account", "nobody")])
    def test_object_without_a_stream_shows_only_the_django_log(
        self, get: Get, history: str, monkeypatch: pytest.MonkeyPatch, stream: StreamId | None
    ) -> None:
        monkeypatch.setattr(BalanceAdmin, "event_stream", lambda self, obj: stream)
        assert get(history).all("ol.es-timeline") == []

    def test_history_of_a_missing_object_redirects(self, superuser: Client, history: str) -> None:
        response = superuser.get(history.replace("ada", "nobody"))
        assert response.status_code == 302


class TestPermissions:
    @pytest.mark.parametrize("permissions", [["view_stream"], ["view_storedevent"], []])
    def test_without_event_permissions_only_the_django_log_is_shown(self, history: str, permissions: list[str]) -> None:
        page = Page(client_with("view_balance", *permissions).get(history).content.decode())
        assert page.all("ol.es-timeline") == []
        assert "note 1" not in page.html

    def test_without_object_permission_access_is_denied(self, history: str) -> None:
        assert client_with("view_stream", "view_storedevent").get(history).status_code == 403


class TestEventStream:
    @pytest.mark.parametrize("wrong", [("account", "ada"), "account ada", 7])
    def test_event_stream_that_returns_another_type_is_a_type_error(
        self, superuser: Client, history: str, monkeypatch: pytest.MonkeyPatch, wrong: object
    ) -> None:
        monkeypatch.setattr(BalanceAdmin, "event_stream", lambda self, obj: wrong)
        with pytest.raises(TypeError, match=r"BalanceAdmin\.event_stream must return a StreamId or None, not "):
            superuser.get(history)

    def test_invalid_stream_key_is_reported_on_the_page(
        self, get: Get, history: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(BalanceAdmin, "event_stream", lambda self, obj: StreamId("account", 7))  # type: ignore[arg-type]
        page = get(history)
        shown = [item.text for item in page.one("ul.messagelist").all("li")]
        assert shown == [f"No events are shown: a stream's key {NAME_RULE}, got 7."]
        assert page.all("ol.es-timeline") == []

    def test_admin_without_event_stream_is_an_error(self) -> None:
        with pytest.raises(NotImplementedError, match="EventHistoryMixin must define event_stream"):
            EventHistoryMixin.event_stream(EventHistoryMixin.__new__(EventHistoryMixin), Stream())
