"""Presets: a backbone for each modality under one name, with its options as in `--feature`.

``embedded``   no weights, no network, the same everywhere; the default.
``standard``   strong pretrained networks.
``youtube8m``  YouTube-8M's recipe: features of one's own videos as in the data set. The matrices
               are the user's, in the working folder: ``yt8m_pca`` (what yt8m_pca.tgz holds:
               mean.npy, eigenvals.npy, eigenvecs.npy) and ``vggish_pca_params.npz``. A row a second
               of either stream, at most 300, as codes of 8 bits; ``mmf export youtube8m`` then
               writes them unchanged. Where the last sound ends early it is filled up with silence.
``adamml``     Panda et al., AdaMML, ICCV 2021: the networks that recognise.
"""

from mmf import unknown

PRESETS: dict[str, dict[str, str]] = {
    "embedded": {"rgb": "hog", "audio": "logmel", "flow": "hof", "text": "hashing"},
    "standard": {
        "rgb": "dinov2",
        "clip": "videomae",
        "audio": "ast",
        "flow": "x3d:m,flow=raft",
        "text": "minilm",
    },
    "youtube8m": {
        "rgb": "inception_2015,dtype=uint8,limit=300,pca=yt8m_pca",
        "audio": "vggish,dtype=uint8,limit=300,pca=vggish_pca_params.npz",
    },
    "adamml": {"rgb": "resnet50", "audio": "mobilenet_v2", "flow": "resnet50"},
}


def preset(name: str) -> dict[str, str]:
    """The backbone of each modality in the preset `name`; UnknownName suggests near ones."""
    if name not in PRESETS:
        raise unknown("preset", name, PRESETS)
    return dict(PRESETS[name])
