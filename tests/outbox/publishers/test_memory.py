"""`MemoryPublisher`, the publisher for the tests of users, keeps messages in memory."""

from es_django.errors import PublishError
from es_django.outbox.publishers.memory import MemoryPublisher
from tests.outbox.publishers.messages import news


class TestMemoryPublisher:
    def test_published_messages_are_kept(self) -> None:
        publisher = MemoryPublisher()
        first, second, third = news(3)
        assert publisher.publish([first, second]) == [None, None]
        assert publisher.publish([third]) == [None]
        assert publisher.published == [first, second, third]
        assert publisher.calls == [[first, second], [third]]

    def test_messages_for_which_fail_returns_an_error_are_not_published(self) -> None:
        publisher = MemoryPublisher()
        good, bad = news(2)
        down = PublishError("down")
        publisher.fail = lambda message: down if message is bad else None
        assert publisher.publish([good, bad]) == [None, down]
        assert publisher.published == [good]
        assert publisher.calls == [[good, bad]]

    def test_a_reset_publisher_is_like_a_new_one(self) -> None:
        publisher = MemoryPublisher()
        publisher.fail = lambda message: PublishError("down")
        publisher.publish(news(1))
        publisher.reset()
        assert (publisher.published, publisher.calls) == ([], [])
        assert publisher.publish(news(1)) == [None]
