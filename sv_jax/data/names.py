"""What published data calls its tasks: SpaceVista-1M's are ours, as it trains the same; a benchmark keeps its own, as its scores do."""

from __future__ import annotations

from sv_jax.tasks.describe import DESCRIPTIONS

# The nineteen tasks of the paper (Table B8), and what the released scorers call them (eval/metrics/spacevista.py)
NINETEEN = (
    "position_comparison", "size_comparison", "existence", "rotation", "relative_distance", "room_size", "counting", "object_size",
    "route_plan", "appearance_order", "view_change", "object_matching", "spatial_relation", "navigation", "area_estimation",
    "manipulation_plan", "absolute_distance", "depth", "obstacles",
)  # fmt: skip
SPACEVISTA = {task: task for task in (*NINETEEN, *DESCRIPTIONS)} | {
    "position_across_frame": "position_comparison", "comparison_height": "size_comparison", "comparison_width": "size_comparison",
    "object_rotation": "rotation", "camera_rotation": "rotation", "object_relative_distance": "relative_distance",
    "object_counting": "counting", "height": "object_size", "width": "object_size", "appear_order": "appearance_order",
    "camera_moving": "view_change", "object_distance": "absolute_distance", "depth_all": "depth",
}  # fmt: skip

# Of each benchmark's tasks, the unit of its numbers; None where there is none, or where the question says it.
# PeiwenSun2000/SpaceVista: eval/metrics/{vsibench,stibench,mmsibench,sparbench}.py
VSI = {
    "object_rel_direction_easy": None, "object_rel_direction_medium": None, "object_rel_direction_hard": None,
    "object_rel_distance": None, "route_planning": None, "obj_appearance_order": None, "object_counting": None,
    "object_abs_distance": "m", "object_size_estimation": "cm", "room_size_estimation": "m²",
}  # fmt: skip
STI = dict.fromkeys((
    "Dimensional Measurement", "Spatial Relation", "3D Video Grounding", "Displacement & Path Length", "Speed & Acceleration",
    "Ego-Centric Orientation", "Trajectory Description", "Pose Estimation",
))  # fmt: skip
MMSI = dict.fromkeys((
    *(f"Positional Relationship ({pair})" for pair in (
        "Cam.–Cam.", "Cam.–Obj.", "Cam.–Reg.", "Obj.–Obj.", "Obj.–Reg.", "Reg.–Reg.",
    )),
    "Attribute (Meas.)", "Attribute (Appr.)", "Motion (Cam.)", "Motion (Obj.)", "MSR",
))  # fmt: skip
SPAR = dict.fromkeys((
    *(f"{kind}_prediction_{what}{views}" for kind in ("depth", "distance") for what in ("oc", "oo") for views in ("", "_mv")),
    "view_change_infer", "position_matching", "camera_motion_infer", "distance_infer_center_oo", "distance_infer_center_oo_mv",
    "obj_spatial_relation_oo", "obj_spatial_relation_oc_mv", "obj_spatial_relation_oo_mv", "spatial_imagination_oc",
    "spatial_imagination_oo", "spatial_imagination_oc_mv", "spatial_imagination_oo_mv",
))  # fmt: skip
PUBLISHED_TASKS = frozenset((*NINETEEN, *VSI, *STI, *MMSI, *SPAR))
