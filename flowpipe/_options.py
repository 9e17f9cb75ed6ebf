"""Options whose values are the names of a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tyro.constructors import PrimitiveConstructorSpec


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
