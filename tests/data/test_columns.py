import os

import numpy as np
import pytest
from scipy.sparse import random_array

from rarefy.data import (
    array_columns,
    csv_columns,
    npy_columns,
    open_columns,
    parquet_columns,
    plink_columns,
    plink_phenotype,
    read_column,
)
from rarefy.regression import MutualInfoScreener, mutual_info_screen, screening

pq = pytest.importorskip("pyarrow.parquet")
pa = pytest.importorskip("pyarrow")


@pytest.fixture
def x():
    return np.random.default_rng(0).standard_normal((30, 11)).astype(np.float32)


def read_all(columns, width=4):
    return np.concatenate([block for _, block in columns.blocks(width)]).T


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("long", [1, 1000])
def test_npy_files_in_either_order_give_the_array(tmp_path, x, order, long, monkeypatch):
    # long rows and short ones are read in two ways
    monkeypatch.setattr("rarefy.data.columns._LONG", long)
    monkeypatch.setattr("rarefy.data.columns._AT_ONCE", 100)
    np.save(tmp_path / "x.npy", np.asarray(x, order=order))
    columns = npy_columns(tmp_path / "x.npy")
    assert (columns.n_rows, columns.n_columns, columns.dtype) == (30, 11, np.float32)
    assert np.array_equal(read_all(columns), x)
    assert [start for start, _ in columns.blocks(4)] == [0, 4, 8]
    assert columns.name(3) == "3"


@pytest.mark.parametrize("order", ["C", "F"])
def test_memory_maps_arrays_and_sparse_matrices_give_the_array(tmp_path, x, order):
    np.save(tmp_path / "x.npy", np.asarray(x, order=order))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    for source in (mapped, mapped[2:, 1:], x, x.tolist()):
        assert np.array_equal(read_all(array_columns(source)), np.asarray(source))
    sparse = random_array((9, 7), density=0.3, rng=np.random.default_rng(0), format="csr")
    assert np.array_equal(read_all(array_columns(sparse)), sparse.toarray())


def test_a_private_change_of_a_memory_map_is_seen(tmp_path, x):
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="c")
    mapped[0, 0] = 7
    assert array_columns(mapped).read(0, 1)[0, 0] == 7


def test_csv_and_parquet_give_names_numbers_and_the_target(tmp_path):
    names = ["a", "b, quoted", "y"]
    values = {"a": [1.0, 2.5], "b, quoted": [3.0, -4.0], "y": ["case", "control"]}
    (tmp_path / "t.csv").write_text('a,"b, quoted",y\n1,3,case\n2.5,-4,control\n')
    pq.write_table(pa.table(values), tmp_path / "t.parquet")
    for path in (tmp_path / "t.csv", tmp_path / "t.parquet"):
        columns = open_columns(path, without=["y"])
        assert list(columns.names) == names[:2]
        assert read_all(columns).tolist() == [[1, 3], [2.5, -4]]
        assert read_column(path, "y").tolist() == ["case", "control"]
        assert read_column(path, "a").tolist() == [1, 2.5]


def test_parquet_keeps_genotypes_small(tmp_path):
    table = pa.table({"a": np.array([0, 1, 2], np.int8), "b": np.array([2, 1, 0], np.int8)})
    pq.write_table(table, tmp_path / "t.parquet")
    columns = parquet_columns(tmp_path / "t.parquet")
    assert columns.dtype == np.int8 and columns.read(0, 2).dtype == np.int8


def write_plink(path, genotypes, phenotypes):
    """``genotypes``: samples by variants, copies of A1, -1 missing; packed as the format says."""
    samples, variants = genotypes.shape
    code = {2: 0b00, -1: 0b01, 1: 0b10, 0: 0b11}
    body = bytearray(b"\x6c\x1b\x01")
    for variant in genotypes.T:
        for start in range(0, samples, 4):
            body.append(
                sum(code[int(g)] << 2 * i for i, g in enumerate(variant[start : start + 4]))
            )
    path.with_suffix(".bed").write_bytes(body)
    path.with_suffix(".bim").write_text(
        "".join(f"1\trs{j}\t0\t{100 + j}\tA\tG\n" for j in range(variants))
    )
    path.with_suffix(".fam").write_text(
        "".join(f"F{i} I{i} 0 0 1 {y}\n" for i, y in enumerate(phenotypes))
    )
    return path.with_suffix(".bed")


@pytest.mark.parametrize("samples", [8, 9, 11])
def test_plink_files_give_copies_of_the_first_allele(tmp_path, samples):
    genotypes = np.random.default_rng(0).integers(-1, 3, (samples, 7))
    path = write_plink(tmp_path / "g", genotypes, [1.5] * samples)
    columns = plink_columns(path)
    assert np.array_equal(read_all(columns, 3), genotypes)
    assert columns.missing and columns.names[2] == "rs2"
    assert plink_phenotype(path).tolist() == [1.5] * samples


@pytest.mark.parametrize(
    ("phenotypes", "absent"), [([1, 2, 0, 1], 1), ([0.5, -9, -9, 1], 2), ([0, 0.5, 1, 3], 0)]
)
def test_a_missing_phenotype_is_refused(tmp_path, phenotypes, absent):
    path = write_plink(tmp_path / "g", np.zeros((4, 1), int), phenotypes)
    if not absent:
        assert plink_phenotype(path).tolist() == phenotypes
        return
    with pytest.raises(ValueError, match=f"{absent} of 4 samples have no phenotype"):
        plink_phenotype(path)


def test_bad_files_are_one_sentence(tmp_path):
    def refused(sentence, path, read=open_columns):
        with pytest.raises(ValueError, match=sentence):
            read(path)

    file = tmp_path / "x.npy"
    np.save(file, np.zeros(3))
    refused("two-dimensional array of numbers is wanted", file)
    np.save(file, np.zeros((3, 400)))
    os.truncate(file, 2000)
    refused("cut short", file)
    file.write_text("no numpy")
    refused("no readable .npy", file)
    refused("does not end in", tmp_path / "x.txt")

    bed = write_plink(tmp_path / "g", np.zeros((5, 2), int), [1] * 5)
    bed.write_bytes(bed.read_bytes()[:-1])
    refused("5 samples in its .fam and 2 variants", bed)
    bed.write_bytes(b"\x6c\x1b\x00" + bytes(4))
    refused("variant-major", bed)
    bed.with_suffix(".bim").write_text("1 rs1\n")
    refused("line 1: 2 fields", bed)

    table = tmp_path / "t.csv"
    table.write_text("a,b\n1,\n2,3\n")
    refused("no number", table)
    refused("column 'b' has 1 empty", table, lambda p: read_column(p, "b"))
    refused("no column 'bb'; there is 'b'", table, lambda p: csv_columns(p, without=["bb"]))
    table.write_text("a,a\n1,2\n")
    refused("two columns are named 'a'", table)
    table.write_text("")
    refused("is empty", table)
    table.write_text("a,b\n")
    refused("no rows", table)

    parquet = tmp_path / "t.parquet"
    pq.write_table(pa.table({"a": [1.0, None], "b": ["u", "v"]}), parquet)
    refused("column 'b' holds string", parquet)
    columns = parquet_columns(parquet, without=["b"])
    refused("column 'a' has 1 empty", parquet, lambda _: columns.read(0, 1))
    refused("'a' has 1 empty", parquet, lambda p: read_column(p, "a"))
    parquet.write_text("no parquet")
    refused("no readable Parquet", parquet)
    with pytest.raises(ValueError, match="3 dimensions"):
        array_columns(np.zeros((2, 2, 2)))


def peak_kilobytes():
    """Peak of the resident memory since this was last asked."""
    with open("/proc/self/status") as status:
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    with open("/proc/self/clear_refs", "w") as peaks:
        peaks.write("5")
    return peak


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="needs Linux")
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("how", ["open", "map", "fit"])
def test_screening_a_file_takes_a_fraction_of_its_size(tmp_path, monkeypatch, order, how):
    monkeypatch.setattr(screening, "BLOCK_BYTES", 1 << 20)
    x = np.random.default_rng(0).standard_normal((500, 100)).astype(np.float32)
    y = x[:, 0] ** 2
    mutual_info_screen(
        x, y, estimator="pearson"
    )  # all that is compiled and imported is there before
    path = tmp_path / "x.npy"
    written = np.lib.format.open_memmap(path, "w+", np.float32, (500, 20_000), order == "F")
    for start in range(0, 20_000, 100):
        written[:, start : start + 100] = x
    del written  # 40 MB
    peak_kilobytes()
    before = peak_kilobytes()
    source = open_columns(path) if how == "open" else np.load(path, mmap_mode="r")
    if how == "fit":
        scores = MutualInfoScreener(k=5, estimator="pearson").fit(source, y).scores_
    else:
        scores = mutual_info_screen(source, y, estimator="pearson")
    assert peak_kilobytes() - before < 10_000
    assert scores[::100] == pytest.approx(scores[0])
    if how == "map":
        # a part of a memory map is read through the mapping: the measure sees its pages
        mutual_info_screen(source[:, :], y, estimator="pearson")
        assert peak_kilobytes() - before > 30_000
