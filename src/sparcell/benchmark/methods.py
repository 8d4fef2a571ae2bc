"""The methods that sparcell's models are compared with: PCA, ICA, NMF and Harmony from their libraries, scVI and DRVI where installed.

Nothing in this file depends on sparcell's models, so a stored run of another method depends only on data, settings and that method's
package versions. Suffixes: n cells, t held-out cells, g genes, k components or latents.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from sparcell._utils import progress
from sparcell.data.normalize import log_normalized

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    Floats = NDArray[np.floating]

BATCH, HELD_OUT = "batch", "held_out"
"""Columns of obs that every method gets: the batch (absent if there are no batches), and whether a cell is held out."""

MAX_STEPS, MINIBATCH = 20_000, 128
"""Most optimization steps of an external model with epochs "auto", and the cells of one step (the default of scvi-tools). A rule by cells
gives every method of a table the same limit on every machine, however busy the machine is."""

DRVI_EPOCHS = 400
"""Epochs, and epochs of KL warm-up, in the tutorials of DRVI's authors."""

LIKELIHOOD_SEED, LIKELIHOOD_BATCH = 0, 512


@dataclass(frozen=True)
class MethodInput:
    """Data and settings of one run of a method."""

    cells: AnnData
    """Raw counts of the chosen genes in X; obs has HELD_OUT and, if there are batches, BATCH."""
    settings: dict[str, Any]
    seed: int
    n_samples: int
    """Number of draws for the likelihood of a held-out cell."""
    title: str = ""
    """Title of the progress bar."""
    checkpoint_dir: str | None = None
    """Folder for checkpoints, of methods that have them."""
    silent: bool = False

    @property
    def batch_key(self) -> str | None:
        """Column of the batches; None if there are no batches."""
        return BATCH if BATCH in self.cells.obs else None

    @property
    def test_t(self) -> NDArray[np.int64]:
        """Rows of the held-out cells."""
        return np.flatnonzero(self.cells.obs[HELD_OUT].to_numpy())

    @property
    def train_n(self) -> NDArray[np.int64]:
        """Rows of the cells to train on."""
        return np.flatnonzero(~self.cells.obs[HELD_OUT].to_numpy())


@dataclass(frozen=True)
class MethodOutput:
    """A trained method. Its functions run after training and are not timed."""

    encode: Callable[[], Floats]
    """Return the latent representation of all cells, (n, k)."""
    log_likelihood: Callable[[], Floats] | None = None
    """Return an importance-weighted bound for the held-out cells in nats, (t,); None if the method is no model of counts."""
    n_epochs: int = 0
    note: str = ""
    """What was decided during training, for the page."""
    losses: tuple[float, ...] = ()
    """Training loss of each epoch, as the method's library reports it."""
    seconds_before: float = 0.0
    """Seconds of training before an interruption, in an earlier process."""
    inclusion: Callable[[], Floats | None] | None = None
    """Return posterior inclusion probabilities, (n, k), for models with spikes."""


TrainFn = Callable[[], MethodOutput]
"""Train a method whose libraries are already loaded. Only the call of this function is timed."""


@dataclass(frozen=True)
class Method:
    """A method with its settings: one row of the benchmark."""

    name: str
    """Unique, as in the tables: "scvi-10x1"."""
    title: str
    """Name for people."""
    function: str
    """Key in FUNCTIONS (or "model" for sparcell's models)."""
    settings: dict[str, Any] = field(default_factory=dict)
    packages: tuple[str, ...] = ()
    """Distributions that the result depends on."""
    needs: tuple[str, ...] = ()
    """Those of the packages that only an extra installs."""
    extra: str = ""
    """Name of that extra."""
    needs_batch: bool = False
    unit_prior: bool = False
    """Whether the prior of the latents is N(0, 1), so that a small variance marks an inactive latent."""
    own_epochs: Callable[[int], int] | None = None
    """Rule of the method's package or authors: number of cells → epochs; None for a method without epochs of its own."""
    format: int = 1
    """Format of stored runs. Raise it whenever the code in this file begins to give other results."""


def pca(inputs: MethodInput) -> TrainFn:
    """Return a function that computes principal components of log-normalized counts of all cells."""
    components = _components(inputs)
    return lambda: _computed(components())


def ica(inputs: MethodInput) -> TrainFn:
    """Return a function that computes independent components of log-normalized counts of all cells."""
    from sklearn.decomposition import FastICA

    def train() -> MethodOutput:
        method = FastICA(
            inputs.settings["n_components"], whiten="unit-variance", max_iter=1000, random_state=inputs.seed
        )
        x_ng = log_normalized(inputs.cells.X).toarray()
        return _computed(method.fit_transform(x_ng))

    return train


def nmf(inputs: MethodInput) -> TrainFn:
    """Return a function that factorizes log-normalized counts of all cells into nonnegative factors (least squares, Lee & Seung 1999)."""
    from sklearn.decomposition import NMF

    def train() -> MethodOutput:
        method = NMF(inputs.settings["n_components"], init="nndsvda", max_iter=1000, random_state=inputs.seed)
        return _computed(method.fit_transform(log_normalized(inputs.cells.X)))

    return train


def harmony(inputs: MethodInput) -> TrainFn:
    """Return a function that computes principal components of all cells and corrects them for batches with Harmony."""
    import harmonypy

    components = _components(inputs)

    def train() -> MethodOutput:
        latent_nk = components()
        result = harmonypy.run_harmony(
            latent_nk, inputs.cells.obs, BATCH, random_state=inputs.seed, verbose=False
        )
        corrected = np.asarray(result.Z_corr)  # (n, k) or (k, n), by version
        return _computed(corrected if corrected.shape == latent_nk.shape else corrected.T)

    return train


def _components(inputs: MethodInput) -> Callable[[], Floats]:
    from sklearn.decomposition import PCA

    method = PCA(inputs.settings["n_components"], svd_solver="arpack", random_state=inputs.seed)
    return lambda: np.asarray(method.fit_transform(log_normalized(inputs.cells.X)), dtype=np.float32)


def _computed(latent_nk: Floats) -> MethodOutput:
    return MethodOutput(encode=lambda: latent_nk)


def scvi(inputs: MethodInput) -> TrainFn:
    """Return a function that trains scVI (negative binomial, other settings at their defaults) on the cells that are not held out."""
    import scvi as library

    _silence_libraries()
    cells, settings = inputs.cells, inputs.settings
    library.settings.seed = inputs.seed
    library.model.SCVI.setup_anndata(cells, batch_key=inputs.batch_key)
    model = library.model.SCVI(
        cells, n_latent=settings["n_latent"], n_layers=settings["n_layers"], gene_likelihood="nb"
    )

    def encode() -> Floats:
        return np.asarray(model.get_latent_representation(), dtype=np.float32)

    def log_likelihood() -> Floats:
        library.settings.seed = LIKELIHOOD_SEED
        bound_t = model.get_marginal_ll(
            indices=inputs.test_t,
            n_mc_samples=inputs.n_samples,
            batch_size=LIKELIHOOD_BATCH,
            return_mean=False,
        )
        return np.asarray(bound_t, dtype=np.float64)

    def train() -> MethodOutput:
        n_epochs, note = _train(
            model, inputs, scvi_epochs(inputs.cells.n_obs), "the default of scvi-tools is"
        )
        return MethodOutput(encode, log_likelihood, n_epochs, note, _losses(model))

    return train


def drvi(inputs: MethodInput) -> TrainFn:
    """Return a function that trains DRVI on the cells that are not held out.

    Settings are the defaults, except for the number of latents and for the authors' number of epochs and warm-up. DRVI gets no likelihood
    here, because nobody has shown that its library computes the same quantity as sparcell.
    """
    import scvi as library
    from drvi.model import DRVI

    _silence_libraries()
    library.settings.seed = inputs.seed
    DRVI.setup_anndata(inputs.cells, batch_key=inputs.batch_key)
    model = DRVI(inputs.cells, n_latent=inputs.settings["n_latent"])

    def encode() -> Floats:
        return np.asarray(model.get_latent_representation(), dtype=np.float32)

    def train() -> MethodOutput:
        n_epochs, note = _train(
            model, inputs, drvi_epochs(inputs.cells.n_obs), "the tutorials of its authors use"
        )
        return MethodOutput(encode, None, n_epochs, note, _losses(model))

    return train


def _silence_libraries() -> None:
    for name in ("scvi", "drvi", "lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _losses(model: Any) -> tuple[float, ...]:
    return tuple(np.ravel(model.history["elbo_train"].to_numpy(dtype=np.float64)))


def _train(model: Any, inputs: MethodInput, own: int, rule: str) -> tuple[int, str]:
    """Train a model of scvi-tools for the epochs in the settings; with fewer than its own number the KL warm-up is shortened alike.

    Returns the number of epochs trained, and a sentence that explains the number.
    """
    from lightning.pytorch.callbacks import Callback

    planned = inputs.settings["epochs"]
    with progress.bar(inputs.title, planned, silent=inputs.silent) as advance:

        class Watch(Callback):  # type: ignore[misc]
            """Shows the progress."""

            def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
                advance("")

        shortened = {} if planned >= own else {"n_epochs_kl_warmup": warmup(400, planned, own)}
        model.train(
            max_epochs=planned,
            datasplitter_kwargs={"external_indexing": [inputs.train_n, inputs.test_t]},
            plan_kwargs=shortened,
            callbacks=[Watch()],
            enable_progress_bar=False,
        )
    n_epochs = len(model.history["elbo_train"])
    return n_epochs, f"Trained for {n_epochs} epochs; {rule} {own}."


def scvi_epochs(n_cells: int) -> int:
    """Return scVI's default number of epochs: 400, and fewer from 20,000 cells on."""
    return max(1, min(400, round(400 * 20_000 / n_cells)))


def drvi_epochs(n_cells: int) -> int:
    """Return the number of epochs of the tutorials of DRVI's authors, which does not depend on the number of cells."""
    return DRVI_EPOCHS


def planned_epochs(own: int, n_training: int, requested: int | str) -> int:
    """Return the epochs of an external model.

    Parameters
    ----------
    own
        Epochs by the rule of its package or authors.
    n_training
        Number of training cells.
    requested
        A number of epochs; "full" for `own`; "auto" for `own`, but at most MAX_STEPS steps of MINIBATCH cells.
    """
    if isinstance(requested, int):
        return requested
    longest = max(1, MAX_STEPS // -(-n_training // MINIBATCH))
    return own if requested == "full" else min(own, longest)


def warmup(n_warmup: int, n_epochs: int, own: int) -> int:
    """Return a KL warm-up shortened like the training, so that the KL weight ends at its usual value."""
    return max(1, round(n_warmup * min(1.0, n_epochs / own)))


FUNCTIONS: dict[str, Callable[[MethodInput], TrainFn]] = {
    "pca": pca,
    "ica": ica,
    "nmf": nmf,
    "harmony": harmony,
    "scvi": scvi,
    "drvi": drvi,
}

_SKLEARN = ("scikit-learn", "numpy", "scipy")
_SCVI = ("scvi-tools", "torch", "lightning", "numpy")
_BASELINE_FORMAT = 2

BASELINES: dict[str, tuple[Method, ...]] = {
    "pca": (Method("pca", "PCA", "pca", packages=_SKLEARN, format=_BASELINE_FORMAT),),
    "ica": (Method("ica", "ICA", "ica", packages=_SKLEARN, format=_BASELINE_FORMAT),),
    "nmf": (Method("nmf", "NMF", "nmf", packages=_SKLEARN, format=_BASELINE_FORMAT),),
    "harmony": (
        Method(
            "harmony",
            "Harmony",
            "harmony",
            packages=("harmonypy", *_SKLEARN),
            needs=("harmonypy",),
            extra="benchmark",
            needs_batch=True,
            format=_BASELINE_FORMAT,
        ),
    ),
}
"""Name on the command line → methods."""

EXTERNAL_MODELS: dict[str, tuple[Method, ...]] = {
    "scvi": tuple(
        Method(
            f"scvi-{n_latent}x{n_layers}",
            f"scVI, {n_latent} latents, {n_layers} layer{'s' if n_layers > 1 else ''}",
            "scvi",
            {"n_latent": n_latent, "n_layers": n_layers},
            packages=_SCVI,
            needs=("scvi-tools",),
            extra="scvi",
            unit_prior=True,
            own_epochs=scvi_epochs,
        )
        for n_latent, n_layers in ((10, 1), (30, 2))
    ),
    "drvi": (
        Method(
            "drvi",
            "DRVI",
            "drvi",
            packages=("drvi-py", *_SCVI),
            needs=("drvi-py",),
            extra="drvi",
            unit_prior=True,
            own_epochs=drvi_epochs,
        ),
    ),
}
"""Name on the command line → methods: scVI with its default size and with the size its authors use for atlases; DRVI."""
