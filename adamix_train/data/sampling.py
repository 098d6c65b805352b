"""Sample examples: held-out data, and the shots of a few-shot run."""

import random
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence

from adamix_train.data.examples import Example
from adamix_train.errors import DataError
from adamix_train.tasks.kinds import TaskKind


def split_off(
    examples: Sequence[Example],
    kind: TaskKind,
    *,
    count: Callable[[int], int],
    seed: int,
    what: str,
    exact: bool = True,
) -> tuple[list[Example], list[Example]]:
    """Return the remaining and the sampled examples: `count(n)` of the n groups of each stratum, at least one.

    A stratum is a label, or the whole data; a group is one example, or all examples with the same input. `what` names
    the sample in errors. Unless `exact`, fewer groups are sampled from a label that is too small to leave one, and none
    from a label with a single group.

    Raises:
        DataError: the data, or with `exact` a label, is too small to leave a group; or every label is.
    """
    strata: defaultdict[str, defaultdict[Hashable, list[Example]]] = defaultdict(lambda: defaultdict(list))
    for number, example in enumerate(examples):
        stratum = example.target if kind.stratified else ""
        strata[stratum][example.texts if kind.grouped else number].append(example)
    kept: list[Example] = []
    drawn: list[Example] = []
    for stratum in sorted(strata):
        groups = list(strata[stratum].values())
        size = max(1, count(len(groups)))
        if size >= len(groups) and kind.stratified and not exact:
            size = len(groups) - 1
        if size >= len(groups):
            name = f"label {stratum!r} has" if kind.stratified else "the data has"
            raise DataError(f"{name} {_examples(len(groups))}; {what} takes {size} of them and must leave some")
        random.Random(f"{seed}/{stratum}").shuffle(groups)
        drawn += [example for group in groups[:size] for example in group]
        kept += [example for group in groups[size:] for example in group]
    if not drawn:
        raise DataError(f"each label has one example; {what} takes some and must leave some")
    return kept, drawn


def first_of_each(examples: Sequence[Example], limit: int | None, kind: TaskKind) -> list[Example]:
    """Return the first `limit` examples; of labels that these lack, the first example takes the place of a late one."""
    if limit is None or limit >= len(examples):
        return list(examples)
    first: dict[str, int] = {}
    if kind.stratified:
        for index, example in enumerate(examples):
            first.setdefault(example.target, index)
    chosen = set(sorted(first.values())[:limit])
    others = [index for index in range(len(examples)) if index not in chosen]
    return [examples[index] for index in sorted([*chosen, *others[: limit - len(chosen)]])]


def _examples(count: int) -> str:
    return "one example" if count == 1 else f"{count} examples"
