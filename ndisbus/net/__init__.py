"""Headers: bytes to values and back, for Ethernet, ARP, IPv4, IPv6, ICMP, UDP and TCP.

Owns the contents of a frame. Must not know connections, clocks, or where frames come from and go to. Parsers
take ``bytes`` and raise :class:`ndisbus.errors.DecodeError` for malformed bytes. Its text is one of a finite
number (see :mod:`ndisbus.net.malformed`), so ``str(error)`` serves as the name of a counter. Builders raise
:class:`ndisbus.errors.LocalProtocolError` for values that do not fit into a packet.

Files in reading order:

- segment: a TCP segment as values.
- The hot path: peek (which connection a frame belongs to), tcp (:func:`~ndisbus.net.tcp.parse_frame`), frames
  (:class:`~ndisbus.net.frames.FrameBuilder`); checksum and tcp_options, which they use.
- Whole headers: ethernet, arp, ipv4, ipv6, icmp, icmpv6, nd (neighbor discovery), udp, tcp.
- fragments (cut packets), reassembly (join fragments), identification (of IPv4 packets and IPv6 fragments).
- malformed: the words for what can be wrong.
"""
