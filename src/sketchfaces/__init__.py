"""Faces drawn by a program, with exact labels.

Face i of seed s is a pure function of (s, i): it does not depend on how many are drawn, or how large. The labels in
`LABELS` are the parameters of the drawing. Fine detail without a label (strands of hair, freckles, texture, the pattern
of the background) is random, which shows how a diffusion autoencoder splits an image between z_sem and x_T; so are
shapes and colours of middle size (hair style, kind of hat, frames, shirt).

    faces = sketch_faces(1000, size=64)                    # faces.images, faces.labels["smiling"], faces.names
    write_sketch_faces("faces", 20000, size=32)            # PNG files and labels.csv
    draw_face(Face(smiling=True, age=70, head_turn=0.5))   # one face of your own
"""

from sketchfaces.faces import (
    BINARY,
    CONTINUOUS,
    LABELS,
    SketchFaces,
    draw_chunks,
    draw_face,
    random_face,
    sketch_faces,
    write_sketch_faces,
)
from sketchfaces.scene import Face

__all__ = [
    "BINARY", "CONTINUOUS", "LABELS", "Face", "SketchFaces", "draw_chunks", "draw_face", "random_face", "sketch_faces",
    "write_sketch_faces",
]  # fmt: skip
