"""The adapter on its wire: where a received frame goes, and what is known about the neighbors.

Must not know what a connection does with a segment, or how frames reach the host. :class:`Station` gets
functions for both.

Read in this order: ``station`` (received frames), ``reachability`` (when the host is asked about a neighbor).
"""
