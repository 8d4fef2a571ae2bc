"""Sphinx extension: tables of settings from `sparcell.config`, and pages of commands from the command line itself.

Directives, in MyST::

    ```{settings} beta-vsc           a model of MODEL_SETTINGS, or a class of sparcell.config such as experiments.StudyConfig
    :names: n_latent beta            only these, in this order; default: all, grouped by the class that defines them
    :presets: study-2019 programs    also the values of these presets, where they differ from the default
    ```

A name that does not exist is an error of the build.

    ```{presets}
    ```

    ```{command} fit
    ```
"""

from __future__ import annotations

import importlib
import inspect
import re
import typing
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

from sparcell.cli.groups import FurtherOptions
from sparcell.cli.main import COMMANDS, app
from sparcell.config.model import MODEL_SETTINGS
from sparcell.config.options import Setting
from sparcell.config.presets import PRESETS, Preset
from sparcell.errors import did_you_mean
from sparcell.models.display import own_settings_first, type_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sphinx.application import Sphinx

T = TypeVar("T")

OPTIONS = {
    name
    for command in COMMANDS
    for argument in app[command].assemble_argument_collection()
    for name in argument.names
}
"""The options of all commands."""


class SettingsDirective(SphinxDirective):
    """A table of settings: name, default, values in presets, help and type."""

    required_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {
        "names": directives.unchanged_required,
        "presets": directives.unchanged_required,
    }

    def run(self) -> list[nodes.Node]:
        """Return the table, or one table for each class that defines settings."""
        name = self.arguments[0]
        try:
            config = config_class(name)
        except (ImportError, AttributeError) as error:
            raise self.error(
                f"settings: {name} is no model and no class of sparcell.config: {error}"
            ) from error
        settings = {setting.name: setting for setting in own_settings_first(config)}
        for source in {setting.owner for setting in settings.values()} | {SettingsDirective}:
            self.env.note_dependency(inspect.getfile(source))
        if "names" in self.options:
            chosen = self.found("setting", self.options["names"].split(), settings)
            presets = self.found("preset", self.options.get("presets", "").split(), PRESETS)
            lines = table(chosen, presets, name)
        else:
            lines = []
            owners = {setting.owner: None for setting in settings.values()}
            for owner in owners:
                about = (owner.__doc__ or "").strip().partition("\n")[0]
                defined = [setting for setting in settings.values() if setting.owner is owner]
                lines += ["", f"**{about}**", "", *table(defined, model=name)]
        content = self.parse_text_to_nodes("\n".join(lines))
        for node in content:
            if isinstance(node, nodes.table):
                node["classes"].append("settings")
        return content

    def found(self, kind: str, names: list[str], known: Mapping[str, T]) -> list[T]:
        """Return the entries of these names; a name that is not there ends the build."""
        missing = [name for name in names if name not in known]
        if missing:
            text = ", ".join(f"no {kind} {name!r} ({did_you_mean(name, known)})" for name in missing)
            raise self.error(f"settings: {self.arguments[0]} has {text}")
        return [known[name] for name in names]


class PresetsDirective(SphinxDirective):
    """A table of all settings that presets change: a row for each setting, a column for each preset."""

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        known = {
            setting.name: setting
            for model in MODEL_SETTINGS
            for setting in own_settings_first(config_class(model))
        }
        changed = {name: None for preset in PRESETS.values() for name in preset.settings}
        heads = ["setting", "default", *(f"`{name}`" for name in PRESETS)]
        lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
        for name in changed:
            cells = [
                code(known[name].default),
                *(in_preset(preset, known[name]) for preset in PRESETS.values()),
            ]
            lines.append(f"| `{name}` | {' | '.join(cells)} |")
        return self.parse_text_to_nodes("\n".join(lines))


def in_preset(preset: Preset, setting: Setting) -> str:
    """Return the value of a setting in a preset, with those of single models that differ."""
    text = code(preset.settings[setting.name]) if setting.name in preset.settings else ""
    of_models = [
        f"{model}: {code(changed[setting.name])}"
        for model, changed in preset.by_model.items()
        if setting.name in changed
    ]
    return f"{text} ({', '.join(of_models)})" if of_models else text


def config_class(name: str) -> type:
    """Return the settings of a model, or the class that ``module.Class`` names below `sparcell.config`."""
    if name in MODEL_SETTINGS:
        return MODEL_SETTINGS[name]
    module, _, kind = name.rpartition(".")
    return getattr(importlib.import_module(f"sparcell.config.{module}"), kind)


def table(settings: list[Setting], presets: Sequence[Preset] = (), model: str = "") -> list[str]:
    """Return the lines of a Markdown table. Settings of commands have their option below the name, presets their value below the help."""
    lines = ["| setting | default | meaning |", "|---|---|---|"]
    for setting in settings:
        names = [f"`{setting.name}`", *([] if model in MODEL_SETTINGS else [f"`{option(setting)}`"])]
        meaning = [escaped(setting.help), *([f"*{values_text(setting)}*"] if values_text(setting) else [])]
        for preset in presets:
            value = preset.for_model(model).get(setting.name, setting.default)
            if value != setting.default:
                meaning.append(f"Preset {preset.name}: {code(value)}")
        lines.append(f"| {'<br>'.join(names)} | {code(setting.default)} | {'<br>'.join(meaning)} |")
    return lines


def values_text(setting: Setting) -> str:
    """Return the values that a setting takes, or nothing where the default or the help text shows them."""
    members = typing.get_args(setting.type)
    if typing.get_origin(setting.type) is typing.Literal and all(word in setting.help for word in members):
        return ""
    return "" if type(setting.default) is setting.type else re.sub(r"['{}]", "", type_text(setting.type))


def option(setting: Setting) -> str:
    """Return the option of the shell; a setting that is on by default has the option that turns it off."""
    name = f"--{'no-' if setting.default is True else ''}{setting.name.replace('_', '-')}"
    assert name in OPTIONS, f"{name} is an option of no command"
    return name


def code(value: Any) -> str:
    """Return a value as one would type it in Python."""
    if value is None:
        return "–"
    return f"`{value:.3g}`" if isinstance(value, float) else f"`{value!r}`"


def escaped(text: str) -> str:
    """Return a help text with options as code, and the characters escaped that Markdown would read."""
    parts = re.split(r"(`[^`]+`)", text)  # what is code already stays as it is
    for number in range(0, len(parts), 2):
        part = re.sub(r"([*_|<\[\]$])", r"\\\1", parts[number])
        parts[number] = re.sub(r"(?<![\w-])(--[a-z][a-z-]*[a-z])", r"`\1`", part)
    return "".join(parts)


def expand_commands(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put the reference of a command in place of its directive. As part of the page its headings stand in the table of contents."""
    source[0] = re.sub(
        r"^```\{command\} (\S+)\n```$", lambda found: command_text(found[1]), source[0], flags=re.MULTILINE
    )


def command_text(name: str) -> str:
    """Return the reference of a command as Markdown with the headings of its groups of options."""
    assert name in COMMANDS, f"{name} is none of the commands {sorted(COMMANDS)}"
    FurtherOptions.is_shown = True
    text = app[name].generate_docs(usage_name=f"sparcell {name}")
    FurtherOptions.is_shown = False
    text = text.partition("\n")[2]
    text = re.sub(rf"```console\n(?:sparcell )?{name} ", f"```console\n$ sparcell {name} ", text)
    text = re.sub(r"^\*\*(.+)\*\*:$", r"## \1", text, flags=re.MULTILINE)
    lines = [option_line(line) if line.startswith(("* ", "    ")) else line for line in text.splitlines()]
    return "\n".join(lines)


def option_line(line: str) -> str:
    """Return a line of an option with the help text escaped; the names of the option stay code."""
    head, colon, help_text = line.partition("`: ") if line.startswith("* ") else ("", "", line.strip())
    bold = re.split(r"(\*\*\[required\]\*\*|\*\[choices: [^\]]*\]\*)", help_text)
    marks = [part if index % 2 else escaped(part) for index, part in enumerate(bold)]
    text = "".join(
        mark.replace("[", "\\[").replace("]", "\\]") if index % 2 else mark
        for index, mark in enumerate(marks)
    )
    return f"{head}{colon}{text}" if colon else f"  {text}"


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives."""
    app.add_directive("settings", SettingsDirective)
    app.add_directive("presets", PresetsDirective)
    app.connect("source-read", expand_commands)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
