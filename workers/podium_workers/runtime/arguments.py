"""From a task's inputData to the arguments of a function."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import PydanticSchemaGenerationError, TypeAdapter, ValidationError

from podium_workers.runtime.context import Reject, TaskContext

SHOWN_NAMES = 20


class BadInput(Reject):
    """The input does not fit the function. The message names the field, never a value."""


@dataclass(frozen=True)
class Parameter:
    """A named argument. `check` is None where the annotation says nothing that could be checked."""

    name: str
    annotation: str
    required: bool
    default: object
    check: TypeAdapter[Any] | None

    def __str__(self) -> str:
        text = f"{self.name}: {self.annotation}" if self.annotation else self.name
        return text if self.required else f"{text} = {self.default!r}"


@dataclass(frozen=True)
class Signature:
    """What a function wants to be given."""

    parameters: tuple[Parameter, ...]
    rest: str | None
    """The name of its `**parameter`, which takes what no other one does."""
    context: str | None
    """The name of the parameter that is annotated TaskContext."""
    positional: tuple[str, ...]

    @classmethod
    def of(cls, call: Callable[..., Any]) -> Signature:
        """Raises TypeError for `*args`, for two contexts and for annotations that cannot be resolved."""
        try:
            signature = inspect.signature(call, eval_str=True)
        except NameError as error:
            raise TypeError(
                f"{call.__qualname__}: its annotations cannot be read at run time ({error}); "
                "import the name outside of `if TYPE_CHECKING`"
            ) from error
        parameters: list[Parameter] = []
        positional: list[str] = []
        rest = context = None
        for parameter in signature.parameters.values():
            if parameter.kind is parameter.VAR_POSITIONAL:
                raise TypeError(f"{call.__qualname__}: *{parameter.name} has no name to take from the input")
            if parameter.kind is parameter.VAR_KEYWORD:
                rest = parameter.name
                continue
            if parameter.kind is parameter.POSITIONAL_ONLY:
                positional.append(parameter.name)
            if parameter.annotation is TaskContext:
                if context is not None:
                    raise TypeError(f"{call.__qualname__}: two parameters want the TaskContext")
                context = parameter.name
                continue
            parameters.append(_parameter(parameter))
        return cls(tuple(parameters), rest, context, tuple(positional))

    def bind(self, data: Mapping[str, Any], context: TaskContext) -> tuple[list[Any], dict[str, Any]]:
        """Positional and keyword arguments for the call. Raises BadInput.

        Values are checked against the annotations, with JSON's looseness ("100" serves as an int). A null
        counts as absent where there is a default: Conductor puts null for a reference that leads nowhere.
        """
        values: dict[str, Any] = {}
        for parameter in self.parameters:
            value = data.get(parameter.name)
            if value is None and not parameter.required:
                continue
            if parameter.name not in data:
                raise BadInput(f"input field {parameter.name!r} is missing; {_given(data)}")
            values[parameter.name] = _checked(parameter, value)
        if self.context is not None:
            values[self.context] = context
        if self.rest is not None:
            named = {parameter.name for parameter in self.parameters} | {self.context}
            values.update({key: value for key, value in data.items() if key not in named})
        positional: list[Any] = []
        for name in self.positional:
            if name not in values:  # a default: the ones behind it cannot be given by position either
                break
            positional.append(values.pop(name))
        for name in self.positional:
            values.pop(name, None)
        return positional, values

    def __str__(self) -> str:
        names = [str(parameter) for parameter in self.parameters]
        return ", ".join([*names, f"**{self.rest}"] if self.rest else names)


def _parameter(parameter: inspect.Parameter) -> Parameter:
    annotation = parameter.annotation
    required = parameter.default is parameter.empty
    if annotation is parameter.empty or annotation is Any:
        text, check = "", None
    else:
        text = inspect.formatannotation(annotation)
        try:
            check = TypeAdapter(annotation)
        except PydanticSchemaGenerationError as error:
            raise TypeError(f"parameter {parameter.name}: {text} cannot come out of JSON") from error
    return Parameter(parameter.name, text, required, None if required else parameter.default, check)


def _checked(parameter: Parameter, value: object) -> object:
    if parameter.check is None:
        return value
    try:
        return parameter.check.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        field = ".".join(str(part) for part in (parameter.name, *first["loc"]))
        given = "null" if value is None else type(value).__name__
        raise BadInput(
            f"input field {field!r}: {first['msg'].lower()} (wanted {parameter.annotation}, given {given})"
        ) from None


def _given(data: Mapping[str, Any]) -> str:
    if not data:
        return "no input was given"
    names = sorted(data)
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    return f"given: {', '.join(names[:SHOWN_NAMES])}{more}"
