"""The command line of the host stack.

Owns: what people type and read, exit codes. Must not know: how a host does its work; it uses the public API.

Files in reading order:

- main: the subcommands of ``hoststack``
- run: a scenario
- tour: the main job
- peer: a remote host
- netstat: the connections of hosts on the bus
"""
