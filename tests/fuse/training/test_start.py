"""How a training starts."""

from dataclasses import replace

import pytest

from mmf import MmfError
from mmf.fuse import TrainConfig, train
from mmf.fuse.fusions import FUSIONS
from mmf.fuse.run import Run


@pytest.mark.parametrize("fusion", ["mixer", "mmf_transformer"])
def test_a_network_with_weights_for_every_step_is_as_long_as_the_longest_item(
    xor_store, tmp_path, small, fusion
):
    config = TrainConfig(
        store=xor_store.path,
        out=tmp_path / "run",
        fusion=fusion,
        fusion_options=small(FUSIONS, fusion),
        epochs=1,
        device="cpu",
    )
    run = train(config)
    assert Run.open(run).config.max_steps == 9
    assert train(replace(config, epochs=1), resume=True) == run  # asks for 300, as it was begun
    shorter = train(replace(config, max_steps=4, out=tmp_path / "shorter"))
    assert Run.open(shorter).config.max_steps == 4
    with pytest.raises(MmfError, match="begun with max_steps 9; this asks for 5"):
        train(replace(config, max_steps=5), resume=True)


def test_another_network_reads_as_many_rows_as_it_is_told(xor_store, tmp_path):
    run = train(TrainConfig(store=xor_store.path, out=tmp_path / "run", epochs=1, device="cpu"))
    assert Run.open(run).config.max_steps == 300
