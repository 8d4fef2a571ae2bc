"""Groups of options: --help shows the basic options, --help-all shows all groups."""

from __future__ import annotations

from cyclopts import Group

from sparcell.config.analysis import AnalysisConfig
from sparcell.config.data import DataConfig, LabelledDataConfig
from sparcell.config.experiments import BenchmarkConfig, FitConfig, ProgramsConfig, QualityConfig, StudyConfig
from sparcell.config.genes import GenesConfig
from sparcell.config.input import CopyConfig, CountsConfig, DiskConfig, MemoryConfig
from sparcell.config.model import (
    AutoencoderConfig,
    BetaVAEConfig,
    BetaVSCConfig,
    LikelihoodConfig,
    NetworkConfig,
)
from sparcell.config.new_cells import MapConfig
from sparcell.config.training import TrainConfig

HELP_ALL = "--help-all"
"""Flag of every command, which shows the options of all groups."""


class FurtherOptions(Group):
    """A group of options that --help leaves out and --help-all shows."""

    is_shown = False

    @property
    def show(self) -> bool:
        """Whether help lists the group."""
        return type(self).is_shown


BASIC = Group("Options", sort_key=0)
LARGE_FILES = FurtherOptions("Large files", sort_key=2)
SCORES = FurtherOptions("Scores and maps", sort_key=4)

GROUPS: dict[type, Group] = {
    FitConfig: FurtherOptions("Output", sort_key=1),
    MapConfig: FurtherOptions("Training", sort_key=5),
    CountsConfig: LARGE_FILES,
    MemoryConfig: LARGE_FILES,
    CopyConfig: LARGE_FILES,
    DiskConfig: LARGE_FILES,
    DataConfig: FurtherOptions("Data", sort_key=2),
    LabelledDataConfig: FurtherOptions("Labels", sort_key=2),
    GenesConfig: FurtherOptions("Genes", sort_key=2),
    QualityConfig: FurtherOptions("Quality control", sort_key=3),
    AnalysisConfig: FurtherOptions("Analysis", sort_key=4),
    StudyConfig: SCORES,
    BenchmarkConfig: SCORES,
    ProgramsConfig: FurtherOptions("Programs", sort_key=4),
    TrainConfig: FurtherOptions("Training", sort_key=5),
    NetworkConfig: FurtherOptions("Network", sort_key=6),
    LikelihoodConfig: FurtherOptions("Likelihood", sort_key=7),
    AutoencoderConfig: FurtherOptions("Autoencoder", sort_key=8),
    BetaVAEConfig: FurtherOptions("β-VAE and β-VSC", sort_key=9),
    BetaVSCConfig: FurtherOptions("β-VSC", sort_key=10),
}
"""Config class that defines a setting → group of its option, unless the option is a basic one."""


def words_for_help(words: list[str]) -> list[str]:
    """Return the words of a command line with --help in place of --help-all, which makes help show all groups."""
    FurtherOptions.is_shown = HELP_ALL in words
    return ["--help" if word == HELP_ALL else word for word in words]
