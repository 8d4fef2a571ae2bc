"""The encoding half of a fitted model: cells in; latents, inclusion probabilities and gene programs out.

Suffixes: n cells, g genes, k latents.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from scipy import sparse as scipy_sparse

from sparcell.config.validation import require_whole
from sparcell.data.loader import Loader
from sparcell.errors import InputError
from sparcell.io import stored
from sparcell.io.backed import leave_on_disk
from sparcell.io.labels import labels_from_obs
from sparcell.io.stored import StoredCells
from sparcell.models.decoding import average_minibatch
from sparcell.protocols import EpochRecord
from sparcell.results.large_arrays import RowsOfPieces
from sparcell.results.latents import MIN_INCLUSION, LatentRepresentation
from sparcell.tl.program_effects import ProgramDecoder, find_programs
from sparcell.tl.programs import CellSample, Programs, program_tables, sample_cells

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from sparcell.data.covariates import Unseen
    from sparcell.data.schema import Schema
    from sparcell.nn.network import Network
    from sparcell.protocols import Distribution, Minibatch, ModelSettings, Posterior

    Floats = NDArray[np.float32]

INFERENCE_BATCH = 1024
"""Cells at a time outside of training."""


class FittedEncoder:
    """Settings, weights and history of a fitted model, and what the model says about cells. See `Model`."""

    def __init__(
        self,
        settings: ModelSettings,
        schema: Schema,
        network: Network,
        history: list[EpochRecord],
        n_cells: int | None = None,
    ) -> None:
        self.settings = settings
        self.schema = schema
        self.network = network.eval()
        self.n_cells = n_cells
        self.last_encoded: tuple[int, int] | None = None
        names = [field.name for field in fields(EpochRecord)]
        records = pd.DataFrame([asdict(record) for record in history], columns=names)
        self.history = records.astype({"validation_loss": np.float64}).rename(columns={"number": "epoch"})

    @property
    def device(self) -> torch.device:
        """Where the model's weights are."""
        return next(self.network.parameters()).device

    @torch.no_grad()
    def latent_representation(
        self, data: AnnData | str | Path | Sequence[str | Path], *, unseen: Unseen = "error"
    ) -> LatentRepresentation:
        """Encode cells in one pass: posterior means, KL and inclusion probabilities.

        Parameters
        ----------
        data
            Cells with the genes the model was trained on, in any order; further genes are ignored. AnnData in memory, `io.StoredCells`, or
            a path; several paths are joined as in `io.StoredCells`. An AnnData with a Dask array, or one that a file of more than 4 GB
            backs, is read by blocks of cells.
        unseen
            What to do with a batch or category that was not there at fit: "error", or "average" to encode such cells, or data without
            the column, as an average batch. Only matters with `encode_covariates`.

        Raises
        ------
        InputError
            If genes are missing, or the values are not what the model was trained on.

        Examples
        --------
        ::

            latents = model.latent_representation(adata)
            latents.mean_nk, latents.inclusion_nk, latents.kl_k, latents.active_k
        """
        loader = self._loader(self._opened(data), unseen, decode=False)
        n_cells, kl_k = len(loader.source), np.zeros(self.settings.n_latent)
        on_disk = loader.source.edges is not None
        mean, gamma = (RowsOfPieces(n_cells, on_disk=on_disk) for _ in range(2))
        for batch in loader.all_cells(INFERENCE_BATCH):
            posterior = self.network.posterior(batch)
            mean.add(posterior.mean.cpu().numpy())
            kl_k += posterior.kl().cpu().numpy().sum(axis=0, dtype=np.float64)
            if posterior.gamma is not None:
                gamma.add(posterior.gamma.cpu().numpy())
        mean_nk, inclusion_nk = mean.finish(), gamma.finish()
        assert mean_nk is not None
        latents = LatentRepresentation(mean_nk, kl_k / n_cells, inclusion_nk)
        self.last_encoded = (n_cells, int(latents.active_k.sum()))
        return latents

    def transform(
        self,
        data: AnnData | str | Path | Sequence[str | Path],
        *,
        sparse: bool = False,
        min_inclusion: float = MIN_INCLUSION,
        unseen: Unseen = "error",
    ) -> Any:
        """Encode cells: posterior means, (n, k), float32.

        Parameters
        ----------
        data, unseen
            As for `latent_representation`.
        sparse
            Return a CSR matrix without the latents whose inclusion probability is below `min_inclusion`. Only for a model with spikes.
        min_inclusion
            Used with `sparse`.

        Raises
        ------
        InputError
            As `latent_representation`, and for `sparse` with a model without spikes.

        Examples
        --------
        ::

            z_nk = model.transform(adata)
            sparse_nk = model.transform(adata, sparse=True)
        """
        latents = self.latent_representation(data, unseen=unseen)
        if not sparse:
            return latents.mean_nk
        inclusion_nk = self._required_inclusion(latents)
        return scipy_sparse.csr_matrix(np.where(inclusion_nk >= min_inclusion, latents.mean_nk, 0))

    def inclusion_probability(self, data: AnnData | str | Path, *, unseen: Unseen = "error") -> Floats:
        """Return the posterior inclusion probability of each latent in each cell, (n, k). Only for a model with spikes.

        Examples
        --------
        ::

            model.inclusion_probability(adata).mean(axis=0)  # how often each latent is on
        """
        return self._required_inclusion(self.latent_representation(data, unseen=unseen))

    def _required_inclusion(self, latents: LatentRepresentation) -> Floats:
        if latents.inclusion_nk is None:
            kind = type(self.settings).__name__
            raise InputError(f"{kind} has no inclusion probabilities, since it has no spikes; use BetaVSC.")
        return latents.inclusion_nk

    def embed(self, adata: AnnData, *, key_added: str | None = None, unseen: Unseen = "error") -> None:
        """Encode cells and write the result into `adata`.

        Parameters
        ----------
        adata
            The cells, as for `latent_representation`.
        key_added
            Stem of the keys, with or without the prefix ``X_``. Default: the model's name, such as beta_vsc.
        unseen
            As for `latent_representation`.

        Writes
        ------
        ``obsm["X_<key>"]``, posterior means, (n, k), float32. ``obsm["<key>_inclusion"]``, inclusion probabilities, (n, k), for a model
        with spikes. ``uns["<key>"]``: settings, and for each latent its mean KL (kl) and whether it is active (active).

        Examples
        --------
        ::

            model.embed(adata)
            sc.pp.neighbors(adata, use_rep="X_beta_vsc")
        """
        self.write_latents(adata, self.latent_representation(adata, unseen=unseen), key_added=key_added)

    def write_latents(
        self, adata: AnnData, latents: LatentRepresentation, *, key_added: str | None = None
    ) -> None:
        """Write latents that were encoded already into `adata`, under the keys of `embed`.

        Examples
        --------
        ::

            latents = model.latent_representation(adata)
            model.write_latents(adata, latents)  # as model.embed(adata)
        """
        key = self._key(key_added)
        adata.obsm[f"X_{key}"] = latents.mean_nk
        if latents.inclusion_nk is not None:
            adata.obsm[f"{key}_inclusion"] = latents.inclusion_nk
        settings = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self.settings).items()
        }
        adata.uns[key] = {"settings": settings, "kl": latents.kl_k, "active": latents.active_k}

    def programs(
        self,
        adata: AnnData,
        *,
        labels_key: str | None = None,
        n_genes: int = 50,
        key_added: str | None = None,
        seed: int = 0,
        unseen: Unseen = "error",
        latents: LatentRepresentation | None = None,
    ) -> Programs:
        """Read each active latent as a gene program: the cells it is on in, the genes it raises there, what it explains.

        Parameters
        ----------
        adata
            The cells, as for `latent_representation`.
        labels_key
            Column of obs with cell types, to report in which types a program is on.
        n_genes
            Number of genes listed for each program.
        key_added
            As for `embed`.
        seed
            Draws the cells that are decoded.
        unseen
            As for `latent_representation`.
        latents
            The cells' latent representation, if it was computed already.

        Returns
        -------
        The programs as tables: see `Programs`. From a file that stays on disk the tables are those of the same cells in memory: latents
        are computed for all cells, and the cells that are decoded are read from all over the file.

        Writes
        ------
        ``varm["<key>_effects"]``: log2 fold changes for a rise of each latent, (g, k), float32; 0 for genes the model does not know and
        for inactive latents. ``uns["<key>_programs"]``: the tables summary and genes.

        Examples
        --------
        ::

            programs = model.programs(adata, labels_key="cell_type")
            programs.summary
        """
        require_whole("n_genes", n_genes, 1)
        cells, key = self._opened(adata), self._key(key_added)
        if isinstance(cells, StoredCells) and labels_key is not None:
            cells.read_obs([labels_key])
        labels = None if labels_key is None else labels_from_obs(cells, labels_key)
        if latents is None:
            latents = self.latent_representation(cells, unseen=unseen)
        decoder = ProgramDecoder(self.network, self.schema, self._loader(cells, unseen), latents)
        effects = find_programs(decoder, seed)
        programs = program_tables(effects, key, self.schema.genes, n_genes, labels)
        cells_n = sample_cells(effects.on_np, seed)
        sample = CellSample(self.schema.expression(cells[cells_n]), effects.on_np[cells_n])
        programs = replace(programs, cells=sample)
        effect_gk = np.zeros((adata.n_vars, latents.mean_nk.shape[1]), dtype=np.float32)
        row_g = adata.var_names.get_indexer(list(self.schema.genes))  # -1: a gene that only raw has
        effect_gk[row_g[row_g >= 0]] = effects.by_latent(effect_gk.shape[1])[row_g >= 0]
        adata.varm[f"{key}_effects"] = effect_gk
        adata.uns[f"{key}_programs"] = {"summary": programs.summary.copy(), "genes": programs.genes.copy()}
        return programs

    def _key(self, key_added: str | None) -> str:
        return (key_added or self.settings.name).removeprefix("X_")

    @torch.no_grad()
    def encode(self, x_ng: Floats) -> Floats:
        """Encode expression that is not a measured cell, such as a generated one: posterior means, (n, k).

        `x_ng` is (n, g) with genes as in `schema.genes`, in the units of `reconstruct`: log-normalized values (values below 0, which a
        Gaussian decoder can return, are allowed), or counts, which need not be whole. Cells are encoded as an average batch.

        Examples
        --------
        ::

            generated = model.sample(500)
            z_nk = model.encode(generated.X)
        """
        batch = average_minibatch(self.schema, self.schema.zscore(x_ng), self.device)
        return self.network.posterior(batch).mean.cpu().numpy()

    @torch.no_grad()
    def _posteriors(
        self, data: AnnData | str | Path | Sequence[str | Path], unseen: Unseen
    ) -> Iterator[tuple[Posterior, Minibatch]]:
        loader = self._loader(self._opened(data), unseen)
        for batch in loader.all_cells(INFERENCE_BATCH):
            yield self.network.posterior(batch), batch

    def _distribution(self, z_nk: torch.Tensor, batch: Minibatch) -> Distribution:
        return self.network.likelihood.distribution(self.network.decode(z_nk, batch), batch)

    def _opened(self, data: AnnData | str | Path | Sequence[str | Path]) -> Any:
        """Return data to read from: large files, and the data of objects that are not in memory, stay where they are."""
        if isinstance(data, str | Path | Sequence):
            return stored.open_for_model(data, self.schema.layer, self.schema.covariates.keys)
        return leave_on_disk(data, self.schema.layer)

    def _loader(self, adata: AnnData, unseen: Unseen, *, decode: bool = True) -> Loader:
        covariates, needed = self.schema.covariates, decode or self.settings.encode_covariates
        values = covariates.read(adata.obs, unseen) if needed else covariates.average(adata.n_obs)
        n_genes = len(self.schema.genes)
        return Loader(self.schema.cells(adata), values, n_genes, self.device, max_resident_bytes=0)


def gather(pieces: Iterator[torch.Tensor] | list[torch.Tensor]) -> Floats:
    """Return the pieces of all minibatches as one array."""
    return torch.cat(list(pieces)).cpu().numpy()
