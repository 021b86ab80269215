"""The numbers of the paper: its Tables 1 to 10 and those of its appendices, as printed.

Source: Preechakul et al., "Diffusion Autoencoders: Toward a Meaningful and Decodable Representation", CVPR 2022
(arXiv 2111.15640).
"""

from __future__ import annotations

from diffae.evaluation.results import Table

_NOTE = "The paper's numbers, of other images, networks and training: context, not a measure for the numbers above."

CLAIMED = {
    1: "LPIPS 0.073 with x_T random, 0.011 with x_T encoded (Table 2); Fig. 3",
    2: "path length 613.73, DDIM 2634.14",
    3: "MSE 6.07e-5, DDIM 0.002, at T = 100; SSIM 0.927 at T = 20, DDIM 0.917 at T = 100",
    4: "weighted AUROC 0.925, StyleGAN-W 0.891",
    5: "Fig. 6; FID at equal T lower than DDIM's in 15 of 16 cells of Table 4",
    6: "identity kept: Male 0.62, Smiling 0.82 (StyleGAN-W 0.42, 0.79)",
    7: "by looking (Fig. 9)",
    8: "by looking (Appendix K)",
    9: "95.51 % of samples, 99.50 % of edited images",
    10: "not claimed; so in 2 of 8 cells of Table 4",
    11: "FID below naive in 6 of 8 cells of Table 3, below D2C in 8 of 8",
    12: "MSE 0.020, 0.013, 0.011, 0.010 for 64, 128, 256, 512 at T = 100 (Table 2)",
    13: "MSE below all but NVAE's in Table 1",
    14: "20 % at 64 pixels, 18 % at 128 (Table 7)",
    15: "by looking (Figs. 11, 12)",
    16: "95.51 % at T = 100, 93.13 % at T = 500 for samples; 99.50 %, 92.13 % for edits",
}
"""The paper's evidence for its claims, by the numbers that tasks give them."""


def _table(number: str, caption: str, printed: str) -> Table:
    """A table from its printed form: a line for the header and for each row, cells separated by bars."""
    header, *rows = (tuple(cell.strip() for cell in line.split("|")) for line in printed.strip().splitlines())
    place = f"Table {number}" if number.isdigit() else f"Appendix {number}"
    return Table(f"paper-{number}", f"In the paper, {place}: {caption}", header, tuple(rows), _NOTE)


_TABLES = (
    _table(
        "1",
        "reconstruction of CelebA-HQ by models trained on FFHQ, 128 x 128",
        """
        model                               | latent values | SSIM  | LPIPS | MSE
        StyleGAN2 (W)                       | 512           | 0.677 | 0.168 | 0.016
        StyleGAN2 (W+)                      | 7,168         | 0.827 | 0.114 | 0.006
        VQ-GAN                              | 65,536        | 0.782 | 0.109 | 3.61e-3
        VQ-VAE2                             | 327,680       | 0.947 | 0.012 | 4.87e-4
        NVAE                                | 6,005,760     | 0.984 | 0.001 | 4.85e-5
        DDIM, T = 100                       | 49,152        | 0.917 | 0.063 | 0.002
        Diff-AE, T = 100, z_sem alone       | 512           | 0.677 | 0.073 | 0.007
        Diff-AE, T = 100                    | 49,664        | 0.991 | 0.011 | 6.07e-5
        """,
    ),
    _table(
        "2",
        "reconstruction at T = 10, 20, 50 and 100; a to e with x_T random, b to e after 48M images",
        """
        model | SSIM 10 | 20 | 50 | 100 | LPIPS 10 | 20 | 50 | 100 | MSE 10 | 20 | 50 | 100
        DDIM, 130M images    | 0.600 | 0.760 | 0.878 | 0.917 | 0.227 | 0.148 | 0.087 | 0.063 | 0.019 | 0.008 | 0.003 | 0.002
        Diff-AE, 130M images | 0.827 | 0.927 | 0.978 | 0.991 | 0.078 | 0.050 | 0.023 | 0.011 | 0.001 | 0.001 | 0.000 | 0.000
        a) z_sem alone       | 0.707 | 0.695 | 0.683 | 0.677 | 0.085 | 0.078 | 0.074 | 0.073 | 0.006 | 0.007 | 0.007 | 0.007
        b) z_sem of 512      | 0.662 | 0.650 | 0.637 | 0.631 | 0.102 | 0.096 | 0.093 | 0.092 | 0.009 | 0.009 | 0.009 | 0.010
        c) z_sem of 256      | 0.637 | 0.624 | 0.612 | 0.606 | 0.116 | 0.109 | 0.106 | 0.105 | 0.010 | 0.011 | 0.011 | 0.011
        d) z_sem of 128      | 0.613 | 0.600 | 0.588 | 0.582 | 0.133 | 0.127 | 0.125 | 0.124 | 0.012 | 0.012 | 0.013 | 0.013
        e) z_sem of 64       | 0.551 | 0.538 | 0.527 | 0.521 | 0.168 | 0.165 | 0.163 | 0.162 | 0.018 | 0.019 | 0.020 | 0.020
        """,  # noqa: E501
    ),
    _table(
        "3",
        "FID of few-shot conditional samples of CelebA 64 (5,000 samples; mean and standard deviation, n = 3)",
        """
        scenario            | class     | Diff-AE      | D2C   | naive
        binary              | Male      | 11.52 ± 1.19 | 13.44 | 23.83
        binary              | Female    | 7.29 ± 0.44  | 9.51  | 13.64
        binary              | Blond     | 16.10 ± 2.00 | 17.61 | 25.62
        binary              | Non-Blond | 8.48 ± 0.52  | 8.94  | 0.96
        positive-unlabelled | Male      | 9.54 ± 0.54  | 16.39 | 23.83
        positive-unlabelled | Female    | 9.21 ± 0.19  | 12.21 | 13.64
        positive-unlabelled | Blond     | 7.01 ± 0.25  | 10.09 | 25.62
        positive-unlabelled | Non-Blond | 7.91 ± 0.15  | 9.09  | 0.96
        """,
    ),
    _table(
        "4",
        "FID of unconditional samples (50,000 samples); + autoencoding: z_sem of real images",
        """
        data        | model          | T = 10 | T = 20 | T = 50 | T = 100
        FFHQ 128    | DDIM           | 29.56  | 21.45  | 15.08  | 12.03
        FFHQ 128    | Diff-AE        | 20.80  | 16.70  | 12.57  | 10.59
        FFHQ 128    | + autoencoding | 14.43  | 10.70  | 6.69   | 4.56
        Horse 128   | DDIM           | 22.17  | 12.92  | 7.92   | 5.97
        Horse 128   | Diff-AE        | 11.97  | 9.37   | 7.44   | 6.71
        Horse 128   | + autoencoding | 9.27   | 6.23   | 3.87   | 2.92
        Bedroom 128 | DDIM           | 13.70  | 9.23   | 7.14   | 5.94
        Bedroom 128 | Diff-AE        | 10.69  | 8.19   | 6.50   | 5.70
        Bedroom 128 | + autoencoding | 6.36   | 4.88   | 3.61   | 2.88
        CelebA 64   | DDIM           | 16.38  | 12.70  | 8.52   | 5.83
        CelebA 64   | Diff-AE        | 12.92  | 10.18  | 7.05   | 5.30
        CelebA 64   | + autoencoding | 12.78  | 9.06   | 5.15   | 3.11
        """,
    ),
    _table(
        "5",
        "architecture and training of the autoencoders (linear beta; Adam without weight decay; MSE of the noise)",
        """
        parameter             | CelebA 64 | FFHQ 64   | FFHQ 128    | Horse 128   | Bedroom 128 | FFHQ 256
        batch size            | 128       | 128       | 128         | 128         | 128         | 64
        base channels         | 64        | 64        | 128         | 128         | 128         | 128
        channel multipliers   | 1,2,4,8   | 1,2,4,8   | 1,1,2,3,4   | 1,1,2,3,4   | 1,1,2,3,4   | 1,1,2,2,4,4
        attention resolution  | 16        | 16        | 16          | 16          | 16          | 16
        images trained        | 72M       | 48M       | 130M        | 130M        | 120M        | 90M
        encoder base channels | 64        | 64        | 128         | 128         | 128         | 128
        encoder attention     | 16        | 16        | 16          | 16          | 16          | 16
        encoder multipliers   | 1,2,4,8,8 | 1,2,4,8,8 | 1,1,2,3,4,4 | 1,1,2,3,4,4 | 1,1,2,3,4,4 | 1,1,2,2,4,4,4
        size of z_sem         | 512       | 512       | 512         | 512         | 512         | 512
        learning rate         | 1e-4      | 1e-4      | 1e-4        | 1e-4        | 1e-4        | 1e-4
        training T            | 1000      | 1000      | 1000        | 1000        | 1000        | 1000
        """,
    ),
    _table(
        "6",
        "architecture and training of the latent DDIMs (L1 of the noise)",
        """
        parameter       | CelebA | FFHQ  | Horse | Bedroom
        batch size      | 512    | 256   | 2048  | 2048
        z_sem trained   | 300M   | 100M  | 2000M | 2000M
        MLP layers      | 10     | 10    | 20    | 20
        MLP hidden size | 2048   | 2048  | 2048  | 2048
        size of z_sem   | 512    | 512   | 512   | 512
        constant beta   | 0.008  | 0.008 | 0.008 | 0.008
        learning rate   | 1e-4   | 1e-4  | 1e-4  | 1e-4
        weight decay    | 0.01   | 0.01  | 0     | 0
        training T      | 1000   | 1000  | 1000  | 1000
        """,
    ),
    _table(
        "7",
        "training images per second on one V100",
        """
        data        | DDIM | Diff-AE
        FFHQ 64     | 160  | 128
        FFHQ 128    | 51   | 41.65
        FFHQ 256    | -    | 10.08
        Horse 128   | 51   | 41.65
        Bedroom 128 | 51   | 41.65
        """,
    ),
    _table(
        "8",
        "AUROC of linear probes for CelebA-HQ's attributes",
        """
        attribute           | positives | z_sem | StyleGAN-W
        5_o_Clock_Shadow    | 1318      | 0.96  | 0.94
        Arched_Eyebrows     | 3262      | 0.88  | 0.86
        Attractive          | 5183      | 0.90  | 0.86
        Bags_Under_Eyes     | 2564      | 0.89  | 0.85
        Bald                | 229       | 0.99  | 0.99
        Bangs               | 1601      | 0.98  | 0.95
        Big_Lips            | 3247      | 0.73  | 0.68
        Big_Nose            | 2813      | 0.88  | 0.85
        Black_Hair          | 1989      | 0.96  | 0.93
        Blond_Hair          | 1546      | 0.99  | 0.97
        Blurry              | 34        | 0.90  | 0.82
        Brown_Hair          | 2087      | 0.89  | 0.81
        Bushy_Eyebrows      | 1682      | 0.93  | 0.85
        Chubby              | 622       | 0.95  | 0.93
        Double_Chin         | 530       | 0.95  | 0.94
        Eyeglasses          | 416       | 1.00  | 0.98
        Goatee              | 688       | 0.98  | 0.96
        Gray_Hair           | 395       | 0.98  | 0.97
        Heavy_Makeup        | 4143      | 0.97  | 0.95
        High_Cheekbones     | 4160      | 0.95  | 0.91
        Male                | 3273      | 1.00  | 1.00
        Mouth_Slightly_Open | 4195      | 0.98  | 0.94
        Mustache            | 502       | 0.97  | 0.94
        Narrow_Eyes         | 998       | 0.86  | 0.77
        No_Beard            | 7335      | 0.99  | 0.97
        Oval_Face           | 1872      | 0.77  | 0.71
        Pale_Skin           | 434       | 0.96  | 0.94
        Pointy_Nose         | 2855      | 0.74  | 0.70
        Receding_Hairline   | 777       | 0.94  | 0.89
        Rosy_Cheeks         | 1003      | 0.96  | 0.92
        Sideburns           | 747       | 0.99  | 0.97
        Smiling             | 4175      | 0.99  | 0.96
        Straight_Hair       | 1975      | 0.84  | 0.77
        Wavy_Hair           | 3197      | 0.90  | 0.87
        Wearing_Earrings    | 2310      | 0.92  | 0.86
        Wearing_Hat         | 325       | 0.99  | 0.96
        Wearing_Lipstick    | 5064      | 0.98  | 0.97
        Wearing_Necklace    | 1501      | 0.79  | 0.75
        Wearing_Necktie     | 636       | 0.96  | 0.95
        Young               | 6978      | 0.94  | 0.91
        weighted average    |           | 0.92  | 0.89
        macro average       |           | 0.93  | 0.89
        """,
    ),
    _table(
        "9",
        "FID of manipulated images of CelebA-HQ",
        """
        sets                     | model      | Male  | Smiling | Wavy Hair | Young | Blond Hair
        positive, negative       |            | 95.82 | 11.15   | 25.04     | 36.75 | 39.65
        manipulated and positive | Diff-AE    | 52.85 | 9.19    | 20.80     | 20.68 | 33.51
        manipulated and positive | StyleGAN-W | 42.90 | 18.52   | 27.10     | 31.15 | 33.89
        manipulated and negative | Diff-AE    | 23.15 | 7.25    | 4.89      | 11.81 | 6.79
        manipulated and negative | StyleGAN-W | 66.92 | 22.15   | 20.70     | 31.15 | 27.54
        """,
    ),
    _table(
        "10",
        "identity kept by manipulation (cosine of ArcFace embeddings)",
        """
        model      | Male   | Smiling | Wavy Hair | Young
        StyleGAN-W | 0.4174 | 0.7850  | 0.8544    | 0.6955
        Diff-AE    | 0.6247 | 0.8160  | 0.9821    | 0.8922
        """,
    ),
    _table(
        "A.1",
        "FID of latent DDIMs on LSUN Horse 128",
        """
        latent DDIM                           | FID
        linear beta, 10 layers, size 2048     | 13.36
        constant beta 0.008, the same         | 10.50
        L1 loss, the same with linear beta    | 11.65
        constant 0.008 and L1, 10 layers      | 10.16
        constant 0.008 and L1, size 3072      | 9.57
        constant 0.008 and L1, size 4096      | 9.43
        constant 0.008 and L1, 15 layers      | 9.58
        constant 0.008 and L1, 20 layers      | 9.30
        """,
    ),
    _table(
        "F",
        "perceptual path length",
        """
        model   | PPL
        DDIM    | 2,634.14
        Diff-AE | 613.73
        """,
    ),
    _table(
        "L",
        "accuracy of a classifier of real and generated images",
        """
        images                 | T = 100 | T = 200 | T = 500
        unconditional samples  | 0.9551  | 0.9483  | 0.9313
        manipulated images     | 0.9950  | 0.9643  | 0.9213
        """,
    ),
    _table(
        "A to L",
        "settings",
        """
        place | setting                                                          | value
        A.2   | target class probability below which a sample is rejected        | 0.5
        B     | V100s for an autoencoder                                         | 4
        B     | RTX 2080 Ti for a latent DDIM                                    | 1
        B     | slowdown of training by the encoder                              | 20 %
        E     | images of CelebA-HQ                                              | 30,000
        E     | of these for testing                                             | 30 %
        E     | learning rate of linear probes (Adam)                            | 1e-3
        F     | step of the path length                                          | 1e-4
        F     | pairs of images                                                  | 200
        I     | labelled images of few-shot samples                              | 100
        I     | unlabelled images of few-shot samples                            | 10,000
        L     | real, and as many generated images of the detector               | 10,000
        L     | of these for training                                            | 0.7
        L     | of these for testing                                             | 0.2
        L     | of these for validation                                          | 0.1
        L     | learning rate of the detector (SGD)                              | 0.001
        L     | momentum                                                         | 0.9
        L     | batch size                                                       | 64
        """,
    ),
)

PAPER: dict[str, Table] = {table.name.removeprefix("paper-"): table for table in _TABLES}
"""The tables by number, those of the appendices by letter."""

_BY_TASK = {
    "reconstruction": ("1", "2"), "capacity": ("2",), "conditional": ("3",), "generation": ("4",),
    "attributes": ("8",), "manipulation": ("9", "10"), "interpolation": ("F",), "detection": ("L",),
    "throughput": ("7",),
}  # fmt: skip


def tables_of(task: str) -> tuple[Table, ...]:
    """The paper's tables on the question of a task, given by its name."""
    return tuple(PAPER[number] for number in _BY_TASK.get(task, ()))
