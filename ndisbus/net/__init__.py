"""Headers: bytes to values and back, for Ethernet, ARP, IPv4, IPv6, ICMP, UDP and TCP.

Nothing here keeps connection state, reads a clock or does input or output. Parsers take ``bytes`` and raise
:class:`ndisbus.errors.DecodeError` for malformed bytes. Its text is one of finitely many (see
:mod:`ndisbus.net.malformed`), so ``str(error)`` serves as the name of a counter. Builders raise
:class:`ndisbus.errors.LocalProtocolError` for values that no packet can carry.

- hot path: :func:`ndisbus.net.peek.peek`, :func:`ndisbus.net.tcp.parse_frame` and
  :class:`ndisbus.net.frames.FrameBuilder`
- whole headers: ``ethernet``, ``arp``, ``ipv4``, ``ipv6``, ``icmp``, ``icmpv6``, ``nd``, ``udp``, ``tcp``
- ``fragments`` and ``reassembly``; ``identification``; ``checksum``
"""
