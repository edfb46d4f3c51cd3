"""`podium`, also `kubectl podium`: each command in a module of its own, imported when it is used."""

import importlib

import click

_COMMANDS = {
    "compile": ("podium.cli.compile", "compile_", "print the Conductor definition that a manifest becomes"),
    "demo": ("podium.cli.demo", "demo", "the examples on real servers, from nothing"),
    "dev": ("podium.cli.dev", "dev", "a cluster, Conductor, operator and worker on this machine"),
    "lint": ("podium.cli.lint", "lint", "check manifests without a cluster"),
    "operator": ("podium.cli.operator", "operator", "run the operator in the foreground"),
}


class _LateGroup(click.Group):
    """Knows its commands by name and one line; `podium --help` imports none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, name, _ = _COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, _, line) in sorted(_COMMANDS.items())])


@click.group(cls=_LateGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="podium")
def main() -> None:
    """Conductor workflows, their workers and device fleets as part of a Kubernetes cluster.

    Shell completion: `eval "$(_PODIUM_COMPLETE=bash_source podium)"` (or zsh_source, fish_source).
    """
