"""The command line of the bus.

The folder owns what people type and read: options, exit codes, tables, texts. It must not know how the bus or
a driver works. It makes control requests over a connection, as other programs do.

Files in reading order:

- entry: where a console script begins; an interrupt during imports ends quietly
- lazy: a group whose subcommands are imported when they are used
- main: the subcommands of ``ndisbus``
- serve, ps and ps_view, trace and trace_format, wait, adapter, fault and fault_process: one subcommand each
- common: what they share
- endpoint_option: the option ``--endpoint`` of all programs of the stack
"""
