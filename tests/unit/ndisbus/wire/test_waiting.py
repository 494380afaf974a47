"""Senders that wait for a link."""

from __future__ import annotations

from ndisbus.wire.waiting import WaitingSenders


def test_the_stations_come_in_turn_and_each_line_in_its_order() -> None:
    waiting: WaitingSenders[str] = WaitingSenders()
    for mac, sender in ((b"a", "a1"), (b"a", "a2"), (b"b", "b1"), (b"a", "a1"), (b"a", "a3"), (b"c", "c1")):
        waiting.add(mac, sender)
    assert len(waiting) == 5
    assert not waiting.ready(lambda mac: mac == b"d")
    assert waiting.ready(lambda mac: mac == b"c")
    assert list(waiting.take(lambda mac: mac != b"c", 3)) == ["a1", "b1", "a2"]
    assert list(waiting.take(lambda mac: True, 10)) == ["a3", "c1"]
    assert not waiting


def test_the_link_is_asked_before_each_sender() -> None:
    waiting: WaitingSenders[int] = WaitingSenders()
    for n in range(10):
        waiting.add(b"a", n)
    room = 3

    def takes(_mac: bytes) -> bool:
        return room > 0

    for n in waiting.take(takes, 100):
        room -= 1
        waiting.add(b"a", n)  # it had more to send
    assert list(waiting.take(lambda _: True, 100)) == [3, 4, 5, 6, 7, 8, 9, 0, 1, 2]


def test_nothing_waits_after_clear() -> None:
    waiting: WaitingSenders[int] = WaitingSenders()
    waiting.add(b"a", 1)
    waiting.clear()
    assert not waiting and not waiting.ready(lambda _: True)
