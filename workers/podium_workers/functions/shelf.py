"""Where the built-in functions register themselves; apart from users' own, which may take their names."""

from podium_workers.runtime.registry import Registry

builtin = Registry()
task = builtin.task
