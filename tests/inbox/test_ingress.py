"""The ingress responds to each kind of request with its own status code."""

import json
from asyncio import CancelledError
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from io import BytesIO
from typing import Any
from unittest.mock import Mock

import pytest
from asgiref.sync import async_to_sync
from django.core.handlers.asgi import ASGIRequest
from django.db import connection, connections
from django.http import UnreadablePostError
from django.test import AsyncClient, Client, RequestFactory
from pytest_django import Settings

from es_django import HandlerRejected, Message, StorageError
from es_django.inbox import ingress, processing
from tests.inbox.deliveries import consumer, effects, failing, receipts
from tests.inbox.sender import (
    BATCH,
    OLD_SECRET,
    SECRET,
    STRUCTURED,
    URL,
    fields,
    post,
    send,
    send_batch,
    send_binary,
    signature,
)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls("tests.inbox.urls")]


@pytest.fixture(autouse=True)
def configured(settings: Settings) -> dict[str, Any]:
    options: dict[str, Any] = {"SECRETS": [SECRET]}
    settings.ES_DJANGO = {"INGRESS": options}
    return options


def configure(settings: Settings, **options: Any) -> None:
    settings.ES_DJANGO = {"INGRESS": {"SECRETS": [SECRET], **options}}


def chunked(body: bytes) -> ASGIRequest:
    """Return a request without a Content-Length header."""
    headers = [(name.encode(), value.encode()) for name, value in signature(body).items()]
    scope = {
        "type": "http",
        "method": "POST",
        "path": URL,
        "headers": [*headers, (b"content-type", STRUCTURED.encode())],
    }
    return ASGIRequest(scope, BytesIO(body))


@contextmanager
def atomic_requests() -> Iterator[None]:
    before = connections.settings["default"]["ATOMIC_REQUESTS"]
    connections.settings["default"]["ATOMIC_REQUESTS"] = connection.settings_dict["ATOMIC_REQUESTS"] = True
    try:
        yield
    finally:
        connections.settings["default"]["ATOMIC_REQUESTS"] = connection.settings_dict["ATOMIC_REQUESTS"] = before


class TestHandling:
    @pytest.mark.parametrize("send_it", [send, send_binary, lambda: send_batch(fields())])
    def test_an_event_is_handled_and_a_repeat_has_no_effect(self, send_it: Any) -> None:
        consumer("mailer")
        assert send_it().status_code == 204
        assert (effects(), receipts()) == (1, {"mailer": "handled"})
        assert send_it().status_code == 204
        assert effects() == 1

    def test_the_handler_gets_the_message(self) -> None:
        seen = list[Message]()
        consumer("mailer", seen.append)
        send(partitionkey="k", correlationid="c-2", data=[1, 2])
        assert [(message.data, message.key, message.headers["correlation_id"]) for message in seen] == [
            ([1, 2], "k", "c-2")
        ]

    @pytest.mark.parametrize("name", ["id", "type", "source"])
    def test_an_event_without_a_required_attribute_is_answered_with_400(self, name: str) -> None:
        response = send(**{name: None})
        assert response.status_code == 400
        assert name in response.content.decode()

    @pytest.mark.parametrize(
        ("body", "content_type"), [("{", STRUCTURED), ("{}", "application/json"), ("{}", BATCH), ("[17]", BATCH)]
    )
    def test_a_body_that_is_not_an_event_is_answered_with_400(self, body: str, content_type: str) -> None:
        assert post(body, content_type).status_code == 400

    @pytest.mark.parametrize("method", ["get", "put", "delete", "head", "options", "patch"])
    def test_methods_other_than_post_are_answered_with_405(self, method: str) -> None:
        assert getattr(Client(), method)(URL).status_code == 405

    def test_a_type_without_a_handler_is_answered_with_404(self) -> None:
        assert send().status_code == 404
        assert receipts() == {}

    def test_a_type_without_a_handler_is_accepted_by_an_ingress_that_is_not_strict(self, settings: Settings) -> None:
        configure(settings, STRICT=False)
        assert send().status_code == 202
        assert receipts() == {}


class TestFailures:
    @pytest.mark.parametrize("error", [HandlerRejected("never"), ValueError("a bug")])
    def test_a_permanent_failure_is_answered_with_422_and_kept_as_dead(self, error: Exception) -> None:
        consumer("mailer", failing(error))
        responses = [send(), send()]
        assert [response.status_code for response in responses] == [422, 422]
        assert "bug" not in responses[0].content.decode()
        assert (receipts(), effects()) == ({"mailer": "dead"}, 0)

    @pytest.mark.parametrize("error", [TimeoutError("db-7 password=hunter2"), SystemExit(-1), CancelledError()])
    def test_a_retryable_failure_is_answered_with_503_until_it_passes(self, error: BaseException) -> None:
        consumer("mailer", failing(error))
        for _ in range(12):
            response = send()
            assert (response.status_code, response["Retry-After"], response.content) == (503, "30", b"")
        assert (receipts(), effects()) == ({}, 0)
        consumer("mailer")
        assert send().status_code == 204

    def test_a_message_that_cannot_be_kept_as_dead_is_answered_with_503(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(processing, "dead_letter", Mock(side_effect=StorageError("store a dead message", True)))
        consumer("mailer", failing(ValueError("a bug")))
        assert send().status_code == 503

    def test_an_internal_error_is_answered_with_503_and_not_shown(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(ingress, "handle", Mock(side_effect=RuntimeError("inside")))
        response = send()
        assert (response.status_code, response["Retry-After"], response.content) == (503, "30", b"")
        assert "inside" in caplog.text


class TestSignatures:
    def test_a_body_without_a_signature_is_answered_with_401(self) -> None:
        response = Client().post(URL, json.dumps(fields()), content_type=STRUCTURED)
        assert response.status_code == 401

    @pytest.mark.parametrize(
        "headers",
        [
            {"webhook-id": "m-2"},
            {"webhook-timestamp": "0"},
            {"webhook-timestamp": "nan"},
            {"webhook-timestamp": "9" * 400},
            {"webhook-signature": ""},
            {"webhook-signature": "v1"},
            {"webhook-signature": "v1,no base64!"},
            {"webhook-signature": "v1,AAAA v2,AAAA"},
        ],
    )
    def test_a_wrong_signature_is_answered_with_401_and_no_handler_runs(self, headers: dict[str, str]) -> None:
        consumer("mailer")
        assert post(json.dumps(fields()), headers=headers).status_code == 401
        assert effects() == 0

    @pytest.mark.parametrize(
        ("body", "how"),
        [
            (b"another body", {}),
            (json.dumps(fields()).encode(), {"secret": OLD_SECRET}),
            (json.dumps(fields()).encode(), {"age": timedelta(minutes=6)}),
            (json.dumps(fields()).encode(), {"age": timedelta(minutes=-6)}),
        ],
    )
    def test_a_signature_of_another_body_secret_or_time_is_answered_with_401(
        self, body: bytes, how: dict[str, Any]
    ) -> None:
        consumer("mailer")
        assert post(json.dumps(fields()), headers=signature(body, **how)).status_code == 401
        assert effects() == 0

    def test_a_body_that_is_not_text_has_no_valid_signature(self) -> None:
        response = Client().post(URL, b"\xff", content_type=STRUCTURED, headers=signature(b"{}"))
        assert response.status_code == 401

    def test_signatures_by_any_configured_secret_are_accepted(self, settings: Settings) -> None:
        configure(settings, SECRETS=[SECRET, OLD_SECRET])
        consumer("mailer")
        for number, secret in enumerate([SECRET, OLD_SECRET]):
            body = json.dumps(fields(id=str(number))).encode()
            assert post(body, headers=signature(body, secret=secret)).status_code == 204

    @pytest.mark.parametrize("setting", [{}, {"INGRESS": {}}, {"INGRESS": {"SECRETS": []}}])
    def test_without_a_secret_each_request_is_answered_with_403(
        self, setting: dict[str, Any], settings: Settings
    ) -> None:
        settings.ES_DJANGO = setting
        consumer("mailer")
        assert send().status_code == 403
        assert effects() == 0

    @pytest.mark.parametrize("secret", ["", "whsec_", "hunter2hunter2hunter2hunter2hunter2"])
    def test_an_invalid_secret_lets_no_request_in_and_is_not_shown(
        self, secret: str, settings: Settings, caplog: pytest.LogCaptureFixture
    ) -> None:
        configure(settings, SECRETS=[SECRET, secret])
        consumer("mailer")
        assert send().status_code == 503
        assert effects() == 0
        assert 'ES_DJANGO["INGRESS"]["SECRETS"][1]' in caplog.text
        assert "hunter2" not in caplog.text


class TestSizes:
    def test_a_body_of_exactly_the_limit_is_accepted_and_one_byte_more_is_answered_with_413(
        self, settings: Settings
    ) -> None:
        consumer("mailer")
        body = json.dumps(fields())
        configure(settings, MAX_BYTES=len(body))
        assert post(body).status_code == 204
        assert post(body + " ").status_code == 413

    def test_the_default_limit_is_one_mebibyte(self) -> None:
        consumer("mailer")
        body = json.dumps(fields())
        assert post(body.ljust(1_048_576)).status_code == 204
        assert post(body.ljust(1_048_577)).status_code == 413

    def test_a_body_above_djangos_limit_is_accepted_if_max_bytes_allows_it(self, settings: Settings) -> None:
        configure(settings, MAX_BYTES=4_000_000)
        consumer("mailer")
        assert post(json.dumps(fields()).ljust(3_000_000)).status_code == 204

    @pytest.mark.parametrize("length", ["1048577", "9" * 5000])
    def test_a_length_above_the_limit_is_refused_without_reading(self, length: str) -> None:
        request = RequestFactory().post(URL, b"", content_type=STRUCTURED)
        request.META["CONTENT_LENGTH"] = length
        request.read = Mock(side_effect=AssertionError)  # type: ignore[method-assign]
        assert ingress.ingress(request).status_code == 413

    def test_a_body_without_a_content_length_is_measured_while_it_is_read(self) -> None:
        consumer("mailer")
        body = json.dumps(fields()).encode()
        assert ingress.ingress(chunked(body)).status_code == 204
        assert ingress.ingress(chunked(body.ljust(1_048_577))).status_code == 413

    def test_a_body_that_arrives_in_pieces_is_read_to_its_end(self) -> None:
        class Slow(BytesIO):
            def read(self, size: int | None = -1) -> bytes:
                return super().read(min(10, size or 10))

        consumer("mailer")
        body = json.dumps(fields()).encode()
        request = chunked(body)
        request._stream = Slow(body)
        assert ingress.ingress(request).status_code == 204

    def test_an_incomplete_body_is_answered_with_400_and_not_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        request = chunked(b"{}")
        request.read = Mock(side_effect=UnreadablePostError)  # type: ignore[method-assign]
        assert ingress.ingress(request).status_code == 400
        assert "the ingress failed" not in caplog.text


class TestBatches:
    @pytest.mark.parametrize(("options", "limit"), [({}, 100), ({"MAX_EVENTS": 2}, 2)])
    def test_fault_c4_a_batch_beyond_the_limit_is_answered_with_413_and_none_of_it_is_handled(
        self, options: dict[str, int], limit: int, settings: Settings
    ) -> None:
        configure(settings, **options)
        consumer("mailer")
        events = [fields(id=str(number)) for number in range(limit + 1)]
        response = send_batch(*events)
        assert response.status_code == 413
        text = f"the batch has {limit + 1} events, more than MAX_EVENTS ({limit}): send it in smaller batches\n"
        assert response.content.decode() == text
        assert (effects(), receipts()) == (0, {})
        assert send_batch(*events[:limit]).status_code == 204
        assert effects() == limit

    def test_fault_c4_the_limit_counts_before_the_events_are_read(self, settings: Settings) -> None:
        assert post("[" + ",".join(["[]"] * 300_000) + "]", BATCH).status_code == 413
        assert post("[" * 300_000, BATCH).status_code == 400
        assert post(json.dumps([fields(data=[])]).replace("[]", "[" * 5_000 + "]" * 5_000), BATCH).status_code == 400

    def test_each_event_of_a_batch_is_handled_independently(self) -> None:
        handled = list[Any]()

        def take(message: Message) -> None:
            if message.data == "bug":
                raise ValueError
            if message.data == "down":
                raise TimeoutError
            handled.append(message.data)

        consumer("mailer", take)
        good, bug, down = (fields(id=data, data=data) for data in ("good", "bug", "down"))
        assert send_batch(down, bug, good).status_code == 503
        assert handled == ["good"]
        assert send_batch(bug, good).status_code == 422
        assert send_batch(good, {**good, "id": "another"}, good).status_code == 204
        assert handled == ["good", "good"]

    def test_a_batch_with_a_type_without_a_handler_is_answered_with_404_after_the_others_are_handled(self) -> None:
        consumer("mailer")
        assert send_batch(fields(id="1", type="tests.unknown"), fields(id="2")).status_code == 404
        assert effects() == 1

    def test_no_event_of_a_batch_is_handled_if_one_is_invalid(self) -> None:
        consumer("mailer")
        assert send_batch(fields(id="1"), fields(id=None)).status_code == 400
        assert effects() == 0

    def test_an_empty_batch_succeeds(self) -> None:
        assert send_batch().status_code == 204


class TestDeployments:
    def test_atomic_requests_do_not_wrap_the_handlers_in_a_transaction(self) -> None:
        depths = list[int]()
        consumer("mailer", lambda message: depths.append(len(connection.savepoint_ids)))
        with atomic_requests():
            assert send_batch(fields(id="1"), fields(id="2")).status_code == 204
        assert depths == [0, 0]

    def test_the_ingress_responds_under_asgi(self) -> None:
        consumer("mailer", lambda message: None)
        body = json.dumps(fields()).encode()

        async def ask() -> int:
            response = await AsyncClient().post(URL, body, content_type=STRUCTURED, headers=signature(body))
            return int(response.status_code)

        assert async_to_sync(ask)() == 204
