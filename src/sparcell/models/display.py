"""How settings and fitted models look in a terminal, a notebook and `help`."""

from __future__ import annotations

import inspect
import textwrap
import typing
from dataclasses import MISSING, asdict, fields
from html import escape
from typing import TYPE_CHECKING, Any

from sparcell.config.options import Setting, settings_of

if TYPE_CHECKING:
    from sparcell.config.model import ModelConfig
    from sparcell.models.fitted import Model

WIDTH = 88
"""Longest line of a generated docstring."""

EXAMPLES = "Examples\n"
"""The parameters stand before this section of a class docstring."""


def document(kind: type[ModelConfig]) -> None:
    """Give a model class a short signature, and a docstring with all of its settings: type, default and help.

    Types and help texts come from the settings themselves, so that nothing is described twice.
    """
    settings = own_settings_first(kind)
    parameters = [
        inspect.Parameter(setting.name, inspect.Parameter.KEYWORD_ONLY, default=setting.default)
        for setting in settings
    ]
    signature = inspect.Signature(parameters)
    itself = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    # `help` and editors read these; the types stand in the docstring, and type checkers read the dataclass
    kind.__signature__ = signature  # type: ignore[attr-defined]
    kind.__init__.__signature__ = signature.replace(parameters=[itself, *parameters])  # type: ignore[attr-defined]
    kind.__init__.__doc__ = "Check the settings, which stand in the docstring of the class."
    intro, _, example = inspect.cleandoc(kind.__doc__ or "").partition(EXAMPLES)
    lines = [line for setting in settings for line in _parameter(setting)]
    head = f"{intro}Parameters\n----------\n" + "\n".join(lines) + "\n"
    kind.__doc__ = head + (f"\n{EXAMPLES}{example}" if example else "")


def own_settings_first(kind: type[ModelConfig]) -> list[Setting]:
    """Return the settings of a model: its own, then those of the network, the likelihood and the training."""
    settings = {setting.name: setting for setting in settings_of(kind)}
    order = [name for base in kind.__mro__ for name in inspect.get_annotations(base)]
    return [settings[name] for name in dict.fromkeys(order) if name in settings]


def _parameter(setting: Setting) -> list[str]:
    value = setting.default
    shown = f"{value:.3g}" if isinstance(value, float) else repr(value)
    default = "" if value is None else f", default {shown}"
    first = f"{setting.name} : {type_text(setting.type)}{default}"
    text = textwrap.wrap(setting.help, WIDTH - 4, initial_indent="    ", subsequent_indent="    ")
    return [first, *text]


def type_text(kind: Any) -> str:
    """Return a type as a docstring writes it: ``int or None``, ``{'mlp', 'linear'}``, ``tuple of int``.

    Examples
    --------
    >>> from typing import Literal
    >>> from sparcell.models.display import type_text
    >>> type_text(Literal["a", "b"]), type_text(int | None), type_text(tuple[int, ...])
    ("{'a', 'b'}", 'int or None', 'tuple of int')
    """
    origin, members = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return f"{{{', '.join(map(repr, members))}}}"
    if origin is tuple:
        return f"tuple of {type_text(members[0])}"
    if members:
        return " or ".join(type_text(member) for member in members)
    return "None" if kind is type(None) else getattr(kind, "__name__", str(kind))


def changed_settings(settings: Any) -> dict[str, Any]:
    """Return the settings that differ from their defaults."""
    values = {field.name: getattr(settings, field.name) for field in fields(settings)}
    defaults = {field.name: field.default for field in fields(settings) if field.default is not MISSING}
    return {name: value for name, value in values.items() if name not in defaults or value != defaults[name]}


def model_facts(model: Model) -> list[tuple[str, str]]:
    """Return what the short forms of a fitted model show: (name, value)."""
    schema, covariates = model.schema, model.schema.covariates
    facts = [] if model.n_cells is None else [("cells", f"{model.n_cells:,}")]
    facts += [("genes", f"{len(schema.genes):,}"), ("latents", str(model.settings.n_latent))]
    if model.last_encoded is not None:
        n_cells, n_active = model.last_encoded
        facts.append(("active latents", f"{n_active} (in the last {n_cells:,} cells encoded)"))
    facts.append(("likelihood", str(asdict(model.settings)["likelihood"])))
    facts.append(("layer", "X" if schema.layer is None else schema.layer))
    if covariates.n_batches:
        facts.append(("batches", str(covariates.n_batches)))
    if schema.labels is not None:
        facts.append(("labels in training", f"{schema.n_labels} of {schema.labels.key}"))
    if len(model.history):
        last = model.history.iloc[-1]
        facts.append(("epochs", str(int(last["epoch"]))))
        facts.append(("loss", f"{last['loss']:,.1f} nats per cell"))
    return facts


def model_text(model: Model) -> str:
    """Return a fitted model in a few lines of text."""
    lines = [f"    {name}: {value}" for name, value in model_facts(model)]
    return "\n".join([f"Model, fitted {model.settings!r}", *lines])


def model_html(model: Model) -> str:
    """Return a fitted model as HTML for a notebook."""
    changes = ", ".join(f"{name}={value!r}" for name, value in changed_settings(model.settings).items())
    facts = [*model_facts(model), ("settings changed", changes or "none")]
    return table_html(f"Fitted {type(model.settings).__name__}", facts)


def table_html(title: str, facts: list[tuple[str, str]]) -> str:
    """Return a title and names with values as an HTML table; all text is escaped."""
    rows = "".join(
        f'<tr><th style="text-align:left">{escape(name)}</th><td style="text-align:left">{escape(value)}</td></tr>'
        for name, value in facts
    )
    return f"<div><strong>{escape(title)}</strong><table>{rows}</table></div>"
