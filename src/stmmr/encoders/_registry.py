"""The encoders that are known by name, and where they come from."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from stmmr._core.checks import InputError, did_you_mean, listed
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

HF: Final = "transformers"
TIMM: Final = "timm"
LAZYSLIDE: Final = "lazyslide"
CLASSES: Final[dict[str, type[TorchEncoder]]] = {
    HF: TransformersEncoder,
    TIMM: TimmEncoder,
    LAZYSLIDE: LazySlideEncoder,
}
PREFIXES: Final = {"hf": HF, "transformers": HF, "timm": TIMM, "lazyslide": LAZYSLIDE}
"""Prefixes of names, and the libraries that they stand for."""
APACHE: Final = "Apache-2.0"
NON_COMMERCIAL: Final = "CC-BY-NC-ND-4.0"
OWKIN: Final = "Owkin, non-commercial"
SWIGLU: Final = {"mlp_layer": "timm.layers.SwiGLUPacked", "act_layer": "torch.nn.SiLU"}
UNI: Final = {"model_kwargs": {"init_values": 1e-5, "dynamic_img_size": True}}
UNI2: Final = {
    "model_kwargs": {
        **UNI["model_kwargs"],
        **SWIGLU,
        "img_size": 224,
        "patch_size": 14,
        "depth": 24,
        "num_heads": 24,
        "embed_dim": 1536,
        "mlp_ratio": 2.66667 * 2,
        "no_embed_class": True,
        "reg_tokens": 8,
    }
}
VIRCHOW: Final = {"model_kwargs": SWIGLU, "pooling": "cls+mean"}
OPTIMUS: Final = {
    "model_kwargs": {"init_values": 1e-5, "dynamic_img_size": False},
    "mean": (0.707223, 0.578729, 0.703617),
    "std": (0.211883, 0.230117, 0.177517),
}
OPTIMUS_0: Final = "https://github.com/bioptimus/releases/tree/main/models/h-optimus/v0"
RESNET: Final = {"pooling": "mean"}


@dataclass(frozen=True)
class _Known:
    """A model that is known by name."""

    name: str
    library: str
    model: str
    """Name on the hub."""
    n_features: int
    licence: str
    paper: str
    """DOI or address; empty if it is the page on the hub."""
    gated: bool = True
    """Whether its owners have to grant access before it can be downloaded."""
    remote_code: bool = False
    """Whether it brings code of its own that has to run."""
    patch_px: int = 224
    options: Mapping[str, object] = field(default_factory=dict)
    """How its page says to load it, where the defaults do not fit."""

    @property
    def pooling(self) -> str:
        """Tokens that are the features."""
        return str(self.options.get("pooling", "cls"))

    @property
    def address(self) -> str:
        """Address of the paper."""
        if not self.paper:
            return f"{HUB}/{self.model}"
        return self.paper if self.paper.startswith("https:") else f"https://doi.org/{self.paper}"


# Width, pooling and how to load a model: its page on the hub, TRIDENT (mahmoodlab/TRIDENT, README and
# patch_encoder_models/load.py) and LazySlide (rendeirolab/lazyslide-models), which agree; so do licences and gates,
# except that LazySlide has H-optimus-0 as open and TRIDENT GigaPath as plain Apache-2.0: the stricter of both is here.
KNOWN: Final = (
    # name, library, name on the hub, number of features, licence, paper
    _Known("phikon", HF, "owkin/phikon", 768, OWKIN, "10.1101/2023.07.21.23292757", gated=False),
    _Known("phikon-v2", HF, "owkin/phikon-v2", 1024, OWKIN, "10.48550/arXiv.2409.09173", gated=False),
    _Known("hibou-b", HF, "histai/hibou-b", 768, APACHE, "10.48550/arXiv.2406.05074", remote_code=True),
    _Known("hibou-l", HF, "histai/hibou-L", 1024, APACHE, "10.48550/arXiv.2406.05074", remote_code=True),
    _Known("uni", TIMM, "MahmoodLab/UNI", 1024, NON_COMMERCIAL, "10.1038/s41591-024-02857-3", options=UNI),
    _Known("uni2-h", TIMM, "MahmoodLab/UNI2-h", 1536, NON_COMMERCIAL, "10.1038/s41591-024-02857-3", options=UNI2),
    _Known("virchow", TIMM, "paige-ai/Virchow", 2560, APACHE, "10.1038/s41591-024-03141-0", options=VIRCHOW),
    _Known("virchow2", TIMM, "paige-ai/Virchow2", 2560, NON_COMMERCIAL, "10.48550/arXiv.2408.00738", options=VIRCHOW),
    _Known("h-optimus-0", TIMM, "bioptimus/H-optimus-0", 1536, APACHE, OPTIMUS_0, options=OPTIMUS),
    _Known("h-optimus-1", TIMM, "bioptimus/H-optimus-1", 1536, NON_COMMERCIAL, "", options=OPTIMUS),
    _Known(
        "gigapath", TIMM, "prov-gigapath/prov-gigapath", 1536, f"{APACHE} with conditions", "10.1038/s41586-024-07441-w"
    ),
    _Known("dinov2-small", HF, "facebook/dinov2-small", 384, APACHE, "10.48550/arXiv.2304.07193", gated=False),
    _Known("dinov2-base", HF, "facebook/dinov2-base", 768, APACHE, "10.48550/arXiv.2304.07193", gated=False),
    _Known("resnet50", HF, "microsoft/resnet-50", 2048, APACHE, "10.1109/CVPR.2016.90", gated=False, options=RESNET),
)


def encoders() -> pd.DataFrame:
    """List the encoders that are known by name.

    Any other model of transformers, timm or LazySlide's zoo works as well, see `encoder_of`.

    Returns
    -------
    A row for each encoder, by its name, with

    ``library``
        What runs it; stmmr itself, or the extra to install: ``stmmr-kit[vit]`` (transformers) or ``stmmr-kit[timm]``.
    ``model``
        Name on the Hugging Face hub.
    ``patch_px``, ``um_per_px``, ``diameter_um``
        Pixels of the side of a patch, their size, and the field of view.
    ``n_features``, ``pooling``
        Number of features, and which tokens they are.
    ``licence``, ``gated``
        Terms of the weights, and whether their owners have to grant access before the download.
    ``remote_code``
        Whether Python code that comes with the model has to run: pass ``trust_remote_code=True``.
    ``source``, ``paper``
        Where it comes from.
    """
    import pandas as pd

    he = HEEncoder(um_per_px=UM_PER_PX)
    rows = [
        {
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
            "paper": known.address,
        }
        for known in (_Known(he.name, "stmmr", "", len(he.feature_names), "MIT", "", gated=False), *KNOWN)
    ]
    diameters = ", ".join(f"{um:g}" for um in he.diameters_um)
    own = {"patch_px": he.patch_px, "um_per_px": he.diameters_um[0] / he.patch_px, "diameter_um": diameters}
    rows[0] |= own | {"pooling": "", "source": "stmmr", "paper": ""}
    return pd.DataFrame(rows).set_index("name")


def encoder_of(encoder: str | Path | Encoder | None, *, folder: str | Path | None = None, **options: Any) -> Encoder:
    """Make an encoder from its name.

    Parameters
    ----------
    encoder
        A name of `encoders`, such as ``"phikon"``; the folder of a model that transformers or timm wrote; its
        name on the hub, such as ``"owkin/phikon"``; ``"hf:NAME"``, ``"timm:NAME"`` or ``"lazyslide:NAME"``, to choose
        the library; or an encoder, which is returned. None stands for ``"he"``.
    folder
        Folder of the files of a known model that was downloaded by hand: ``encoder_of("uni", folder="uni")``.
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
        return _checked(encoder, options)
    name = str(encoder)
    for known in KNOWN:
        if name.lower() in (known.name, known.model.lower()) and not Path(encoder).is_dir():
            return _make(known, folder, options)
    prefix, colon, rest = name.partition(":")
    if colon and prefix in PREFIXES:
        return CLASSES[PREFIXES[prefix]](folder or rest, **options)
    require_encoder(encoder)
    return CLASSES[_library(encoder)](encoder, **options)


def require_encoder(encoder: object) -> None:
    """Check that there may be an encoder of a name, without looking for its weights.

    Raises InputError if there is none; the message lists those that are known.
    """
    if not isinstance(encoder, str | Path):
        _checked(encoder, {})
        return
    name = str(encoder)
    is_known = name.lower() in {HEEncoder.name, *(known.name for known in KNOWN)}
    if not (is_known or "/" in name or name.partition(":")[0] in PREFIXES or Path(name).expanduser().exists()):
        raise InputError(_unknown(name))


def _make(known: _Known, folder: str | Path | None, options: Mapping[str, Any]) -> Encoder:
    """Make a known encoder, as its page says unless the options differ."""
    if known.remote_code and not options.get("trust_remote_code"):
        raise InputError(
            f"Expected consent to run code that comes with {known.name}, found none. Read it at {HUB}/{known.model}, "
            "and give trust_remote_code=True if you trust it."
        )
    defaults = {"pooling": known.pooling, "name": known.name, **known.options}
    return CLASSES[known.library](folder or known.model, **{**defaults, **options})


def _checked(encoder: object, options: Mapping[str, object]) -> Encoder:
    """Check that an object is an encoder, and that it comes without options."""
    members = ("name", "diameters_um", "patch_px", "fit", "__call__")
    missing = [member for member in members if not hasattr(encoder, member)]
    if missing:
        raise InputError(
            f"Expected an encoder or the name of one, found {type(encoder).__name__} without {listed(missing)}."
        )
    if options:
        raise InputError(f"Expected options with the name of an encoder only, found {listed(options)}.")
    return cast("Encoder", encoder)


def _library(model: str | Path) -> str:
    """Tell which library wrote a model, by its configuration."""
    config = json.loads((find_model(model).folder / CONFIG).read_text(encoding="utf-8"))
    return TIMM if "architecture" in config else HF


def _unknown(name: str) -> str:
    """List the encoders that can be named."""
    names = [HEEncoder.name, *(known.name for known in KNOWN)]
    close = difflib.get_close_matches(name.lower(), names, n=3)
    kinds = " or ".join(f"{prefix}:NAME" for prefix in ("hf", "timm", "lazyslide"))
    return (
        f"Expected the name of an encoder, found {name!r}.{did_you_mean(close)} Known are "
        f"{listed(names, at_most=20)}; give any other model as {kinds}, or as its folder."
    )
