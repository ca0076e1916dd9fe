from concurrent.futures import ThreadPoolExecutor

from es_django.core.metadata import current_metadata, metadata


class TestMetadata:
    def test_inner_blocks_add_and_override_values_and_none_removes_them(self) -> None:
        with metadata(correlation_id="c-1", user="ada"):
            with metadata(user="grace", causation_id="e-1"):
                assert current_metadata() == {"correlation_id": "c-1", "user": "grace", "causation_id": "e-1"}
                with metadata(user=None):
                    assert current_metadata() == {"correlation_id": "c-1", "causation_id": "e-1"}
            assert current_metadata() == {"correlation_id": "c-1", "user": "ada"}
        assert current_metadata() == {}

    def test_blank_ids_from_other_systems_count_as_no_id(self) -> None:
        with metadata(correlation_id="", causation_id=" ", user=""):
            assert current_metadata() == {"user": ""}

    def test_threads_do_not_share_metadata(self) -> None:
        with metadata(user="ada"), ThreadPoolExecutor(1) as executor:
            assert executor.submit(current_metadata).result() == {}
