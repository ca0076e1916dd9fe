from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
from playwright.sync_api import Page, Route, sync_playwright
from pytest_django.live_server_helper import LiveServer

FLAGS = [
    "--no-sandbox",
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

STRICT = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""A content security policy that allows no inline script, no inline style and no other origin."""

Browse = Callable[..., AbstractContextManager[Page]]


@pytest.fixture
def browse(live_server: LiveServer, chromium: str) -> Browse:
    """Open a browser for a superuser under a strict policy. The block fails if the console shows an error.

    Create rows before the block and read them after it: Django refuses queries within the block, because playwright
    runs an event loop in this thread.
    """

    @contextmanager
    def open_browser(*, width: int = 1280, color_scheme: str = "light", javascript: bool = True) -> Iterator[Page]:
        client = Client()
        client.force_login(User.objects.create_superuser("root"))
        session = {"name": settings.SESSION_COOKIE_NAME, "value": client.cookies[settings.SESSION_COOKIE_NAME].value}
        complaints: list[str] = []
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
            context = browser.new_context(
                base_url=live_server.url,
                viewport={"width": width, "height": 900},
                java_script_enabled=javascript,
                color_scheme="dark" if color_scheme == "dark" else "light",
            )
            context.add_cookies([{**session, "url": live_server.url}])  # type: ignore[typeddict-item]
            context.route("**/*", _with_strict_policy)
            page = context.new_page()
            page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
            page.on("pageerror", lambda error: complaints.append(str(error)))
            yield page
            browser.close()
        assert complaints == []

    return open_browser


def _with_strict_policy(route: Route) -> None:
    if route.request.url.endswith("/favicon.ico"):  # the browser itself requests this file
        route.fulfill(status=204)
        return
    response = route.fetch(max_redirects=0)
    route.fulfill(response=response, headers={**response.headers, "content-security-policy": STRICT})
