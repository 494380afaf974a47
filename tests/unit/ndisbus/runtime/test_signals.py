"""Signals as something to poll for."""

from __future__ import annotations

import os
import select
import signal

from ndisbus.runtime.signals import SignalPipe


def test_wanted_signals_arrive_in_order_and_once() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    with SignalPipe(signal.SIGUSR1, signal.SIGUSR2) as signals:
        assert signals.arrived() == []
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGUSR2)
        assert select.select([signals.receiver], [], [], 5.0)[0] == [signals.receiver]
        assert signals.arrived() == [signal.SIGUSR1, signal.SIGUSR2]
        assert signals.arrived() == []
    assert signal.getsignal(signal.SIGUSR1) is before


def test_signals_that_are_not_wanted_are_not_told_of() -> None:
    before = signal.signal(signal.SIGUSR2, lambda *_: None)
    try:
        with SignalPipe(signal.SIGUSR1) as signals:
            os.kill(os.getpid(), signal.SIGUSR2)
            os.kill(os.getpid(), signal.SIGUSR1)
            assert signals.arrived() == [signal.SIGUSR1]
    finally:
        signal.signal(signal.SIGUSR2, before)
