"""Names in docs/paper.md (modules, tests, keys, commands) and in ARCHITECTURE.md (files, what is in them) exist."""

import ast
import re
from pathlib import Path

import pytest
import yaml

from femae.cli import main

ROOT = Path(__file__).parents[1]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (ROOT / "docs/paper.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("|") and not line.startswith("|---")
][1:]


def names_of(path: Path) -> set[str]:
    """What is defined at the top of a module."""
    found = set[str]()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return found


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]} {row[1][:24]}")
def test_a_row_names_what_there_is(row: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert len(row) == 6 and row[0] and row[1]
    modules, tests, keys, commands = (re.findall(r"`([^`]+)`", cell) for cell in row[2:])
    assert modules and tests
    for folder, entries in (("src/femae", modules), ("tests", tests)):
        for entry in entries:
            file, _, name = entry.partition(":")
            assert name in names_of(ROOT / folder / file), entry
    for entry in keys:
        file, _, key = entry.partition(":")
        value = yaml.safe_load((ROOT / "recipes" / file).read_text(encoding="utf-8"))
        for part in key.split("."):
            value = value[part]
        assert value is not None, entry
    for entry in commands:
        words = entry.split()
        assert words[0] == "femae"
        with pytest.raises(SystemExit) as ended:
            raise SystemExit(main([*words[1:], "--help"]))
        assert ended.value.code == 0 and f"femae {words[1]}" in capsys.readouterr().out


def test_every_section_equation_and_table_of_the_method_has_a_row() -> None:
    places = " ".join(row[0] for row in ROWS)
    for place in ("3.1", "3.2", "3.3", "3.4", "3.5", "4.1.1", "4.1.2", "4.1.3", "4.1.4", "4.2", "4.4", "Figure 1"):
        assert place in places, place
    for kind, number in (("Eq.", 3), ("Table", 3), ("step", 4)):
        for which in range(1, number + 1):
            assert re.search(rf"{kind} \(?{which}\)?", places), (kind, which)


def test_the_files_that_the_architecture_names_are_there() -> None:
    text = (ROOT / "docs/ARCHITECTURE.md").read_text(encoding="utf-8")
    found = re.findall(r"`((?:[a-z_0-9]+/)*[a-z_0-9]+\.py)(?::([A-Za-z_0-9]+))?`", text)
    named = [name for name, _ in found]
    there = {path.relative_to(ROOT / "src/femae").as_posix() for path in (ROOT / "src/femae").rglob("*.py")}
    there |= {path.rpartition("/")[2] for path in there} | {
        f"benchmarks/{p.name}" for p in ROOT.glob("benchmarks/*.py")
    }
    assert len(named) > 50
    assert not [name for name in named if name not in there and not (ROOT / name).exists()]
    inside = [(file, name) for file, name in found if name]
    assert len(inside) > 20
    assert not [(file, name) for file, name in inside if name not in names_of(ROOT / "src/femae" / file)]


def test_each_way_through_the_code_has_at_most_twelve_stops() -> None:
    text = (ROOT / "docs/ARCHITECTURE.md").read_text(encoding="utf-8")
    ways = re.split(r"^\*\*A ", text.partition("## Three ways")[2].partition("\n## ")[0], flags=re.MULTILINE)[1:]
    assert [way.split("*")[0] for way in ways] == ["film", "recipe", "data set"]
    for way in ways:
        numbers = [int(number) for number in re.findall(r"^(\d+)\. ", way, re.MULTILINE)]
        assert numbers == list(range(1, len(numbers) + 1)) and 5 <= len(numbers) <= 12


def test_every_package_says_what_lives_there() -> None:
    for init in (ROOT / "src/femae").rglob("*/__init__.py"):
        text = ast.get_docstring(ast.parse(init.read_text(encoding="utf-8")))
        assert text and len(text) > 60, init
