"""The adapter: its tables, buffers, counters and timers, and the events it raises on its own initiative.

Must not know what a connection does with data, how frames are received, or what an operation is: the folders
above give work to the adapter's pipeline and timers as callbacks.

Read in this order: ``config`` (what the hardware can hold and do), ``knobs`` (injectable failures), ``demux``
and ``tables`` (which entries are in use), ``pools`` (net buffer lists that the layers above borrow),
``pipeline`` (operations in flight), ``statistics``, ``adapter`` (all of these together), ``events`` (TCP
events).
"""
