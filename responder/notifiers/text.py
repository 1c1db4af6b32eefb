"""The words of a notice, the same on every channel; short, plain, in the order in which a person at night needs them."""

from __future__ import annotations

from responder.model.notice import Notice, NoticeKind, TriedRung
from responder.model.reason import SENTENCES


def headline(notice: Notice) -> str:
    """Return one line: what, where, and what is asked of the reader."""
    mark = {
        NoticeKind.PAGE: f"[{notice.severity}]",
        NoticeKind.UPDATE: f"[{notice.severity}, update]",
        NoticeKind.RESOLVE: "[over]",
        NoticeKind.INFO: "[report]",
        NoticeKind.SHADOW: "[shadow, nothing was done]",
    }[notice.kind]
    cluster = f" in {notice.cluster}" if notice.cluster else ""
    return f"{mark} {notice.title}{cluster}: {SENTENCES[notice.reason]}"


def tried_line(tried: TriedRung) -> str:
    """Return one line about a rung."""
    at = f"{tried.at:%H:%M:%S} " if tried.at else ""
    detail = f" ({tried.detail})" if tried.detail else ""
    return f"{at}{tried.rung}: {tried.outcome}{detail}"


def remarks(notice: Notice) -> tuple[str, ...]:
    """Return what must be said about the message itself."""
    said = []
    if notice.level > 1:
        said.append(f"Level {notice.level}: nobody acknowledged the level before.")
    if notice.late:
        said.append("Sent late: it could not be sent in time.")
    if notice.sped_up != 1.0:
        said.append(f"Demonstration: the clock runs {notice.sped_up:g} times faster than real time.")
    return tuple(said)


def sections(notice: Notice) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return the body as titled lists, in order of need; empty ones left out."""
    found = (
        ("Asked of you", (notice.asks,) if notice.asks else ()),
        ("Now", (notice.state,)),
        ("Running", (notice.running,) if notice.running else ()),
        ("Tried", tuple(tried_line(one) for one in notice.tried) or ("nothing",)),
        ("Seen", notice.seen),
        ("Left", notice.left),
        ("Alerts", notice.alerts),
        ("Note", remarks(notice)),
    )
    told = ((title, tuple(line for line in lines if line.strip())) for title, lines in found)
    return tuple((title, lines) for title, lines in told if lines)


def cut(text: str, longest: int) -> str:
    """Return text of at most so many characters, with an ellipsis when it was longer."""
    return text if len(text) <= longest else text[: max(0, longest - 1)] + "…"


def usable_links(notice: Notice, *, most: int, longest: int) -> tuple[tuple[str, str], ...]:
    """Return text and URL of links that a channel can show. One that is too long is left out: cut, it would lead nowhere."""
    found = (
        (cut(name, 100), url)
        for name, url in notice.links
        if name and len(url) <= longest and url.startswith(("https://", "http://")) and url.isascii() and url.isprintable()
    )
    return tuple(found)[:most]
