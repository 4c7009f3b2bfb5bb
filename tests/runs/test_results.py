"""results.nc: what is written is read back, also what no field of the format counts."""

import pathlib

import numpy as np
import pytest
import scipy.io
import xarray

from collapse_jax.errors import InputError
from collapse_jax.runs import results
from collapse_jax.runs.results import read_results, record_axis, write_results

RNG = np.random.default_rng(0)
CHAINS = xarray.Dataset(
    {
        "a": (("chain", "generation"), RNG.normal(size=(3, 50)).astype(np.float32)),
        "b": (("chain", "generation", "b_0"), RNG.normal(size=(3, 50, 7))),
        "absorbed": (("chain", "generation"), RNG.random((3, 50)) > 0.5),
        "count": (("chain", "generation"), RNG.integers(0, 9, (3, 50)).astype(np.int8)),
    },
    coords={"generation": np.arange(50)},
)
GRID = xarray.Dataset(
    {
        "m": (("workflow", "size", "generation"), RNG.normal(size=(2, 4, 9))),
        "q": (("workflow", "size", "generation", "quantile"), RNG.normal(size=(2, 4, 9, 5))),
    },
    coords={"workflow": ["replace", "mix"], "size": [1, 2, 3, 4], "generation": np.arange(9)},
    attrs={"streams": "common"},
)
RECORDS = [
    (CHAINS, 10**4, None),
    (CHAINS, 4000, "chain"),
    (CHAINS, 400, "generation"),
    (CHAINS.assign_coords(chain=[4, 5, 7]), 4000, "chain"),
    (CHAINS[["a"]], 300, "chain"),
    (CHAINS[["a"]], 100, "generation"),
    (CHAINS[["absorbed"]], 100, "chain"),
    (GRID, 2000, "workflow"),
    (GRID, 400, "generation"),
]


@pytest.mark.parametrize(("data", "limit", "records"), RECORDS)
def test_variables_beyond_the_limit_are_written_in_records(
    data, limit, records, tmp_path, monkeypatch
):
    monkeypatch.setattr(results, "_LARGEST", limit)
    write_results(tmp_path / "results.nc", data)
    back = read_results(tmp_path / "results.nc")
    assert back.equals(data) and back.attrs == data.attrs
    for name in data:
        assert back[name].dims == data[name].dims
    # As any other reader finds it.
    with xarray.open_dataset(tmp_path / "results.nc", engine="scipy") as raw:
        assert raw.encoding["unlimited_dims"] == (set() if records is None else {records})
        assert raw.transpose(*data.dims).equals(data)


def test_what_fits_no_axis_is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "_LARGEST", 200)
    with pytest.raises(InputError, match=r"^b needs 8\.2 KiB, with more than 200 bytes"):
        write_results(tmp_path / "results.nc", CHAINS)
    assert not list(tmp_path.iterdir())


def test_sizes_that_do_not_fit_32_bits():
    """By the shapes alone; a signed 32-bit field holds 2^31 - 1 bytes."""
    axes, floats = ("chain", "generation"), np.dtype(np.float32)
    assert record_axis({"a": (axes, (2**14, 2**14), floats)}) is None
    assert record_axis({"a": (axes, (2**15, 2**14), floats)}) == "chain"
    assert record_axis({"a": (axes, (1, 2**30), floats)}) == "generation"
    # Two variables, each of whose records would fit alone.
    both = {name: (axes, (4, 2**28), floats) for name in "ab"}
    assert record_axis(both) == "generation"
    vector = {"a": ((*axes, "a_0"), (1, 10**5, 10**5), floats)}
    assert record_axis(vector) == "generation"


def test_damage_in_records_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "_LARGEST", 4000)
    path = tmp_path / "results.nc"
    write_results(path, CHAINS)
    whole = path.read_bytes()
    for place in (len(whole) - 9, len(whole) // 2):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(InputError, match=r"results.nc is damaged"):
            read_results(path)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"results.nc is damaged"):
        read_results(path)


@pytest.mark.slow
def test_more_than_2_gib(tmp_path):
    """Needs 4 GiB of memory and 2 GiB of disk."""
    size = 2**29 + 2**20
    row = np.arange(size // 8, dtype=np.float32)
    values = np.broadcast_to(row, (8, size // 8))
    data = xarray.Dataset({"a": (("chain", "generation"), values)})
    path = pathlib.Path(tmp_path / "results.nc")
    write_results(path, data)
    assert path.stat().st_size > 2**31
    with scipy.io.netcdf_file(path, mmap=True) as file:
        found = file.variables["a"][7, [0, 5, -1]].tolist()
        del file.variables["a"]
    assert found == row[[0, 5, -1]].tolist()
