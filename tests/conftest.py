"""What all tests share: how Hypothesis chooses its examples, and that signals reach the processes of a test.

The usual run plays the same examples each time: what passes today does not fail tomorrow by chance, on a
change that has nothing to do with it. New examples are looked for with ``--hypothesis-profile=random``, and
``--hypothesis-seed`` repeats them.
"""

from __future__ import annotations

import signal

from hypothesis import HealthCheck, settings

# How fast a machine is, and how busy, says nothing about the code.
_PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("random", _PATIENT, print_blob=True)
settings.register_profile("same", _PATIENT, derandomize=True, database=None)
settings.load_profile("same")

# A shell starts what it puts into the background with SIGINT ignored, and every process of a test would
# inherit that: the tests that send one have to pass there, too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
