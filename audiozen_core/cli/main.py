"""The command `audiozen`: lists and runs the subcommands, and prints their errors."""

from __future__ import annotations

import contextlib
import importlib
import sys
from typing import Any

import click

from audiozen_core import __version__
from audiozen_core.cli.published import failed_command, published, published_command
from audiozen_core.errors import AudioZenError, Interrupted
from audiozen_core.registry.index import installed_index
from audiozen_core.registry.torch_backends import protect_torch

# The module of each command, and the command's description in `audiozen --help`. The descriptions are here so that
# `--help` does not have to import the commands.
COMMANDS = {
    "run": ("audiozen_core.cli.run", "Run an experiment: train, validate, test or predict."),
    "enhance": ("audiozen_core.cli.enhance", "Enhance audio files with a trained network."),
    "export": ("audiozen_core.cli.export", "Pack a trained network into a self-contained folder."),
    "evaluate": ("audiozen_core.cli.evaluate", "Score the files of a folder, with or without clean files."),
    "compare": ("audiozen_core.cli.compare", "Compare runs, folders or CSV files: differences, intervals, tests."),
    "listen": ("audiozen_core.cli.listen", "Create the page of a blind listening test: MUSHRA or P.835."),
    "report": ("audiozen_core.cli.report", "Write an HTML page about runs: scores, players, curves, settings."),
    "replay": ("audiozen_core.cli.replay", "Reproduce a batch of a run: audio, losses, gradients."),
    "runs": ("audiozen_core.cli.runs", "List the runs of a folder: state, epoch, best score, what differs."),
    "tune": ("audiozen_core.cli.tune", "Find a learning rate or a batch size for an experiment."),
    "profile": ("audiozen_core.cli.profile", "Show where the time of a training step goes, and what to change."),
    "checkpoints": ("audiozen_core.cli.checkpoints", "List, verify, prune and average a run's checkpoints."),
    "convert": ("audiozen_core.cli.convert", "Convert the weights in a torch file to a .safetensors file."),
    "check": ("audiozen_core.cli.check", "Find every mistake in a TOML file without building anything."),
    "explain": ("audiozen_core.cli.explain", "Show where a value comes from, or what an error code means."),
    "schema": ("audiozen_core.cli.schema", "Write a JSON Schema that editors use to check TOML files."),
    "new": ("audiozen_core.cli.new", "Create a new plugin or recipe that works right away."),
    "hooks": ("audiozen_core.cli.hooks", "Show which plugins implement each hook of an experiment."),
    "plugins": ("audiozen_core.cli.plugins", "List, describe and diagnose the installed components."),
}

INTERRUPTED = 130


class LazyGroup(click.Group):
    """The built-in commands and the commands of plugins. A command is imported only when it runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the built-in commands in the order of `COMMANDS`, then the plugins' commands."""
        with contextlib.suppress(AudioZenError):  # `format_commands` reports the error of a wrong AUDIOZEN_WITHOUT
            return [*COMMANDS, *published()]
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports and returns the command.

        Raises:
            PathError: the command of a plugin can't be imported. The message names the distribution.
        """
        if cmd_name in COMMANDS:
            # Most commands import torch, and `protect_torch` must be called before the import.
            with contextlib.suppress(AudioZenError):  # a wrong AUDIOZEN_WITHOUT is reported when it is used
                protect_torch(installed_index())
            module = importlib.import_module(COMMANDS[cmd_name][0])
            command: click.Command = module.command
            return command
        return published_command(cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Finds the command. Removes `--traceback` for a plugin's command, which does not know it; `show` does."""
        name, command, rest = super().resolve_command(ctx, args)
        if name not in COMMANDS:
            rest = [argument for argument in rest if argument != "--traceback"]
        return name, command, rest

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command.

        Raises:
            RegistryError: the command of a plugin raised an exception. The message names the distribution.
        """
        try:
            return super().invoke(ctx)
        except (AudioZenError, click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            name = ctx.invoked_subcommand or ""
            if name not in COMMANDS and (failed := failed_command(name, error)):
                raise failed from error
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the list of commands for `--help`."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])
        try:
            lines = published()
        except AudioZenError as error:  # AUDIOZEN_WITHOUT names an unknown plugin, which may have been uninstalled
            with formatter.section("Commands of plugins"):
                formatter.write_text(f"not listed: {error.message}. {error.remedy}")
            return
        if lines:
            with formatter.section("Commands of plugins"):
                formatter.write_dl(list(lines.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="audiozen")
def cli() -> None:
    """AudioZEN: one TOML file is one experiment.

    \b
    audiozen check exp.toml               find every mistake in the file
    audiozen run exp.toml                 train
    audiozen run exp.toml -M train test   train, then test the best epoch
    audiozen run exp.toml --resume        continue where the run stopped
    """


def main() -> None:
    """Runs `audiozen`. Exit codes: 0 for success, 1 for a bug, 2 for an error that the user can fix.

    A run that was stopped by a signal exits with 128 plus the signal's number: 130 for SIGINT, 143 for SIGTERM.
    """
    try:
        # With `standalone_mode=False`, click returns the exit code of the command instead of exiting.
        code = cli.main(prog_name="audiozen", standalone_mode=False)
    except AudioZenError as error:
        show(error)
        sys.exit(2)
    except click.exceptions.NoArgsIsHelpError as error:  # `audiozen` alone
        click.echo(error.format_message())
        sys.exit(0)
    except click.ClickException as error:
        command = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "audiozen"
        show(AudioZenError(error.format_message(), remedy=f"`{command} --help` lists the arguments and options"))
        sys.exit(2)
    except Interrupted as stop:
        from audiozen_core.distributed.environment import read_rank_info

        _ignore_interrupts()
        if read_rank_info().rank == 0:
            click.echo(str(stop), err=True)
        sys.exit(stop.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _ignore_interrupts()
        click.echo("interrupted", err=True)
        sys.exit(INTERRUPTED)
    except OSError as error:
        show(_system_error(error))
        sys.exit(2)
    sys.exit(code if isinstance(code, int) else 0)


def _ignore_interrupts() -> None:
    """Ignores Ctrl-C while the program exits. Otherwise Ctrl-C would print a traceback and change the exit code."""
    import signal
    import threading

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _system_error(error: OSError) -> AudioZenError:
    """Converts an error of the operating system to an `AudioZenError` with a remedy."""
    where = f": {error.filename}" if error.filename else ""
    shown = AudioZenError(
        f"{error.strerror or error}{where}", remedy="check the path, its permissions, and the free space on the disk"
    )
    shown.__cause__ = error
    return shown


def show(error: AudioZenError) -> None:
    """Prints an error's diagnostics, or raises the error if `--traceback` was given."""
    if "--traceback" in sys.argv:
        raise error
    from audiozen_core.cli.findings import show_findings

    show_findings(error.diagnostics)
