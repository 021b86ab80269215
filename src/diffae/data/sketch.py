"""The old name of the package `sketchfaces`, to be removed in 0.3."""

import warnings

from sketchfaces import *  # noqa: F403

warnings.warn("diffae.data.sketch is now sketchfaces; it will be removed in 0.3", DeprecationWarning, stacklevel=2)
