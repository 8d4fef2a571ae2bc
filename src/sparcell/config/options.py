"""The settings of a config class as the command line needs them."""

from __future__ import annotations

import inspect
import typing
from dataclasses import MISSING, fields
from typing import Any, NamedTuple


class Setting(NamedTuple):
    """One setting: its name, type, help text, default, and the config class that defines it."""

    name: str
    type: Any
    help: str
    default: Any
    owner: type


def settings_of(config: type) -> list[Setting]:
    """List the settings of a config dataclass in the order of its fields."""
    hints = typing.get_type_hints(config, include_extras=True)
    settings = []
    for field in fields(config):
        kind, help_text = typing.get_args(hints[field.name])[:2]
        default = None if field.default is MISSING else field.default
        settings.append(Setting(field.name, kind, help_text, default, _owner(config, field.name)))
    return settings


def _owner(config: type, name: str) -> type:
    """Return the class, of a config and those that it extends, that defines a setting."""
    return next(kind for kind in config.__mro__ if name in inspect.get_annotations(kind))
