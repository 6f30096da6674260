"""Dynamic mode decomposition: the linear operator that takes each snapshot to the next, and its
eigenvalues as rates of training.

`spectrum(array)` does all of it; the steps are here for those who need one of them.
"""

from mechgrok.maths.dmd.bootstrap import Bootstrap, bootstrap, moving_blocks, whole_runs
from mechgrok.maths.dmd.centring import CENTRINGS, centred
from mechgrok.maths.dmd.distances import (
    PermutationTest,
    distance_matrix,
    hausdorff,
    permutation_test,
    wasserstein,
)
from mechgrok.maths.dmd.operator import (
    METHODS,
    Operator,
    fit_operator,
    optimal_rank,
    optimal_threshold,
)
from mechgrok.maths.dmd.published import published_spectrum
from mechgrok.maths.dmd.rates import half_lives, rates, reference_poles
from mechgrok.maths.dmd.refinement import Refined, refine
from mechgrok.maths.dmd.snapshots import (
    hankel,
    hankel_gram,
    snapshot_pairs,
    trajectories,
    uniform_stride,
)
from mechgrok.maths.dmd.spectra import Spectrum, compress, spectrum
from mechgrok.maths.dmd.windows import Windows, effective_rank, windowed

__all__ = [
    "CENTRINGS",
    "METHODS",
    "Bootstrap",
    "Operator",
    "PermutationTest",
    "Refined",
    "Spectrum",
    "Windows",
    "bootstrap",
    "centred",
    "compress",
    "distance_matrix",
    "effective_rank",
    "fit_operator",
    "half_lives",
    "hankel",
    "hankel_gram",
    "hausdorff",
    "moving_blocks",
    "optimal_rank",
    "optimal_threshold",
    "permutation_test",
    "published_spectrum",
    "rates",
    "reference_poles",
    "refine",
    "snapshot_pairs",
    "spectrum",
    "trajectories",
    "uniform_stride",
    "wasserstein",
    "whole_runs",
    "windowed",
]
