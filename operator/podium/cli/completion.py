"""`podium completion`: what a shell needs to complete the commands."""

import click
from click.shell_completion import get_completion_class

from podium.cli import main


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that completes podium's commands and options in SHELL.

    \b
    Example:
      eval "$(podium completion bash)"
      podium completion fish > ~/.config/fish/completions/podium.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None
    # Rendered without a look at the shell itself, which need not be the one that runs now.
    complete = kind(main, {}, "podium", "_PODIUM_COMPLETE")
    click.echo(complete.source_template % complete.source_vars(), nl=False)
