"""The main job of ``make start``: one host and its connections, taken through everything a chimney does.

Owns: the order of the tour, its measurements, and the checks that fail it. Must not know: the command line,
and how results are shown. It talks to the bus only over the host's own connection.

Reading order:

- ``tour``: the order of the steps
- ``rig``, ``step``: what every step uses: timed operations, waits with deadlines, counters
- ``connections``, ``traffic``: opening, moving data, offloading, closing; one message and its answer
- ``operations``: query, update, relink, invalidate
- ``kill``: kill -9 of the target, and the recovery
- ``leftovers``: what must be 0 at the end
"""
