"""What bad tables, names and links cannot do; and that rows, shares and orders are told right."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
from hypothesis import given

from imgcls.core.errors import ConfigError, DataError
from imgcls.data.dataset import Dataset

Make = Callable[..., Path]

OUT = [
    "../secret.png",
    "a/../../secret.png",
    "./../secret.png",
    "a/..",
    "..",
    "..\\secret.png",
    "a\\..\\..\\secret.png",
    "a/..\\../secret.png",
    "/etc/passwd",
    "//etc/passwd",
    "\\etc\\passwd",
    "C:\\secret.png",
    "c:/secret.png",
    "C:secret.png",
    "\\\\server\\share\\secret.png",
    "//server/share/secret.png",
    "\\\\?\\C:\\secret.png",
    "a.png\0.jpg",
    "\0",
    "a/../a.png",
    " ../secret.png",
]
GONE = ["file:///etc/passwd", "~/secret.png", "$HOME/secret.png", "a.png/x", ".", "sub", "a.png."]
LINKED = ["link.png", "door/secret.png", "door/../secret.png", "hop/secret.png"]


@pytest.fixture
def root(make_images: Make, tmp_path: Path) -> Path:
    """Make a folder with one image, one beside the folder, and links of all kinds."""
    make_images("secret.png", "beyond/secret.png", "in/a.png", "in/sub/b.png", "in-other/secret.png")
    links = {
        "link.png": "../secret.png",
        "door": "../beyond",
        "hop": "door",
        "near.png": "../in-other/secret.png",
        "loop.png": "loop.png",
        "ring": "ring",
        "broken.png": "nowhere.png",
        "inner.png": "sub/b.png",
        "inside": "sub",
        "round.png": "../in/a.png",
        "folder.png": "sub",
    }
    for name, target in links.items():
        (tmp_path / "in" / name).symlink_to(target)
    os.mkfifo(tmp_path / "in" / "pipe.png")
    return tmp_path / "in"


def framed(root: Path, name: str, column: str) -> Dataset:
    columns = {"image": ["sub/b.png"], "label": ["k"], "mask": ["sub/b.png"], "uv": ["sub/b.png"]}
    frame = pd.DataFrame(columns | {column: [name]})
    options: dict[str, Any] = {"mask": "mask"} if column == "mask" else {"views": {"uv": "uv"}}
    return Dataset.from_frame(frame, root=root, **options)


@pytest.mark.parametrize("column", ["image", "mask", "uv"])
@pytest.mark.parametrize("name", OUT)
def test_paths_that_lead_out_are_refused(root: Path, name: str, column: str) -> None:
    with pytest.raises(DataError, match=r"image paths must stay below 'root', got '.+' in record 0"):
        framed(root, name, column)


@pytest.mark.parametrize("column", ["image", "mask", "uv"])
@pytest.mark.parametrize("name", [*LINKED[:2], *LINKED[3:], "near.png"])
def test_links_that_lead_out_are_refused(root: Path, name: str, column: str) -> None:
    with pytest.raises(
        DataError, match=rf"files must lie below .*/in', got links that lead out of it: '{name}' \(record"
    ):
        framed(root, name, column)


@pytest.mark.parametrize("column", ["image", "mask", "uv"])
@pytest.mark.parametrize(
    "name", [*GONE, "pipe.png", "loop.png", "ring/a.png", "broken.png", "folder.png", "x" * 300 + ".png", "a\nb.png"]
)
def test_what_is_no_file_is_refused(root: Path, name: str, column: str) -> None:
    with pytest.raises(DataError, match="images must exist below"):
        framed(root, name, column)


@pytest.mark.parametrize("name", ["a.png/", "a.png/.", ".//a.png", "./\\a.png", " a.png "])
def test_signs_without_meaning_are_left_out(root: Path, name: str) -> None:
    assert framed(root, name, "image").ids.tolist() == ["a.png"]


@pytest.mark.parametrize("column", ["image", "mask", "uv"])
@pytest.mark.parametrize("name", ["inner.png", "inside/b.png", "round.png"])
def test_links_inside_are_followed(root: Path, name: str, column: str) -> None:
    data = framed(root, name, column)
    assert data.times({"image": None, "mask": "mask", "uv": "uv"}[column]).tolist() != [0]


def test_root_may_be_a_link_itself(root: Path, tmp_path: Path) -> None:
    (tmp_path / "here").symlink_to("in")
    assert len(framed(tmp_path / "here", "inside/b.png", "image")) == 1


@pytest.mark.parametrize(
    "content", ["../secret.png,k", '"..\\secret.png",k', "/etc/passwd,k", "a.png\0,k", "C:\\a.png,k"]
)
def test_rows_of_files_are_named(root: Path, content: str) -> None:
    (root / "x.csv").write_text(f"image,label\na.png,k\n\n{content}\n")
    with pytest.raises(DataError, match=r"image paths must stay below 'root', got '.+' in row 4"):
        Dataset.from_csv(root / "x.csv")


def test_folders_do_not_lead_out(make_images: Make, tmp_path: Path) -> None:
    root = make_images("in/a/1.png", "in/b/1.png", "out/secret.png") / "in"
    (root / "a" / "door").symlink_to("../../out")
    assert Dataset.from_folder(root).ids.tolist() == ["a/1.png", "b/1.png"]
    with pytest.raises(DataError, match=r"folders must lie below '.*in', got a link that leads out of it: 'a/door'"):
        Dataset.from_folder(root, mask="<folder>/door/<stem>.png")
    (root / "a" / "2.png").symlink_to("../../out/secret.png")
    with pytest.raises(DataError, match=r"got links that lead out of it: 'a/2\.png' \(record 1\); give the folder of"):
        Dataset.from_folder(root)
    with pytest.raises(DataError, match=r"got links that lead out of it: 'a/2\.png'"):
        Dataset.from_names(root, pattern="(?P<label>[ab])/")


def test_pipe_among_the_images_is_refused(make_images: Make) -> None:
    root = make_images("a/1.png", "b/1.png")
    os.mkfifo(root / "a" / "2.png")
    with pytest.raises(DataError, match=r"images must exist below '.*', got no 'a/2\.png' \(record 1\)"):
        Dataset.from_folder(root)


def test_file_that_became_a_link_is_found(root: Path) -> None:
    data = framed(root, "a.png", "image")
    (root / "a.png").unlink()
    (root / "a.png").symlink_to("../secret.png")
    with pytest.raises(DataError, match=r"got links that lead out of it: 'a\.png'"):
        data.times()


WATCH = """
    import os, sys
    import pandas as pd
    from imgcls.core.errors import ImgclsError
    from imgcls.data.dataset import Dataset

    root, names = sys.argv[1], sys.argv[2:]
    seen, watched = [], {"open", "os.listdir", "os.scandir"}
    sys.addaudithook(lambda event, args: seen.append(args[0]) if event in watched else None)

    def attempt(make):
        try:
            data = make()
            [data[k] for k in range(len(data))]
        except ImgclsError:
            return 1
        return 0

    refused = 0
    for name in names:
        for column in ("image", "mask", "uv"):
            columns = dict.fromkeys(("image", "label", "mask", "uv"), ["a.png"])
            frame = pd.DataFrame(columns | {column: [name]})
            options = {"root": root, "mask": "mask", "views": {"uv": "uv"}}
            refused += attempt(lambda: Dataset.from_frame(frame, **options))
    frame = pd.DataFrame({"image": ["a.png"], "label": ["k"]})
    for pattern in ("../<stem>.png", "../sec<stem>*", "door/<stem>*", "<folder>/hop/*<stem>*", "/etc/<stem>*"):
        refused += attempt(lambda: Dataset.from_frame(frame, root=root, mask=pattern))
        refused += attempt(lambda: Dataset.from_names(root, pattern="(?P<label>[ab])", views={"v": pattern}))
    refused += attempt(lambda: Dataset.from_frame(frame.assign(image="secret"), root=root, match="stem"))
    refused += attempt(lambda: Dataset.from_folder(root))
    inner = os.path.realpath(root)
    paths = [os.path.realpath(os.fsdecode(path)) for path in seen if isinstance(path, (str, bytes, os.PathLike))]
    beside = [path for path in paths if path.startswith(os.path.dirname(inner)) and (path + "/").find(inner + "/") != 0]
    print(refused, sorted(set(beside)), any(path.startswith(inner) for path in paths))
"""


def test_nothing_outside_of_root_is_opened(root: Path) -> None:
    names = [*(name for name in OUT if "\0" not in name), *LINKED, "near.png"]
    command = [sys.executable, "-c", textwrap.dedent(WATCH), str(root), *names]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split(maxsplit=1) == [str(3 * len(names) + 12), "[] True\n"]


def test_blank_lines_keep_the_rows(make_images: Make) -> None:
    root = make_images("a.png", "b.png")
    (root / "x.csv").write_text("image,label,age\na.png,k,7\n\n,,\nb.png,k,8\n\nc.png,k,9\n\n")
    with pytest.raises(DataError, match=r"got no 'c\.png' \(row 7\)"):
        Dataset.from_csv(root / "x.csv")
    (root / "x.csv").write_text("image,label,age\na.png,k,7\n\n,,\nb.png,k,8\n\n")
    data = Dataset.from_csv(root / "x.csv")
    assert data.rows is not None
    assert (data.rows.tolist(), data.subset([1]).rows) == ([2, 5], np.array([5]))
    assert data.frame["age"].tolist() == [7, 8]


@pytest.mark.parametrize(
    ("sign", "ending", "options"),
    [
        (";", "csv", {"delimiter": ";"}),
        ("\t", "tsv", {}),
        ("\t", "csv", {"delimiter": "\t"}),
        ("|", "txt", {"delimiter": "|"}),
    ],
)
def test_delimiters(make_images: Make, sign: str, ending: str, options: dict[str, Any]) -> None:
    root = make_images("a.png", "b.png")
    rows = [("image", "label", "x"), ("a.png", "k, k", "0,5"), ("b.png", "l", "1")]
    (root / f"x.{ending}").write_text("\n".join(map(sign.join, rows)))
    assert Dataset.from_csv(root / f"x.{ending}", **options).classes == ("k, k", "l")


@pytest.mark.parametrize("rows", ["a.png;k;0\n", "a.png;k;0,5\n", "a.png;k;0\na.png;k;0,5\n", ""])
@pytest.mark.parametrize("sign", [";", "\t", "|"])
def test_table_of_another_delimiter_is_told(tmp_path: Path, rows: str, sign: str) -> None:
    (tmp_path / "x.csv").write_text(f"image;label;x\n{rows}".replace(";", sign))
    with pytest.raises(
        DataError, match=r"'delimiter' must be what stands between the columns, got one col.*; try delimiter="
    ):
        Dataset.from_csv(tmp_path / "x.csv")


@pytest.mark.parametrize("delimiter", ["", ";;", 5, "\n", '"'])
def test_wrong_delimiters_are_refused(tmp_path: Path, delimiter: Any) -> None:
    with pytest.raises(ConfigError, match="'delimiter' must be one sign, got"):
        Dataset.from_csv(tmp_path / "x.csv", delimiter=delimiter)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "cp1252", "UTF_8"])
def test_encodings(make_images: Make, encoding: str) -> None:
    root = make_images("ä.png")
    (root / "x.csv").write_bytes("image,label\nä.png,Öl\n".encode(encoding))
    assert Dataset.from_csv(root / "x.csv", encoding=encoding).classes == ("Öl",)


def test_table_of_another_encoding_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes("image,label\nä.png,Öl\n".encode("latin-1"))
    with pytest.raises(
        DataError, match=r"'path' must name a UTF-8 table, got .*; say what it is, such as encoding='latin-1'"
    ):
        Dataset.from_csv(tmp_path / "x.csv")
    with pytest.raises(ConfigError, match="'encoding' must be one that Python knows, got 'x-y'"):
        Dataset.from_csv(tmp_path / "x.csv", encoding="x-y")


@pytest.mark.parametrize("option", ["root", "path"])
def test_nul_in_places_is_refused(tmp_path: Path, option: str) -> None:
    with pytest.raises(ConfigError, match=rf"'{option}' must be a path, got '.*\\x00x'"):
        Dataset.from_csv(**({"path": tmp_path / "x.csv"} | {option: f"{tmp_path}\0x"}))  # type: ignore[arg-type]


@pytest.mark.parametrize(("weight", "row"), [("-1", 3), ("inf", 3), ("nan", 3), ("heavy", 3), ("1,000", 3), ("0x", 3)])
def test_wrong_weights_are_told(make_images: Make, weight: str, row: int) -> None:
    root = make_images("a.png", "b.png")
    (root / "x.csv").write_text(f'image,label,w\na.png,k,1\nb.png,k,"{weight}"\n')
    with pytest.raises(DataError, match=rf"'weight' must hold numbers from 0 on, got '{weight}(\.0)?' in row {row}"):
        Dataset.from_csv(root / "x.csv", weight="w")


def test_missing_weights_are_told(make_images: Make) -> None:
    root = make_images("a.png", "b.png")
    (root / "x.csv").write_text("image,label,w\na.png,k,1\nb.png,k,\n")
    with pytest.raises(DataError, match="'weight' must be filled in every row, got nothing in column 'w' of row 3"):
        Dataset.from_csv(root / "x.csv", weight="w")
    with pytest.raises(DataError, match="'weight' must name a column, got 'v'"):
        Dataset.from_csv(root / "x.csv", weight="v")


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (
            [1.5, 2, 3],
            "'label' must hold words or whole numbers, got '1.5'; if it is a measurement, make classes of it",
        ),
        ([1.0, np.nan, 2.0], "'label' must be filled in every row, got nothing in column 'label' of record 1"),
        (["a", None, "b"], "'label' must be filled in every row"),
        ([1, pd.NA, 2], "'label' must be filled in every row"),
        (["1e-3", "2", "3"], "must hold words or whole numbers, got '1e-3'"),
        ([np.inf, 1, 2], None),
    ],
)
def test_labels_of_measurements_are_refused(make_images: Make, label: list[Any], message: str | None) -> None:
    frame = pd.DataFrame({"image": ["a.png", "b.png", "c.png"], "label": label})
    root = make_images(*frame["image"])
    if message is None:
        assert Dataset.from_frame(frame, root=root).classes == ("1", "2", "inf")
        return
    with pytest.raises(DataError, match=message):
        Dataset.from_frame(frame, root=root)


@pytest.mark.parametrize("make", ["csv", "pandas", "pyarrow"])
def test_two_columns_of_one_name_are_refused(make_images: Make, make: str) -> None:
    root = make_images("a.png")
    frame = pd.DataFrame([["a.png", "k", "l"]], columns=["image", "label", "label"])
    if make == "csv":
        frame.to_csv(root / "x.csv", index=False)
        with pytest.raises(DataError, match=r"'path' must name each column once, got 'label' again in '.*x\.csv'"):
            Dataset.from_csv(root / "x.csv")
        return
    import pyarrow as pa

    table = frame if make == "pandas" else pa.Table.from_arrays([pa.array([v]) for v in frame.iloc[0]], list(frame))
    with pytest.raises(DataError, match="'frame' must name each column once, got 'label' again"):
        Dataset.from_frame(table, root=root)


def test_columns_of_our_names_are_kept_under_others(make_images: Make) -> None:
    names = ["split", "split_", "mask", "view:x", "view_:x", "id"]
    frame = pd.DataFrame([["a.png", "k", *range(6)]], columns=["image", "label", *names])
    data = Dataset.from_frame(frame, root=make_images("a.png"))
    assert list(data.frame) == ["id", "label", "split__", "split_", "mask_", "view_:x_", "view_:x", "id_"]
    assert (data.views, data.splits, data.original_mask(0)) == ((), None, None)
    assert data.frame.iloc[0].tolist() == ["a.png", "k", 0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("word", ["a\0", "\0", "a\0b", "\udc80"])
@pytest.mark.parametrize("column", ["label", "site", "part"])
def test_words_that_cannot_be_kept_are_refused(make_images: Make, word: str, column: str) -> None:
    columns = {"image": "a.png", "label": "k", "site": "s", "part": "train"} | {column: word}
    frame = pd.DataFrame(columns, index=[0], dtype=object)
    with pytest.raises(DataError, match=f"'{column}' must hold text without NUL that is UTF-8, got"):
        Dataset.from_frame(frame, root=make_images("a.png"), group="site", split="part")


def test_columns_of_a_frame_may_be_numbers(make_images: Make) -> None:
    frame = pd.DataFrame({"image": ["a.png"], "label": ["k"], 0: [7]})
    assert list(Dataset.from_frame(frame, root=make_images("a.png")).frame) == ["id", "label", "0"]


def classed(counts: list[int]) -> Dataset:
    labels = [f"c{k}" for k, count in enumerate(counts) for _ in range(count)]
    return Dataset.from_arrays(np.zeros((len(labels), 2, 2), np.uint8), labels)


COUNTS = st.lists(st.integers(1, 30), min_size=1, max_size=7)


@given(COUNTS, st.data())
def test_stratified_sample_keeps_shares(counts: list[int], draw: st.DataObject) -> None:
    n = draw.draw(st.integers(1, sum(counts)))
    found = list(classed(counts).sample(n, stratified=True, seed=draw.draw(st.integers(0, 9))).counts().values())
    assert sum(found) == n
    assert all(take <= count for take, count in zip(found, counts, strict=True))
    assert n < len(counts) or min(found) >= 1
    shares = [Fraction(n * count, sum(counts)) for count in counts]
    if min(shares) >= 1 or n < len(counts):
        assert all(abs(take - share) < 1 for take, share in zip(found, shares, strict=True))


@given(COUNTS, st.data())
def test_stratified_sample_goes_by_largest_remainders(counts: list[int], draw: st.DataObject) -> None:
    n = draw.draw(st.integers(len(counts), sum(counts)))
    shares = [Fraction(n * count, sum(counts)) for count in counts]
    if min(shares) < 1:
        return
    wanted = [int(share) for share in shares]
    for k in sorted(range(len(counts)), key=lambda k: wanted[k] - shares[k])[: n - sum(wanted)]:
        wanted[k] += 1
    assert list(classed(counts).sample(n, stratified=True).counts().values()) == wanted


def test_rare_classes_stay_in_a_stratified_sample() -> None:
    assert list(classed([1, 1, 28]).sample(3, stratified=True).counts().values()) == [1, 1, 1]
    assert list(classed([1, 1, 1, 27]).sample(5, stratified=True).counts().values()) == [1, 1, 1, 2]


def test_stratified_sample_is_repeatable() -> None:
    data = classed([10, 20])
    ids = [data.sample(6, stratified=True, seed=seed).ids.tolist() for seed in (0, 0, 1)]
    assert ids[0] == ids[1] == sorted(ids[0]) != ids[2]


@given(st.sets(st.integers(-99, 999), min_size=1, max_size=8))
def test_numbers_are_classes_by_value(numbers: set[int]) -> None:
    labels = list(numbers)
    pixels = np.zeros((len(labels), 2, 2), np.uint8)
    wanted = tuple(map(str, sorted(numbers)))
    assert Dataset.from_arrays(pixels, labels).classes == wanted
    assert Dataset.from_arrays(pixels, list(map(str, labels))).classes == wanted


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (["10/a.png", "9/a.png", "100/a.png"], ("9", "10", "100")),
        (["10/a.png", "9/a.png", "x/a.png"], ("10", "9", "x")),
        (["010/a.png", "09/a.png"], ("010", "09")),
    ],
)
def test_folders_of_numbers_are_classes_by_value(make_images: Make, names: list[str], classes: tuple[str, ...]) -> None:
    assert Dataset.from_folder(make_images(*names)).classes == classes
