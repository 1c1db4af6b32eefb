"""What is kept as evidence holds no secret that can be told, and costs no more than its length, whatever a container logs."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from responder.clusters.kubernetes import redact


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (b"Authorization: Bearer abc.def", b"Authorization: Bearer [redacted]"),
        (b"sent basic dXNlcjpwYXNzd29yZA== to x", b"sent basic [redacted] to x"),
        (b'{"password": "hunter2", "user": "ana"}', b'{"password": "[redacted]", "user": "ana"}'),
        (b"AccountKey=abc==;Endpoint=x", b"AccountKey=[redacted];Endpoint=x"),
        (b"GET /hook?sig=abc&x=1", b"GET /hook?sig=[redacted]&x=1"),
        (b"postgresql://ana:hunter2@db/x and redis://:y@h", b"postgresql://ana:[redacted]@db/x and redis://:y@h"),
        (b"jwt eyJhbGciOiJIUzI1.eyJzdWIiOiIxMjM.c2ln end", b"jwt [redacted] end"),
        (b"\xff\xfe raw \x00 token=abc \xe9", b"\xff\xfe raw \x00 token=[redacted] \xe9"),
        (b"nothing here: 12:30, a@b.example, http://h:80/p", b"nothing here: 12:30, a@b.example, http://h:80/p"),
    ],
)
def test_secrets_are_hidden_and_everything_else_stays_byte_for_byte(said: bytes, kept: bytes) -> None:
    """Also where the bytes are no text."""
    assert redact.text(said) == kept


@pytest.mark.parametrize(
    "piece", [b"", b"eyJ", b"a://b:", b"token ", b"bearer ", b"a" * 20], ids=["hex", "jwt", "url", "token", "bearer", "letters"]
)
def test_a_line_of_a_mebibyte_is_read_once(piece: bytes) -> None:
    """A crash that prints its whole state in one line: with a backtracking engine this test would not end, and the service stood still."""
    line = random.Random(1).randbytes(1 << 19).hex().encode() if not piece else piece * ((1 << 20) // len(piece))

    assert len(redact.text(line)) > 1000


@given(
    st.lists(
        st.sampled_from(
            [
                b"Authorization: ",
                b"BEARER ",
                b"secret",
                b"=",
                b": ",
                b"abc",
                b"tOken",
                b"eyJ",
                b"://",
                b"@",
                b"?sig",
                b"&CODE",
                b" ",
                b"a" * 20,
                b".",
                b"pwd",
                b"Accountkey",
            ]
        )
    )
)
def test_a_text_without_a_telling_word_needs_no_look(pieces: list[bytes]) -> None:
    """What is passed over at once is what no pattern would have found: the patterns alone say the same."""
    said = b"".join(pieces)
    looked = said
    for pattern in redact._TEXT:
        looked = pattern.sub(rb"\1[redacted]\2", looked)

    assert redact.text(said) == looked
    assert redact.value(said.decode()) == looked.decode()
