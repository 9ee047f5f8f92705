"""The `worldr1` program: a group whose commands are registered by the installed packages.

Exit codes: 0 done, 1 something failed, 2 an input must be fixed.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Any

import click

from worldr1_core import __version__
from worldr1_core.errors import PluginError, WorldR1Error, suggest
from worldr1_core.log import LEVELS, configure_logging
from worldr1_core.plugins import installed
from worldr1_core.registry import Registry
from worldr1_core.tracing import configure_tracing


def _shown(error: WorldR1Error) -> click.ClickException:
    shown = click.ClickException(str(error))
    shown.exit_code = error.exit_code  # type: ignore[misc]  # click reads it from the instance
    return shown


def _registry() -> Registry:
    """Return the installed components; warnings about plugins go to stderr even before logging is set up (`--help`)."""
    with contextlib.redirect_stdout(sys.stderr):
        return installed().registry


class PluginGroup(click.Group):
    """A click group that looks its commands up in the plugin registry."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the registered commands."""
        return _registry().names("command")

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command.

        Raises:
            click.ClickException: It is registered, but cannot be imported or two plugins claim it.
        """
        registry = _registry()
        if not registry.has("command", cmd_name):
            return None
        try:
            command = registry.load("command", cmd_name)
            if not isinstance(command, click.Command):
                owner = registry.find("command", cmd_name).owner
                raise PluginError(f"Command {cmd_name!r} of {owner} must be a click command, received {command!r}.")
        except WorldR1Error as error:
            raise _shown(error) from error
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the arguments name; a misspelt one is an error that suggests the closest."""
        names = self.list_commands(ctx)
        if args and not _registry().has("command", args[0]) and not args[0].startswith("-"):
            raise click.UsageError(f"Unknown command {args[0]!r}. Installed: {names}.{suggest(args[0], names)}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List every command; one that cannot be loaded is listed with its error."""
        rows = []
        for name in self.list_commands(ctx):
            try:
                command = self.get_command(ctx, name)
            except click.ClickException as error:
                rows.append((name, f"cannot be loaded: {error.message}"))
            else:
                rows.append((name, command.get_short_help_str(formatter.width) if command else ""))
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; turn our errors into one line on stderr and their exit code.

        Logging is set up first: the command is looked up, and plugins are discovered, before the group's own function
        runs.
        """
        configure_logging(ctx.params["log_level"], json=ctx.params["log_json"])
        configure_tracing("program")
        try:
            return super().invoke(ctx)
        except WorldR1Error as error:
            raise _shown(error) from error


@click.group(cls=PluginGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="worldr1")
@click.option(
    "--log-level",
    type=click.Choice(LEVELS),
    default="info",
    show_default=True,
    help="Lowest level logged to stderr.",
)
@click.option("--log-json", is_flag=True, help="Log one JSON object a line.")
def cli(log_level: str, log_json: bool) -> None:
    """Score, generate, train and evaluate videos that hold together in 3D.

    Results go to stdout as JSON, logs and progress to stderr. Exit code 2 means that an input must be fixed, 1 that
    something failed.
    """


def main() -> None:
    """Entry point of the `worldr1` script."""
    cli(prog_name="worldr1")
