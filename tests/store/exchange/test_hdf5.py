"""HDF5: hostile files are refused before anything is read; ours come back as they went."""

import h5py
import numpy as np
import pytest

from mmf import MmfError
from mmf.store import FeatureSpec, FeatureStore, Track
from mmf.store.delete import delete
from mmf.store.exchange.hdf5 import export_hdf5
from mmf.store.exchange.hdf5_check import UnsafeFile
from mmf.store.exchange.hdf5_import import import_hdf5
from mmf.store.verify import verify

IDS = ["a", "clips/b.mp4", "100%.mp4", "%2F", ".", "..", "ä ö/…", "values", "x" * 300]
SECRET = b"the user's secret, sixty-four bytes of it, in a file of its own."


@pytest.fixture
def store(tmp_path):
    return FeatureStore.create(tmp_path / "feats")


@pytest.fixture
def full(tmp_path):
    """A store with three features, of several dtypes, shapes and lengths."""
    full = FeatureStore.create(tmp_path / "full")
    rng = np.random.default_rng(0)
    for name, dtype, shape in (("rgb", "uint8", (4,)), ("grid", "float16", (2, 2, 3))):
        spec = FeatureSpec(name=name, modality="rgb", shape=shape, dtype=dtype, recipe={"a": [1]})
        tracks = [
            Track(video_id=v, values=rng.normal(size=(n, *shape)), times=np.arange(n) ** 2 * 0.1)
            for n, v in enumerate(IDS)
        ]
        full.add(spec, tracks)
    words = FeatureSpec(name="text", modality="text", shape=(3,), dtype="int32")
    full.add(words, [Track(video_id="a", values=[[1, 2, 3]], times=[0.5])])
    return full


def refuses(store, path, says):
    with pytest.raises(UnsafeFile, match=says) as error:
        import_hdf5(store, path)
    assert "Nothing of it was read" in str(error.value)
    assert store.features == {}


@pytest.mark.parametrize("depth", ["/", "/rgb"])
@pytest.mark.parametrize("kind", ["external", "soft", "outer"])
def test_links_are_refused(store, tmp_path, kind, depth):
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["rgb/v"] = np.ones((2, 3))
    with h5py.File(tmp_path / "bad.h5", "w") as bad:
        bad["rgb/good"] = np.ones((2, 3))
        links = {
            "external": h5py.ExternalLink("other.h5", "/rgb/v"),
            "soft": h5py.SoftLink("/rgb/good"),
            "outer": h5py.ExternalLink("/etc/passwd", "/"),
        }
        bad[depth]["evil"] = links[kind]
    refuses(store, tmp_path / "bad.h5", "'(rgb/)?evil' is (an external|a soft) link")


@pytest.mark.parametrize("bad", ["a link", "no numbers", "no groups", "NaN", "no recipe"])
def test_a_file_that_is_refused_leaves_no_empty_store_behind(tmp_path, bad):
    with h5py.File(tmp_path / "bad.h5", "w") as file:
        if bad == "a link":
            file["rgb/v"] = h5py.ExternalLink("/etc/passwd", "/")
        elif bad == "no groups":
            file["v"] = np.ones((2, 3))
        else:
            rows = {"no numbers": b"text", "NaN": np.full((2, 3), np.nan)}
            file["rgb/v"] = rows.get(bad, np.ones((2, 3)))
            if bad == "no recipe":
                file["rgb"].attrs["mmf"] = "{}"
    with pytest.raises(MmfError):
        import_hdf5(tmp_path / "fresh", tmp_path / "bad.h5")
    assert not (tmp_path / "fresh").exists()


def test_external_storage_and_virtual_datasets_are_refused(store, tmp_path):
    (tmp_path / "secret").write_bytes(SECRET)
    with h5py.File(tmp_path / "external.h5", "w") as bad:
        bad.create_group("rgb").create_dataset(
            "v", (64, 1), "u1", external=[(str(tmp_path / "secret"), 0, 64)]
        )
    with h5py.File(tmp_path / "external.h5") as bad:
        assert bad["rgb/v"][()].tobytes() == SECRET  # what is at stake
    refuses(store, tmp_path / "external.h5", "'rgb/v' keeps its values in another file")
    layout = h5py.VirtualLayout((4, 1), "f4")
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", (4, 1))
    with h5py.File(tmp_path / "virtual.h5", "w") as bad:
        bad.create_group("rgb").create_virtual_dataset("v", layout)
    refuses(store, tmp_path / "virtual.h5", "'rgb/v' is a virtual dataset")


def test_a_small_file_that_claims_terabytes_is_refused(store, tmp_path):
    with h5py.File(tmp_path / "bomb.h5", "w") as bad:
        bad.create_dataset("rgb/v", (10_000_000, 1_000_000), "f4", chunks=(1, 1000))
    assert (tmp_path / "bomb.h5").stat().st_size < 10_000
    refuses(store, tmp_path / "bomb.h5", "'rgb/v' claims 40000000000000 bytes in a file of")


@pytest.mark.parametrize("dtype", [h5py.ref_dtype, np.dtype([("a", "f4")]), h5py.vlen_dtype("f4")])
def test_values_that_are_not_numbers_are_refused(store, tmp_path, dtype):
    with h5py.File(tmp_path / "bad.h5", "w") as bad:
        bad.create_dataset("rgb/v", (2,), dtype)
    refuses(store, tmp_path / "bad.h5", "not numbers")


def test_filters_from_elsewhere_are_refused(store, tmp_path):
    with h5py.File(tmp_path / "bad.h5", "w") as bad:
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((2, 3))
        properties.set_filter(32001, h5py.h5z.FLAG_OPTIONAL)  # a plug-in: Blosc
        space = h5py.h5s.create_simple((2, 3))
        h5py.h5d.create(bad.create_group("rgb").id, b"v", h5py.h5t.IEEE_F32LE, space, properties)
    refuses(store, tmp_path / "bad.h5", "needs the filter 32001")


def test_a_group_that_holds_itself_does_not_go_round_for_ever(store, tmp_path):
    with h5py.File(tmp_path / "loop.h5", "w") as bad:
        bad["rgb/v"] = np.ones((2, 3))
        bad["rgb/again"] = bad["rgb"]
    with pytest.raises(MmfError, match="expected rows of numbers"):
        import_hdf5(store, tmp_path / "loop.h5")


def test_what_is_no_hdf5_or_is_cut_short_is_one_sentence(store, full, tmp_path):
    with pytest.raises(MmfError, match="no HDF5 file at"):
        import_hdf5(store, tmp_path / "nope.h5")
    (tmp_path / "text.h5").write_text("no")
    with pytest.raises(MmfError, match="cannot be read as HDF5"):
        import_hdf5(store, tmp_path / "text.h5")
    path = export_hdf5(full, tmp_path / "out")
    whole = path.read_bytes()
    for share in (0.1, 0.5, 0.9):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(MmfError):
            import_hdf5(store, path)


@pytest.mark.parametrize(
    "mmf", ["{}", "[1]", "nonsense", '{"name": "../x", "shape": [1]}', '{"name": "rgb"}']
)
def test_a_recipe_that_is_none_is_refused(store, tmp_path, mmf):
    with h5py.File(tmp_path / "bad.h5", "w") as bad:
        bad["rgb/v"] = np.ones((2, 3))
        bad["rgb"].attrs["mmf"] = mmf
    with pytest.raises(MmfError):
        import_hdf5(store, tmp_path / "bad.h5")
    assert store.features == {}


@pytest.mark.parametrize(("start", "rows"), [(-1, 2), (0, 1 << 40), (3, 1), (0, -1)])
def test_an_index_that_points_outside_is_refused(store, tmp_path, start, rows):
    with h5py.File(tmp_path / "bad.h5", "w") as bad:
        bad["rgb/values"], bad["rgb/times"] = np.ones((3, 2)), np.arange(3.0)
        bad["rgb/start"], bad["rgb/rows"], bad["rgb/video_id"] = [start], [rows], ["v"]
    with pytest.raises(MmfError, match="video 0 is said to have the rows"):
        import_hdf5(store, tmp_path / "bad.h5")


@pytest.mark.parametrize("layout", ["videos", "concatenated"])
def test_a_store_comes_back_as_it_went(full, store, tmp_path, layout):
    path = export_hdf5(full, tmp_path / "out", layout=layout)
    assert [p.name for p in path.parent.iterdir()] == ["features.h5"]
    fresh = import_hdf5(store, path)
    assert fresh == {"grid": 8, "rgb": 8, "text": 1}  # a video without rows is not in the file
    assert store.features == full.features
    for name in full.features:
        for video, status in full.state(name).items():
            if status == "done" and len(there := full.read(name, video)):
                back = store.read(name, video)
                np.testing.assert_array_equal(back.values, there.values)
                np.testing.assert_array_equal(back.times, there.times)
    assert import_hdf5(store, path) == {"grid": 0, "rgb": 0, "text": 0}


def test_the_videos_layout_is_what_other_programs_expect(full, tmp_path):
    with h5py.File(export_hdf5(full, tmp_path, features=["rgb"])) as file:
        assert sorted(file) == ["rgb", "rgb.times"]
        codes = file["rgb/clips%2Fb.mp4"][()]
        scale, offset = (file["rgb"].attrs[a] for a in ("scale_factor", "add_offset"))
    np.testing.assert_allclose(
        codes * scale + offset, full.read("rgb", "clips/b.mp4").values, atol=1e-6
    )


def test_a_strangers_file_without_times_has_rows_at_the_rate_given(store, tmp_path, caplog):
    with h5py.File(tmp_path / "theirs.h5", "w") as theirs:
        theirs["pool5/50%25"] = np.arange(12.0).reshape(4, 3)
    assert import_hdf5(store, tmp_path / "theirs.h5", rate=2) == {"pool5": 1}
    track = store.read("pool5", "50%25")
    np.testing.assert_array_equal(track.times, [0, 0.5, 1, 1.5])
    np.testing.assert_array_equal(track.values, np.arange(12.0).reshape(4, 3))
    assert "has no times" in caplog.text


def test_a_purged_video_is_not_imported_again_and_nothing_of_it_is_written(full, tmp_path, caplog):
    path = export_hdf5(full, tmp_path)
    fresh = tmp_path / "fresh"
    name = "clips/b.mp4"
    import_hdf5(fresh, path)
    delete(fresh, [name], purge=True)
    assert import_hdf5(fresh, path) == {"grid": 0, "rgb": 0, "text": 0}
    assert "1 videos of 'rgb' were deleted from the store and stay out of it" in caplog.text
    found = [p for p in fresh.rglob("*") if p.is_file() and name.encode() in p.read_bytes()]
    assert found == []
    assert verify(fresh) == []
