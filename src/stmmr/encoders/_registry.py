"""The encoders that are known by name, and where they come from."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stmmr._core.checks import InputError, listed
from stmmr.encoders._he import HEEncoder
from stmmr.encoders._hub import CONFIG, HUB, find_model
from stmmr.encoders._lazyslide import LazySlideEncoder
from stmmr.encoders._timm import TimmEncoder
from stmmr.encoders._torch import UM_PER_PX, TorchEncoder
from stmmr.encoders._transformers import TransformersEncoder

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from stmmr.encoders._protocol import Encoder

KINDS: Final[dict[str, type[TorchEncoder]]] = {
    "transformers": TransformersEncoder,
    "timm": TimmEncoder,
    "lazyslide": LazySlideEncoder,
}
PREFIXES: Final = {"hf": "transformers", "transformers": "transformers", "timm": "timm", "lazyslide": "lazyslide"}
"""What a name may start with, and the library that it stands for."""
NON_COMMERCIAL: Final = "CC-BY-NC-ND-4.0"
SWIGLU: Final = {"mlp_layer": "timm.layers.SwiGLUPacked", "act_layer": "torch.nn.SiLU"}
BIOPTIMUS: Final = {"mean": (0.707223, 0.578729, 0.703617), "std": (0.211883, 0.230117, 0.177517)}


@dataclass(frozen=True, kw_only=True)
class _Known:
    """A model that is known by name."""

    name: str
    library: str
    model: str
    """Name on the hub."""
    n_features: int
    licence: str
    gated: bool
    """Whether its owners ask for consent before it is downloaded."""
    paper: str
    pooling: str = "cls"
    patch_px: int = 224
    remote_code: bool = False
    """Whether it brings code of its own that has to run."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What else its page says how to load it."""


# Width, pooling and how to load a model: its page on the hub, TRIDENT (mahmoodlab/TRIDENT, README and
# patch_encoder_models/load.py) and LazySlide (rendeirolab/lazyslide-models), which agree; so do licences and gates, but
# that LazySlide has H-optimus-0 as open and TRIDENT GigaPath as plain Apache-2.0: here stands the stricter of the two.
KNOWN: Final = (
    _Known(
        name="phikon",
        library="transformers",
        model="owkin/phikon",
        n_features=768,
        licence="Owkin, non-commercial",
        gated=False,
        paper="https://doi.org/10.1101/2023.07.21.23292757",
    ),
    _Known(
        name="phikon-v2",
        library="transformers",
        model="owkin/phikon-v2",
        n_features=1024,
        licence="Owkin, non-commercial",
        gated=False,
        paper="https://doi.org/10.48550/arXiv.2409.09173",
    ),
    _Known(
        name="hibou-b",
        library="transformers",
        model="histai/hibou-b",
        n_features=768,
        licence="Apache-2.0",
        gated=True,
        paper="https://doi.org/10.48550/arXiv.2406.05074",
        remote_code=True,
    ),
    _Known(
        name="hibou-l",
        library="transformers",
        model="histai/hibou-L",
        n_features=1024,
        licence="Apache-2.0",
        gated=True,
        paper="https://doi.org/10.48550/arXiv.2406.05074",
        remote_code=True,
    ),
    _Known(
        name="uni",
        library="timm",
        model="MahmoodLab/UNI",
        n_features=1024,
        licence=NON_COMMERCIAL,
        gated=True,
        paper="https://doi.org/10.1038/s41591-024-02857-3",
        options={"model_kwargs": {"init_values": 1e-5, "dynamic_img_size": True}},
    ),
    _Known(
        name="uni2-h",
        library="timm",
        model="MahmoodLab/UNI2-h",
        n_features=1536,
        licence=NON_COMMERCIAL,
        gated=True,
        paper="https://doi.org/10.1038/s41591-024-02857-3",
        options={
            "model_kwargs": {
                "img_size": 224,
                "patch_size": 14,
                "depth": 24,
                "num_heads": 24,
                "init_values": 1e-5,
                "embed_dim": 1536,
                "mlp_ratio": 2.66667 * 2,
                "no_embed_class": True,
                "reg_tokens": 8,
                "dynamic_img_size": True,
                **SWIGLU,
            }
        },
    ),
    _Known(
        name="virchow",
        library="timm",
        model="paige-ai/Virchow",
        n_features=2560,
        licence="Apache-2.0",
        gated=True,
        paper="https://doi.org/10.1038/s41591-024-03141-0",
        pooling="cls+mean",
        options={"model_kwargs": SWIGLU},
    ),
    _Known(
        name="virchow2",
        library="timm",
        model="paige-ai/Virchow2",
        n_features=2560,
        licence=NON_COMMERCIAL,
        gated=True,
        paper="https://doi.org/10.48550/arXiv.2408.00738",
        pooling="cls+mean",
        options={"model_kwargs": SWIGLU},
    ),
    _Known(
        name="h-optimus-0",
        library="timm",
        model="bioptimus/H-optimus-0",
        n_features=1536,
        licence="Apache-2.0",
        gated=True,
        paper="https://github.com/bioptimus/releases/tree/main/models/h-optimus/v0",
        options={"model_kwargs": {"init_values": 1e-5, "dynamic_img_size": False}, **BIOPTIMUS},
    ),
    _Known(
        name="h-optimus-1",
        library="timm",
        model="bioptimus/H-optimus-1",
        n_features=1536,
        licence=NON_COMMERCIAL,
        gated=True,
        paper=f"{HUB}/bioptimus/H-optimus-1",
        options={"model_kwargs": {"init_values": 1e-5, "dynamic_img_size": False}, **BIOPTIMUS},
    ),
    _Known(
        name="gigapath",
        library="timm",
        model="prov-gigapath/prov-gigapath",
        n_features=1536,
        licence="Apache-2.0 with conditions",
        gated=True,
        paper="https://doi.org/10.1038/s41586-024-07441-w",
    ),
    _Known(
        name="dinov2-small",
        library="transformers",
        model="facebook/dinov2-small",
        n_features=384,
        licence="Apache-2.0",
        gated=False,
        paper="https://doi.org/10.48550/arXiv.2304.07193",
    ),
    _Known(
        name="dinov2-base",
        library="transformers",
        model="facebook/dinov2-base",
        n_features=768,
        licence="Apache-2.0",
        gated=False,
        paper="https://doi.org/10.48550/arXiv.2304.07193",
    ),
    _Known(
        name="resnet50",
        library="transformers",
        model="microsoft/resnet-50",
        n_features=2048,
        licence="Apache-2.0",
        gated=False,
        paper="https://doi.org/10.1109/CVPR.2016.90",
        pooling="mean",
    ),
)


def encoders() -> pd.DataFrame:
    """List the encoders that are known by name.

    Any other model of transformers, timm or LazySlide's zoo can be given as well, see `encoder_of`.

    Returns
    -------
    A row per encoder, by its name, with

    ``library``
        What runs it; stmmr itself, or the extra to install: ``stmmr-kit[vit]`` (transformers) or ``stmmr-kit[timm]``.
    ``model``
        Name on the Hugging Face hub.
    ``patch_px``, ``um_per_px``, ``diameter_um``
        Pixels of a patch's side, their size, and the field of view.
    ``n_features``, ``pooling``
        Number of features, and which tokens they are.
    ``licence``, ``gated``
        Terms of the weights, and whether their owners ask for consent before the download.
    ``remote_code``
        Whether Python code that comes with the model has to run: give ``trust_remote_code=True``.
    ``source``, ``paper``
        Where it comes from.
    """
    import pandas as pd

    he = HEEncoder(um_per_px=UM_PER_PX)
    own = {
        "name": he.name,
        "library": "stmmr",
        "model": "",
        "patch_px": he.patch_px,
        "um_per_px": he.diameters_um[0] / he.patch_px,
        "diameter_um": ", ".join(f"{um:g}" for um in he.diameters_um),
        "n_features": len(he.feature_names),
        "pooling": "",
        "licence": "MIT",
        "gated": False,
        "remote_code": False,
        "source": "stmmr",
        "paper": "",
    }
    return pd.DataFrame([own, *map(_row, KNOWN)]).set_index("name")


def encoder_of(encoder: str | Path | Encoder | None, *, folder: str | Path | None = None, **options: Any) -> Encoder:
    """Make an encoder of its name.

    Parameters
    ----------
    encoder
        A name of `encoders`, such as ``"phikon"``; the folder of a model that transformers or timm wrote; its
        name on the hub, such as ``"owkin/phikon"``; ``"hf:NAME"``, ``"timm:NAME"`` or ``"lazyslide:NAME"``, which
        say the library; or an encoder, which is returned. None stands for ``"he"``.
    folder
        Where the files of a known model lie, if it was downloaded by hand: ``encoder_of("uni", folder="uni")``.
    **options
        For the encoder, such as `pooling`, `um_per_px`, `device` or `precision`; see `TransformersEncoder`,
        `TimmEncoder` and `HEEncoder`.

    Raises
    ------
    InputError
        If there is no such encoder, or it cannot be used: see `TransformersEncoder`.
    """
    if encoder is None or encoder == HEEncoder.name:
        return HEEncoder(**options)
    if not isinstance(encoder, (str, Path)):
        return _as_it_is(encoder, options)
    name = str(encoder)
    for known in KNOWN:
        if name.lower() in (known.name, known.model.lower()) and not Path(encoder).is_dir():
            return _known(known, folder, options)
    prefix, colon, rest = name.partition(":")
    if colon and prefix in PREFIXES:
        return KINDS[PREFIXES[prefix]](folder or rest, **options)
    if not Path(encoder).expanduser().exists() and "/" not in name:
        raise InputError(_unknown(name))
    return KINDS[_library(encoder)](encoder, **options)


def _known(known: _Known, folder: str | Path | None, options: Mapping[str, Any]) -> Encoder:
    """Make a known encoder, the way its page says unless the options say else."""
    if known.remote_code and not options.get("trust_remote_code"):
        raise InputError(
            f"Expected consent to run code that comes with {known.name}, found none. Read it at {HUB}/{known.model}, "
            "and give trust_remote_code=True if you trust it."
        )
    given = {"pooling": known.pooling, "name": known.name, **known.options, **options}
    return KINDS[known.library](folder or known.model, **given)


def _row(known: _Known) -> dict[str, Any]:
    """Describe a known model."""
    return {
        "name": known.name,
        "library": known.library,
        "model": known.model,
        "patch_px": known.patch_px,
        "um_per_px": UM_PER_PX,
        "diameter_um": f"{known.patch_px * UM_PER_PX:g}",
        "n_features": known.n_features,
        "pooling": known.pooling,
        "licence": known.licence,
        "gated": known.gated,
        "remote_code": known.remote_code,
        "source": f"{HUB}/{known.model}",
        "paper": known.paper,
    }


def _as_it_is(encoder: Any, options: Mapping[str, Any]) -> Encoder:
    """Check that something is an encoder, and that no options were meant for it."""
    wanted = ("name", "diameters_um", "patch_px", "fit", "__call__")
    lacking = [member for member in wanted if not hasattr(encoder, member)]
    if lacking:
        raise InputError(
            f"Expected an encoder or the name of one, found {type(encoder).__name__} without {listed(lacking)}."
        )
    if options:
        raise InputError(f"Expected options with the name of an encoder only, found {listed(options)}.")
    return encoder  # type: ignore[no-any-return]


def _library(model: str | Path) -> str:
    """Tell which library wrote a model, by its configuration."""
    config = json.loads((find_model(model).folder / CONFIG).read_text(encoding="utf-8"))
    return "timm" if "architecture" in config else "transformers"


def _unknown(name: str) -> str:
    """Say which encoders there are."""
    names = [HEEncoder.name, *(known.name for known in KNOWN)]
    close = difflib.get_close_matches(name.lower(), names, n=3)
    meant = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    kinds = " or ".join(f"{prefix}:NAME" for prefix in ("hf", "timm", "lazyslide"))
    return (
        f"Expected the name of an encoder, found {name!r}.{meant} There are {listed(names, at_most=20)}; any "
        f"other model goes as {kinds}, or as the folder it is in."
    )
