"""`podium`, also `kubectl podium`: each command in a module of its own, imported when it is used."""

import importlib

import click

_COMMANDS = {
    "approve": ("approvals", "approve", "let a task that waits for a person go on"),
    "backfill": ("schedule", "backfill", "start the runs of a schedule for a span of time"),
    "compile": ("compile", "compile_", "print the Conductor definition that a manifest becomes"),
    "completion": ("completion", "completion", "complete commands in bash, zsh or fish"),
    "demo": ("demo", "demo", "the examples on real servers, from nothing"),
    "dev": ("dev", "dev", "a cluster, Conductor, operator and worker on this machine"),
    "get": ("get", "get", "show runs, or one run with its tasks"),
    "lint": ("lint", "lint", "check manifests without a cluster"),
    "logs": ("logs", "logs", "print the task logs of a run"),
    "operator": ("operator", "operator", "run the operator in the foreground"),
    "output": ("output", "output", "print the whole output of a run"),
    "pause": ("desired", "pause", "schedule no further tasks of a run"),
    "pool": ("pool", "pool", "list WorkerPools, and have one explained"),
    "reject": ("approvals", "reject", "let a task that waits for a person fail"),
    "rerun": ("actions", "rerun", "run a finished run again from one task on"),
    "restart": ("actions", "restart", "run a finished run again from its beginning"),
    "resume": ("desired", "resume", "let a paused run go on"),
    "retry": ("actions", "retry", "let a failed run go on from the tasks that failed"),
    "run": ("run", "run", "run a Workflow once"),
    "schedule": ("schedule", "schedule", "list, start, suspend and resume schedules"),
    "simulate": ("simulate", "simulate", "simulated devices, without hardware"),
    "skip": ("actions", "skip", "leave a task out when the run comes to it"),
    "terminate": ("desired", "terminate", "end a run now"),
    "tree": ("get", "tree", "show the tasks of a run as a tree"),
}


class _LateGroup(click.Group):
    """Knows its commands by name and one line; `podium --help` imports none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, name, _ = _COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(f"podium.cli.{module}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, _, line) in sorted(_COMMANDS.items())])


@click.group(cls=_LateGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="podium")
def main() -> None:
    """Conductor workflows, their workers and device fleets as part of a Kubernetes cluster.

    Commands that need a cluster follow the current context of the kubeconfig, as kubectl does.
    """
