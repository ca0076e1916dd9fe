import asyncio
import re
from collections.abc import Mapping

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory

from es_django.core.metadata import current_metadata
from es_django.middleware import metadata_middleware

UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def metadata_of(request: HttpRequest) -> Mapping[str, str]:
    seen: list[Mapping[str, str]] = []

    def view(request: HttpRequest) -> HttpResponse:
        seen.append(current_metadata())
        return HttpResponse()

    metadata_middleware(view)(request)
    assert current_metadata() == {}
    return seen[0]


class TestMetadataMiddleware:
    @pytest.mark.parametrize(
        ("headers", "expected"),
        [
            ({"X-Request-ID": "req-1"}, "req-1"),
            ({"X-Request-ID": "req-1", "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}, "req-1"),
            ({"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}, TRACE),
        ],
    )
    def test_the_correlation_id_comes_from_the_request(self, headers: dict[str, str], expected: str) -> None:
        assert metadata_of(RequestFactory().get("/", headers=headers)) == {"correlation_id": expected}

    @pytest.mark.parametrize(
        "header", [{}, {"X-Request-ID": "x" * 129}, {"X-Request-ID": "a b"}, {"traceparent": "00-no"}]
    )
    def test_a_malformed_correlation_id_is_replaced_by_a_new_one(self, header: dict[str, str]) -> None:
        assert UUID7.fullmatch(metadata_of(RequestFactory().get("/", headers=header))["correlation_id"])

    def test_the_user_is_read_from_the_request_at_each_write(self) -> None:
        request = RequestFactory().get("/")
        request.user = User(username="ada")
        assert metadata_of(request)["user"] == "ada"
        request.user = AnonymousUser()
        assert "user" not in metadata_of(request)

    def test_an_asynchronous_project_has_metadata_too(self) -> None:
        seen: list[Mapping[str, str]] = []

        async def view(request: HttpRequest) -> HttpResponse:
            seen.append(current_metadata())
            return HttpResponse()

        async def respond() -> None:
            await metadata_middleware(view)(RequestFactory().get("/", headers={"X-Request-ID": "req-1"}))

        asyncio.run(respond())
        assert seen == [{"correlation_id": "req-1"}]
