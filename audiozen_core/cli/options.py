"""The arguments, options and command classes that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from audiozen_core.kinds import RUN_MODES


class GivenPath(click.Path):
    """A path that must not be empty. An empty path, often from an unset variable, would mean the working directory."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Returns the path."""
        if value == "":
            self.fail("the path is empty: is a shell variable not set?", param, ctx)
        return super().convert(value, param, ctx)


FILE = click.argument("file", metavar="EXP.toml", type=GivenPath(path_type=Path))
MODES = click.option(
    "-M",
    "--mode",
    "modes",
    metavar="MODE…",
    type=click.Choice(RUN_MODES),
    multiple=True,
    default=("train",),
    help=f"The modes to run, in order: {', '.join(RUN_MODES)}. Several are allowed: -M train test. Default: train.",
)
OVERRIDES = click.option(
    "--set",
    "overrides",
    metavar="KEY=VALUE",
    multiple=True,
    help="Change a value of the TOML file: --set optimizer.args.lr=3e-4. Add a new key with --set +KEY=VALUE. "
    "May be repeated.",
)


def split_names(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> list[str]:
    """Splits values at commas, so that `--metrics a,b` is the same as `--metrics a --metrics b`."""
    return [name.strip() for value in values for name in value.split(",") if name.strip()]


def _switch_off(ctx: click.Context, _: click.Parameter, names: tuple[str, ...]) -> None:
    if names:
        from audiozen_core.registry.switched_off import switch_off

        ctx.call_on_close(switch_off(names))


WITHOUT = click.option(
    "--without",
    metavar="NAME",
    multiple=True,
    expose_value=False,
    callback=_switch_off,
    help="Switch a plugin off, by the name of its distribution. Its components are treated as not installed. May be "
    "repeated. The environment variable AUDIOZEN_WITHOUT does the same, with commas between names.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
# Commands do not get the value of `--traceback`, because `main.show` reads the option from `sys.argv`.
TRACEBACK = click.option("--traceback", is_flag=True, expose_value=False, help="Show the full traceback of an error.")


class SeveralModes(click.Command):
    """Lets one `-M` take several modes: `-M train test` means `-M train -M test`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Inserts `-M` before each further mode, and parses the arguments."""
        spread: list[str] = []
        modes_follow = False
        for place, argument in enumerate(args):
            first = modes_follow and args[place - 1] in ("-M", "--mode")
            if modes_follow and not first and argument in RUN_MODES:
                spread.append("-M")
            elif argument in ("-M", "--mode"):
                modes_follow = True
            elif not first:
                modes_follow = False
            spread.append(argument)
        return super().parse_args(ctx, spread)


class ListByDefault(click.Group):
    """Runs the subcommand `list` by default: `plugins model` means `plugins list model`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Inserts `list` if the first argument is not a subcommand, and parses the arguments."""
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = ["list", *args]
        return super().parse_args(ctx, args)
