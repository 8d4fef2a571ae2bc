"""Provenance of a result: versions, digests of data and settings, the machine."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from sparcell._utils.version import VERSION

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "scanpy", "anndata", "openTSNE", "igraph")


def versions() -> dict[str, str]:
    """Return the versions of all packages that a result can depend on."""
    return {"sparcell": VERSION, **{name: metadata.version(name) for name in PACKAGES}}


def record(
    command: str,
    title: str,
    digest: str,
    *,
    n_seeds: int,
    config: Mapping[str, object],
    seconds: float,
    optional_versions: Mapping[str, str] | None = None,
) -> dict[str, object]:
    """Return the provenance of a study or benchmark: command, input, seeds, date, settings, versions, machine, seconds."""
    import torch

    return {
        "command": command,
        "input": {"name": title, "sha256": digest},
        "seeds": list(range(n_seeds)),
        "date": datetime.now(UTC).date().isoformat(),
        "config": dict(config),
        "versions": {"python": platform.python_version(), **versions(), **(optional_versions or {})},
        "machine": {
            "system": platform.platform(),
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count() or 1,
            "threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
        "seconds": round(seconds, 1),
    }


def qc_limits(qc: pd.DataFrame) -> dict[str, tuple[float | None, float | None]]:
    """Return the limits of quality control that figures draw, from the table of `pp.quality_control`: column → (lower, upper)."""
    used = qc.attrs["limits"]
    return {
        "n_genes": (_drawn(used["min_genes"][0]), _drawn(used["max_genes"][1])),
        "pct_mito": (None, _drawn(used["max_pct_mito"][1])),
    }


def _drawn(limit: float) -> float | None:
    """Return a limit for the figure; None where there is no limit."""
    return limit if 0 < limit < math.inf else None


def digest_of(value: Any) -> str:
    """Return the SHA-256 digest of a value that JSON can represent; other values are digested as text."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def digest_of_columns(obs: pd.DataFrame, keys: Iterable[str | None]) -> str:
    """Return the SHA-256 digest of the values of columns of obs that a model reads, as text."""
    names = sorted({key for key in keys if key is not None})
    return digest_of({name: obs[name].astype(str).tolist() for name in names})


def digest_of_matrix(adata: AnnData) -> str:
    """Return the SHA-256 digest of counts, cell names and gene names; it does not depend on the file format."""
    x_ng = sparse.csr_matrix(adata.X, dtype=np.float32)
    x_ng.sum_duplicates()
    digest = hashlib.sha256()
    for part in (x_ng.data, x_ng.indices.astype(np.int64), x_ng.indptr.astype(np.int64)):
        digest.update(np.ascontiguousarray(part).tobytes())
    for names in (adata.obs_names, adata.var_names):
        digest.update("\n".join(map(str, names)).encode())
    return digest.hexdigest()
