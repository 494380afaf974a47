"""Messages in parts: what a client has sent of a long list, until the last part is here.

Each client has at most one such message open. A client whose next part does not come for too long is removed
as a driver that hangs is, even if it advances: what it has sent may be large. It may say hello again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from ndisbus.ddi.call_rows import STATE_OPERATIONS
from ndisbus.errors import DecodeError
from ndisbus.lists.blocklist import Key
from ndisbus.lists.validate import DOWN_COLUMNS, MAX_BLOCKS, UP_COLUMNS, CheckedColumns, check_columns
from ndisbus.messages.parts import JOINED_ROOM, PART, Assembly

if TYPE_CHECKING:
    from ndisbus.core.clock import Clock
    from ndisbus.core.dispatch import BugChecks
    from ndisbus.core.hangs import HangWatch
    from ndisbus.core.model import Client, CoreConfig
    from ndisbus.core.removal import Removal
    from ndisbus.messages.codec import Message

__all__ = ["Joining"]


#: The columns that the list of a call may have.
_ALLOWED: Final = {o.request: DOWN_COLUMNS for o in STATE_OPERATIONS} | {
    o.completion: UP_COLUMNS for o in STATE_OPERATIONS
}


def _mark(message: Message) -> None:
    """Mark a joined list as checked, if each of its columns is as long as the list."""
    columns = message[2][1]
    blocks = len(columns[Key.BLOCK])
    ready = all(
        type(c) is not list or len(c) == blocks for k, c in columns.items() if k != Key.NET_BUFFER_LISTS
    )
    if blocks and ready:
        message[2][1] = CheckedColumns(columns)


class Joining:
    """Joins the parts that clients send."""

    __slots__ = ("bug_checks", "clock", "config", "hangs", "removal")

    def __init__(
        self, config: CoreConfig, clock: Clock, bug_checks: BugChecks, removal: Removal, hangs: HangWatch
    ) -> None:
        self.config = config
        self.clock = clock
        self.bug_checks = bug_checks
        self.removal = removal
        self.hangs = hangs

    def receive(
        self, client: Client, message: Message, frames: Sequence[bytes]
    ) -> tuple[Message, Sequence[bytes]] | None:
        """Take any message while parts are open, or the first part. Returns the message that is complete now.

        A part that does not fit, and a message between two parts, are a bug check of the client.
        """
        assembly = client.assembly
        client.part_at = self.clock.now
        try:
            if assembly is None:
                # What others made as large as the limit, an intermediate driver may pass on.
                room = JOINED_ROOM // 2 if client.is_intermediate else JOINED_ROOM // 4
                assembly = client.assembly = Assembly(MAX_BLOCKS, room)
                self._watch(client, assembly)
            elif message[0] != PART:
                raise assembly.interrupted(message[0])
            self._check(message)
            joined = assembly.add(message, frames)
        except DecodeError as e:
            client.assembly = None
            self.bug_checks.report(client, message, e)
            return None
        if joined is not None:
            client.assembly = None
            _mark(joined[0])
        return joined

    @staticmethod
    def _check(message: Message) -> None:
        """Check the values of a piece when it comes, so that not all are left to the end."""
        args = message[2]
        if not args:
            return
        allowed = _ALLOWED.get(args[0]) if type(args[0]) is str else None
        columns = args[-1]
        if allowed is not None and type(columns) is dict and columns.get(Key.BLOCK):
            check_columns(columns, f"{args[0]}.OffloadBlockList, part {args[1]}", allowed)

    def _watch(self, client: Client, assembly: Assembly) -> None:
        limit = self.config.request_limit

        def look() -> None:
            if client.assembly is not assembly:
                return
            since = max(client.part_at, self.hangs.resumed_at)
            if self.clock.now - since + 1e-9 < limit:
                self.clock.schedule(since + limit, look)
            else:
                name, index = assembly.name, assembly.index
                reason = f"sent {index} parts of {name} and then no further one for {limit:g} s"
                self.removal.remove(client, reason, hung=True)

        self.clock.schedule(self.clock.now + limit, look)
