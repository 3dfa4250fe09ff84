"""`femae models`: the metadata of model files, and the card of the shipped one."""

from importlib import resources
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from femae.config.predict import ModelsConfig
from femae.engine.load import is_hub_address, load_engine
from femae.inference.predictor import shipped_model
from femae.shipped import shipped

__all__ = ["print_models"]


def print_models(config: ModelsConfig) -> int:
    """Print one block per model. Raises ModelError for a file that is not a femae model."""
    console = Console()
    if config.card:
        console.print(Text((resources.files("femae") / "weights" / "MODEL_CARD.md").read_text(encoding="utf-8")))
        return 0
    with shipped_model() as shipped:
        for path in config.files or (shipped,):
            spec = load_engine(path).spec
            table = Table.grid(padding=(0, 2))
            rows = {
                "model": f"{spec.name} {spec.version}",
                "file": _file(path, precision=spec.precision),
                "input": f"{spec.image_size} x {spec.image_size} {spec.color}, mean {spec.mean}, std {spec.std}",
                "outputs": ", ".join(spec.emotions + spec.au_names),
                "thresholds": ", ".join(f"{value:g}" for value in spec.thresholds),
                "trained on": spec.description,
                "terms": spec.terms,
            }
            for key, value in rows.items():
                if value:
                    table.add_row(Text(key, style="bold"), Text(value))
            console.print(table)
    return 0


def _file(path: Path, *, precision: str) -> str:
    """Path, size and precision of a model; the size includes weights in a separate file."""
    if is_hub_address(path):
        return f"{path.as_posix().replace('hf:/', 'hf://', 1)} ({precision})"
    path = shipped(path, suffixes=(".onnx", ".safetensors"))
    parts = [path / "model.safetensors"] if path.is_dir() else [path]
    if path.suffix == ".xml":
        parts.append(path.with_suffix(".bin"))
    return f"{path} ({sum(part.stat().st_size for part in parts) / 1e6:.1f} MB, {precision})"
