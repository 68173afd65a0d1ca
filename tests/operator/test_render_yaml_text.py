"""Whatever is rendered, a YAML reader gets back."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from unitagent.operator.render.yaml_writer import format_documents

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SCALARS = st.none().map(lambda _: True) | st.booleans() | st.integers(-(2**70), 2**70) | TEXTS
CONTENTS = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


@given(CONTENTS)
@example({"on": "off", "1.0": "0x1", "null": "~", "a: b": "- c", "#": " x ", "": [], "d": {}})
@example(
    ["2001-01-01", "1:30", "\x85\u2028\ufeff\U0001f600", "\x00\t\r\n", "'", '"\\', "=", "<<", "!a", "*b"]
)
@example([[["nested"], [{"a": [1]}]], {"b": [[]]}])
def test_a_reader_gets_back_what_went_in(content: object) -> None:
    assert yaml.safe_load(format_documents([content], "about")) == content


def test_documents_stay_apart_and_a_comment_is_one_however_many_lines_it_has() -> None:
    text = format_documents([{"a": 1}, {"b": 2}], "one\n\n--- three")
    assert list(yaml.safe_load_all(text)) == [{"a": 1}, {"b": 2}]


def test_what_reads_well_is_not_quoted() -> None:
    plain = format_documents([{"image": "redis:7", "path": "/run/secrets/redis.conf"}], "")
    assert plain == "image: redis:7\npath: /run/secrets/redis.conf\n"


def test_there_is_no_yaml_for_other_things() -> None:
    with pytest.raises(TypeError, match="set"):
        format_documents([{1}], "")
