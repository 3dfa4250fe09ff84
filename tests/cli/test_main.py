"""The command `femae`: subcommands, help, versions, exit status."""

import subprocess
import sys

import pytest

from femae import __version__
from femae.cli import main
from femae.engine.load import load_engine
from femae.inference.predictor import shipped_model


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    for command in ("predict", "demo", "models", "data"):
        assert f"  {command} " in said
    assert main([]) == 2  # no command: the same text, wrong usage
    assert capsys.readouterr().out == said


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    with shipped_model() as path:
        spec = load_engine(path).spec
    assert capsys.readouterr().out == f"femae {__version__}, with the model {spec.name} {spec.version}\n"


def test_an_unknown_command_lists_those_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["xyzzy"]) == 2
    said = capsys.readouterr().err
    assert "there is no command 'xyzzy'; the commands are predict, demo" in said
    for command in ("train", "evaluate", "export", "abaw", "report", "app", "webcam", "models", "data"):
        assert command in said.partition("the commands are")[2]


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = f"{sys.executable} -m femae predict --help | head -c 20"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("usage: femae predict")
    assert "Traceback" not in done.stderr and "BrokenPipe" not in done.stderr


@pytest.mark.parametrize("module", ["femae", "femae.cli"])
def test_the_package_imports_little(module: str) -> None:
    code = (
        f"import sys, {module}; print([m for m in ('torch', 'av', 'onnxruntime', 'scipy', 'tyro') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names_exist_and_are_sorted() -> None:
    import femae

    assert sorted(femae.__all__) == femae.__all__
    for name in femae.__all__:
        assert getattr(femae, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        femae.nothing  # noqa: B018


def test_python_m_femae_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "femae", "--version"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.startswith(f"femae {__version__}, with the model femae-open-vit ")
    wrong = subprocess.run([sys.executable, "-m", "femae", "predikt"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2 and "did you mean 'predict'" in wrong.stderr
