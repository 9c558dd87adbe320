import pytest

from harness.metrics.parsing import first_object, has_members


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('Sure: ```json\n{"a": 1}\n``` and {"a": 2}', {"a": 1}),
        ('{not this} {"b": [1, {"c": 2}]}', {"b": [1, {"c": 2}]}),
        ("[1, 2]", None),
        ("{", None),
        ('{"a": ' + "9" * 5000 + "}", None),
    ],
)
def test_the_first_object_that_parses(text: str, expected: object) -> None:
    assert first_object(text) == expected


def test_members() -> None:
    text = 'Here: {"name": "Ada ", "age": 36, "tags": ["X"], "in": {"k": true}}'
    assert has_members(True, text)
    assert has_members({"name": "ada", "age": 36.0}, text)
    assert has_members({"tags": ["x"], "in": {"k": True}}, text)
    assert not has_members({"name": "Ada", "city": "London"}, text)
    assert not has_members({"age": True}, '{"age": 1}')
    assert not has_members({"in": {}}, text)
    assert not has_members(True, "no object")


def test_a_nest_of_braces_ends(hostile: str) -> None:
    assert first_object(hostile) is None
