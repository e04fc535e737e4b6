"""Click commands whose options are the fields of a Pydantic model, and groups that import their commands lazily.

Click parses words, Pydantic validates them: a command line and a variable of the environment get the same message.
"""

import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:  # `heart --help` needs no Pydantic
    from click.types import OptionHelpExtra
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

M = TypeVar("M", bound="BaseModel")

HELP: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}  # context settings
METAVARS = {int: "INTEGER", float: "NUMBER", Path: "PATH"}


class SettingsError(Exception):
    """A setting with an invalid value. The message is one line and names the setting."""


class FieldType(click.ParamType[str]):
    """Any word; choices and paths are completed."""

    def __init__(self, annotation: Any) -> None:
        """annotation: of the field; of `T | None`, T counts."""
        if get_origin(annotation) in (Union, UnionType):
            [annotation] = [kind for kind in get_args(annotation) if kind is not NoneType]
        self.choices = get_args(annotation) if get_origin(annotation) is Literal else ()
        self.is_path = annotation is Path
        self.name = f"[{'|'.join(self.choices)}]" if self.choices else METAVARS.get(annotation, "TEXT")

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str | None:  # noqa: ARG002
        return self.name

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002
        if self.is_path:
            return [CompletionItem(incomplete, type="file")]
        return [CompletionItem(choice) for choice in self.choices if choice.startswith(incomplete)]


class FieldOption(click.Option):
    """The option of a field. Its help shows the field's default, but click does not set it: the environment may."""

    def __init__(self, name: str, field: "FieldInfo") -> None:
        flag = f"--{name.replace('_', '-')}"
        if field.annotation is bool:
            super().__init__([f"{flag}/--no-{flag[2:]}"], default=None, help=field.description)
        else:
            is_list = isinstance(field.default, list)
            super().__init__([flag], type=FieldType(field.annotation), multiple=is_list, help=field.description)
        self.field = field

    def get_help_extra(self, ctx: click.Context) -> "OptionHelpExtra":
        extra, default = super().get_help_extra(ctx), self.field.default
        if isinstance(default, bool):
            extra["default"] = "on" if default else "off"
        elif default not in (None, "", []):
            extra["default"] = ",".join(map(str, default)) if isinstance(default, list) else str(default)
        return extra


def options(model: "type[BaseModel]") -> list[click.Parameter]:
    """One option for each field of a model; a required field is an argument."""
    return [
        click.Argument([name], type=FieldType(field.annotation), metavar=name.upper())
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
        if isinstance(word, tuple):
            values |= {name: _items(word)} if word else {}
        elif word == "null" and model.model_fields[name].default is None:
            values[name] = None
        elif word is not None:
            values[name] = word
    try:
        return model(**values)
    except ValidationError as error:
        prefix = str(model.model_config.get("env_prefix", ""))
        faults = (f"{_spelling(str(e['loc'][0]), prefix)}: {e['msg']}" for e in error.errors(include_url=False))
        raise SettingsError("; ".join(faults)) from None


def _items(words: Sequence[str]) -> list[Any]:
    found: list[Any] = []
    for word in words:
        try:
            parsed = json.loads(word)
        except ValueError:
            parsed = None
        found += parsed if isinstance(parsed, list) else word.split(",")
    return found


def _spelling(name: str, prefix: str) -> str:
    """Return the option of a field, and its variable, if it has one: the error does not know which one was used."""
    option = f"--{name.replace('_', '-')}"
    return f"{option} or {prefix}{name.upper()}" if prefix else option


class LazyGroup(click.Group):
    """A group that imports a command when it runs, or shows help or completions of it, and not before.

    lazy: by name of the command, a sentence about it and where it is, as `module:attribute`
    """

    def __init__(self, *args: Any, lazy: Mapping[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return [*self.lazy]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in self.lazy:
            return None
        module, _, attribute = self.lazy[cmd_name][1].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (about, _) in self.lazy.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        found = [CompletionItem(name, help=about) for name, (about, _) in self.lazy.items()]
        return [item for item in found if item.value.startswith(incomplete)] + click.Command.shell_complete(
            self, ctx, incomplete
        )
