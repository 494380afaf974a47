"""``ndisbus bench``: our chain beside its alternatives, measured in one run.

Owns: the processes and namespaces that it starts, what it measures and the ratios that it prints. Must not
know the host stack: a small driver of its own times requests.

Files in reading order:

- command, run: ``ndisbus bench``, our chain beside a bare one
- host: the driver that times requests; bare: a ZeroMQ chain of the same hops with nothing in them
- tcp_command, tcp: ``ndisbus bench tcp``, our TCP beside Linux's
- tcp_memory: two TCP machines in one thread; tcp_linux, tcp_socket: against Linux, over a TAP device
- tcp_idle: memory of idle connections
"""
