"""Options: those whose values are the names of a table, and those given one by one in Python."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Annotated, Any, TypeAlias

from tyro.conf import FlagCreatePairsOff
from tyro.constructors import PrimitiveConstructorSpec

from flowpipe.errors import ParameterError

Switch: TypeAlias = Annotated[bool, FlagCreatePairsOff]
"""An option without a value that is off until it is given. Where a preset may turn one on, ``bool``
gives ``--name`` and ``--no-name``."""


def with_options(options: Mapping[str, Any], *groups: Any) -> list[Any]:
    """Return dataclasses with the values of single options, each of which is a field of one.

    Raises
    ------
    ParameterError
        An option is a field of none of the dataclasses, or out of range.
    """
    names = [[field.name for field in fields(group)] for group in groups]
    known = [name for group in names for name in group]
    for name in options:
        if name not in known:
            raise ParameterError(f"{name!r} is not an option; options are {', '.join(known)}")
    return [
        replace(group, **{name: options[name] for name in own if name in options})
        for group, own in zip(groups, names, strict=True)
    ]


class NameIn(PrimitiveConstructorSpec[str]):
    """Take the names of a table as an option's choices, as they are when it is parsed.

    Used as ``Annotated[str, NameIn(TABLE)]``. A name that is added to the table later is a choice
    too, which it would not be as a ``Literal``.
    """

    def __init__(self, table: Mapping[str, Any]) -> None:
        super().__init__(
            nargs=1,
            metavar="",
            instance_from_str=lambda texts: texts[0],
            is_instance=lambda value: isinstance(value, str),
            str_from_instance=lambda value: [value],
        )
        object.__setattr__(self, "_table", table)

    def __getattribute__(self, name: str) -> Any:
        if name == "choices":
            return tuple(self._table)
        if name == "metavar":
            return f"{{{','.join(self._table)}}}"
        return super().__getattribute__(name)
