"""The command ``hoststack peer``: mistakes on its command line."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from hoststack.cli.peer import peer_command


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--address", "10.9.0.2/99"], "--address 10.9.0.2/99: use ADDRESS/LENGTH, such as 10.77.0.2/24"),
        (["--address", "10.9.0.2/24@7"], "--address 10.9.0.2/24@7: there is no link 7; links are 0..1"),
        (["--mac", "zz"], "--mac: 'zz' is not a MAC address"),
    ],
)
def test_a_mistake_names_the_option(options: list[str], says: str) -> None:
    result = CliRunner().invoke(peer_command, options)
    assert result.exit_code == 78
    assert says in result.stderr
