"""The nine offload state structures, as objects and as x64 memory images.

The folder owns the members, layouts and images of the constant, cached and delegated state of neighbors,
paths and connections. It must not know who has the state at a given time, or what TCP does with it.

Files in reading order: ``base`` (what all nine share), ``image_code`` (makes pack and unpack_from of a
structure from its members), ``neighbor``, ``path``, ``tcp``, ``images`` (runs of structures, as they follow a
block of an offload state tree; import the structures from there).
"""
