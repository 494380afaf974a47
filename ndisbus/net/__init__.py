"""Headers: bytes to values and back, for Ethernet, ARP, IPv4, IPv6, ICMP, UDP and TCP.

Nothing here keeps connection state, reads a clock or does input or output. Parsers take ``bytes`` and raise
:class:`ndisbus.errors.DecodeError` for malformed bytes. Its text is one of finitely many (see
:mod:`ndisbus.net.malformed`), so ``str(error)`` serves as the name of a counter. Builders raise
:class:`ndisbus.errors.LocalProtocolError` for values that no packet can carry.

- hot path: :func:`ndisbus.net.peek.peek`, :func:`ndisbus.net.tcp.parse_tcp`, :class:`ndisbus.net.frames.FrameBuilder`
- whole headers: :mod:`.ethernet`, :mod:`.arp`, :mod:`.ipv4`, :mod:`.ipv6`, :mod:`.icmp`, :mod:`.icmpv6`, :mod:`.nd`,
  :mod:`.udp`, :mod:`.tcp`
- :mod:`.fragments` and :mod:`.reassembly`, :mod:`.identification`, :mod:`.checksum`
"""
