"""The methods that models are compared with: PCA, ICA, NMF and Harmony from their libraries, scVI and DRVI where they are installed.

Nothing here knows our own models, and a stored run of a peer depends on nothing but data, settings and the peer's own versions.
Suffixes: n cells, t held-out cells, g genes, k components or latents.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from sparcell._utils import progress

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    Floats = NDArray[np.floating]

log = logging.getLogger("sparcell")

BATCH, HELD_OUT = "batch", "held_out"
"""Columns of obs that every method is given: the batch (absent where there is none) and which cells are held out."""

SCALE = 10_000.0
"""Counts a cell is brought to before the logarithm: the usual choice."""

SHORT_EPOCHS, LONGEST = 100, 600.0
"""Epochs of a peer whose own number of epochs would take longer than so many seconds."""

DRVI_EPOCHS = 400
"""Epochs, and epochs of the KL's warm-up, in its authors' tutorials."""

LIKELIHOOD_SEED, LIKELIHOOD_BATCH = 0, 512


@dataclass(frozen=True)
class MethodInput:
    """What a method is given."""

    cells: AnnData
    """Raw counts of the chosen genes in X; obs has HELD_OUT and, where there are batches, BATCH."""
    settings: dict[str, Any]
    seed: int
    n_samples: int
    """Draws for the likelihood of a held-out cell."""
    title: str = ""
    """What a progress bar calls it."""
    decided: int | None = None
    """Epochs that an earlier seed settled on; None where this run may decide."""
    silent: bool = False

    @property
    def batch_key(self) -> str | None:
        """The column of the batches, where there are any."""
        return BATCH if BATCH in self.cells.obs else None

    @property
    def test_t(self) -> NDArray[np.int64]:
        """Rows of the cells held out."""
        return np.flatnonzero(self.cells.obs[HELD_OUT].to_numpy())

    @property
    def train_n(self) -> NDArray[np.int64]:
        """Rows of the other cells."""
        return np.flatnonzero(~self.cells.obs[HELD_OUT].to_numpy())


@dataclass(frozen=True)
class MethodOutput:
    """A method after its training; what follows is not timed."""

    codes: Callable[[], Floats]
    """Encode all cells, (n, k)."""
    log_likelihood: Callable[[], Floats] | None = None
    """Importance-weighted bound of the held-out cells in nats, (t,); None where the method explains no counts."""
    n_epochs: int = 0
    note: str = ""
    """What was decided on the way, for the page."""
    losses: tuple[float, ...] = ()
    """Training loss of each epoch, as the method's own library tells it."""
    gamma: Callable[[], Floats | None] | None = None
    """Probability that a latent is on, (n, k), where there are spikes."""


TrainFn = Callable[[], MethodOutput]
"""A method with its libraries loaded, about to train: only the call of it is timed."""


@dataclass(frozen=True)
class Method:
    """A row of the benchmark that is not ours."""

    name: str
    """Unique, as in the tables: "scvi-10x1"."""
    title: str
    """For people."""
    runner: str
    """Key in RUNNERS."""
    settings: dict[str, Any] = field(default_factory=dict)
    packages: tuple[str, ...] = ()
    """Distributions that the result depends on."""
    needs: tuple[str, ...] = ()
    """Those of them that come with an extra only."""
    extra: str = ""
    needs_batch: bool = False
    unit_prior: bool = False
    """Whether its codes have the prior N(0, 1), so that a latent's variance tells whether it vanished."""
    format: int = 1
    """Of its stored runs; raise it whenever the code here begins to give other results."""


def lognormalized(counts_ng: Any) -> Any:
    """Bring each cell to SCALE counts over the chosen genes and take log(1 + x)."""
    x_ng = sparse.csr_matrix(counts_ng, dtype=np.float32)
    totals_n = np.asarray(x_ng.sum(axis=1)).ravel()
    x_ng = sparse.diags(SCALE / np.maximum(totals_n, 1)).astype(np.float32) @ x_ng
    return x_ng.log1p()


def pca(job: MethodInput) -> TrainFn:
    """Principal components of log-normalised counts, of all cells."""
    components = _components(job)
    return lambda: _known(components())


def ica(job: MethodInput) -> TrainFn:
    """Independent components of log-normalised counts, of all cells."""
    from sklearn.decomposition import FastICA

    def run() -> MethodOutput:
        method = FastICA(
            job.settings["n_components"], whiten="unit-variance", max_iter=1000, random_state=job.seed
        )
        x_ng = lognormalized(job.cells.X).toarray()
        return _known(method.fit_transform(x_ng))

    return run


def nmf(job: MethodInput) -> TrainFn:
    """Amounts of nonnegative factors of log-normalised counts, of all cells, by least squares (Lee & Seung 1999)."""
    from sklearn.decomposition import NMF

    def run() -> MethodOutput:
        method = NMF(job.settings["n_components"], init="nndsvda", max_iter=1000, random_state=job.seed)
        return _known(method.fit_transform(lognormalized(job.cells.X)))

    return run


def harmony(job: MethodInput) -> TrainFn:
    """Principal components moved together by Harmony, of all cells."""
    import harmonypy

    components = _components(job)

    def run() -> MethodOutput:
        codes_nk = components()
        moved = harmonypy.run_harmony(codes_nk, job.cells.obs, BATCH, random_state=job.seed, verbose=False)
        corrected = np.asarray(moved.Z_corr)
        return _known(corrected if corrected.shape == codes_nk.shape else corrected.T)

    return run


def _components(job: MethodInput) -> Callable[[], Floats]:
    from sklearn.decomposition import PCA

    method = PCA(job.settings["n_components"], svd_solver="arpack", random_state=job.seed)
    return lambda: np.asarray(method.fit_transform(lognormalized(job.cells.X)), dtype=np.float32)


def _known(codes_nk: Floats) -> MethodOutput:
    return MethodOutput(codes=lambda: codes_nk)


def scvi(job: MethodInput) -> TrainFn:
    """scVI with a negative binomial, its defaults else; trained on the cells that are not held out."""
    import scvi as library

    _hush()
    cells, settings = job.cells, job.settings
    library.settings.seed = job.seed
    library.model.SCVI.setup_anndata(cells, batch_key=job.batch_key)
    model = library.model.SCVI(
        cells, n_latent=settings["n_latent"], n_layers=settings["n_layers"], gene_likelihood="nb"
    )

    def codes() -> Floats:
        return np.asarray(model.get_latent_representation(), dtype=np.float32)

    def log_likelihood() -> Floats:
        library.settings.seed = LIKELIHOOD_SEED
        found = model.get_marginal_ll(
            indices=job.test_t, n_mc_samples=job.n_samples, batch_size=LIKELIHOOD_BATCH, return_mean=False
        )
        return np.asarray(found, dtype=np.float64)

    def run() -> MethodOutput:
        n_epochs, note = _train(model, job, scvi_epochs(job.cells.n_obs))
        return MethodOutput(codes, log_likelihood, n_epochs, note, _losses(model))

    return run


def drvi(job: MethodInput) -> TrainFn:
    """DRVI with its defaults but for the number of latents, and its authors' epochs and warm-up; trained as scVI is.

    No likelihood is taken from it: whether its library's is the same quantity as ours has not been shown.
    """
    import scvi as library
    from drvi.model import DRVI

    _hush()
    library.settings.seed = job.seed
    DRVI.setup_anndata(job.cells, batch_key=job.batch_key)
    model = DRVI(job.cells, n_latent=job.settings["n_latent"])

    def codes() -> Floats:
        return np.asarray(model.get_latent_representation(), dtype=np.float32)

    def run() -> MethodOutput:
        n_epochs, note = _train(model, job, DRVI_EPOCHS, "its authors' tutorials say")
        return MethodOutput(codes, None, n_epochs, note, _losses(model))

    return run


def _hush() -> None:
    for name in ("scvi", "drvi", "lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _losses(model: Any) -> tuple[float, ...]:
    return tuple(np.ravel(model.history["elbo_train"].to_numpy(dtype=np.float64)))


def _train(
    model: Any, job: MethodInput, usual: int, rule: str = "the library's own rule says"
) -> tuple[int, str]:
    """Train a model of scvi-tools; where its usual epochs would take too long, make fewer. Returns the epochs made and why."""
    from lightning.pytorch.callbacks import Callback

    fixed = job.settings["epochs"] or job.decided
    planned = fixed or usual
    told = [""]
    with progress.bar(job.title, planned, silent=job.silent) as advance:

        class Watch(Callback):  # type: ignore[misc]
            """Shows the progress; after the second epoch decides whether all of them are affordable."""

            started = time.perf_counter()

            def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
                self.started = time.perf_counter()

            def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
                seconds = time.perf_counter() - self.started
                second = trainer.current_epoch == 1  # the first one is slower
                if second and not fixed and usual > SHORT_EPOCHS and seconds * usual > LONGEST:
                    trainer.fit_loop.max_epochs = SHORT_EPOCHS
                    module.n_epochs_kl_warmup = warmup(module.n_epochs_kl_warmup, SHORT_EPOCHS, usual)
                    told[0] = (
                        f"An epoch takes {seconds:.1f} s, so the usual {usual} epochs would take "
                        f"{seconds * usual / 60:.0f} min: {SHORT_EPOCHS} are made."
                    )
                    log.info("%s: %s Set --peer-epochs for another number.", job.title, told[0])
                advance("")

        shortened = {} if planned >= usual else {"n_epochs_kl_warmup": warmup(400, planned, usual)}
        model.train(
            max_epochs=planned,
            datasplitter_kwargs={"external_indexing": [job.train_n, job.test_t]},
            plan_kwargs=shortened,
            callbacks=[Watch()],
            enable_progress_bar=False,
        )
    made = len(model.history["elbo_train"])
    return made, told[0] or f"{made} epochs; {rule} {usual}."


def scvi_epochs(n_cells: int) -> int:
    """Epochs that scVI makes by default: 400, and from 20,000 cells on fewer."""
    return max(1, min(400, round(400 * 20_000 / n_cells)))


def warmup(n_warmup: int, n_epochs: int, usual: int) -> int:
    """Shorten a KL warm-up as much as the training, so that its weight ends where it does by default."""
    return max(1, round(n_warmup * min(1.0, n_epochs / usual)))


RUNNERS: dict[str, Callable[[MethodInput], TrainFn]] = {
    "pca": pca,
    "ica": ica,
    "nmf": nmf,
    "harmony": harmony,
    "scvi": scvi,
    "drvi": drvi,
}

_SKLEARN = ("scikit-learn", "numpy", "scipy")
_SCVI = ("scvi-tools", "torch", "lightning", "numpy")

BASELINES: dict[str, tuple[Method, ...]] = {
    "pca": (Method("pca", "PCA", "pca", packages=_SKLEARN),),
    "ica": (Method("ica", "ICA", "ica", packages=_SKLEARN),),
    "nmf": (Method("nmf", "NMF", "nmf", packages=_SKLEARN),),
    "harmony": (
        Method(
            "harmony",
            "Harmony",
            "harmony",
            packages=("harmonypy", *_SKLEARN),
            needs=("harmonypy",),
            extra="benchmark",
            needs_batch=True,
        ),
    ),
}
"""Name on the command line → rows."""

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
        ),
    ),
}
"""Name on the command line → rows: scVI as it comes, and in the size that its authors take for atlases; DRVI."""
