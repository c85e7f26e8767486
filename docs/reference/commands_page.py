"""Every command with its arguments and options, as `--help` shows them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import typer.main
from table_cells import table_row, text_of

from mmssl_dist.app import app

INTRODUCTION = """# Command options

This page lists every argument and option. `python docs/reference` writes it from the code.
[commands.md](commands.md) has an overview and the exit codes.
"""


def page() -> str:
    """The page as the command line has it."""
    commands = dict(leaves("mmssl-dist", typer.main.get_command(app)))
    return "\n".join([INTRODUCTION, *(line for name in commands for line in section(name, commands[name]))])


def leaves(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    """The commands of a group and of the groups in it, by what is typed."""
    inner: Mapping[str, Any] = getattr(command, "commands", {})
    if not inner:
        yield name, command
    for word in sorted(inner):
        yield from leaves(f"{name} {word}", inner[word])


def section(name: str, command: Any) -> Iterator[str]:
    """The lines of a command."""
    shown = [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]
    arguments = [argument_of(parameter) for parameter in shown if is_argument(parameter)]
    yield from (f"## `{' '.join([name, *arguments])}`", "", text_of(command.help), "")
    yield from ("| argument or option | default | meaning |", "|---|---|---|")
    yield from (
        table_row(f"`{written(parameter)}`", default_of(parameter), meaning(parameter)) for parameter in shown
    )
    yield ""


def is_argument(parameter: Any) -> bool:
    """Whether it goes without a name."""
    return not parameter.opts[0].startswith("-")


def argument_of(parameter: Any) -> str:
    """An argument, with dots where there may be several."""
    name = (parameter.metavar or parameter.name.upper()).removesuffix("...")
    return name + "..." * (parameter.nargs != 1)


def written(parameter: Any) -> str:
    """How it is typed."""
    if is_argument(parameter):
        return argument_of(parameter)
    names = ", ".join([*parameter.opts, *parameter.secondary_opts])
    return names if parameter.is_flag else f"{names} {parameter.metavar or kind(parameter)}"


def kind(parameter: Any) -> str:
    """What an option without a name for its value takes."""
    annotation = parameter.type_descriptor.annotation
    return {int: "INTEGER", float: "NUMBER"}.get(annotation, "TEXT")


def default_of(parameter: Any) -> str:
    """The default, as it would be typed."""
    if parameter.required:
        return "required"
    if parameter.default in (None, (), [], "") or parameter.is_eager:
        return "none"
    if isinstance(parameter.default, bool):
        return "on" if parameter.default else "off"
    return f"`{parameter.default}`"


def meaning(parameter: Any) -> str:
    """The help, and how often it may be given."""
    help_text = text_of(parameter.help)
    several = parameter.multiple and not is_argument(parameter) and "several times" not in help_text
    return help_text + " May be given several times." * several
