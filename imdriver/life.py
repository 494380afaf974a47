"""The lives of IM call entries and IM offload entries, as tables (:mod:`ndisbus.life`).

DDI pages reusing-an-ndis-miniport-offload-block-list-structure and
referencing-offloaded-state-through-an-intermediate-driver (R-IM-02, R-IM-06, R-IM-07).
"""

from __future__ import annotations

from typing import Final

from ndisbus.life import LifeEnum, LifeTable, print_lives

__all__ = [
    "CALL_ENTRY",
    "OFFLOAD_ENTRY",
    "CallEntryEvent",
    "CallEntryState",
    "OffloadEntryEvent",
    "OffloadEntryState",
]


class CallEntryState(LifeEnum):
    """The states of an IM call entry."""

    CREATED = "created"
    PASSED_DOWN = "passed_down"
    FREED = "freed"


class CallEntryEvent(LifeEnum):
    """The events of an IM call entry."""

    PASS_DOWN = "pass down"
    REFUSE = "refuse"
    PROPAGATE = "propagate"
    ABANDON = "abandon"


class OffloadEntryState(LifeEnum):
    """The states of an IM offload entry."""

    CREATED = "created"
    OFFERED = "offered"
    OFFLOADED = "offloaded"
    TERMINATING = "terminating"
    LOST = "lost"
    LEAVING = "leaving"
    FREED = "freed"


class OffloadEntryEvent(LifeEnum):
    """The events of an IM offload entry, and the uses of it."""

    OFFER = "offer"
    ACCEPT = "accept"
    REJECT = "reject"
    NAME = "name"
    USE = "use"
    TERMINATE = "terminate"
    TERMINATED = "terminated"
    NOT_TERMINATED = "not terminated"
    HALT = "halt"


#: An entry for one call that was passed on: a state-manipulation request or an I/O request. It is propagated
#: upward and freed in one step (R-IM-06). REFUSE completes the call without passing it down. ABANDON forgets
#: it when the driver above does not wait for it any more.
CALL_ENTRY: Final = LifeTable(
    "an IM call entry",
    initial=CallEntryState.CREATED,
    final=CallEntryState.FREED,
    rows={
        CallEntryState.CREATED: {
            CallEntryEvent.PASS_DOWN: CallEntryState.PASSED_DOWN,
            CallEntryEvent.REFUSE: CallEntryState.FREED,
        },
        CallEntryState.PASSED_DOWN: {
            CallEntryEvent.PROPAGATE: CallEntryState.FREED,
            CallEntryEvent.ABANDON: CallEntryState.FREED,
        },
    },
)

#: NAME stands for linkers, queries, updates and invalidates, USE for I/O. No list may name an object while it
#: is offered, or after its termination was requested. The target itself still answers for I/O. A terminate
#: that fails leaves the object LOST, and it is terminated once more (R-HWF-01, R-DIS-43).
OFFLOAD_ENTRY: Final = LifeTable(
    "an IM offload entry",
    initial=OffloadEntryState.CREATED,
    final=OffloadEntryState.FREED,
    rows={
        OffloadEntryState.CREATED: {
            OffloadEntryEvent.OFFER: OffloadEntryState.OFFERED,
        },
        OffloadEntryState.OFFERED: {
            OffloadEntryEvent.ACCEPT: OffloadEntryState.OFFLOADED,
            OffloadEntryEvent.REJECT: OffloadEntryState.FREED,
            OffloadEntryEvent.HALT: OffloadEntryState.FREED,
        },
        OffloadEntryState.OFFLOADED: {
            OffloadEntryEvent.NAME: OffloadEntryState.OFFLOADED,
            OffloadEntryEvent.USE: OffloadEntryState.OFFLOADED,
            OffloadEntryEvent.TERMINATE: OffloadEntryState.TERMINATING,
            OffloadEntryEvent.HALT: OffloadEntryState.FREED,
        },
        OffloadEntryState.TERMINATING: {
            OffloadEntryEvent.USE: OffloadEntryState.TERMINATING,
            OffloadEntryEvent.TERMINATED: OffloadEntryState.FREED,
            OffloadEntryEvent.HALT: OffloadEntryState.FREED,
            OffloadEntryEvent.NOT_TERMINATED: OffloadEntryState.LOST,
        },
        OffloadEntryState.LOST: {
            OffloadEntryEvent.USE: OffloadEntryState.LOST,
            OffloadEntryEvent.TERMINATE: OffloadEntryState.LEAVING,
            OffloadEntryEvent.HALT: OffloadEntryState.FREED,
        },
        OffloadEntryState.LEAVING: {
            OffloadEntryEvent.USE: OffloadEntryState.LEAVING,
            OffloadEntryEvent.TERMINATED: OffloadEntryState.FREED,
            OffloadEntryEvent.NOT_TERMINATED: OffloadEntryState.FREED,
            OffloadEntryEvent.HALT: OffloadEntryState.FREED,
        },
    },
)


if __name__ == "__main__":
    print_lives(CALL_ENTRY, OFFLOAD_ENTRY)
