"""The command line of the bus.

Owns: what people type and read, exit codes, tables. Must not know: how the bus or a driver does its work;
it asks over a connection, as other programs do.

Files in reading order:

- entry: where a console script begins; an interrupt during imports ends quietly
- lazy: a group whose subcommands are imported when they are used
- main: the subcommands of ``ndisbus``
- serve, ps and ps_view, trace, wait, adapter, fault and fault_process: one subcommand each
- common: what they share
"""
