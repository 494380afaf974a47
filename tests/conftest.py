"""What all tests share: how Hypothesis chooses its examples, and what the processes of tests inherit.

The usual run plays the same examples each time: what passes today does not fail tomorrow by chance, on a
change that has nothing to do with it. New examples are looked for with ``--hypothesis-profile=random``, and
``--hypothesis-seed`` repeats them.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from functools import partial

import pytest
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


def pytest_configure(config: pytest.Config) -> None:
    """Let the hundreds of processes of a run share compiled modules where Python may leave none behind."""
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
        directory = os.environ["PYTHONPYCACHEPREFIX"] = tempfile.mkdtemp(prefix="chimney-pyc-")
        config.add_cleanup(partial(shutil.rmtree, directory, ignore_errors=True))
