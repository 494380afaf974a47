"""Commands that are imported when they are used, and what an interrupt does meanwhile."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from hoststack.cli.main import main as hoststack
from ndisbus.cli.lazy import LazyGroup
from ndisbus.cli.main import main as ndisbus

ROOT = Path(__file__).parents[4]

# Runs a package as a program; the import of one module is interrupted, as Ctrl-C would.
INTERRUPTED = """
import runpy, sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == MODULE:
            raise KeyboardInterrupt

PACKAGE, MODULE, *arguments = sys.argv[1:]
sys.argv[1:] = arguments
sys.meta_path.insert(0, Interrupt())
runpy.run_module(PACKAGE, run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("group", [ndisbus, hoststack])
def test_every_subcommand_can_be_imported_and_has_help(group: LazyGroup) -> None:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        assert command.get_short_help_str()
        result = CliRunner().invoke(group, [name, "--help"], prog_name="program")
        assert result.exit_code == 0
        assert result.output.startswith(f"Usage: program {name} ")


@pytest.mark.parametrize("group", [ndisbus, hoststack])
def test_help_of_the_group_has_a_line_for_every_command(group: LazyGroup) -> None:
    result = CliRunner().invoke(group, ["-h"])
    assert result.exit_code == 0
    for name, (_, about) in group.lazy_subcommands.items():
        assert f"\n  {name} " in result.output
        assert about.split()[0] in result.output


@pytest.mark.parametrize("group", [ndisbus, hoststack])
def test_a_command_that_does_not_exist_is_named_in_the_error(group: LazyGroup) -> None:
    result = CliRunner().invoke(group, ["nonsense"])
    assert result.exit_code == 2
    assert "No such command 'nonsense'" in result.output


def test_a_group_may_have_commands_of_both_kinds() -> None:
    group = LazyGroup("both", lazy_subcommands={"run": ("hoststack.cli.run:run_command", "Run it.")})
    group.add_command(click.Command("here", help="It is here."))
    result = CliRunner().invoke(group, ["--help"])
    assert result.output.endswith("Commands:\n  run   Run it.\n  here  It is here.\n")


def test_an_entry_that_is_not_a_command_is_an_error() -> None:
    group = LazyGroup("wrong", lazy_subcommands={"run": ("hoststack.cli.run:FAILED", "Run it.")})
    with pytest.raises(TypeError, match=r"hoststack.cli.run:FAILED is not a click command"):
        CliRunner().invoke(group, ["run"], catch_exceptions=False)


@pytest.mark.parametrize(
    ("package", "module", "argument"),
    [
        ("ndisbus", "click", "ps"),
        ("ndisbus", "ndisbus.cli.ps", "ps"),
        ("ndisbus", "zmq", "ps"),
        ("hoststack", "hoststack.cli.main", "run"),
        ("hoststack", "hoststack.scenario.check", "run"),
        ("hoststack", "hoststack.api.host", "run"),
        ("imdriver", "imdriver.driver", "--help"),
        ("target", "target.driver", "--help"),
    ],
)
def test_an_interrupt_during_an_import_leaves_no_traceback(package: str, module: str, argument: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, package, module, argument],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr.split()) == (1, "", ["Aborted!"])
