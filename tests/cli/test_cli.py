"""The command itself: dispatch, help, wrong usage, old names, and what commands share."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import get_args

import pytest
from cli_helpers import Run, first, one_line

from diffae import __version__
from diffae.cli import COMMANDS, renamed
from diffae.cli.common import output_names
from diffae.cli.options import SamplingOptions
from diffae.cli.train import Preset
from diffae.config import Sampling
from diffae.errors import ConfigError
from diffae.model import DiffusionAutoencoder
from diffae.presets import presets

HEAVY = {"torch", "numpy", "accelerate", "matplotlib", "PIL", "sklearn", "rich.console", "tyro"}


def modules_after(*words: str) -> set[str]:
    """Modules that a process has imported after a command."""
    program = (
        "import sys\nfrom diffae.cli import main\n"
        f"try: main({list(words)!r})\nexcept SystemExit as stop: assert stop.code == 0\n"
        "print(*sys.modules, sep=chr(10), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "usage: diffae" in done.stdout
    return set(done.stderr.split())


def test_help_imports_no_command() -> None:
    modules = modules_after("--help")
    assert not HEAVY & modules
    commands = {name for name in modules if name.startswith("diffae.cli.")}
    assert commands == {"diffae.cli.common", "diffae.cli.renamed", "diffae.cli.terminal"}


def test_modules_of_commands_import_without_torch() -> None:
    modules = sorted({module for module, _, _ in COMMANDS.values()})
    imports = "\n".join(f"import diffae.cli.{module}" for module in modules)
    subprocess.run([sys.executable, "-c", f"{imports}\nimport sys\nassert 'torch' not in sys.modules"], check=True)


def test_help_of_train_imports_only_train() -> None:
    modules = modules_after("train", "--help")
    assert not (HEAVY - {"tyro", "rich.console"}) & modules
    others = {f"diffae.cli.{module}" for module, _, _ in COMMANDS.values()} - {"diffae.cli.train"}
    assert not others & modules


def test_help_is_fast() -> None:
    program = "import resource, subprocess, sys\n"
    program += "subprocess.run([sys.executable, '-m', 'diffae', '--help'], check=True, stdout=subprocess.DEVNULL)\n"
    program += "used = resource.getrusage(resource.RUSAGE_CHILDREN)\nprint(used.ru_utime + used.ru_stime)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 0.3


def test_summaries_are_the_first_lines_of_the_docstrings(run: Run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    for name, (module, kind, summary) in COMMANDS.items():
        assert f"  {name} " in out
        assert summary in out
        assert getattr(import_module(f"diffae.cli.{module}"), kind).__doc__.splitlines()[0] == summary


def test_groups_list_their_commands(run: Run) -> None:
    code, out, _ = run("data", "--help")
    assert code == 0
    listed = [line.split()[:2] for line in out.splitlines()[3:]]
    assert listed == [["data", name] for name in ("prepare", "info", "browse")]
    code, _, err = run("attributes")
    assert code == 2
    assert "attributes fit" in err


def test_version(run: Run) -> None:
    assert run("--version") == (0, f"diffae {__version__}\n", "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("trian",), "command 'trian' does not exist; did you mean `diffae train`?"),
        (("fit-atributes", "run"), "did you mean `diffae fit-attributes`?"),
        (("data", "prepar"), "command 'data prepar' does not exist; did you mean `diffae data prepare`?"),
        (("xyzzy",), "command 'xyzzy' does not exist; see `diffae --help`"),
        (("data", "xyzzy", "run"), "command 'data xyzzy' does not exist; see `diffae data --help`"),
        (("--steps", "3"), "command '--steps' does not exist"),
    ],
)
def test_unknown_commands(run: Run, words: tuple[str, ...], message: str) -> None:
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert message in one_line(err)
    assert err.count("\n") == 1


def test_python_m_diffae_is_the_command(run: Run) -> None:
    done = subprocess.run([sys.executable, "-m", "diffae"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "train" in done.stderr


def test_a_reader_that_has_seen_enough() -> None:
    words = [sys.executable, "-m", "diffae", "train", "--help"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait() == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""


def test_every_preset_can_be_named() -> None:
    assert get_args(Preset) == tuple(presets())


@pytest.mark.parametrize("words", [[], ["train"], ["train", "faces", "--out", "r", "--preset", "huge"]])
def test_wrong_usage_exits_with_2(run: Run, words: list[str]) -> None:
    code, _, err = run(*words)
    assert code == 2
    assert "Traceback" not in err


def test_ctrl_c_exits_with_130(run: Run, monkeypatch: pytest.MonkeyPatch, model: Path, faces: Path) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(DiffusionAutoencoder, "encode", interrupted)
    code, _, err = run("reconstruct", model, first(faces, 1)[0], "--out", "out")
    assert (code, err) == (130, "diffae: interrupted\n")


# ---------------------------------------------------------------------- names of version 0.1


@pytest.mark.parametrize(
    ("words", "expected", "warnings"),
    [
        (
            "fit-attributes R --labels l.csv",
            "attributes fit R --labels l.csv",
            ["fit-attributes` is now `attributes fit"],
        ),
        ("attributes R", "attributes show R", ["attributes RUN` is now `attributes show RUN"]),
        ("attributes show R", "attributes show R", []),
        (
            "train P --tensorboard --resume",
            "train P --track tensorboard --resume",
            ["--tensorboard` is now `--track tensorboard"],
        ),
        ("attributes fit", "attributes fit", []),
        ("attributes --help", "attributes --help", []),
        (
            "nearest R --out near --samples=9",
            "sample R --nearest near --count=9",
            ["nearest` is now `sample --nearest"],
        ),
        ("sample R --out near", "sample R --out near", []),
        ("import-official a.ckpt --out R", "import a.ckpt --out R", ["import-official` is now `import"]),
        ("export-official R --out o", "export R --out o", ["export-official` is now `export"]),
        (
            "train P --teacher n.pt --contrast=0 --orientations 0.3",
            "train P --distill-from n.pt --contrastive=0 --hog 0.3",
            ["--teacher` is now `--distill-from", "--contrast` is now `--contrastive", "--orientations` is now `--hog"],
        ),
        ("vary R a.png --grid squares", "vary R a.png --spacing squares", ["--grid` is now `--spacing"]),
        ("vary --inversion pair", "vary --inversion bdia", ["--inversion pair` is now `--inversion bdia"]),
        ("vary --inversion=pair", "vary --inversion=bdia", ["--inversion pair` is now `--inversion bdia"]),
        ("vary pair pair", "vary pair pair", []),
        ("evaluate R --foreign x", "evaluate R --out-of-distribution x", ["--foreign` is now `--out-of-distribution"]),
    ],
)
def test_old_names_become_the_present_ones(
    words: str, expected: str, warnings: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert renamed.current(words.split()) == expected.split()
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert len(lines) == len(warnings)
    for line, warning in zip(lines, warnings, strict=True):
        assert line == f"diffae: warning: `{warning}`; the old name goes in 0.3"


def test_every_old_command_leads_to_a_present_one(run: Run) -> None:
    for old, new in renamed.COMMANDS.items():
        assert new.partition(" --")[0] in COMMANDS
        code, out, err = run(old, "--help")
        assert code == 0
        assert f"usage: diffae {new.partition(' --')[0]} " in out
        assert err == f"diffae: warning: `{old}` is now `{new}`; the old name goes in 0.3\n"


# ---------------------------------------------------------------------- what commands share


def test_sampling_options_mean_sampling() -> None:
    assert SamplingOptions().sampling() == Sampling()
    assert SamplingOptions(official=True).sampling() == Sampling.official()
    assert SamplingOptions(steps=7, official=True).sampling() == Sampling.official(7)
    assert SamplingOptions(10, spacing="squares", solver="dpm++2m").sampling() == Sampling.fast(10)
    assert SamplingOptions(precision="float64").sampling().precision == "float64"
    with pytest.raises(ConfigError, match="--official sets its own"):
        SamplingOptions(official=True, inversion="explicit").sampling()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("//etc/passwd.png", "etc/passwd.png"),
        ("///x.png", "x.png"),
        ("//../x.png", "x.png"),
        ("a/..//../b.png", "a/b.png"),
        ("..", "image.png"),
        ("", "image.png"),
        (".", "image.png"),
        ("/", "image.png"),
        ("a\x00b\x1b.jpg", "a_b_.png"),
        (".hidden", ".hidden.png"),
    ],
)
def test_no_name_leaves_the_output_folder(name: str, expected: str) -> None:
    [found] = output_names([name])
    assert found.as_posix() == expected
    assert not found.is_absolute()
    folder = Path("/tmp/out")
    assert (folder / found).resolve().is_relative_to(folder)


def test_output_names_stay_below_the_folder_and_differ() -> None:
    names = ["a.png", "b/a.jpg", "b/a.webp", "../../x.png", "/etc/y.png", "a.png", "a.png-2.jpg"]
    expected = ["a.png.png", "b/a.jpg.png", "b/a.webp.png", "x.png", "etc/y.png", "a.png-6.png", "a.png-2.png"]
    assert output_names(names) == [PurePosixPath(name) for name in expected]
