"""What an entry of a table is and takes, from its own source: equation, options, defaults."""

import contextlib
import inspect
import re
import sys
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints


def said_of(found: Any) -> str:
    """The text of its module, where its paper and equations stand; of a loss or metric its own."""
    its = found if inspect.isfunction(found) else sys.modules[found.__module__]
    return inspect.getdoc(its) or inspect.getdoc(found) or ""


def options_of(found: Any) -> list[tuple[str, str, str]]:
    """Name, default and meaning of each option."""
    options = getattr(found, "Options", None)
    if not is_dataclass(options):
        return []
    comments, types = _comments(options), get_type_hints(options)
    return [
        (one.name, _default(one), _choices(types[one.name]) + comments.get(one.name, ""))
        for one in fields(options)
    ]


def _choices(kind: Any) -> str:
    if get_origin(kind) is not Literal:
        return ""
    return f"{' | '.join(map(str, get_args(kind)))}  "


def _default(one: Field[Any]) -> str:
    if one.default_factory is not MISSING:
        return repr(one.default_factory())
    return "to be given" if one.default is MISSING else repr(one.default)


def _comments(options: Any) -> dict[str, str]:
    """What the source says behind each option, or in the line above it."""
    found: dict[str, str] = {}
    classes: list[type] = [cls for cls in options.__mro__ if hasattr(cls, "__dataclass_fields__")]
    for cls in reversed(classes):
        above, source = "", ""
        with contextlib.suppress(OSError):  # of a package that came without it
            source = inspect.getsource(cls)
        for line in source.splitlines():
            option = re.match(r"    (\w+): [^#]*(?:# (.*))?$", line)
            comment = re.match(r"    # (.*)$", line)
            if option:
                found[option[1]] = option[2] or above
            above = comment[1] if comment else ""
    return found
