"""Libraries that an extra installs: what is said where they are not there."""

import sys

import pytest

from mmf import MmfError, from_extra


@pytest.mark.parametrize(
    ("module", "called"),
    [
        ("sklearn.cluster", "scikit-learn"),
        ("matplotlib.figure", "matplotlib"),
        ("dask_jobqueue", "dask-jobqueue"),
    ],
)
def test_a_missing_library_is_named_with_its_extra(monkeypatch, module, called):
    monkeypatch.setitem(sys.modules, module.partition(".")[0], None)
    said = rf"a map needs {called}, which is not installed.*pip install 'mmf-video\[report\]'"
    with pytest.raises(MmfError, match=said):
        from_extra("report", module, "a map")


def test_a_part_that_a_library_does_not_have_does_not_make_it_missing():
    with pytest.raises(ModuleNotFoundError, match="'matplotlib.colours'"):
        from_extra("report", "matplotlib.colours", "a picture")


def test_a_library_that_lacks_something_itself_is_not_called_missing(monkeypatch, tmp_path):
    (tmp_path / "half_a_library.py").write_text("import the_other_half\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="the_other_half"):
        from_extra("report", "half_a_library", "a map")
