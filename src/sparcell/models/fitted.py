"""The fitted model: encode, reconstruct, score, sample new cells, save.

Suffixes: n cells, g genes, k latents, s steps.
"""

from __future__ import annotations

import copy
import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from sparcell._utils import torch_runtime
from sparcell.config.validation import require_whole
from sparcell.data.expression import has_layer
from sparcell.errors import InputError, did_you_mean
from sparcell.io import model_folder
from sparcell.io.backed import leave_on_disk
from sparcell.models.card import model_card
from sparcell.models.criticism import CriticizedModel
from sparcell.models.decoding import decoded_cells, in_batch
from sparcell.models.description import describe
from sparcell.models.display import model_html, model_text
from sparcell.models.encoding import gather
from sparcell.models.expression import ExpressionModel
from sparcell.models.mapping import MappingEncoder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from sparcell.data.covariates import Unseen
    from sparcell.data.missing_genes import MissingGenes
    from sparcell.protocols import Minibatch

    Floats = NDArray[np.float32]

log = logging.getLogger("sparcell")


class Model(ExpressionModel, CriticizedModel, MappingEncoder):
    """A fitted model. Only `embed`, `predict_labels`, `denoise`, `criticize` and `programs` write into the data they are given.

    Attributes
    ----------
    settings
        The settings that were fitted: an `Autoencoder`, `BetaVAE` or `BetaVSC`.
    history
        One row per epoch: epoch; loss, reconstruction_loss and kl in nats per cell; kl_weight; validation_loss (missing without
        validation cells); seconds.
    schema
        Genes, units and covariates of the training data.
    n_cells
        Number of training and validation cells.
    last_encoded
        Number of cells that were encoded last, and of the latents that were active in them; None before.

    Examples
    --------
    ::

        model = sp.BetaVSC().fit(adata, layer="counts", batch_key="donor")
        model.embed(adata)
        programs = model.programs(adata)
        model.save("vsc")
    """

    def __repr__(self) -> str:
        return model_text(self)

    def _repr_html_(self) -> str:
        return model_html(self)

    def plot_history(self) -> Figure:
        """Return a figure of the training: loss and validation loss of each epoch, and the KL.

        Examples
        --------
        ::

            model.plot_history().savefig("history.png")
        """
        from sparcell.pl.history import history_curves

        return history_curves(self.history, type(self.settings).__name__)

    def decode(self, z_nk: Floats) -> Floats:
        """Decode latents that are not those of a measured cell, (n, k): expected expression, (n, g), in the units of `sample`.

        Raises
        ------
        InputError
            If the latents are no matrix with a column for each latent of the model.

        Examples
        --------
        ::

            z_nk = model.transform(adata)
            x_ng = model.decode(z_nk)
        """
        n_latent = self.settings.n_latent
        latents_nk = np.array(z_nk, dtype=np.float32)
        if latents_nk.ndim != 2 or latents_nk.shape[1] != n_latent:
            raise InputError(
                f"z_nk has the shape {latents_nk.shape}; expected cells × {n_latent} latents. One cell is z_nk[None]."
            )
        return np.asarray(self._decoded(torch.from_numpy(latents_nk).to(self.device), "latent").X)

    @torch.no_grad()
    def reconstruct(
        self, data: AnnData | str | Path, *, batch: str | None = None, unseen: Unseen = "error"
    ) -> Floats:
        """Decode each cell's posterior mean: expected expression, (n, g), genes as in `schema.genes`.

        Log-normalized values; for a model of counts, expected counts at the cell's own library size. `batch`, a batch name or "average",
        decodes all cells as if they had been measured in that batch.

        Examples
        --------
        ::

            x_ng = model.reconstruct(adata, batch="average")
        """
        means = []
        for posterior, cells in self._posteriors(data, unseen):
            cells = cells if batch is None else in_batch(cells, batch, self.schema.covariates.batch)
            means.append(self._distribution(posterior.mean, cells).mean)
        return self.schema.inverse_zscore(gather(means))

    @torch.no_grad()
    def score(self, data: AnnData | str | Path, *, seed: int = 0, unseen: Unseen = "error") -> float:
        """Return the mean ELBO of cells in nats (beta = 1, one draw of the latents per cell); higher is better.

        For the autoencoder, which has no prior: the mean log likelihood of the reconstruction.

        Examples
        --------
        ::

            model.score(adata)
        """
        generator = torch_runtime.make_generator(seed, self.device)
        elbo_n = gather(
            -self._nll(posterior.sample(generator), batch) - posterior.kl().sum(dim=1)
            for posterior, batch in self._posteriors(data, unseen)
        )
        return float(elbo_n.mean(dtype=np.float64))

    @torch.no_grad()
    def marginal_log_likelihood(
        self,
        data: AnnData | str | Path,
        *,
        n_samples: int = 100,
        seed: int = 0,
        unseen: Unseen = "error",
    ) -> NDArray[np.float64]:
        """Return the importance-weighted bound on log p(x) of each cell in nats, (n,); higher is better.

        log 1/S Σ p(x|z_s) p(z_s) / q(z_s|x) over S draws of q (Burda, Grosse & Salakhutdinov 2016, eq. 8). It lies between the ELBO and
        the truth, closer to the truth with more draws. It is comparable between models of the same genes and the same kind of data; for
        counts, the library size is given. For the autoencoder: the log likelihood of the reconstruction.

        Examples
        --------
        ::

            adata.obs["log_likelihood"] = model.marginal_log_likelihood(adata, n_samples=100)
        """
        require_whole("n_samples", n_samples, 1)
        generator = torch_runtime.make_generator(seed, self.device)
        bounds = []
        for posterior, batch in self._posteriors(data, unseen):
            log_weights = []
            for _ in range(n_samples):
                z_nk = posterior.sample(generator)
                log_weights.append(-self._nll(z_nk, batch).double() - posterior.log_ratio(z_nk).double())
            bounds.append(torch.logsumexp(torch.stack(log_weights), dim=0) - np.log(n_samples))
        return np.asarray(gather(bounds), dtype=np.float64)

    def sample(self, n_cells: int, *, seed: int = 0, noise: bool = False) -> AnnData:
        """Generate new cells: latents from the prior, decoded.

        Parameters
        ----------
        n_cells
            Number of cells.
        seed
            The same seed gives the same cells.
        noise
            Draw expression from the likelihood; otherwise X holds the expected expression.

        Returns
        -------
        AnnData, n_cells × g, of an average batch. X: log-normalized values, or counts at the median library size of the fit.
        ``obsm["X_<model>"]``: the latents.

        Raises
        ------
        InputError
            For a model without a prior.

        Examples
        --------
        ::

            generated = model.sample(500, seed=1)
        """
        require_whole("n_cells", n_cells, 1)
        generator = torch_runtime.make_generator(seed, self.device)
        with torch.no_grad():
            z_nk = self.network.latent_encoder.prior(n_cells, generator)
        return self._decoded(z_nk, "generated", generator if noise else None)

    def interpolate(
        self,
        data: AnnData | str | Path | Sequence[str | Path],
        start: str,
        stop: str,
        *,
        n_steps: int = 10,
        unseen: Unseen = "error",
    ) -> AnnData:
        """Decode latents on the straight line between the posterior means of two cells.

        Parameters
        ----------
        data
            Data with both cells, as for `latent_representation`. Of a large file only the two cells are read.
        start, stop
            Names of the cells.
        n_steps
            Number of points, both ends included, at least 2.
        unseen
            As for `latent_representation`.

        Returns
        -------
        AnnData, n_steps × g, of an average batch. X: expected expression, for a model of counts at the median library size of the fit.
        ``obsm["X_<model>"]``: the latents. ``obs["position"]``: 0 … 1.

        Examples
        --------
        ::

            path = model.interpolate(adata, adata.obs_names[0], adata.obs_names[1])
        """
        require_whole("n_steps", n_steps, 2)
        cells = self._opened(data)
        names_n = np.asarray(cells.obs_names[:])
        rows = [_row_of(cell, names_n) for cell in (start, stop)]
        ends_2k = torch.from_numpy(self.transform(cells[rows], unseen=unseen)).to(self.device)
        position_s = torch.linspace(0, 1, n_steps, device=self.device)
        path = self._decoded(torch.lerp(ends_2k[:1], ends_2k[1:], position_s[:, None]), "step")
        path.obs["position"] = position_s.cpu().numpy()
        return path

    def for_data(
        self, adata: AnnData, *, layer: str | None = None, missing_genes: MissingGenes = "error"
    ) -> Model:
        """Return the same model, which reads another layer, or data that lack some of its genes. The weights are shared.

        Parameters
        ----------
        adata
            The cells that the returned model will be given.
        layer
            Layer to read; "raw" for adata.raw. Raw counts are log-normalized for a model of expression. Default: the layer of the
            training if the data has it, otherwise X.
        missing_genes
            "error", or "zero": genes that the data lacks count as not expressed. At most 20 % of the model's genes may be missing.

        Raises
        ------
        InputError
            If there is no such layer. Missing genes are checked when the returned model reads the data.

        Examples
        --------
        ::

            model.for_data(adata, layer="raw").embed(adata)
        """
        model, read = copy.copy(self), self.schema.layer if layer is None else layer
        cells = leave_on_disk(adata, read if has_layer(adata, read) else layer)
        model.schema = replace(self.schema.resolve_layer(cells, layer), missing_genes=missing_genes)
        return model

    def save(self, folder: str | Path) -> None:
        """Write the model into a folder: weights as safetensors, all else as JSON, and a model card as README.md.

        The folder is created. If it holds a model of sparcell, this model takes its place as a whole, and a message is logged; the
        earlier model is gone. Give each model that you want to keep a folder of its own. No other folder is ever replaced.

        Raises
        ------
        InputError
            If the folder holds any file that `save` did not write, or a model card that was edited. The folder is then unchanged.
        OutputError
            If writing fails, for example because the disk is full. An earlier model then stays.

        Examples
        --------
        ::

            model.save("vsc")
            model = sp.load("vsc")
        """
        description = describe(self.settings, self.schema, self.history, self.n_cells)
        description["label_classifiers"] = self.labels_as_json()
        card = model_card(self.settings, description, self.schema)
        is_replaced = model_folder.is_whole(Path(folder))
        model_folder.save(Path(folder), description, self.network.state_dict(), card)
        if is_replaced:
            log.info("the model takes the place of an earlier one in %s", folder)

    def _decoded(self, z_nk: torch.Tensor, stem: str, generator: torch.Generator | None = None) -> AnnData:
        cells = decoded_cells(self.network, self.schema, z_nk, generator)
        cells.obs_names = [f"{stem}_{number}" for number in range(cells.n_obs)]
        cells.obsm[f"X_{self.settings.name}"] = z_nk.cpu().numpy()
        return cells

    def _nll(self, z_nk: torch.Tensor, batch: Minibatch) -> torch.Tensor:
        return self.network.likelihood.nll(self.network.decode(z_nk, batch), batch)


def _row_of(cell: str, names_n: NDArray[np.object_]) -> int:
    """Return the number of the first cell of this name; raise InputError if there is none."""
    rows = np.flatnonzero(names_n == cell)
    if not len(rows):
        raise InputError(f"no cell {cell!r} in the data; {did_you_mean(cell, names_n)}")
    return int(rows[0])
