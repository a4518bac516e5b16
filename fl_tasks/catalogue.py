"""The tasks whose data are arrays of small images: classes, channels and size of each. Known without numpy or torch."""

from __future__ import annotations

from dataclasses import dataclass

MEDMNIST = "medmnist"
DIGITS = tuple("0123456789")
_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_ORGANS = (
    "bladder", "femur-left", "femur-right", "heart", "kidney-left", "kidney-right", "liver", "lung-left", "lung-right",
    "pancreas", "spleen",
)  # fmt: skip


@dataclass(frozen=True)
class ArrayTask:
    """One data set: its classes in the order of their labels, 1 (grey) or 3 (RGB) channels, pixels a side.

    ``balanced`` says that every class is about as frequent as the others, so that the loss need not weigh them.
    """

    name: str
    classes: tuple[str, ...]
    channels: int = 1
    side: int = 28
    balanced: bool = False


def _medmnist(name: str, channels: int, *classes: str) -> ArrayTask:
    return ArrayTask(f"{MEDMNIST}:{name}", classes, channels)


# MedMNIST v2 (Yang et al. 2023, Scientific Data 10, 41): classes as in the package's info.py, shortened where a
# name is a sentence.
_ALL = (
    ArrayTask("mnist", DIGITS, balanced=True),
    ArrayTask("cifar10", _CIFAR10, channels=3, side=32, balanced=True),
    _medmnist("pneumoniamnist", 1, "normal", "pneumonia"),
    _medmnist("breastmnist", 1, "malignant", "normal or benign"),
    _medmnist("octmnist", 1, "choroidal neovascularization", "diabetic macular edema", "drusen", "normal"),
    _medmnist("organamnist", 1, *_ORGANS),
    _medmnist("organcmnist", 1, *_ORGANS),
    _medmnist("organsmnist", 1, *_ORGANS),
    _medmnist(
        "tissuemnist", 1, "collecting duct, connecting tubule", "distal convoluted tubule", "glomerular endothelial cells",
        "interstitial endothelial cells", "leukocytes", "podocytes", "proximal tubule segments", "thick ascending limb",
    ),
    _medmnist(
        "pathmnist", 3, "adipose", "background", "debris", "lymphocytes", "mucus", "smooth muscle",
        "normal colon mucosa", "cancer-associated stroma", "colorectal adenocarcinoma epithelium",
    ),
    _medmnist(
        "dermamnist", 3, "actinic keratoses and intraepithelial carcinoma", "basal cell carcinoma",
        "benign keratosis-like lesions", "dermatofibroma", "melanoma", "melanocytic nevi", "vascular lesions",
    ),
    _medmnist(
        "bloodmnist", 3, "basophil", "eosinophil", "erythroblast", "immature granulocytes", "lymphocyte", "monocyte",
        "neutrophil", "platelet",
    ),
    _medmnist("retinamnist", 3, "grade 0", "grade 1", "grade 2", "grade 3", "grade 4"),
)  # fmt: skip

ARRAY_TASKS: dict[str, ArrayTask] = {task.name: task for task in _ALL}
"""By the name that --task takes."""

NOT_YET = {f"{MEDMNIST}:chestmnist": "its images have several labels each, and Hilum learns one an image"}
"""Names people will try, and why they are no task."""
