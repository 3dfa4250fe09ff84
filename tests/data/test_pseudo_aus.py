"""The table of action-unit pseudo-labels: written for a manifest, read back in the order of another."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from femae.data.prepare.run import PrepareSettings, Workers, prepare
from femae.data.pseudo_aus.table import PSEUDO_AU_SCHEMA, PseudoAus, read_pseudo_aus, read_pseudo_note, write_pseudo_aus
from femae.data.sources.folders import FolderPerClassSource
from femae.data.store.manifest import Manifest, read_manifest
from femae.data.store.shards import ACTION_UNITS
from femae.errors import DataError, OutputError

Made = tuple[Path, Manifest, npt.NDArray[np.float32], npt.NDArray[np.bool_]]
NUM_AUS = len(ACTION_UNITS)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Two data sets of four crops each."""
    root = tmp_path_factory.mktemp("pseudo")
    rng = np.random.default_rng(1)
    for source in ("one", "two"):
        for number in range(4):
            path = root / source / ("happiness", "anger")[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (32, 32), np.uint8)).save(path)
    readers = [FolderPerClassSource(root / source, name=source) for source in ("one", "two")]
    prepare(readers, out=root / "shards", settings=PrepareSettings(crops=True), workers=Workers(num=1), quiet=True)
    return read_manifest(root / "shards")


@pytest.fixture
def made(manifest: Manifest, tmp_path: Path) -> Made:
    rng = np.random.default_rng(3)
    targets = rng.random((len(manifest), NUM_AUS), np.float32)
    mask = rng.random((len(manifest), NUM_AUS)) < 0.7
    path = tmp_path / "deep" / "au.parquet"
    write(path, manifest, targets, mask)
    return path, manifest, targets, mask


def write(path: Path, manifest: Manifest, targets: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_]) -> None:
    write_pseudo_aus(
        path,
        manifest=manifest,
        measured=PseudoAus(
            presence=np.linspace(0, 1, len(manifest), dtype=np.float32),
            blendshapes=np.tile(np.linspace(0, 1, 52, dtype=np.float32), (len(manifest), 1)),
            au_targets=targets,
            au_mask=mask,
        ),
        note={"settings": 1},
    )


def test_what_is_written_comes_back_in_the_manifests_order(made: Made) -> None:
    path, manifest, targets, mask = made
    au_targets, au_mask = read_pseudo_aus(path, manifest)
    assert au_targets.dtype == np.float32 and au_mask.dtype == np.bool_
    assert np.array_equal(au_mask, mask)
    assert np.array_equal(au_targets, np.where(mask, targets, 0))
    assert read_pseudo_note(path) == {"settings": 1}
    table = pq.read_table(path)
    assert table.schema.equals(PSEUDO_AU_SCHEMA) and table.column("AU01").null_count == int((~mask[:, 0]).sum())
    assert not list(path.parent.glob(".*"))


def test_rows_are_found_by_source_and_key(made: Made) -> None:
    path, manifest, targets, mask = made
    table = pq.read_table(path)
    pq.write_table(table.take(pa.array(np.random.default_rng(0).permutation(len(table)))), path)
    chosen = np.arange(len(manifest)) % 3 == 1
    au_targets, au_mask = read_pseudo_aus(path, manifest.select(chosen))
    assert np.array_equal(au_mask, mask[chosen]) and np.array_equal(au_targets[au_mask], targets[chosen][mask[chosen]])


def test_a_data_set_that_the_table_does_not_hold_is_unknown_unless_it_is_asked_for(made: Made) -> None:
    path, manifest, _, mask = made
    is_one = np.array(manifest.strings("source")) == "one"
    pq.write_table(pq.read_table(path).filter(pa.array(is_one)), path)
    au_targets, au_mask = read_pseudo_aus(path, manifest)
    assert np.array_equal(au_mask, mask & is_one[:, None]) and not au_targets[~is_one].any()
    with pytest.raises(DataError, match="no pictures of two, only of one"):
        read_pseudo_aus(path, manifest, sources=["two"])
    with pytest.raises(DataError, match="no pictures of two, only of one"):
        read_pseudo_aus(path, manifest.select(~is_one))


def test_what_is_missing_is_named(made: Made, tmp_path: Path) -> None:
    path, manifest, targets, mask = made
    table = pq.read_table(path)
    pq.write_table(table.slice(0, len(table) - 2), path)
    with pytest.raises(DataError, match=r"lacks 2 of 8 pictures of .*two/"):
        read_pseudo_aus(path, manifest)
    pq.write_table(pa.concat_tables([table, table.slice(0, 1)]), path)
    with pytest.raises(DataError, match="1 pictures more than once"):
        read_pseudo_aus(path, manifest)
    pq.write_table(table.drop_columns(["AU07"]), path)
    with pytest.raises(DataError, match="lacks AU07"):
        read_pseudo_aus(path, manifest)
    write(path, manifest, targets + np.float32(9) * (np.arange(NUM_AUS) == 3), mask)
    with pytest.raises(DataError, match="outside 0 to 1 in AU04"):
        read_pseudo_aus(path, manifest)
    path.write_bytes(b"PAR1")
    with pytest.raises(DataError, match="not a complete Parquet file"):
        read_pseudo_aus(path, manifest)
    with pytest.raises(DataError, match="does not exist"):
        read_pseudo_aus(tmp_path / "none.parquet", manifest)


def test_a_place_where_nothing_can_be_written_is_named(made: Made, tmp_path: Path) -> None:
    _, manifest, targets, mask = made
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OutputError, match="choose another --out"):
        write(tmp_path / "file" / "au.parquet", manifest, targets, mask)
