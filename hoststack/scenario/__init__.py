"""Scenarios: YAML files that say what a host does and what must come of it.

Owns: the language of the files, and carrying them out. Must not know: processes, sockets, or whether the host
runs in real time or in the simulation; a :class:`~hoststack.api.host.Host` hides that.

Reading order:

- ``check``: what a file may contain; a file is checked completely before anything runs
- ``reader``: reading YAML values, with errors that name file, line and path
- ``run``: carrying out the steps
"""
