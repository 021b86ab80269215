"""The paper's tables and figures for any trained model: what `diffae evaluate` runs."""

TASK_NAMES = (
    "reconstruction",
    "capacity",
    "denoising",
    "generation",
    "conditional",
    "attributes",
    "manipulation",
    "interpolation",
    "variation",
    "memorisation",
    "out-of-distribution",
    "detection",
    "throughput",
)
"""In the order of the report."""
