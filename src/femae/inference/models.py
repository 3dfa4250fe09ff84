"""`femae models`: what a model file says of itself, and the card of the shipped one."""

from importlib import resources

from rich.console import Console
from rich.table import Table
from rich.text import Text

from femae.config.predict import ModelsConfig
from femae.engine.onnx import OnnxEngine
from femae.inference.predictor import shipped_model

__all__ = ["print_models"]


def print_models(config: ModelsConfig) -> int:
    """Print one block per model. Raises ModelError for a file that is not a femae model."""
    console = Console()
    if config.card:
        console.print(Text((resources.files("femae") / "weights" / "MODEL_CARD.md").read_text(encoding="utf-8")))
        return 0
    with shipped_model() as shipped:
        for path in config.files or (shipped,):
            spec = OnnxEngine(path).spec
            table = Table.grid(padding=(0, 2))
            rows = {
                "model": f"{spec.name} {spec.version}",
                "file": f"{path} ({path.stat().st_size / 1e6:.1f} MB)",
                "input": f"{spec.image_size} x {spec.image_size} {spec.color}, mean {spec.mean}, std {spec.std}",
                "outputs": ", ".join(spec.emotions + spec.au_names),
                "trained on": spec.description,
                "terms": spec.terms,
            }
            for key, value in rows.items():
                if value:
                    table.add_row(Text(key, style="bold"), Text(value))
            console.print(table)
    return 0
