"""What theory knows of chains of equally probable categories."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from collapse_jax.core.closed_forms import Setting


def equal_probabilities(options: Mapping[str, Any]) -> np.ndarray:
    """[K], of the real distribution that the closed forms are of."""
    return np.full(options["num_categories"], 1 / options["num_categories"])


def means(setting: Setting, generation: ArrayLike) -> dict[str, np.ndarray]:
    """Name -> expected value at each generation, of what is known."""
    # Here, so that who asks for no law does not wait for scipy.stats.
    from scipy import special

    from collapse_jax.theory import ancestry, real_batches
    from collapse_jax.theory import categorical as theory

    size, probabilities = setting.sample_size, equal_probabilities(setting.options)
    if setting.options["smoothing"]:
        return {}
    initial = 1 - 1 / len(probabilities)
    if "real_share" in setting.workflow:
        return {
            "heterozygosity": initial * real_batches.retention(generation, size, **setting.workflow)
        }
    known = {"heterozygosity": initial * ancestry.retention(generation, size, **setting.workflow)}
    workflow = setting.workflow["workflow"]
    if workflow == "replace" and size <= theory.LARGEST_MATRIX_SAMPLE_SIZE:
        known["support"] = theory.expected_support(generation, size, probabilities)
        # All categories are alike, so the first stands for all.
        of_first = theory.expectation_over_counts(
            lambda count: special.entr(count / size), generation, size, probabilities[:1]
        )
        known["entropy"] = len(probabilities) * of_first[..., 0]
    if workflow == "accumulate":
        distinct = theory.expected_distinct_in_sample(size, probabilities)
        known["support"] = np.full(np.shape(generation), float(distinct))
    return known
