"""The rows of a benchmark: sparcell's models, baselines and external models, each with all of its settings."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from typing import TYPE_CHECKING, Any

from sparcell.benchmark import methods
from sparcell.benchmark.methods import BASELINES, EXTERNAL_MODELS, Method
from sparcell.config.presets import PRESETS, TITLES
from sparcell.errors import InputError
from sparcell.experiments import presets
from sparcell.experiments.runs import Fingerprint, fingerprint_of
from sparcell.models import MODELS
from sparcell.results.benchmark import BASELINE, EXTERNAL, MODEL, Skipped, epochs_text

if TYPE_CHECKING:
    from sparcell.config.experiments import BenchmarkConfig
    from sparcell.config.presets import Preset

log = logging.getLogger("sparcell")

NONE = "none"
"""Typed instead of names: no method of this kind."""

COUNTS = PRESETS["counts"]
"""Settings of sparcell's models: the recommended ones for counts."""

PROGRAMS = PRESETS["programs"]
"""Settings of sparcell's models with `disentanglement`: latents that are gene programs."""

PACKAGES = ("sparcell", "torch", "numpy")
OUR_FORMAT = 7
"""Format of stored runs of sparcell's models. Raise it whenever the same settings begin to give other results."""


@dataclass(frozen=True)
class BenchmarkEntry:
    """A row of the benchmark: a method with all its settings."""

    kind: str
    """MODEL, BASELINE or EXTERNAL of `results.benchmark`."""
    method: Method
    own_epochs: int = 0
    """Epochs by the rule of an external model's package or authors; 0 for other methods, and before `with_epochs`."""

    @property
    def name(self) -> str:
        """Unique name, as in the tables."""
        return self.method.name

    @property
    def title(self) -> str:
        """Name for people; an external model with another number of epochs than its own carries that number."""
        if not self.own_epochs or self.method.settings["epochs"] == self.own_epochs:
            return self.method.title
        epochs = int(self.method.settings["epochs"])
        return f"{self.method.title}, {epochs_text(epochs, self.own_epochs)}"

    def unavailable_reason(self, *, batches: bool) -> str:
        """Return why this row cannot run here; empty if it can."""
        missing = [name for name in self.method.needs if not installed(name)]
        if missing:
            return not_installed(" and ".join(missing), self.method.extra)
        if self.method.needs_batch and not batches:
            return "it corrects for batches, and no batches are given (--batch-key)"
        return ""

    def fingerprint(self, data_digest: str, seed: int, n_samples: int) -> Fingerprint:
        """Return the digests of all inputs of a run. An external model depends on its own settings and versions only."""
        method = self.method
        return fingerprint_of(
            format=method.format,
            method=(method.name, method.function),
            settings=method.settings,
            versions={name: metadata.version(name) for name in method.packages},
            data=data_digest,
            seed=seed,
            n_samples=n_samples,
        )


def installed(distribution: str) -> bool:
    """Return whether a distribution is installed."""
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


def not_installed(distribution: str, extra: str) -> str:
    """Return how to install a missing distribution."""
    return f"{distribution} is not installed; pip install 'sparcell[{extra}]'"


def entries(config: BenchmarkConfig, changes: Mapping[str, Any]) -> Iterator[BenchmarkEntry]:
    """Yield the rows in the order they are shown; raise InputError for unknown names and settings."""
    models = chosen(config.models, MODELS, "model")
    presets.require_settings(changes, (MODELS[name] for name in models), models)
    if config.disentanglement:
        program_changes = {"n_latent": config.components, **changes}
        yield from (_model_entry(name, PROGRAMS, program_changes, suffix=True) for name in models)
    else:
        yield from (_model_entry(name, COUNTS, changes) for name in models)
    for name in chosen(config.baselines_used, BASELINES, "baseline"):
        for method in BASELINES[name]:
            yield _with_settings(method, BASELINE, n_components=config.components)
    for name in chosen(config.external_models_used, EXTERNAL_MODELS, "external model"):
        for method in EXTERNAL_MODELS[name]:
            n_latent = method.settings.get("n_latent", config.components)
            yield _with_settings(method, EXTERNAL, n_latent=n_latent, epochs=config.external_epochs)


def _model_entry(
    name: str, preset: Preset, changes: Mapping[str, Any], *, suffix: bool = False
) -> BenchmarkEntry:
    """Return a row of a model of sparcell; `suffix` adds the preset to its name, so that runs of two presets have different files."""
    estimator = presets.study_entry(name, preset, 0, changes).estimator
    settings = {key: value for key, value in asdict(estimator).items() if key != "seed"}
    method = Method(
        name + (preset.suffix if suffix else ""),
        TITLES[name] + (preset.title if suffix else ""),
        "model",
        {"model": name, "settings": settings},
        PACKAGES,
        unit_prior=estimator.generative,
        format=OUR_FORMAT,
    )
    return BenchmarkEntry(MODEL, method)


def _with_settings(method: Method, kind: str, **settings: Any) -> BenchmarkEntry:
    return BenchmarkEntry(kind, replace(method, settings={**method.settings, **settings}))


def chosen(names: Sequence[str], choices: Mapping[str, object], what: str) -> list[str]:
    """Return the chosen names, each once; an empty list for NONE."""
    if tuple(names) == (NONE,):
        return []
    for name in names:
        if name not in choices:
            presets.require_names([name], [*choices, NONE], what)
    return list(dict.fromkeys(names))


def with_epochs(rows: Sequence[BenchmarkEntry], n_cells: int, n_training: int) -> list[BenchmarkEntry]:
    """Return the rows with the epochs of the external models as numbers, which depend on cells and settings only.

    A row with fewer epochs than its own rule gives is logged, with the option that changes the number.
    """
    resolved = []
    for row in rows:
        if row.method.own_epochs is not None:
            own = row.method.own_epochs(n_cells)
            requested = row.method.settings["epochs"]
            entry = _with_settings(
                row.method, row.kind, epochs=methods.planned_epochs(own, n_training, requested)
            )
            row = replace(entry, own_epochs=own)
            if requested == "auto" and row.title != row.method.title:
                log.info(
                    "%s (at most %s steps; --external-epochs full: all epochs)",
                    row.title,
                    f"{methods.MAX_STEPS:,}",
                )
        resolved.append(row)
    return resolved


def available(rows: Sequence[BenchmarkEntry], *, batches: bool) -> tuple[list[BenchmarkEntry], list[Skipped]]:
    """Return the rows that can run here, and the other rows with the reasons; raise InputError if none can run."""
    reasons = {row.name: row.unavailable_reason(batches=batches) for row in rows}
    usable = [row for row in rows if not reasons[row.name]]
    skipped = [Skipped(row.title, reasons[row.name]) for row in rows if reasons[row.name]]
    if not usable:
        listed = "; ".join(f"{entry.title}: {entry.reason}" for entry in skipped)
        raise InputError(
            f"there is nothing to compare ({listed or 'models, baselines and external models are all none'}); "
            "expected at least one method. Name methods with --models, --baselines or --external-models."
        )
    return usable, skipped
