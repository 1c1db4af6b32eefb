"""Evidence is YAML that reads back as what the API said, whatever it said."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from responder.clusters.kubernetes import yaml_text

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufeff"))
WORDS = st.sampled_from(
    [
        "no",
        "Yes",
        "null",
        "~",
        "12",
        "1e3",
        "0x1F",
        "12:30:00",
        "2026-01-05",
        "a: b",
        "# c",
        "- d",
        "",
        " ",
        "=",
        "<<",
        "y",
        ".5",
        "a\nb",
        "%",
    ]
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False).filter(lambda x: abs(x) < 1e15)
    | TEXT
    | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT | WORDS, inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_it_reads_back_as_what_was_written(data: Any) -> None:
    """Also words that YAML takes for numbers, dates or booleans."""
    found = yaml.safe_load(yaml_text.dump(data))

    assert found == data or repr(found) == repr(data)


def test_it_reads_like_kubectl() -> None:
    """Blocks, no braces but for what is empty; lists are not indented."""
    data = {
        "kind": "Pod",
        "spec": {"containers": [{"name": "app", "args": ["-v", "a b"], "env": []}], "priority": 0},
        "labels": None,
    }

    assert yaml_text.dump(data).decode() == (
        'kind: Pod\nspec:\n  containers:\n  - name: app\n    args:\n    - "-v"\n    - "a b"\n    env: []\n  priority: 0\nlabels: null\n'
    )


def test_what_is_nested_without_end_is_refused() -> None:
    """An object that nobody could read is a problem that is told, not a stack that overflows."""
    data: Any = "leaf"
    for _ in range(200):
        data = [data]

    with pytest.raises(ValueError, match="deeper"):
        yaml_text.dump(data)
