"""Tell whether quotation marks in a tab-separated file are syntax or text.

Sets that are published as TSV do not quote: a text may begin with a mark, and need not have a second. Programs that
write tables quote by a rule, so that every field of their files is quoted exactly if the rule says so.
"""

import re
from collections.abc import Callable, Iterable

MARK = '"'
TAB = "\t"
FIELD = re.compile(r'(?:"((?:[^"]|"")*)"|([^"\t]*))(?=\t|\Z)')


def _is_text(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return True
    return False


RULES: tuple[Callable[[str], bool], ...] = (
    lambda field: MARK in field or TAB in field,  # csv.QUOTE_MINIMAL, pandas
    lambda field: MARK in field or TAB in field or "," in field,  # Excel
    _is_text,  # csv.QUOTE_NONNUMERIC, R
    lambda field: True,  # csv.QUOTE_ALL
)
"""Rules by which programs quote: a field's text → it is quoted."""


def uses_quotes(lines: Iterable[str]) -> bool:
    """Return True if one of RULES has written all of `lines`, which have no line ends and are walked over twice."""
    if not any(MARK in line for line in lines):
        return False
    rules = list(RULES)
    for line in lines:
        if not line:
            continue
        fields = _parse(line)
        if fields is None:
            return False
        rules = [rule for rule in rules if all(rule(text) == quoted for text, quoted in fields)]
        if not rules:
            return False
    return True


def split_line(line: str) -> list[str]:
    """Return the fields of a line whose quotation marks are syntax."""
    return [text for text, _ in _parse(line) or []]


def _parse(line: str) -> list[tuple[str, bool]] | None:
    """Return the fields and whether they are quoted; None if the marks cannot be syntax."""
    fields: list[tuple[str, bool]] = []
    start = 0
    while found := FIELD.match(line, start):
        quoted = found[1] is not None
        fields.append((found[1].replace(MARK * 2, MARK) if quoted else found[2], quoted))
        if found.end() == len(line):
            return fields
        start = found.end() + len(TAB)
    return None
