"""Choose an action in a list of the admin, and send the form that asks for confirmation."""

from typing import Any

from django.http import HttpResponse
from django.test import Client

from tests.admin.builders import list_url
from tests.admin.pages import Page


def choose(client: Client, action: str, *rows: Any, filtered: str = "", **more: Any) -> HttpResponse:
    """Choose rows for an action in a list with the query `filtered`, and return the response."""
    query = {"action": action, "_selected_action": [row.pk for row in rows], "index": "0", **more}
    response: Any = client.post(list_url(type(rows[0])) + filtered, query)
    return response  # type: ignore[no-any-return]


def confirm(client: Client, action: str, *rows: Any) -> list[str]:
    """Choose rows for an action, confirm the form, and return the messages of the list page."""
    page = Page(choose(client, action, *rows).content.decode())
    answer: dict[str, list[str]] = {}
    for field in page.one("form.es-confirmation").all("input"):
        answer.setdefault(field.attributes["name"], []).append(field.attributes["value"])
    page = Page(client.post(list_url(type(rows[0])), answer, follow=True).content.decode())
    return [item.text for item in page.one("ul.messagelist").all("li")]
