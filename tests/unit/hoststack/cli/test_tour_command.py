"""The options of the tour that are wrong before anything begins."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from hoststack.cli.main import main


@pytest.mark.parametrize(
    ("option", "value"),
    [("--address", "foo"), ("--address", "10.77.0.1/33"), ("--peer", "1.2.3"), ("--peer", "10.77.0.2/24")],
)
def test_what_is_no_address_is_a_wrong_command_line(option: str, value: str) -> None:
    done = CliRunner().invoke(main, ["tour", option, value])
    assert done.exit_code == 2
    assert option in done.output
    assert repr(value) in done.output
