"""`audiozen`: the group of commands, and the one place where errors are shown."""

from __future__ import annotations

import importlib
import signal
import sys
import threading

import click

from audiozen_core import __version__
from audiozen_core.cli.findings import show_findings
from audiozen_core.cli.published import published, published_command
from audiozen_core.errors import AudioZenError, Interrupted

# Name to the module that holds it and its line in `audiozen --help`, which so imports no command.
COMMANDS = {
    "run": ("audiozen_core.cli.run", "Train, validate, test or predict as a TOML file says."),
    "checkpoints": ("audiozen_core.cli.checkpoints", "List, verify, prune and average a run's checkpoints."),
    "check": ("audiozen_core.cli.check", "Find every mistake in a TOML file; build nothing."),
    "explain": ("audiozen_core.cli.explain", "Tell where a value comes from, or what an error code means."),
    "schema": ("audiozen_core.cli.schema", "Write a JSON Schema for editors."),
    "new": ("audiozen_core.cli.new", "Write a new plugin or recipe, which works as it stands."),
    "hooks": ("audiozen_core.cli.hooks", "Tell who answers each hook of an experiment, in which order."),
    "plugins": ("audiozen_core.cli.plugins", "List what is installed, describe it, find out what is broken."),
}

INTERRUPTED = 130


class LazyGroup(click.Group):
    """Imports a command only when it is called; knows those of plugins too."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Our own commands, in the order of `COMMANDS`, then those of plugins."""
        return [*COMMANDS, *published()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported.

        Raises:
            PathError: it is that of a plugin, and broken; the message names the distribution.
        """
        if cmd_name in COMMANDS:
            module = importlib.import_module(COMMANDS[cmd_name][0])
            command: click.Command = module.command
            return command
        return published_command(cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list for `--help`."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])
        if lines := published():
            with formatter.section("Commands of plugins"):
                formatter.write_dl(list(lines.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="audiozen")
def cli() -> None:
    """AudioZEN: one TOML file is one experiment.

    \b
    audiozen check exp.toml               find every mistake in it
    audiozen run exp.toml                 train
    audiozen run exp.toml -M train test   train, then test the best epoch
    audiozen run exp.toml --resume        go on where it stopped
    """


def main() -> None:
    """The script `audiozen`. Exit codes: 0 well, 1 a bug or an error in a component, 2 a mistake of the user's.

    A run that a signal has stopped exits with 128 and the signal's number: 130 for SIGINT, 143 for SIGTERM.
    """
    try:
        # Without its standalone mode click returns the code that a command exits with.
        code = cli.main(standalone_mode=False)
    except AudioZenError as error:
        show(error)
        sys.exit(2)
    except click.ClickException as error:
        asked = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "audiozen"
        show(AudioZenError(error.format_message(), remedy=f"`{asked} --help` tells what it takes"))
        sys.exit(2)
    except Interrupted as stop:
        _hear_no_more_interrupts()
        click.echo(str(stop), err=True)
        sys.exit(stop.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _hear_no_more_interrupts()
        click.echo("interrupted", err=True)
        sys.exit(INTERRUPTED)
    except OSError as error:
        show(_of_the_system(error))
        sys.exit(2)
    sys.exit(code if isinstance(code, int) else 0)


def _hear_no_more_interrupts() -> None:
    """The end has begun. Another Ctrl-C would break it off with a traceback, and change the exit code."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _of_the_system(error: OSError) -> AudioZenError:
    """What the operating system refused, as an error for the user."""
    where = f": {error.filename}" if error.filename else ""
    told = AudioZenError(
        f"{error.strerror or error}{where}", remedy="look at the path, its rights, and the space on its disk"
    )
    told.__cause__ = error
    return told


def show(error: AudioZenError) -> None:
    """Prints an error's diagnostics, or raises it where `--traceback` asks for that."""
    if "--traceback" in sys.argv:
        raise error
    show_findings(error.diagnostics)
