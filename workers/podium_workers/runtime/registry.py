"""The functions a worker knows, by the task types that they serve."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from podium_workers.runtime.arguments import Signature

AnyFunction = TypeVar("AnyFunction", bound=Callable[..., Any])


class DuplicateTask(Exception):
    """Two functions claim one task type. The message names both places."""


@dataclass(frozen=True)
class Function:
    """A Python function under the name of a Conductor task type."""

    name: str
    call: Callable[..., Any]
    cpu_bound: bool = False
    """Runs in a process of its own: it would keep the other tasks' threads from running, or may crash."""

    @functools.cached_property
    def signature(self) -> Signature:
        """How the input is given to it. Raises TypeError for a function that cannot serve a task."""
        return Signature.of(self.call)

    @property
    def is_async(self) -> bool:
        return inspect.iscoroutinefunction(self.call)

    @property
    def place(self) -> str:
        """`module.function (file:line)`, for messages."""
        code = getattr(inspect.unwrap(self.call), "__code__", None)
        where = f" ({code.co_filename}:{code.co_firstlineno})" if code else ""
        return f"{self.identity}{where}"

    @property
    def identity(self) -> str:
        call = self.call
        name = getattr(call, "__qualname__", None) or type(call).__qualname__
        return f"{getattr(call, '__module__', '?')}.{name}"

    @property
    def summary(self) -> str:
        """The first line of the docstring, or nothing."""
        return (inspect.getdoc(self.call) or "").partition("\n")[0]


class Registry:
    """Task types and their functions. `task` registers; iterating gives the functions by name."""

    def __init__(self) -> None:
        self._functions: dict[str, Function] = {}

    def task(self, *names: str, cpu_bound: bool = False) -> Callable[[AnyFunction], AnyFunction]:
        """Registers a function for one task type, or several; without a name, under its own.

        Works as `@task("resize")`, `@task("resize", "shrink")`, `@task()`. The function itself stays as
        it is and can be called and tested like any other. `cpu_bound`: it computes for longer than moments,
        and is run in another process, which imports its module anew. Raises DuplicateTask.
        """
        if any(not isinstance(name, str) for name in names):
            raise TypeError('write @task("name") or @task(), with the brackets')
        if any(not name or "/" in name or "\\" in name or name in {".", ".."} for name in names):
            raise ValueError(f"Conductor cannot serve a task type of this name: {names}")

        def register(call: AnyFunction) -> AnyFunction:
            for name in names or (call.__name__,):
                function = Function(name, call, cpu_bound)
                if cpu_bound and function.is_async:
                    raise TypeError(f"{function.place}: a cpu_bound function has a process: write `def`")
                self._add(function)
            return call

        return register

    def _add(self, function: Function) -> None:
        known = self._functions.get(function.name)
        # The same place twice is a module that was imported again (a reload, `python -m`): not a duplicate.
        if known is not None and known.identity != function.identity:
            raise DuplicateTask(
                f"two functions for task type {function.name!r}: {known.place} and {function.place}"
            )
        self._functions[function.name] = function

    def __iter__(self) -> Iterator[Function]:
        return iter(sorted(self._functions.values(), key=lambda function: function.name))

    def __len__(self) -> int:
        return len(self._functions)

    def __contains__(self, name: object) -> bool:
        return name in self._functions

    def __getitem__(self, name: str) -> Function:
        return self._functions[name]


registry = Registry()
"""Where users' functions register themselves: the one object that modules share on purpose."""

task = registry.task
