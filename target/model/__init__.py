"""What the target keeps: the contexts of offloaded objects, their life, and what is posted on them.

Data without behaviour of its own. It must not know the adapter, the wire or NDIS.

Read in this order: ``life`` (the table of states and events), ``posted`` (requests of the layers above),
``flow`` (the interface of what runs a connection; ``data/flow.py`` implements it), ``contexts`` (neighbors,
paths and connections).
"""
