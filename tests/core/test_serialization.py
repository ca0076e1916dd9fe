import pytest

from es_django.core.serialization import jsonb_form


class TestJsonbForm:
    @pytest.mark.parametrize(
        ("encoded", "stored"),
        [
            ('{"b":1,"a":2}', '{"b":1,"a":2}'),
            ('{"b":{"bb":1,"a":2}}', '{"b":{"a":2,"bb":1}}'),
            ('[{"bb":1,"a":2}]', '[{"a":2,"bb":1}]'),
        ],
        ids=["the fields of a payload", "an object within it", "an object in a list"],
    )
    def test_keys_of_inner_objects_have_the_order_of_jsonb(self, encoded: str, stored: str) -> None:
        assert jsonb_form(encoded) == stored
