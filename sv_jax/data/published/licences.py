"""Whose pictures and questions, under which licence: Table B9 of the SpaceVista paper (arXiv 2510.09606)."""

from __future__ import annotations

NOT_STATED = "not stated: ask the source"
LICENCES = {
    "SpaceVista-1M": "CC BY 4.0 or Apache-2.0, by source",
    "VSI-Bench": "Apache-2.0",
    "STI-Bench": "Apache-2.0",
    "MMSI-Bench": "CC BY 4.0",
    "SPAR-Bench": "Apache-2.0",
    "uCO3D": "CC BY 4.0",
    "WildRGB-D": "none given",
    "SMOT": "unknown",
    "SpaceR": "CC BY-NC 4.0",
    "ScanNet": "ScanNet Terms of Use",
    "DL3DV": "DL3DV-10K Terms of Use",
    "ScanNet++": "ScanNet++ Terms of Use",  # from here on not in the table
    "ARKitScenes": "Apple's terms for ARKitScenes, non-commercial",
}
# Spellings in paths and fields, lower case without - and _, in the order they are looked for
SPELLINGS = {
    "uco3d": "uCO3D", "wildrgbd": "WildRGB-D", "smot": "SMOT", "spacer": "SpaceR", "scannet": "ScanNet", "dl3dv": "DL3DV",
    "spar": "SPAR-Bench", "vsi": "VSI-Bench", "sti": "STI-Bench", "mmsi": "MMSI-Bench",
}  # fmt: skip


def source_of(name: str) -> str:
    """`source_of("DL3DV_frames/0a1b/0001.png")` -> "DL3DV"; a name that says none of them is its own source."""
    plain = name.lower().replace("-", "").replace("_", "")
    return next((source for spelling, source in SPELLINGS.items() if spelling in plain), name)


def licence(source: str) -> str:
    return LICENCES.get(source, NOT_STATED)
