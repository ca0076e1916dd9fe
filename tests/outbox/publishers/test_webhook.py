"""The publisher of webhooks works with real HTTP servers in threads."""

import json
import socket
import ssl
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from threading import Barrier, Event
from typing import Any

import pytest
import trustme
from django.core.exceptions import ImproperlyConfigured
from standardwebhooks import Webhook, WebhookVerificationError

from es_django import Message
from es_django.errors import DestinationRefuses, DestinationUnreachable
from es_django.messages.message import from_wire
from es_django.outbox.publishers import public_addresses, webhook
from es_django.outbox.publishers.webhook import WebhookPublisher
from tests.outbox.publishers.endpoints import Endpoint, Handler, Request
from tests.outbox.publishers.messages import calling, news, permanent, retryable
from tests.outbox.publishers.proxy import Proxy

SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as endpoint:
        yield endpoint


@pytest.fixture
def publishers() -> Iterator[list[WebhookPublisher]]:
    publishers: list[WebhookPublisher] = []
    yield publishers
    for publisher in publishers:
        publisher._connections.discard()


@pytest.fixture
def publisher(endpoint: Endpoint, publishers: list[WebhookPublisher]) -> WebhookPublisher:
    publishers.append(WebhookPublisher(url=endpoint.url, secret=SECRET, allow_private=True, format="json"))
    return publishers[0]


class Resolver:
    """Resolve a name to another address each time, as an attacker's name server does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> None:
        self.answers = list(answers)
        self._resolve = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self)

    def __call__(self, host: str, port: Any, *args: Any, **options: Any) -> list[Any]:
        if host != "hooks.example":
            return self._resolve(host, port, *args, **options)
        found = self.answers.pop(0)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port or 0)) for address in found]


@pytest.fixture
def public_loopback(monkeypatch: pytest.MonkeyPatch) -> str:
    """Make an address of this machine count as public, and return it."""
    monkeypatch.setattr(public_addresses, "is_public", lambda address: str(address) == "127.0.0.2")
    return "127.0.0.2"


class TestMessages:
    def test_each_message_arrives_signed(self, publisher: WebhookPublisher, endpoint: Endpoint) -> None:
        sent = news(30)
        assert publisher.publish(sent) == [None] * 30
        got = {request.headers["webhook-id"]: request for request in endpoint.requests}
        assert len(endpoint.requests) == len(got) == 30
        for message in sent:
            request = got[str(message.message_id)]
            assert from_wire(Webhook(SECRET).verify(request.body, request.headers)) == message
            assert request.headers["content-type"] == "application/json"

    def test_a_change_of_any_signed_part_invalidates_the_signature(
        self, publisher: WebhookPublisher, endpoint: Endpoint
    ) -> None:
        publisher.publish(news(1))
        (request,) = endpoint.requests
        signer = Webhook(SECRET)
        later = str(int(request.headers["webhook-timestamp"]) + 1)
        for body, headers in (
            (request.body + b" ", request.headers),
            (request.body, request.headers | {"webhook-id": "another"}),
            (request.body, request.headers | {"webhook-timestamp": later}),
        ):
            with pytest.raises(WebhookVerificationError):
                signer.verify(body, headers)

    def test_a_cloudevent_is_sent_in_structured_mode(
        self, endpoint: Endpoint, publishers: list[WebhookPublisher]
    ) -> None:
        publishers.append(WebhookPublisher(url=endpoint.url, secret=SECRET, allow_private=True))
        (message,) = news(1)
        assert publishers[0].publish([message]) == [None]
        (request,) = endpoint.requests
        assert request.headers["content-type"] == "application/cloudevents+json"
        event = Webhook(SECRET).verify(request.body, request.headers)
        assert (event["specversion"], event["id"], event["data"]) == ("1.0", str(message.message_id), message.data)

    def test_several_messages_are_sent_at_once(self, publisher: WebhookPublisher, endpoint: Endpoint) -> None:
        met = Barrier(webhook.MAX_CONCURRENT)

        def respond(handler: Handler, request: Request) -> None:
            met.wait(timeout=10)
            handler.reply(204)

        endpoint.respond = respond
        assert publisher.publish(news(2 * webhook.MAX_CONCURRENT)) == [None] * 2 * webhook.MAX_CONCURRENT


class TestResponses:
    @pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
    def test_a_2xx_response_means_that_the_message_has_arrived(
        self, publisher: WebhookPublisher, endpoint: Endpoint, status: int
    ) -> None:
        endpoint.respond = lambda handler, request: handler.reply(status)
        assert publisher.publish(news(1)) == [None]

    @pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
    def test_a_response_that_may_change_later_is_a_retryable_error(
        self, publisher: WebhookPublisher, endpoint: Endpoint, status: int
    ) -> None:
        endpoint.respond = lambda handler, request: handler.reply(status, b"s3cret")
        (outcome,) = publisher.publish(news(1))
        assert retryable(outcome)
        assert str(outcome) == f"the response had status {status}"

    @pytest.mark.parametrize("status", [400, 405, 409, 413, 415, 422])
    def test_fault_b2_a_response_about_this_message_alone_is_a_permanent_error(
        self, publisher: WebhookPublisher, endpoint: Endpoint, status: int
    ) -> None:
        endpoint.respond = lambda handler, request: handler.reply(status)
        (outcome,) = publisher.publish(news(1))
        assert permanent(outcome)

    @pytest.mark.parametrize("status", [300, 304, 401, 403, 404, 407, 410])
    def test_fault_b2_a_response_that_refuses_the_sender_is_retryable(
        self, publisher: WebhookPublisher, endpoint: Endpoint, status: int
    ) -> None:
        endpoint.respond = lambda handler, request: handler.reply(status)
        (outcome,) = publisher.publish(news(1))
        assert retryable(outcome)
        assert isinstance(outcome, DestinationRefuses)

    def test_fault_b2_final_statuses_are_an_option(
        self, endpoint: Endpoint, publishers: list[WebhookPublisher]
    ) -> None:
        publishers.append(
            WebhookPublisher(url=endpoint.url, secret=SECRET, allow_private=True, final_statuses=[410, 422])
        )
        statuses = iter((410, 400, 422))
        endpoint.respond = lambda handler, request: handler.reply(next(statuses))
        assert [permanent(publishers[0].publish(news(1))[0]) for _ in range(3)] == [True, False, True]

    @pytest.mark.parametrize("final_statuses", [[204], ["410"], [600]])
    def test_fault_b2_final_statuses_that_are_no_errors_are_rejected(self, final_statuses: list[int]) -> None:
        with pytest.raises(ImproperlyConfigured, match="final_statuses"):
            WebhookPublisher(url="https://example.org", secret=SECRET, final_statuses=final_statuses)

    def test_fault_e5_after_429_the_rest_of_the_batch_is_not_sent(
        self, publisher: WebhookPublisher, endpoint: Endpoint
    ) -> None:
        endpoint.respond = lambda handler, request: handler.reply(429, retry_after="60")
        outcomes = publisher.publish(news(100))
        assert len(endpoint.requests) <= webhook.MAX_CONCURRENT
        assert all(isinstance(outcome, DestinationUnreachable) and outcome.retry_after == 60 for outcome in outcomes)

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_a_redirect_is_not_followed(self, publisher: WebhookPublisher, endpoint: Endpoint, status: int) -> None:
        endpoint.respond = lambda handler, request: handler.reply(status, location=f"{endpoint.url}/elsewhere")
        (outcome,) = publisher.publish(news(1))
        assert retryable(outcome)
        assert len(endpoint.requests) == 1

    def test_each_message_gets_its_own_outcome(self, publisher: WebhookPublisher, endpoint: Endpoint) -> None:
        statuses = (204, 500, 204, 410)
        endpoint.respond = lambda handler, request: handler.reply(statuses[json.loads(request.body)["data"]["number"]])
        assert [str(outcome) for outcome in publisher.publish(news(4))] == [
            *("None", "the response had status 500", "None", "the response had status 410")
        ]

    def test_a_message_that_cannot_be_encoded_fails_alone(
        self, publisher: WebhookPublisher, endpoint: Endpoint
    ) -> None:
        first, bad, last = news(3)

        def refuse(message: Message) -> None:
            if message is bad:
                raise ValueError("bad")

        publisher._format = calling(refuse, publisher._format)
        outcomes = publisher.publish([first, bad, last])
        assert outcomes[::2] == [None, None]
        assert outcomes[1] is not None

    def test_an_endless_response_does_not_block_the_publisher(
        self, publisher: WebhookPublisher, endpoint: Endpoint
    ) -> None:
        ended = Event()

        def respond(handler: Handler, request: Request) -> None:
            handler.send_response(200)
            handler.end_headers()
            try:
                while True:
                    handler.wfile.write(b"x" * 65536)
            except OSError:
                ended.set()

        endpoint.respond = respond
        assert publisher.publish(news(1)) == [None]
        assert ended.wait(timeout=10)


class TestConnections:
    def test_a_connection_is_reused(self, publisher: WebhookPublisher, endpoint: Endpoint) -> None:
        endpoint.respond = lambda handler, request: handler.reply(200, b"thanks")
        for message in news(3):
            assert publisher.publish([message]) == [None]
        assert len({request.client for request in endpoint.requests}) == 1

    def test_cookies_are_not_kept(self, publisher: WebhookPublisher, endpoint: Endpoint) -> None:
        endpoint.respond = lambda handler, request: handler.reply(204, set_cookie="a=b")
        publisher.publish(news(1))
        publisher.publish(news(1))
        assert "cookie" not in endpoint.requests[1].headers

    def test_a_proxy_of_the_environment_is_not_used(
        self, endpoint: Endpoint, publishers: list[WebhookPublisher], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
        publishers.append(WebhookPublisher(url=endpoint.url, secret=SECRET, allow_private=True))
        assert publishers[0].publish(news(1)) == [None]

    @pytest.mark.parametrize(("certified", "arrives"), [("hooks.example", True), ("other.example", False)])
    def test_only_a_certificate_for_the_host_name_is_accepted(
        self,
        public_loopback: str,
        publishers: list[WebhookPublisher],
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        certified: str,
        arrives: bool,
    ) -> None:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(certified).configure_cert(context)
        asked_for: list[str] = []
        context.sni_callback = lambda connection, name, context: asked_for.append(name)
        Resolver(monkeypatch, [public_loopback])
        with Endpoint(public_loopback, context) as public:
            url = f"https://hooks.example:{public.server_port}/hooks"
            publishers.append(WebhookPublisher(url=url, secret=SECRET))
            (outcome,) = publishers[0].publish(news(1))
        assert asked_for == ["hooks.example"]
        if arrives:
            assert outcome is None
        else:
            assert retryable(outcome)
            assert "SSLCertVerificationError" in str(outcome)
            assert not public.requests


class TestUrls:
    def test_credentials_become_a_header_and_other_characters_are_encoded(
        self, endpoint: Endpoint, publishers: list[WebhookPublisher]
    ) -> None:
        url = f"http://ada:p%40ss@127.0.0.1:{endpoint.server_port}/h\u00f6\u00f6ks/%41?a=\u00fc%20b&c=d"
        publishers.append(WebhookPublisher(url=url, secret=SECRET, allow_private=True))
        assert publishers[0].publish(news(1)) == [None]
        (request,) = endpoint.requests
        assert request.path == "/h%C3%B6%C3%B6ks/%41?a=%C3%BC%20b&c=d"
        assert request.headers["authorization"] == f"Basic {b64encode(b'ada:p@ss').decode()}"
        assert request.headers["host"] == f"127.0.0.1:{endpoint.server_port}"

    @pytest.mark.parametrize(
        ("host", "asked_for", "written"),
        [
            ("b\u00fccher.example", "xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("[2606:2800:220:1::1]", "2606:2800:220:1::1", "[2606:2800:220:1::1]"),
        ],
    )
    def test_the_host_is_written_as_the_protocol_asks(
        self,
        endpoint: Endpoint,
        publishers: list[WebhookPublisher],
        monkeypatch: pytest.MonkeyPatch,
        host: str,
        asked_for: str,
        written: str,
    ) -> None:
        names: list[str] = []

        def addresses_of(name: str) -> list[str]:
            names.append(name)
            return ["127.0.0.1"]

        monkeypatch.setattr(webhook, "public_addresses_of", addresses_of)
        publishers.append(WebhookPublisher(url=f"http://{host}:{endpoint.server_port}", secret=SECRET))
        assert publishers[0].publish(news(1)) == [None]
        (request,) = endpoint.requests
        assert names == [asked_for]
        assert (request.path, request.headers["host"]) == ("/", f"{written}:{endpoint.server_port}")


class TestServerFailures:
    def test_a_server_that_hangs_is_a_retryable_error(self, publisher: WebhookPublisher, endpoint: Endpoint) -> None:
        publisher._timeout = 0.2
        hanging = Event()

        def hang(handler: Handler, request: Request) -> None:
            hanging.wait(timeout=30)

        endpoint.respond = hang
        try:
            outcomes = publisher.publish(news(2))
        finally:
            hanging.set()
        assert all(retryable(outcome) for outcome in outcomes)
        assert str(outcomes[0]) == "no response within 0.2 seconds"

    def test_a_server_that_responds_byte_by_byte_is_a_retryable_error(
        self, publisher: WebhookPublisher, endpoint: Endpoint
    ) -> None:
        publisher._timeout = 0.2
        ended = Event()

        def respond(handler: Handler, request: Request) -> None:
            for letter in b"HTTP/1.1 200 OK\r\n" + b"x-more: more\r\n" * 1000:
                if ended.wait(timeout=0.02):
                    return
                handler.wfile.write(bytes([letter]))

        endpoint.respond = respond
        try:
            (outcome,) = publisher.publish(news(1))
        finally:
            ended.set()
        assert retryable(outcome)

    def test_a_server_that_closes_the_connection_is_a_retryable_error(
        self, publisher: WebhookPublisher, endpoint: Endpoint
    ) -> None:
        endpoint.respond = lambda handler, request: handler.connection.shutdown(socket.SHUT_RDWR)
        (outcome,) = publisher.publish(news(1))
        assert retryable(outcome)

    def test_a_server_that_never_completes_the_handshake_is_a_retryable_error(
        self, publishers: list[WebhookPublisher]
    ) -> None:
        with Proxy() as silent:
            url = f"https://127.0.0.1:{silent.port}/"
            publishers.append(WebhookPublisher(url=url, secret=SECRET, timeout=0.2, allow_private=True))
            (outcome,) = publishers[0].publish(news(1))
        assert retryable(outcome)

    def test_a_missing_server_is_unreachable_and_no_secret_is_shown(self, publishers: list[WebhookPublisher]) -> None:
        url = "http://user:s3cret@127.0.0.1:1/hooks?token=s3cret"
        publishers.append(WebhookPublisher(url=url, secret=SECRET, allow_private=True))
        (outcome,) = publishers[0].publish(news(1))
        assert isinstance(outcome, DestinationUnreachable)
        assert "s3cret" not in str(outcome)
        assert "ConnectionRefusedError" in str(outcome)

    @pytest.mark.parametrize("allow_private", [True, False])
    def test_a_host_name_that_does_not_resolve_is_unreachable(
        self, publishers: list[WebhookPublisher], allow_private: bool
    ) -> None:
        url = "https://nowhere.invalid/hooks"
        publishers.append(WebhookPublisher(url=url, secret=SECRET, allow_private=allow_private))
        (outcome,) = publishers[0].publish(news(1))
        assert isinstance(outcome, DestinationUnreachable)


class TestPrivateAddresses:
    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "2130706433", "[::ffff:127.0.0.1]"])
    def test_a_connection_to_the_local_machine_is_refused(
        self, endpoint: Endpoint, publishers: list[WebhookPublisher], host: str
    ) -> None:
        publishers.append(WebhookPublisher(url=f"http://{host}:{endpoint.server_port}/", secret=SECRET))
        (outcome,) = publishers[0].publish(news(1))
        assert permanent(outcome)
        assert "allow_private" in str(outcome)
        assert not endpoint.requests

    def test_the_connection_goes_to_the_address_that_was_checked(
        self, public_loopback: str, publishers: list[WebhookPublisher], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        resolver = Resolver(monkeypatch, [public_loopback], ["127.0.0.1"])
        with Endpoint(public_loopback) as public:
            url = f"http://hooks.example:{public.server_port}/hooks"
            publishers.append(WebhookPublisher(url=url, secret=SECRET))
            assert publishers[0].publish(news(1)) == [None]
            assert len(resolver.answers) == 1, "the name was resolved more than once"
            assert public.requests[0].headers["host"] == f"hooks.example:{public.server_port}"
            publishers[0]._connections.discard()
            (rebound,) = publishers[0].publish(news(1))
        assert permanent(rebound)

    def test_one_private_address_among_public_ones_is_refused(
        self, public_loopback: str, publishers: list[WebhookPublisher], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Resolver(monkeypatch, [public_loopback, "127.0.0.1"])
        with Endpoint(public_loopback) as public:
            publishers.append(WebhookPublisher(url=f"http://hooks.example:{public.server_port}/", secret=SECRET))
            (outcome,) = publishers[0].publish(news(1))
        assert permanent(outcome)

    def test_the_next_address_is_tried_if_one_does_not_respond(
        self, publishers: list[WebhookPublisher], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(public_addresses, "is_public", lambda address: True)
        Resolver(monkeypatch, ["127.0.0.3", "127.0.0.2"])
        with Endpoint("127.0.0.2") as public:
            publishers.append(WebhookPublisher(url=f"http://hooks.example:{public.server_port}/", secret=SECRET))
            assert publishers[0].publish(news(1)) == [None]


class TestInvalidOptions:
    @pytest.mark.parametrize(
        "url", ["", "hooks.example", "ftp://s3cret@hooks.example", "http://", "https://s3cret:@:80/"]
    )
    def test_an_invalid_url_is_rejected_and_not_shown(self, url: str) -> None:
        with pytest.raises(ImproperlyConfigured, match="https://") as refused:
            WebhookPublisher(url=url, secret=SECRET)
        assert "s3cret" not in str(refused.value)

    @pytest.mark.parametrize(
        "secret", ["", "whsec_", "s3cret!", "whsec_s3cret!", SECRET.removeprefix("whsec_"), "whsec_" + "s3cret00" * 12]
    )
    def test_an_invalid_secret_is_rejected_and_not_shown(self, secret: str) -> None:
        with pytest.raises(ImproperlyConfigured, match="base64") as refused:
            WebhookPublisher(url="https://hooks.example", secret=secret)
        assert "s3cret" not in str(refused.value)

    def test_an_invalid_timeout_is_rejected(self) -> None:
        with pytest.raises(ImproperlyConfigured, match="more than 0"):
            WebhookPublisher(url="https://hooks.example", secret=SECRET, timeout=0)
