"""The paper's own numbers, to stand beside ours: other data, larger networks, hundreds of times the training.

All from Preechakul et al., "Diffusion Autoencoders: Toward a Meaningful and Decodable Representation", CVPR 2022
(arXiv 2111.15640); each table names its place there.
"""

from __future__ import annotations

from diffae.evaluation.results import Table

_NOTE = "The paper's numbers (CVPR 2022): other images, networks and training, so not a measure for the numbers above."


def _table(name: str, title: str, header: tuple[str, ...], *rows: tuple[str, ...]) -> Table:
    return Table(f"paper-{name}", f"In the paper: {title}", header, rows, _NOTE)


CLAIMED = {
    1: "LPIPS 0.073 with x_T random, 0.011 with x_T encoded (Table 2); Fig. 3",
    2: "path length 613.73, DDIM 2634.14",
    3: "MSE 6.07e-5, DDIM 0.002, at T = 100; SSIM 0.927 at T = 20, DDIM 0.917 at T = 100",
    4: "weighted AUROC 0.925, StyleGAN-W 0.891",
    5: "Fig. 6; FID on FFHQ at T = 100: 10.59, DDIM 12.03",
    6: "identity kept: Male 0.62, Smiling 0.82 (StyleGAN-W 0.42, 0.79)",
    7: "by looking (Fig. 9)",
    8: "by looking (Appendix K)",
    9: "95.51 % of samples, 99.50 % of edited images",
}
"""What the paper has to say for each of its claims."""

PAPER: dict[str, Table] = {
    "reconstruction": _table(
        "1", "Tables 1 and 2, trained on FFHQ, tested on CelebA-HQ, 128 x 128",
        ("model", "numbers", "SSIM", "LPIPS", "MSE"),
        ("StyleGAN2 (W inversion)", "512", "0.677", "0.168", "0.016"),
        ("DDIM, T = 100", "49,152", "0.917", "0.063", "0.002"),
        ("Diff-AE, T = 20", "49,664", "0.927", "0.050", ""),
        ("Diff-AE, T = 100", "49,664", "0.991", "0.011", "6.07e-5"),
        ("Diff-AE, z_sem alone, x_T random", "512", "", "0.073", ""),
        ("NVAE", "6,005,760", "0.984", "0.001", "4.85e-5"),
    ),
    "conditional": _table(
        "3", "Table 3, FID of few-shot conditional samples of CelebA 64, mean and deviation",
        ("scenario", "class", "Diff-AE", "D2C"),
        ("binary", "Male", "11.52 ± 1.19", "13.44"),
        ("binary", "Female", "7.29 ± 0.44", "9.51"),
        ("positive-unlabelled", "Male", "9.54 ± 0.54", "16.39"),
        ("positive-unlabelled", "Female", "9.21 ± 0.19", "12.21"),
    ),
    "generation": _table(
        "4", "Table 4, FID at T = 100 and 64 x 64 to 128 x 128",
        ("data", "DDIM", "Diff-AE"),
        ("FFHQ", "12.03", "10.59"),
        ("Horse", "5.97", "6.71"),
        ("Bedroom", "5.94", "5.70"),
    ),
    "attributes": _table(
        "8", "linear classification of CelebA-HQ's 40 attributes",
        ("code", "weighted AUROC"),
        ("Diff-AE, z_sem", "0.925"),
        ("StyleGAN-W", "0.891"),
    ),
    "manipulation": _table(
        "10", "Table 10, identity kept by an edit (cosine of ArcFace embeddings)",
        ("attribute", "Diff-AE", "StyleGAN-W"),
        ("Male", "0.6247", "0.4174"),
        ("Smiling", "0.8160", "0.7850"),
        ("Wavy Hair", "0.9821", "0.8544"),
        ("Young", "0.8922", "0.6955"),
    ),
    "interpolation": _table(
        "ppl", "perceptual path length, LPIPS", ("model", "PPL"), ("DDIM", "2634.14"), ("Diff-AE", "613.73")
    ),
    "detection": _table(
        "L", "Appendix L, accuracy of a classifier of real and generated images",
        ("images", "accuracy"),
        ("unconditional samples", "95.51 %"),
        ("edited images", "99.50 %"),
    ),
}  # fmt: skip
