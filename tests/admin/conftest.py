from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from tests.admin.pages import Page


@pytest.fixture
def superuser(db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    return client


@pytest.fixture
def staff(db: None) -> Callable[..., Client]:
    """Return a function that logs in a staff user with only the named permissions."""

    def log_in(*codenames: str) -> Client:
        user = User.objects.create_user("staff", is_staff=True)
        user.user_permissions.set(
            Permission.objects.filter(content_type__app_label="es_django", codename__in=codenames)
        )
        client = Client()
        client.force_login(user)
        return client

    return log_in


@pytest.fixture
def get(superuser: Client) -> Callable[..., Page]:
    """Return a function that opens a page as a superuser."""

    def open_page(url: str, **query: Any) -> Page:
        response = superuser.get(url, query)
        assert response.status_code == 200, response
        return Page(response.content.decode())

    return open_page
