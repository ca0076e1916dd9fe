import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest
from asgiref.sync import async_to_sync
from celery import shared_task
from django.contrib.auth.models import AnonymousUser, User
from django.http import FileResponse, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.test import AsyncClient, Client, RequestFactory
from django.urls import path
from pytest_django import Settings

from es_django.celery_metadata import HEADER, attach
from es_django.core.metadata import current_metadata, metadata
from es_django.environment_checks import check_user
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


def department(request: HttpRequest) -> int:
    return int(request.headers["X-Department"])


@shared_task(name="tests.middleware.nothing")
def nothing() -> None: ...


def sending(request: HttpRequest) -> HttpResponse:
    nothing.delay()
    return JsonResponse(dict(current_metadata()))


async def sending_async(request: HttpRequest) -> HttpResponse:
    nothing.delay()
    return JsonResponse(dict(current_metadata()))


def looking(request: HttpRequest) -> HttpResponse:
    assert request.user.is_authenticated
    return sending(request)


async def looking_async(request: HttpRequest) -> HttpResponse:
    assert (await request.auser()).is_authenticated
    return await sending_async(request)


def streaming(request: HttpRequest) -> StreamingHttpResponse:
    def parts() -> Iterator[str]:
        with metadata(step="inner"):
            for _ in range(2):
                yield "{correlation_id} {step},".format_map(current_metadata())
        yield ",".join(current_metadata())

    return StreamingHttpResponse(parts())


async def streaming_async(request: HttpRequest) -> StreamingHttpResponse:
    async def parts() -> AsyncIterator[str]:
        with metadata(step="inner"):
            for _ in range(2):
                yield "{correlation_id} {step},".format_map(current_metadata())
        yield ",".join(current_metadata())

    return StreamingHttpResponse(parts())


def sending_a_file(request: HttpRequest) -> FileResponse:
    return FileResponse(Path(__file__).open("rb"), filename="test.py")


urlpatterns = [
    path(f"{view.__name__}/", view)
    for view in (sending, sending_async, looking, looking_async, streaming, streaming_async, sending_a_file)
]


@pytest.mark.django_db
@pytest.mark.urls(__name__)
class TestQueries:
    @pytest.fixture
    def user(self) -> User:
        return User.objects.create_user("ada@example.org")

    @pytest.fixture(autouse=True)
    def published_headers(self, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
        sent: list[Any] = []
        monkeypatch.setattr(nothing, "apply_async", lambda *args, **options: sent.append(attached()))
        return sent

    @pytest.mark.parametrize(("view", "queries"), [("sending", 0), ("looking", 2)])
    def test_fault_f3_metadata_costs_no_query(
        self,
        client: Client,
        user: User,
        django_assert_num_queries: Any,
        view: str,
        queries: int,
        published_headers: list[Any],
    ) -> None:
        client.force_login(user)
        with django_assert_num_queries(queries):
            response = client.get(f"/{view}/")
        known = {"user": str(user.pk)} if queries else {}
        assert response.json() == {"correlation_id": ANY, **known}
        assert published_headers == [response.json()]

    @pytest.mark.parametrize(("view", "is_known"), [("sending_async", False), ("looking_async", True)])
    def test_fault_f2_an_asynchronous_view_sends_a_task_with_its_metadata(
        self, view: str, is_known: bool, published_headers: list[Any]
    ) -> None:
        user = User.objects.create_user("ada@example.org")
        client = AsyncClient()
        client.force_login(user)
        response = async_to_sync(client.get)(f"/{view}/")
        assert response.json() == {"correlation_id": ANY, **({"user": str(user.pk)} if is_known else {})}
        assert published_headers == [response.json()]


def attached() -> dict[str, str]:
    headers: dict[str, Any] = {}
    attach(headers=headers)
    return dict(headers[HEADER])


@pytest.mark.urls(__name__)
class TestStreaming:
    def test_fault_f2_what_a_response_writes_while_it_is_sent_has_metadata(self, client: Client) -> None:
        response = client.get("/streaming/", headers={"X-Request-ID": "req-1"})
        assert response.getvalue() == b"req-1 inner,req-1 inner,correlation_id"
        assert current_metadata() == {}

    def test_fault_f2_an_asynchronous_response_has_metadata_while_it_is_sent(self) -> None:
        async def received() -> list[bytes]:
            response: Any = await AsyncClient().get("/streaming_async/", headers={"X-Request-ID": "req-1"})
            return [part async for part in response.streaming_content]

        assert asyncio.run(received()) == [*[b"req-1 inner,"] * 2, b"correlation_id"]

    def test_fault_f2_a_file_is_left_to_the_server(self) -> None:
        response: Any = metadata_middleware(sending_a_file)(RequestFactory().get("/"))
        assert response.file_to_stream is not None
        response.file_to_stream.close()


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

    def test_fault_f4_the_user_is_a_primary_key_and_is_read_at_each_write(self) -> None:
        request = RequestFactory().get("/")
        request.user = User(pk=7, username="ada@example.org")
        assert metadata_of(request)["user"] == "7"
        request.user = AnonymousUser()
        assert "user" not in metadata_of(request)

    def test_fault_f4_a_project_chooses_what_identifies_a_user(self, settings: Settings) -> None:
        settings.ES_DJANGO = {"METADATA_USER": f"{__name__}.department"}
        assert metadata_of(RequestFactory().get("/", headers={"X-Department": "4"}))["user"] == "4"

    @pytest.mark.parametrize("path", ["nowhere.function", f"{__name__}.missing", f"{__name__}.TRACE"])
    def test_fault_f4_a_function_that_does_not_exist_is_named(self, settings: Settings, path: str) -> None:
        settings.ES_DJANGO = {"METADATA_USER": path}
        (found,) = check_user()
        assert found.id == "es_django.E016"
        assert path in found.msg

    def test_an_asynchronous_project_has_metadata_too(self) -> None:
        seen: list[Mapping[str, str]] = []

        async def view(request: HttpRequest) -> HttpResponse:
            seen.append(current_metadata())
            return HttpResponse()

        async def respond() -> None:
            await metadata_middleware(view)(RequestFactory().get("/", headers={"X-Request-ID": "req-1"}))

        asyncio.run(respond())
        assert seen == [{"correlation_id": "req-1"}]
