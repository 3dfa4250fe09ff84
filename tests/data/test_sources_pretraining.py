"""Readers of the unlabelled face sets: CASIA-WebFace, CelebA, IMDB-WIKI, folders of pictures and films."""

import unicodedata
from typing import Any

import numpy as np
import pytest

from femae.data.samples import PictureFile, VideoFrame
from femae.data.sources.folders import UnlabelledSource
from femae.data.sources.pretraining import CasiaWebFaceSource, CelebASource, ImdbWikiSource
from femae.errors import ConfigError, DataError


def test_casia_gives_one_group_per_person_and_names_what_it_leaves_out(layouts: Any, collect: Any) -> None:
    root = layouts.casia()
    layouts.fake_picture(root / "0000045" / "009.jpg")
    layouts.fake_picture(root / "0000045" / "010.jpg", b"")
    layouts.fake_picture(root / "0000045" / "notes.txt", b"x")
    layouts.picture(root / "0000123é" / "ñ.jpg")
    samples, reading = collect(CasiaWebFaceSource(root))
    assert len(samples) == 7 and reading.num_groups == 3 and reading.num_unlabelled == 7
    assert samples["0000045/002.jpg"].group == "casia-webface/0000045"
    assert "0000123é/ñ.jpg" in samples and not samples["0000045/002.jpg"].mask.any()
    assert reading.excluded == {"file is not a picture": 1, "picture file is empty": 1, "file of another kind": 1}
    assert reading.examples["file is not a picture"] == ["0000045/009.jpg"]


def test_casia_is_found_one_folder_deeper_and_missed_when_absent(layouts: Any, collect: Any, tmp_path: Any) -> None:
    samples, _ = collect(CasiaWebFaceSource(layouts.casia().parent))
    assert sorted(samples)[0] == "0000045/000.jpg"
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError, match="folder per person"):
        CasiaWebFaceSource(tmp_path / "nothing")
    with pytest.raises(DataError, match="cannot be read"):
        CasiaWebFaceSource(tmp_path / "absent")


def test_celeba_takes_identity_and_split_where_they_are(layouts: Any, collect: Any) -> None:
    root = layouts.celeba()
    (root / "img_align_celeba" / "000002.jpg").unlink()
    layouts.fake_picture(root / "img_align_celeba" / "000003.jpg")
    people = root / "Anno" / "identity_CelebA.txt"
    people.write_text(people.read_text() + "\r\n\r\n000009.jpg 1 2\r\n000008.jpg 77\r\n")
    samples, reading = collect(CelebASource(root))
    assert sorted(samples) == ["000001.jpg", "000004.jpg", "000005.jpg", "000006.jpg"]
    assert samples["000005.jpg"].group == samples["000006.jpg"].group == "celeba/person-2"
    assert [samples[key].split for key in sorted(samples)] == ["train", "train", "val", "test"]
    assert reading.excluded == {
        "picture file is missing": 2,
        "file is not a picture": 1,
        "blank line": 2,
        "wrong number of columns": 1,
    }


def test_celeba_without_identities_has_a_group_per_picture(layouts: Any, collect: Any, tmp_path: Any) -> None:
    root = layouts.celeba(identities=False)
    samples, reading = collect(CelebASource(root / "img_align_celeba"))
    assert reading.num_groups == len(samples) == 6 and samples["000001.jpg"].split == ""
    with pytest.raises(DataError, match="img_align_celeba"):
        CelebASource(layouts.casia())


@pytest.mark.parametrize("part", ["imdb", "wiki"])
def test_imdb_wiki_keeps_sure_single_faces_and_groups_by_name(layouts: Any, collect: Any, part: Any) -> None:
    samples, reading = collect(ImdbWikiSource(layouts.imdb_wiki(part), part=part))
    assert [sample.group for sample in samples.values()] == [
        "imdb-wiki/fred astaire",
        "imdb-wiki/fred astaire",
        "imdb-wiki/nm0000003",
    ]
    assert reading.source == part
    assert reading.excluded == {
        "a second face in the photograph": 1,
        "face_score under 1": 1,
        "no face by the data set's own detector (face_score is not finite)": 2,
    }


def test_imdb_thresholds_are_options(layouts: Any, collect: Any) -> None:
    root = layouts.imdb_wiki("imdb")
    samples, reading = collect(ImdbWikiSource(root, part="imdb", min_score=0.4, max_second_score=2.0))
    assert len(samples) == 5 and "a second face in the photograph" not in reading.excluded
    assert {sample.group for sample in samples.values()} >= {"imdb-wiki/zoë öst"}
    samples, reading = collect(ImdbWikiSource(root, part="imdb", max_second_score=1.9))
    assert reading.excluded["a second face in the photograph"] == 1


def test_imdb_counts_missing_and_false_pictures_and_empty_paths(layouts: Any, collect: Any) -> None:
    nan = float("nan")
    records = [
        ("00/a.jpg", "A", 2.0, nan),
        ("00/b.jpg", "B", 2.0, nan),
        ("", "C", 2.0, nan),
        ("0/é.jpg", "D", 2.0, nan),
    ]
    root = layouts.imdb_wiki("imdb", records, pictures=False)
    layouts.fake_picture(root / "imdb_crop" / "00" / "b.jpg")
    layouts.picture(root / "imdb_crop" / "0" / unicodedata.normalize("NFD", "é.jpg"))
    samples, reading = collect(ImdbWikiSource(root, part="imdb"))
    assert list(samples) == ["0/é.jpg"]  # found though the disk has the other Unicode form
    assert reading.excluded == {
        "picture file is missing": 1,
        "file is not a picture": 1,
        "record without a path": 1,
    }


def test_imdb_says_what_is_wrong_with_the_mat(layouts: Any, tmp_path: Any) -> None:
    from scipy.io import savemat

    with pytest.raises(DataError, match=r"wiki\.mat"):
        ImdbWikiSource(layouts.imdb_wiki("imdb"), part="wiki")
    for content, message in ((b"nonsense", "damaged"), (b"", "damaged")):
        (tmp_path / "imdb.mat").write_bytes(content)
        with pytest.raises(DataError, match=message):
            list(ImdbWikiSource(tmp_path, part="imdb"))
    savemat(tmp_path / "imdb.mat", {"imdb": {"full_path": np.zeros(3), "face_score": np.zeros(3)}})
    with pytest.raises(DataError, match="second_face_score"):
        list(ImdbWikiSource(tmp_path, part="imdb"))
    uneven = {"full_path": np.zeros(3), "face_score": np.zeros(3), "second_face_score": np.zeros(2)}
    savemat(tmp_path / "imdb.mat", {"imdb": uneven})
    with pytest.raises(DataError, match="differ in length"):
        list(ImdbWikiSource(tmp_path, part="imdb"))


def test_unlabelled_reads_pictures_and_every_nth_frame_of_films(
    layouts: Any, collect: Any, tmp_path: Any, carphone: Any
) -> None:
    root = tmp_path / "raw"
    layouts.picture(root / "a" / "1.png")
    layouts.picture(root / "a" / "ü.JPG")
    layouts.fake_picture(root / "a" / "2.jpg")
    layouts.fake_picture(root / "broken.mp4", b"not a film")
    layouts.fake_picture(root / "readme.md")
    (root / "b").mkdir()
    (root / "b" / "man.mp4").write_bytes(carphone.read_bytes())
    samples, reading = collect(UnlabelledSource(root, every=50))
    assert sorted(samples) == ["a/1.png", "a/ü.JPG", "b/man.mp4#00001", "b/man.mp4#00051", "b/man.mp4#00101"]
    assert samples["b/man.mp4#00051"].picture == VideoFrame(path=root / "b" / "man.mp4", frame=51)
    assert samples["a/1.png"].picture == PictureFile(path=root / "a" / "1.png")
    assert {s.group for s in samples.values()} == {
        "unlabelled/a/1.png",
        "unlabelled/a/ü.JPG",
        "unlabelled/b/man.mp4",
    }
    assert reading.excluded == {
        "file is not a picture": 1,
        "film cannot be opened": 1,
        "file of another kind": 1,
        "frame passed over (every 50)": 117,
    }
    samples, _ = collect(UnlabelledSource(root / "a", group="folder"))
    assert {s.group for s in samples.values()} == {"unlabelled/."}
    samples, _ = collect(UnlabelledSource(root / "b" / "man.mp4"))
    assert len(samples) == 120
    with pytest.raises(ConfigError, match="every 0"):
        UnlabelledSource(root, every=0)
    with pytest.raises(DataError, match="no picture and no film"):
        UnlabelledSource(root / "readme.md")
