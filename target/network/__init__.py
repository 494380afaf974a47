"""The adapter on its wire: which received frame goes where, and what is known of the neighbors.

Must not know what a connection does with a segment, nor how frames reach the host: :class:`Station` is given
both.

Read in this order: ``station`` (received frames), ``reachability`` (when the host is asked about a neighbor).
"""
