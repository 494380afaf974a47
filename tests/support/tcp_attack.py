"""One attack on one connection: many mutated segments, then the true remote end goes on."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from random import Random

from ndisbus.ddi.tcp_enums import TcpOffloadConnectionState as State
from ndisbus.net.segment import PSH
from tests.support.tcp_mutation import step
from tests.support.tcp_victim import STATES, SYN_STATES, TAKES_DATA, Broken, Victim, theirs

__all__ = ["Findings", "attack", "heal"]


@dataclass
class Findings:
    """What attacks came to. ``segments``: injected, by the state in which they arrived."""

    attacks: int = 0
    segments: Counter[State] = field(default_factory=Counter)
    healed: int = 0
    """Connections that went on afterwards with their stream intact."""
    closed: int = 0
    """Connections ended by an RST or SYN that may, by the FIN's ACK, or by their own timers."""
    failures: list[str] = field(default_factory=list)

    def merge(self, other: Findings) -> None:
        """Take in those of other attacks."""
        self.attacks += other.attacks
        self.segments += other.segments
        self.healed += other.healed
        self.closed += other.closed
        self.failures += other.failures


def attack(seed: int, findings: Findings, *, steps: int = 150) -> None:
    """Play the attack of a seed. Raises Broken, or whatever the machine raises, with the seed in a note."""
    rng = Random(seed)
    state = STATES[seed % len(STATES)]
    findings.attacks += 1
    try:
        victim = Victim(rng, state, offloaded=rng.random() < 0.4)
        foreign = rng.random() < 0.15
        for _ in range(steps):
            before = victim.machine.state
            findings.segments[before] += step(victim, rng, foreign=foreign)
            if victim.machine.state is State.TcpConnectionClosed is not state:
                break
        if heal(victim):
            findings.healed += 1
        elif victim.machine.state is State.TcpConnectionClosed:
            findings.closed += 1
    except Exception as error:
        error.add_note(f"seed {seed}: python tools/tcp_fuzz.py --attack {seed}")
        raise


def heal(victim: Victim) -> bool:
    """The true remote end goes on: does the connection? Raises Broken; False if there is none any more.

    New data has to be taken, and all that is queued has to get out.
    """
    if victim.machine.settings.offloaded and victim.machine.state is not State.TcpConnectionClosed:
        victim.hand_over(offloaded=False)
    m = victim.machine
    if m.state is State.TcpConnectionClosed or m.state in SYN_STATES:
        return False
    tps = m.settings.parameters.ticks_per_second
    taken = 0
    for _ in range(400):
        state = m.state
        if state in (State.TcpConnectionClosed, State.TcpConnectionTimeWait):
            break
        victim.take()
        victim.settle()
        payload = b""
        d = m.delegated
        if state in TAKES_DATA:
            position = (d.rcv_nxt - victim.irs - 1) & 0xFFFFFFFF
            payload = theirs(position, min(500, d.rcv_wnd))
        before = d.rcv_nxt
        victim.receive(victim.answer(PSH if payload else 0, payload))
        victim.settle()
        if m.state in TAKES_DATA and (d.rcv_nxt - before) & 0xFFFFFFFF < len(payload):
            # Otherwise a FIN among it, injected before, has its effect.
            raise Broken(f"data in order was not taken: {m!r}")
        taken += len(payload)
        # The data may have to pass numbers from which a window was taken before.
        passed = (d.rcv_nxt - d.send_wl1) & 0xFFFFFFFF < 0x80000000 or state not in TAKES_DATA
        if passed and taken >= 500 and not m.queued and (d.snd_una == d.snd_max):
            break
        if state not in TAKES_DATA and not m.queued and d.snd_una == d.snd_max:
            break
        victim.pass_time(max(1, tps // 4))
    else:
        raise Broken(f"{m.queued} bytes queued for ever, {taken} taken: {m!r}")
    victim.take()
    return True
