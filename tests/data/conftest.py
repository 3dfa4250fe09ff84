"""Small copies of every raw data set's layout, with real face pictures: variants of one photograph."""

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import settings
from PIL import Image, ImageEnhance, ImageOps

from femae.labels import FERPLUS_VOTES

settings.register_profile("femae", deadline=None)  # a busy machine is not an error
settings.load_profile("femae")

Pixels = npt.NDArray[np.uint8]
AU12 = "AU1,AU2,AU4,AU6,AU7,AU10,AU12,AU15,AU23,AU24,AU25,AU26"


def face_variants(photograph: Pixels, count: int, *, size: int = 96) -> list[Pixels]:
    """`count` different crops u8[size, size, 3] of the face: shifted, mirrored, with changed brightness."""
    rng = np.random.default_rng(7)
    variants = []
    for number in range(count):
        left, top, side = int(rng.integers(120, 175)), int(rng.integers(10, 70)), int(rng.integers(130, 200))
        picture = Image.fromarray(photograph).crop((left, top, left + side, top + side)).resize((size, size))
        picture = ImageOps.mirror(picture) if number % 2 else picture
        picture = ImageEnhance.Brightness(picture).enhance(float(rng.uniform(0.6, 1.3)))
        variants.append(np.asarray(ImageEnhance.Contrast(picture).enhance(float(rng.uniform(0.7, 1.3))), np.uint8))
    return variants


class Layouts:
    """Writers of data sets below one folder; each returns the data set's folder."""

    def __init__(self, root: Path, photograph: Pixels) -> None:
        self.root = root
        self.photograph = photograph
        self._faces = face_variants(photograph, 24)
        self._next = 0

    def face(self) -> Pixels:
        """The next variant, u8[96, 96, 3]."""
        self._next += 1
        return self._faces[self._next % len(self._faces)]

    def picture(self, path: Path, image: Pixels | None = None) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(self.face() if image is None else image).save(path)
        return path

    def text(self, path: Path, lines: Sequence[str], *, end: str = "\n", bom: bool = False) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        text = end.join(lines) + end
        path.write_bytes((b"\xef\xbb\xbf" if bom else b"") + text.encode())
        return path

    def fake_picture(self, path: Path, content: bytes = b"<html>404 Not Found</html>") -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def affectnet_csv(self, *, end: str = "\n", bom: bool = False, header: bool = True) -> Path:
        root = self.root / "affectnet-csv"
        head = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"
        rows = [f"{n}/{n:04x}.jpg,10,8,60,66,1;2;3,{n},0.1,-0.2" for n in range(11)]
        for n in range(11):
            self.picture(root / "Manually_Annotated" / "Manually_Annotated_Images" / str(n) / f"{n:04x}.jpg")
        self.picture(root / "Manually_Annotated" / "Manually_Annotated_Images" / "5" / "é.jpg")
        self.text(root / "training.csv", [head, *rows], end=end, bom=bom)
        validation = ["5/é.jpg,10,8,60,66,1;2,5,0,0"]
        self.text(root / "validation.csv", [head, *validation] if header else validation, end=end, bom=bom)
        return root

    def affectnet_folders(self) -> Path:
        root = self.root / "affectnet-folders"
        for part, labels in (("train_set", range(8)), ("val_set", (3, 6))):
            (root / part / "annotations").mkdir(parents=True)
            for n, label in enumerate(labels):
                self.picture(root / part / "images" / f"{n}.jpg")
                np.save(root / part / "annotations" / f"{n}_exp.npy", np.array(str(label)))
        return root

    def casia(self) -> Path:
        root = self.root / "CASIA-WebFace"
        for person in ("0000045", "0000099"):
            for n in range(3):
                self.picture(root / person / f"{n:03d}.jpg")
        return root

    def celeba(self, *, identities: bool = True) -> Path:
        root = self.root / "celeba"
        names = [f"{n:06d}.jpg" for n in range(1, 7)]
        for name in names:
            self.picture(root / "img_align_celeba" / name)
        if identities:
            people = [f"{name} {n // 2}" for n, name in enumerate(names)]
            self.text(root / "Anno" / "identity_CelebA.txt", people, end="\r\n")
            self.text(root / "Eval" / "list_eval_partition.txt", [f"{name} {n % 3}" for n, name in enumerate(names)])
        return root

    def imdb_wiki(
        self, part: str, records: Sequence[tuple[str, str, float, float]] | None = None, *, pictures: bool = True
    ) -> Path:
        """Records: path, name, face_score, second_face_score."""
        from scipy.io import savemat

        root = self.root / part
        nan = float("nan")
        records = records or [
            ("01/nm0000001_rm1_1899-5-10_1968.jpg", "Fred Astaire", 3.2, nan),
            ("01/nm0000001_rm2_1899-5-10_1970.jpg", "Fred  astaire", 1.0, nan),
            ("02/nm0000002_rm3_1924-9-16_2004.jpg", "Zoë Öst", 2.5, 1.9),
            ("02/nm0000002_rm4_1924-9-16_2004.jpg", "Zoë Öst", 0.4, nan),
            ("03/nm0000003_rm5_1934-9-28_2003.jpg", "Brigitte B", -float("inf"), nan),
            ("03/nm0000003_rm6_1934-9-28_2003.jpg", "", 5.0, nan),
            ("03/nm0000003_rm7_1934-9-28_2003.jpg", "Brigitte B", nan, nan),
        ]
        for path, *_ in records if pictures else ():
            self.picture(root / f"{part}_crop" / path)
        kind = [("full_path", "O"), ("name", "O"), ("face_score", "O"), ("second_face_score", "O")]
        table = np.zeros((1, 1), kind)
        for name, column in zip(("full_path", "name"), (0, 1), strict=True):
            cells = np.empty((1, len(records)), object)
            cells[0] = [record[column] for record in records]
            table[name][0, 0] = cells
        table["face_score"][0, 0] = np.array([[record[2] for record in records]])
        table["second_face_score"][0, 0] = np.array([[record[3] for record in records]])
        root.mkdir(exist_ok=True)
        savemat(root / f"{part}_crop" / f"{part}.mat" if pictures else root / f"{part}.mat", {part: table})
        return root

    def affwild2(self, track: str, *, old: bool = False, end: str = "\n", bom: bool = False) -> Path:
        """Two films, the second with two persons; four frames each; frame 3 of each has no jpg."""
        root = self.root / f"affwild2-{track}{'-old' if old else ''}"
        new_name = {"au": "AU_Recognition_Challenge", "expr": "EXPR_Recognition_Challenge"}[track]
        old_name = {"au": "AU_Set", "expr": "EXPR_Set"}[track]
        labels = root / "annotations" / (old_name if old else new_name)
        parts = ("Training_Set" if old else "Train_Set", "Validation_Set")
        for film, part in (("12-24", parts[0]), ("video7_left", parts[0]), ("video7_right", parts[1])):
            if track == "au":
                units = "AU1,AU2,AU4,AU6,AU12,AU15,AU20,AU25" if old else AU12
                width = len(units.split(","))
                known = [[int((i + j) % 3 == 0) for j in range(width)] for i in range(4)]
                known[1][0] = -1
                lines = [units, *(",".join(map(str, row)) for row in known)]
            else:
                header = "Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other"
                lines = [header, *("4", "6", "1", "7")]
            self.text(labels / part / f"{film}.txt", lines, end=end, bom=bom)
            for frame in (1, 2, 4):
                self.picture(root / "cropped_aligned" / film / f"{frame:05d}.jpg")
        return root

    def s_affwild2(self, *, end: str = "\n", bom: bool = False) -> Path:
        root = self.root / "s-affwild2"
        zeros = ",".join("0" for _ in range(11))
        unknown = ",".join("-1" for _ in range(12))
        lines = [
            "image,valence,arousal,expression," + AU12,
            f"341/00001.jpg,0.1,0.2,4,1,{zeros}",
            f"341/00002.jpg,-5,-5,-1,1,{zeros}",
            f"342_left/00001.jpg,0.5,0.2,6,{unknown}",
            f"342_left/00002.jpg,-5,-5,-1,{unknown}",
        ]
        self.text(root / "train_set.txt", lines, end=end, bom=bom)
        self.text(root / "validation_set.txt", [lines[0], f"343/00001.jpg,0,0,1,-1,{zeros}"], end=end, bom=bom)
        for name in ("341/00001", "341/00002", "342_left/00001", "342_left/00002", "343/00001"):
            self.picture(root / "cropped_aligned" / f"{name}.jpg")
        return root

    def rafdb(self, part: str, *, end: str = "\n", bom: bool = False) -> Path:
        root = self.root / "RAF-DB"
        count = 7 if part == "basic" else 11
        names = [f"train_{n:05d}.jpg" for n in range(1, count + 1)] + ["test_0001.jpg"]
        lines = [f"{name} {n % count + 1}" for n, name in enumerate(names)]
        self.text(root / part / "EmoLabel" / "list_patition_label.txt", lines, end=end, bom=bom)
        for name in names:
            self.picture(root / part / "Image" / "aligned" / name.replace(".jpg", "_aligned.jpg"))
        return root

    def fer2013_csv(self, *, votes: bool = True, end: str = "\n", bom: bool = False) -> Path:
        """Six rows; the votes of row 3 have no name, so the numbers in later names differ from their rows."""
        root = self.root / "fer2013"
        usages = ["Training"] * 4 + ["PublicTest", "PrivateTest"]
        rows = ["emotion,pixels,Usage"]
        for n, usage in enumerate(usages):
            gray = np.asarray(Image.fromarray(self.face()).convert("L").resize((48, 48)))
            rows.append(f"{n},{' '.join(map(str, gray.ravel()))},{usage}")
        self.text(root / "fer2013.csv", rows, end=end, bom=bom)
        if votes:
            heads = "neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
            ballots = ["0,0,0,0,6,3,1,0,0,0", "2,0,0,0,0,8,0,0,0,0", "0,0,5,0,0,0,5,0,0,0"]
            ballots += ["0,0,0,0,0,0,0,0,0,10", "0,9,0,0,0,0,0,0,1,0", "1,0,1,1,0,0,0,2,5,0"]
            names = ["fer0000000.png", "fer0000001.png", "fer0000002.png", "", "fer0000003.png", "fer0000004.png"]
            lines = [f"{u},{name},{b}" for u, name, b in zip(usages, names, ballots, strict=True)]
            self.text(root / "fer2013new.csv", [f"Usage,Image name,{heads}", *lines], end=end, bom=bom)
        return root

    def fer2013_pictures(self) -> Path:
        root = self.root / "ferplus-pictures"
        ballots = {"fer0000002.png": "4,6,0,0,0,0,0,0,0,0", "fer0000003.png": "0,0,0,7,3,0,0,0,0,0"}
        for name in ballots:
            self.picture(root / "data" / "FER2013Train" / name)
        lines = [f'{name},"(0, 0, 48, 48)",{ballot}' for name, ballot in reversed(ballots.items())]
        self.text(root / "data" / "FER2013Train" / "label.csv", lines)
        return root

    def atlas(self, name: str, file: str, *, size: int, columns: int, cells: int) -> Path:
        """One atlas of two rows, and its folder."""
        root = self.root / name
        root.mkdir(parents=True, exist_ok=True)
        page = np.zeros((2 * size, columns * size), np.uint8)
        for cell in range(cells):
            row, column = divmod(cell, columns)
            gray = np.asarray(Image.fromarray(self.face()).convert("L").resize((size, size)))
            page[row * size : (row + 1) * size, column * size : (column + 1) * size] = gray
        Image.fromarray(page).save(root / file, **({"quality": 95} if file.endswith("jpg") else {}))
        return root

    def table(self, path: Path, rows: Sequence[dict[str, object]]) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        path.write_text(text.getvalue(), encoding="utf-8")
        return path

    def ferplus(self, *, cells: int = 5) -> Path:
        root = self.atlas("ferplus", "atlas_00.png", size=48, columns=32, cells=cells)
        rows: list[dict[str, object]] = []
        for n in range(cells):
            votes = dict.fromkeys(FERPLUS_VOTES, 0) | {"happiness": 10 - n, "surprise": n}
            split = "Training" if n < 3 else "PublicTest"
            copies = "4" if n in (1, 3) else ""
            base = {"index": n, "atlas": 0, "cell": n, "name": f"fer{n:07d}.png", "csv_row": n, "split": split}
            rows.append({**base, **votes, "dup_group": copies, "dup_in_training": int(n == 3)})
        self.table(root / "labels.csv", rows)
        return root

    def lfw(self) -> Path:
        root = self.atlas("lfw", "lfw_00.jpg", size=96, columns=24, cells=3)
        base = {"atlas": 0, "annotator": 302, "split": "train"}
        people = (("AJ_Cook", "happiness"), ("AJ_Cook", "neutral"), ("José_Müller", "contempt"))
        rows = [
            {**base, "index": n, "cell": n, "name": f"{person}_{n}.jpg", "emotion": emotion, "person": person}
            for n, (person, emotion) in enumerate(people)
        ]
        self.table(root / "labels.csv", rows)
        return root

    def synth3d(self) -> Path:
        root = self.atlas("synth3d", "syn_00.jpg", size=96, columns=24, cells=2)
        base = {
            "atlas": 0,
            "AU1": 0.75,
            "AU10": 1,
            "AU11": 0.5,
            "AU12": 0,
            "yaw": 0.2,
            "pitch": 0,
            "roll": 0,
            "split": "train",
        }
        rows = [{**base, "index": 0, "cell": 0, "compound": "Sadly Angry"}]
        rows += [{**base, "index": 1, "cell": 1, "compound": ""}]
        self.table(root / "labels.csv", rows)
        return root


@pytest.fixture
def layouts(tmp_path: Path, astronaut: Pixels) -> Layouts:
    """Writers of small data sets."""
    return Layouts(tmp_path, astronaut)


@pytest.fixture
def collect() -> Callable[..., tuple[dict[str, object], object]]:
    """Runs a reader: samples by key, and its counts; checks their sum and that a second reading is the same."""

    def run(reader: object) -> tuple[dict[str, object], object]:
        samples = list(reader)  # type: ignore[call-overload]
        reading = reader.reading  # type: ignore[attr-defined]
        assert reading.num_samples == len(samples) == len({sample.key for sample in samples})
        assert sum(reading.classes.values()) == len(samples)
        assert reading.num_groups == len({sample.group for sample in samples})
        excluded = dict(reading.excluded)
        assert [sample.key for sample in reader] == [sample.key for sample in samples]  # type: ignore[attr-defined]
        assert dict(reading.excluded) == excluded and reading.num_samples == len(samples)
        assert all(0 < len(names) <= 5 for names in reading.examples.values())
        assert set(reading.examples) == set(excluded)
        return {sample.key: sample for sample in samples}, reading

    return run
