"""Feature networks: both kinds of files, their inputs, what is refused, and the real networks where available."""

from __future__ import annotations

import hashlib
import shutil
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx_files import OPERATORS, onnx
from torch import Tensor, nn

from diffae.errors import DataError
from diffae.evaluation import features, known_features
from diffae.evaluation.features import FeatureNetwork


class Means(nn.Module):
    """Mean of each channel, and the image itself as the feature map."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.mean(dim=(2, 3)), x


def scripted(module: nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, but people hold such files
        torch.jit.save(torch.jit.script(module), str(path))
    return path


@pytest.fixture
def means(tmp_path: Path) -> Path:
    return scripted(Means(), tmp_path / "means.pt")


@pytest.mark.parametrize("shape", [("n", 3, "h", "w"), (1, 3, "h", "w"), ("n", 3, 4, 4)])
def test_an_onnx_file_may_fix_any_of_its_sizes(tmp_path: Path, shape: tuple[int | str, ...]) -> None:
    pytest.importorskip("onnxruntime")
    network = FeatureNetwork.open(onnx(tmp_path / "means.onnx", shape, OPERATORS))
    x = images().mean(dim=(2, 3), keepdim=True).expand(3, 3, 8, 8)  # uniform colours, which resizing does not change
    np.testing.assert_allclose(network.vectors(x), (x[..., 0, 0] + 1) / 2, atol=1e-5)
    assert network.distance(x, x) == pytest.approx(0, abs=1e-9)
    assert (network.distance(x, x.flip(1)) > 0).all()


@pytest.mark.parametrize(
    ("shape", "element", "complaint"),
    [
        (("n", 10), 1, r"takes image \['n', 10\] tensor\(float\): it must take one float32 batch"),
        (("n", 4, "h", "w"), 1, "it must take one float32 batch"),
        (("n", 3, "h", "w"), 11, r"tensor\(double\): it must take one float32 batch"),
        ((5, 3, "h", "w"), 1, "takes batches of 5 images only"),
    ],
)
def test_an_onnx_file_with_other_inputs_is_refused(
    tmp_path: Path, shape: tuple[int | str, ...], element: int, complaint: str
) -> None:
    pytest.importorskip("onnxruntime")
    with pytest.raises(DataError, match=complaint):
        FeatureNetwork.open(onnx(tmp_path / "bad.onnx", shape, {"same": ("Relu", "image")}, element))


def test_an_onnx_network_that_fails_on_the_images_says_so(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    network = FeatureNetwork.open(onnx(tmp_path / "narrow.onnx", ("n", 3, "h", 4), OPERATORS))
    with pytest.raises(DataError, match=r"narrow\.onnx fails on images \(3, 3, 8, 8\) \(.*Expected: 4") as error:
        network.vectors(images())
    assert "\n" not in str(error.value)


def images(count: int = 3, channels: int = 3, size: int = 8) -> Tensor:
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize(
    ("range_", "expected"),
    [
        ("", lambda x: (x + 1) / 2),
        ("@unit", lambda x: (x + 1) / 2),
        ("@symmetric", lambda x: x),
        (
            "@imagenet",
            lambda x: ((x + 1) / 2 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225]),
        ),
    ],
)
def test_images_reach_a_network_in_its_range(means: Path, range_: str, expected) -> None:
    x = images()
    found = FeatureNetwork.open(f"{means}{range_}").vectors(x)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected(x.mean(dim=(2, 3))).numpy(), atol=1e-5)


def test_grey_becomes_rgb_and_long_batches_are_split(means: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "BATCH", 2)
    x = images(5, 1)
    found = FeatureNetwork.open(means).vectors(x)
    np.testing.assert_allclose(found, ((x.mean(dim=(2, 3)) + 1) / 2).expand(-1, 3).numpy(), atol=1e-6)


def test_distance_compares_directions_of_features(means: Path) -> None:
    """The feature map is the image in [0, 1]: lengths do not matter, orthogonal colours are at a distance of 2."""
    red, dark_red, green = (torch.tensor(c).view(1, 3, 1, 1).expand(1, 3, 8, 8) for c in
                            ([1.0, -1.0, -1.0], [0.0, -1.0, -1.0], [-1.0, 1.0, -1.0]))  # fmt: skip
    network = FeatureNetwork.open(means)
    np.testing.assert_allclose(network.distance(torch.cat([red, red]), torch.cat([dark_red, green])), [0, 2], atol=1e-6)
    assert network.similarity(red, dark_red)[0] == pytest.approx(1)
    assert network.similarity(red, green)[0] == pytest.approx(0)


def test_numbers_carry_the_name_of_the_network(means: Path) -> None:
    network = FeatureNetwork.open(means)
    assert (network.frechet_name, network.kernel_name, network.distance_name) == (
        "FD-means", "KD-means", "means distance",
    )  # fmt: skip
    inception = FeatureNetwork("Inception", None, standard=True)
    assert (inception.frechet_name, inception.kernel_name) == ("FID", "KID")
    assert FeatureNetwork("LPIPS-Alex", None, lambda a, b: a, standard=True).distance_name == "LPIPS-Alex"


def test_a_file_named_like_a_standard_network_is_not_one(means: Path) -> None:
    for stem, frechet in (("Inception", "FD-file Inception"), ("LPIPS-Alex", "FD-file LPIPS-Alex")):
        path = shutil.copy(means, means.with_stem(stem))
        network = FeatureNetwork.open(path)
        assert network.frechet_name == frechet
        assert network.distance_name.endswith(" distance")


def test_gives_reports_what_a_network_returns(means: Path, tmp_path: Path) -> None:
    class Gray(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            assert x.shape[1] == 1
            return x

    class Nested(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
            return x, (x, x)

    assert FeatureNetwork.open(means).gives(8) == {"vectors", "distance"}
    assert FeatureNetwork("LPIPS-Alex", None, lambda a, b: a).gives(8) == {"distance"}
    for network, rule in ((Gray(), "must take"), (Nested(), "not tensors")):
        with pytest.raises(DataError, match=rule) as error:
            FeatureNetwork.open(scripted(network, tmp_path / "net.ts")).gives(8)
        assert "\n" not in str(error.value)


def test_any_function_of_images_is_a_feature_network() -> None:
    mine = FeatureNetwork("mine", lambda x: x.mean(dim=(2, 3)), key="1")
    x = images()
    np.testing.assert_allclose(mine.vectors(x), x.mean(dim=(2, 3)), atol=1e-6)
    assert mine.gives(8) == {"vectors"}
    assert mine.frechet_name == "FD-mine"
    both = FeatureNetwork("both", lambda x: x.flatten(1), lambda a, b: (a - b).abs().mean((1, 2, 3)))
    assert both.gives(8) == {"vectors", "distance"}
    np.testing.assert_allclose(both.distance(x, x + 0.5), [0.5] * 3, atol=1e-6)


@pytest.mark.parametrize("name", ["lpips-alex", "inception"])
def test_known_networks_are_those_of_torchmetrics(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What they are fed and return, with stand-ins for the networks: these need packages that are not installed."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(known_features, "check_hash", lambda path: None)
    fed: list[Tensor] = []

    class Net(nn.Module):
        def __init__(self, *_: object, **__: object) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, *inputs: Tensor) -> Tensor:
            fed.extend(inputs)
            return self.weight * inputs[0].float().flatten(1).mean(dim=1, keepdim=True)

    if name == "inception":
        monkeypatch.setattr("torchmetrics.image.fid.NoTrainInceptionV3", Net)
        x = torch.tensor([-1.0, 0.0, 2.0]).view(3, 1, 1, 1).expand(3, 1, 4, 4)  # grey, one outside the range
        assert FeatureNetwork.open(name).vectors(x).shape == (3, 1)
        assert fed[0].dtype == torch.uint8
        assert fed[0].shape == (3, 3, 4, 4)
        assert fed[0][:, 0, 0, 0].tolist() == [0, 128, 255]
    else:
        monkeypatch.setattr("torchmetrics.image.lpip._TORCHVISION_AVAILABLE", True)
        monkeypatch.setattr("torchmetrics.image.lpip._NoTrainLpips", Net)
        found = FeatureNetwork.open(name).distance(images(2) * 3, images(2))
        assert found.shape == (2,)
        assert fed[0].abs().max() == 1


def test_a_network_that_lacks_an_output_says_so(tmp_path: Path) -> None:
    class Vector(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean(dim=(2, 3))

    network = FeatureNetwork.open(scripted(Vector(), tmp_path / "vector.ts"))
    with pytest.raises(DataError, match="no feature maps"):
        network.distance(images(), images())
    with pytest.raises(DataError, match="must be the same"):
        network.distance(images(2), images(3))
    with pytest.raises(DataError, match="no feature vector"):
        FeatureNetwork("LPIPS-Alex", None, lambda a, b: a).vectors(images())
    with pytest.raises(DataError, match="gray or RGB"):
        network.vectors(images(channels=5))


@pytest.mark.parametrize("name", ["nothing.onnx", "inceptoin", "net.pt@rgb"])
def test_a_file_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(DataError, match=r"must be an ONNX or TorchScript file .* or one of inception") as error:
        FeatureNetwork.open(name)
    assert name in str(error.value)


@pytest.mark.parametrize("suffix", [".onnx", ".pt"])
def test_a_damaged_file_is_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(b"not a network")
    with pytest.raises(DataError, match=f"bad{suffix}") as error:
        FeatureNetwork.open(path)
    assert "\n" not in str(error.value)


def test_a_torchscript_network_with_other_inputs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must take"):
        FeatureNetwork.open(scripted(nn.Linear(4, 2), tmp_path / "linear.pt")).vectors(images())


@pytest.mark.parametrize("name", known_features.KNOWN)
def test_a_known_network_that_is_not_available_says_what_it_needs(name: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    package = {"inception": "torch_fidelity", "arcface": "none"}.get(name, "torchvision")
    if name != "arcface" and find_spec(package):
        pytest.skip(f"{package} is here: its weights would be fetched")
    with pytest.raises(DataError, match=name) as error:
        FeatureNetwork.open(name)
    assert "\n" not in str(error.value)


def test_weights_are_checked_by_the_hash_in_their_name(tmp_path: Path) -> None:
    digest = hashlib.sha256(b"weights").hexdigest()
    good = tmp_path / f"net-{digest[:8]}.pth"
    good.write_bytes(b"weights")
    known_features.check_hash(good)
    bad = tmp_path / "net-00000000.pth"
    bad.write_bytes(b"weights")
    with pytest.raises(DataError, match="SHA-256"):
        known_features.check_hash(bad)
    with pytest.raises(DataError, match="cannot be read"):
        known_features.check_hash(tmp_path / "absent-00000000.pth")


def test_another_file_in_the_place_of_arcface_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / known_features.ARCFACE_FILE
    path.parent.mkdir(parents=True)
    path.write_bytes(b"something else")
    with pytest.raises(DataError, match="SHA-256"):
        FeatureNetwork.open("arcface")


def test_the_shared_networks_separate_near_from_far(shared: Path) -> None:
    folder = shared / "nets"
    if not folder.is_dir():
        pytest.skip("the shared folder holds no nets/")
    squeezenet = FeatureNetwork.open(folder / "squeezenet11.onnx")
    x = images(3, size=32)
    assert squeezenet.frechet_name == "FD-SqueezeNet"
    assert squeezenet.vectors(x).shape == (3, 512)
    assert squeezenet.distance(x, x) == pytest.approx(0, abs=1e-9)
    near, far = squeezenet.distance(x, x + 0.01), squeezenet.distance(x, -x)
    assert (far > 5 * near).all()
    faces = FeatureNetwork.open(folder / "mobilefacenet.onnx")
    assert faces.name == "MobileFaceNet"
    assert faces.vectors(x).shape == (3, 128)
    assert faces.similarity(x, x) == pytest.approx(1, abs=1e-5)


def test_an_onnx_network_is_fed_images_in_its_range(shared: Path) -> None:
    """Against the network itself, prepared by hand as its README says."""
    onnxruntime = pytest.importorskip("onnxruntime")
    path = shared / "nets" / "mobilefacenet.onnx"
    if not path.is_file():
        pytest.skip("the shared folder holds no nets/mobilefacenet.onnx")
    x = images(2, size=112)
    mean, std = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
    prepared = ((x.numpy() + 1) / 2 - mean) / std
    [expected] = onnxruntime.InferenceSession(str(path)).run(None, {"input0": prepared.astype(np.float32)})
    np.testing.assert_allclose(FeatureNetwork.open(path).vectors(x), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "key", "standard", "expected"),
    [
        ("LPIPS-VGG", "lpips-vgg", True, "PPL-VGG"),
        ("LPIPS-Alex", "lpips-alex", True, "path length, LPIPS-Alex"),
        ("SqueezeNet", "f0a2 unit", False, "path length, SqueezeNet distance"),
        ("lpips-vgg", "lpips-vgg", False, "path length, lpips-vgg distance"),
    ],
)
def test_a_path_length_is_called_ppl_by_vgg16_alone(name: str, key: str, standard: bool, expected: str) -> None:
    assert FeatureNetwork(name, None, key=key, standard=standard).path_length_name == expected
