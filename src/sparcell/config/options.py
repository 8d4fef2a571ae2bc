"""The settings of a config class as the command line needs them."""

from __future__ import annotations

import typing
from dataclasses import MISSING, fields
from typing import Any, NamedTuple


class Setting(NamedTuple):
    """One setting: its name, type, help text and default."""

    name: str
    type: Any
    help: str
    default: Any


def settings_of(config: type) -> list[Setting]:
    """List the settings of a config dataclass in the order of its fields."""
    hints = typing.get_type_hints(config, include_extras=True)
    settings = []
    for field in fields(config):
        kind, help_text = typing.get_args(hints[field.name])[:2]
        default = None if field.default is MISSING else field.default
        settings.append(Setting(field.name, kind, help_text, default))
    return settings
