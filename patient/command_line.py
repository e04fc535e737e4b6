"""Click commands whose options are the fields of a Pydantic model, and commands that are imported when they run.

Click parses words, Pydantic validates them: a command line and a variable of the environment get the same message.
"""

import json
import pkgutil
import re
from collections.abc import Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin

import click

if TYPE_CHECKING:  # `heart --help` needs no Pydantic
    from click.types import OptionHelpExtra
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

M = TypeVar("M", bound="BaseModel")

HELP: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}  # context settings


class SettingsError(Exception):
    """A setting with an invalid value. The message is one line and names the setting."""


class UncheckedChoice(click.Choice[str]):
    """Choices for help and completion; Pydantic checks the value."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ARG002
        return value


def _type(annotation: Any) -> dict[str, Any]:
    """Return click's type and metavar of a field; of `T | None`, T counts."""
    if get_origin(annotation) in (Union, UnionType):
        [annotation] = [kind for kind in get_args(annotation) if kind is not NoneType]
    if get_origin(annotation) is Literal:
        return {"type": UncheckedChoice(get_args(annotation))}
    if annotation is Path:
        return {"type": click.Path(readable=False)}
    return {"metavar": {int: "INTEGER", float: "NUMBER"}.get(annotation, "TEXT")}


class FieldOption(click.Option):
    """The option of a field. Its help shows the field's default, but click does not set it: the environment may."""

    def __init__(self, name: str, field: "FieldInfo") -> None:
        flag = f"--{name.replace('_', '-')}"
        if field.annotation is bool:
            super().__init__([f"{flag}/--no-{flag[2:]}"], default=None, help=field.description)
        else:
            is_list = isinstance(field.default, list)
            super().__init__([flag], multiple=is_list, help=field.description, **_type(field.annotation))
        self.field = field

    def get_help_extra(self, ctx: click.Context) -> "OptionHelpExtra":
        extra, default = super().get_help_extra(ctx), self.field.default
        if isinstance(default, bool):
            extra["default"] = "on" if default else "off"
        elif default not in (None, "", []):
            extra["default"] = ",".join(map(str, default)) if isinstance(default, list) else str(default)
        return extra


def options(model: "type[BaseModel]") -> list[click.Parameter]:
    """Return an option for each field of a model; for a required field, an argument."""
    return [
        click.Argument([name], **_type(field.annotation) | {"metavar": name.upper()})
        if field.is_required()
        else FieldOption(name, field)
        for name, field in model.model_fields.items()
    ]


def parse(model: type[M], words: Mapping[str, Any]) -> M:
    """Return the model of a command line, as click parsed it. Raises SettingsError.

    A list is `a,b`, a repeated option, or a JSON array; `null` is None.
    """
    from pydantic import ValidationError

    values: dict[str, Any] = {}
    for name, word in words.items():
        if word in (None, ()):
            continue  # the option is not given
        if isinstance(word, tuple):
            values[name] = [item for text in word for item in split_list(text)]
        else:
            values[name] = None if word == "null" and model.model_fields[name].default is None else word
    try:
        return model(**values)
    except ValidationError as error:
        prefix = str(model.model_config.get("env_prefix", ""))
        faults = []
        for fault in error.errors(include_url=False):
            name = str(fault["loc"][0])
            variable = f" or {prefix}{name.upper()}" if prefix else ""  # the error does not know which one was used
            faults.append(f"--{name.replace('_', '-')}{variable}: {fault['msg']}")
        raise SettingsError("; ".join(faults)) from None


def split_list(value: Any) -> Any:
    """Return the list that text holds: `a,b`, or a JSON array. Other values pass."""
    if not isinstance(value, str):
        return value
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        return re.sub(r"^\[(.*)\]$", r"\1", value).split(",")  # a shell removes the quotes of a JSON array
    return parsed if isinstance(parsed, list) else [value]


class OrderedGroup(click.Group):
    """A group that lists its commands in the given order, not by name."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return [*self.commands]


class LazyCommand(click.Command):
    """A stand-in for the command at `where` (`module:attribute`), which is imported when it runs or is completed."""

    def __init__(self, name: str, about: str, where: str) -> None:
        super().__init__(name, short_help=about)
        self.where = where

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        command: click.Command = pkgutil.resolve_name(self.where)
        return command.make_context(*args, **kwargs)
