"""Walking through tasks that have tasks in them."""

from collections.abc import Iterator, Sequence

from podium.core.definitions.draft import Json


def branches_of(task: Json, path: str) -> Iterator[tuple[str, list[Json]]]:
    """(path, tasks) of every list of tasks inside a task."""
    for key in ("loopOver", "defaultCase"):
        if task.get(key):
            yield f"{path}.{key}", task[key]
    for case, tasks in (task.get("decisionCases") or {}).items():
        yield f"{path}.decisionCases.{case}", tasks
    for index, tasks in enumerate(task.get("forkTasks") or ()):
        yield f"{path}.forkTasks[{index}]", tasks


def inline_definition(task: Json) -> Json | None:
    """The workflow definition inside a SUB_WORKFLOW task, if it has one."""
    inline = (task.get("subWorkflowParam") or {}).get("workflowDefinition")
    return inline if isinstance(inline, dict) else None


def walk(tasks: Sequence[Json], path: str = "", *, inline: bool = False) -> Iterator[tuple[str, Json]]:
    """(path, task) of every task in the order of the text; with `inline` also those of inline definitions."""
    todo = [(f"{path}[{index}]", task) for index, task in enumerate(tasks)][::-1]
    while todo:
        where, task = todo.pop()
        yield where, task
        inner = [
            (f"{place}[{index}]", item)
            for place, items in branches_of(task, where)
            for index, item in enumerate(items)
        ]
        if inline and (definition := inline_definition(task)) is not None:
            place = f"{where}.subWorkflowParam.workflowDefinition.tasks"
            inner += [(f"{place}[{index}]", item) for index, item in enumerate(definition.get("tasks") or ())]
        todo += inner[::-1]
