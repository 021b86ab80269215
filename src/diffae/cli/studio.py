"""`diffae studio`: the model in the browser."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from diffae.cli import common, models
from diffae.cli.options import TrainingImages, optional
from diffae.cli.terminal import say, warn
from diffae.errors import ConfigError, DataError

if TYPE_CHECKING:
    from diffae.model import DiffusionAutoencoder
    from diffae.studio.context import Studio
    from diffae.studio.gallery import Opened

DRAWN_FACES = 800
"""Faces that are drawn for the model of the package."""
SEED = 20_260_601
"""Their seed; the model was trained on another."""


@dataclass(frozen=True)
class OpenStudio:
    """Open a model in the browser: edit pictures, blend, sample, see the map.

    Without RUN it opens the model that comes with the package, with drawn faces.
    """

    run_folder: Annotated[
        str | None,
        Positional,
        arg(metavar="[RUN]", help="Run folder made by `diffae train`, or a Hub id.", help_behavior_hint="(optional)"),
    ] = None
    images: TrainingImages = None
    labels: Annotated[Path | None, optional] = None
    """Labels of the images, to colour the map by: a CSV."""
    port: int = 8780
    """Port to listen on; 0 takes a free one."""
    host: str = "127.0.0.1"
    """Address to listen on. Any other than this lets other machines in, who need the token that is printed."""

    def run(self) -> int:
        """Serve until interrupted."""
        try:
            from diffae.studio.server import bound_socket, serve
        except ImportError as error:
            needed = f"{error.name}, which is not installed; pip install 'diffae[studio]'"
            raise ConfigError(f"the studio needs {needed}") from None
        bound_socket(self.host, self.port).close()  # that the port is free is known before a model is read
        with tempfile.TemporaryDirectory(prefix="diffae-studio-") as scratch:
            studio = self._studio(Path(scratch))
            serve(
                studio, self.host, self.port, lambda address: say(f"The studio is open: {address}", "Ctrl-C ends it.")
            )
        return 0

    def _studio(self, scratch: Path) -> Studio:
        from diffae.pretrained import pretrained_path
        from diffae.studio.context import open_studio
        from diffae.studio.server import is_local

        if self.labels is not None and not self.labels.is_file():
            raise DataError(f"labels {self.labels}: do not exist; name a CSV")
        if self.run_folder is None:
            run, may_save = _named(pretrained_path()), False
        else:
            run, may_save = self.run_folder, is_local(self.host) and Path(self.run_folder).is_dir()

        def images(model: DiffusionAutoencoder) -> Opened:
            if self.run_folder is None and self.images is None:
                return drawn_faces(model, scratch)
            return self._opened(model, scratch)

        return open_studio(run, images, may_save=may_save, trust_code=common.trust_code)

    def _opened(self, model: DiffusionAutoencoder, scratch: Path) -> Opened:
        """The images named, or those of the training."""
        from diffae.data.labels import LabelTable
        from diffae.studio.gallery import Opened

        pack = models.training_pack(model, self.images)
        common.warn_skipped(pack.skipped)
        labels = LabelTable.read(self.labels) if self.labels else pack.labels
        folder = Path(self.run_folder or "") / models.CACHE
        kept = self.run_folder is not None and folder.parent.is_dir()
        if labels is not None and (strangers := labels.strangers(pack.names)):
            warn(f"{len(strangers)} labels name no image, for instance {strangers[0]!r}")
        return Opened(pack, labels and labels.for_images(pack.names), folder if kept else scratch)


def drawn_faces(model: DiffusionAutoencoder, scratch: Path, count: int = DRAWN_FACES) -> Opened:
    """Drawn faces with their labels, as a data set for the model of the package."""
    import numpy as np

    from diffae.data.labels import LabelTable
    from diffae.data.pack import Pack
    from diffae.studio.gallery import Opened
    from sketchfaces import BINARY, sketch_faces

    with common.drawing_faces():
        drawn = sketch_faces(count, model.image_shape[1], SEED)
    pack = Pack.from_arrays([drawn.images], scratch / "faces", drawn.names)
    values = np.stack(list(drawn.labels.values()), axis=1)
    kinds = {name: "binary" if name in BINARY else "number" for name in drawn.labels}
    return Opened(pack, LabelTable(tuple(drawn.names), tuple(drawn.labels), values, kinds), scratch)


def _named(folder: Path) -> str:
    """A folder relative to the current one, if it lies within."""
    here = Path.cwd()
    return str(folder.relative_to(here) if folder.is_relative_to(here) else folder)
