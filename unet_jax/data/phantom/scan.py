"""One scan of the phantom: a synthetic head with a tumour, as three MRI sequences and a mask.

Each voxel gets its place in a standard head, in millimetres; tissues are painted from the outside in, wherever a
distance field is positive; what varies from patient to patient comes from sums of plane waves.
"""

import cv2
import numpy as np
from jaxtyping import Float, Float32, UInt8

FIELD_OF_VIEW = 230.0  # mm, rows and columns
LOWEST, HIGHEST = -58.0, 80.0  # mm above the middle of the head, first and last slice
COARSE = 100  # rows and columns below which pixels are means of finer ones

# Signal of pre-contrast T1, FLAIR and post-contrast T1, for fat about 1.
SIGNAL = {
    "air": (0.01, 0.01, 0.01),
    "bone": (0.06, 0.06, 0.06),
    "marrow": (0.40, 0.32, 0.42),
    "muscle": (0.40, 0.36, 0.48),
    "skin": (0.45, 0.40, 0.60),
    "fat": (1.00, 0.85, 1.00),
    "fluid": (0.14, 0.08, 0.16),
    "white": (0.60, 0.38, 0.61),
    "grey": (0.45, 0.47, 0.48),
    "deep grey": (0.51, 0.45, 0.54),
    "vessel": (0.20, 0.15, 1.00),
    "choroid plexus": (0.35, 0.42, 0.90),
    "cap": (0.54, 0.56, 0.54),
    "spot": (0.52, 0.70, 0.53),
    "tumour": (0.38, 0.75, 0.42),
    "core": (0.28, 0.60, 0.28),
    "rim": (0.42, 0.70, 0.95),
}
# Centre and radii, and start, end and radius, in mm as in _head_points; the right half stands for both.
DEEP_GREY = (((13, 10, 8), (9, 15, 10)), ((24, -6, 6), (6, 18, 11)), ((12, -20, 14), (6, 11, 10)))
VENTRICLES = (
    ((11, -38, 8), (5, -14, 14), 3.6),
    ((5, -14, 14), (9, 14, 22), 4.6),
    ((9, 14, 22), (24, 38, 10), 5.2),
    ((24, 38, 10), (25, 56, 4), 3.0),
    ((27, 34, 4), (33, -2, -18), 2.6),
    ((0, -8, -6), (0, 10, 4), 2.2),
    ((0, 26, -36), (0, 24, -26), 5.0),
)
ARTERIES = (((4, -18, -16), (44, -16, -8), 1.4), ((3, -22, -12), (3, -46, 8), 1.2))

Triple = tuple[float | int, float | int, float | int] | Float[np.ndarray, "3"]
Field = Float32[np.ndarray, "d h w"]
Points = Float32[np.ndarray, "3 d h w"]
Image = Float32[np.ndarray, "3 d h w"]  # while it is painted, each sequence is one block of memory


def generate_case(
    seed: int, index: int, *, size: int, slices: int
) -> tuple[UInt8[np.ndarray, "d h w 3"], UInt8[np.ndarray, "d h w"]]:
    """One scan, a pure function of its arguments; (seed, index) is the patient.

    Args:
        seed: the data set.
        index: the patient in it.
        size: rows and columns, in pixels; they span 230 mm.
        slices: how many; they span 138 mm, from the skull's base to near its top.

    Returns:
        The image (channels: pre-contrast T1, FLAIR, post-contrast T1) and the mask, where 1 is tumour. One
        patient in six lacks pre- or post-contrast, and FLAIR stands in for it.
    """
    rng = np.random.default_rng([seed, index])
    # A folded cortex is finer than the pixels of a small picture, which are means of finer ones then, as a scanner's.
    finer = 2 if size < COARSE else 1
    points = _head_points(rng, finer * size, slices)
    both = np.stack([np.abs(points[0]), points[1], points[2]])
    head, brain, cerebellum, brainstem = _head_geometry(points, both)
    image = np.zeros((3, *head.shape), np.float32)
    _paint_head(image, rng, points, both, head, brain)
    _paint_brain(image, rng, points, both, brain)
    _paint_hindbrain(image, rng, points, cerebellum, brainstem)
    ventricles = _paint_ventricles(image, rng, both)
    _paint_confounders(image, rng, points, both, brain, ventricles)
    cover = _paint_tumour(image, rng, points, np.minimum(brain, -ventricles))
    image, cover, points = (_shrunk(field, finer) for field in (image, cover, points))
    return _degrade(image, rng, points), (cover > 0.5).astype(np.uint8)


def _shrunk(field: np.ndarray, times: int) -> np.ndarray:
    """Means over squares of so many pixels a side."""
    *others, rows, columns = field.shape
    return field.reshape(*others, rows // times, times, columns // times, times).mean((-3, -1))


def _head_points(rng: np.random.Generator, size: int, slices: int) -> Points:
    """Where each voxel lies in a standard head: mm to the right, to the back and up from its middle."""
    line = ((np.arange(size) + 0.5) / size - 0.5) * FIELD_OF_VIEW
    z, y, x = np.meshgrid(np.linspace(LOWEST, HIGHEST, slices), line, line, indexing="ij")
    rotation, _ = cv2.Rodrigues(np.deg2rad(rng.normal(0, (4, 2, 5))))
    scale = np.clip(rng.normal(1, 0.03) * rng.normal(1, 0.025, (3, 1)), 0.9, 1.08)
    scanner = np.stack([x, y, z]) - rng.uniform(-4, 4, (3, 1, 1, 1))
    points = np.tensordot(rotation / scale, scanner, 1).astype(np.float32)
    # No two heads are alike, and no two halves of one.
    return points + 2 * np.stack([_waves(rng, points, 110.0, 6) for _ in range(3)])


def _head_geometry(points: Points, both: Points) -> tuple[Field, Field, Field, Field]:
    """Depth inside head, brain, cerebellum and brainstem in mm, about; negative outside."""
    x, y, z = points
    egg = np.stack([x / (1 + 0.0006 * y), y, np.where(z > 0, z, 0.7 * z)])  # narrower in front, long downwards
    skull = _ellipsoid(egg, (0, 0, 0), (75, 95, 90), 2.2)
    nose = _ellipsoid(points, (0, -92, -50), (13, 20, 26))
    ears = _ellipsoid(both, (78, 8, -34), (5, 15, 24))
    cerebrum = np.minimum(skull - 12, z + 13 + 0.12 * np.abs(y))
    temporal = _ellipsoid(both, (40, -12, -20), (25, 36, 24))
    cerebellum = _ellipsoid(points, (0, 44, -38), (53, 40, 29))
    brainstem = _tube(points, (0, 14, -75), (0, 4, -12), 12.0)
    brain = np.minimum(np.maximum.reduce([cerebrum, temporal, cerebellum, brainstem]), skull - 12)
    return np.maximum.reduce([skull, nose, ears]), brain, cerebellum, brainstem


def _paint_head(
    image: Image, rng: np.random.Generator, points: Points, both: Points, head: Field, brain: Field
) -> None:
    """Skin, fat, muscle, eyes, air, the skull, and the fluid in which the brain floats."""
    inner = head - rng.uniform(4, 6.5)
    _paint(image, _cover(head), "skin")
    _paint(image, _cover(head - 1.5), "fat")
    _paint(image, _cover(inner), "muscle")
    texture = _waves(rng, points, 30.0, 16) + 0.5 * _waves(rng, points, 14.0, 16)
    _paint(image, _cover(inner) * _cover(texture - 0.7, 0.6), "fat", 0.75)
    _paint(image, _cover(np.minimum(inner, -4 * texture - 4)), "bone")
    orbit = np.minimum(inner, _ellipsoid(both, (31, -66, -32), (19, 26, 17)))
    _paint(image, _cover(orbit), "fat", 0.8)
    _paint(image, _cover(np.minimum(orbit, _tube(both, (30, -62, -32), (22, -44, -32), 2.2))), "muscle")
    _paint(image, _cover(np.minimum(head - 2, _ellipsoid(both, (31, -74, -32), (12, 12, 12)))), "fluid")
    ethmoid = _ellipsoid(both, (8, -62, -42), (10, 26, 22))
    mastoid = _ellipsoid(both, (52, 22, -46), (14, 16, 14))
    _paint(image, _cover(np.minimum.reduce([inner, np.maximum(ethmoid, mastoid), 6 * texture + 6])), "air")
    _paint(image, _cover(np.minimum(inner, brain + 7)), "bone")
    _paint(image, _cover(1.3 - np.abs(brain + 4.2)) * _cover(points[2] + 5), "marrow", 0.8)
    _paint(image, _cover(brain + 1.5), "fluid")


def _paint_brain(image: Image, rng: np.random.Generator, points: Points, both: Points, brain: Field) -> None:
    """Cortex folded round white matter, fissures, and the deep nuclei."""
    x, y, z = points
    # A sum of waves of one length is zero along meanders like sulci; stretched outwards, these run inwards.
    radius = np.sqrt(np.sum(points**2, 0)) + 1
    fold = _waves(rng, points * (60 / radius) ** 0.5, 22.0, 24)
    beyond = np.maximum(brain - 19 - 5 * _waves(rng, points, 35.0, 8), 0)
    sulcus = np.hypot(22 / 6.5 * fold, beyond)
    callosum = np.maximum(_ellipsoid(points, (0, 2, 2), (60, 46, 30)), 0)
    fissure = np.hypot(x + 0.8 * _waves(rng, points, 60.0, 4), callosum + np.maximum(-20 - z, 0))
    insula = np.maximum(38 - both[0], 0) + np.maximum(np.abs(y + 8) - 24, 0)
    sylvian = np.hypot(z - 2 + 0.12 * y + 5 * fold, insula)
    cortex = 3 + 0.7 * _waves(rng, points, 12.0, 8)
    _paint(image, _cover(brain), "grey")
    _paint(image, _cover(np.minimum.reduce([brain, sulcus, fissure, sylvian]) - cortex, 1.2), "white")
    wide = rng.uniform(0.4, 1.3)  # sulci widen with age
    gaps = [wide * (1.15 - 0.04 * brain) - sulcus, 1 - fissure, 1.6 * wide - sylvian]
    _paint(image, _cover(np.maximum.reduce(gaps)) * _cover(brain), "fluid")
    for centre, radii in DEEP_GREY:
        _paint(image, _cover(_ellipsoid(both, centre, radii), 1.5), "deep grey")


def _paint_hindbrain(
    image: Image, rng: np.random.Generator, points: Points, cerebellum: Field, brainstem: Field
) -> None:
    """Cerebellum with its folia, brainstem, and the fluid round them and before them."""
    _, y, z = points
    folia = np.cos(2 * np.pi / 7 * np.hypot(y - 18, z + 28) + 2 * _waves(rng, points, 30.0, 8))
    _paint(image, _cover(cerebellum + 1.5), "fluid")
    _paint(image, _cover(cerebellum), "grey")
    _paint(image, _cover(cerebellum - 4) * (0.5 + 0.4 * folia), "white")
    _paint(image, _cover(brainstem + 2.5), "fluid")
    _paint(image, _cover(brainstem), "white", 0.7)
    _paint(image, _cover(_ellipsoid(points, (0, -16, -20), (13, 10, 9))), "fluid")


def _paint_ventricles(image: Image, rng: np.random.Generator, both: Points) -> Field:
    """Ventricles with a bright lining in FLAIR and choroid plexus; returns the depth inside them, in mm."""
    swell = rng.uniform(0.8, 1.7)
    ventricles = np.maximum.reduce([_tube(both, start, end, swell * radius) for start, end, radius in VENTRICLES])
    _paint(image, _cover(ventricles + 3, 2.0), "cap", rng.uniform(0.2, 0.9))
    _paint(image, _cover(ventricles), "fluid")
    plexus = _tube(both, (11, 16, 20), (23, 36, 9), 2.4)
    _paint(image, _cover(np.minimum(plexus, ventricles)), "choroid plexus")
    return ventricles


def _paint_confounders(
    image: Image, rng: np.random.Generator, points: Points, both: Points, brain: Field, ventricles: Field
) -> None:
    """What is bright and no tumour: caps at the ventricles' horns, spots in white matter, vessels."""
    for centre in ((12, -43, 8), (28, 58, 6)):
        cap = np.minimum(_ellipsoid(both, centre, rng.uniform(5, 9, 3)), -ventricles)
        _paint(image, _cover(cap, 1.5), "cap", rng.uniform(0.3, 1.0))
    for _ in range(rng.integers(0, 9)):
        spot = _ellipsoid(points, rng.uniform((-40, -50, 8), (40, 50, 45)), rng.uniform(2.0, 4.5, 3))
        _paint(image, _cover(np.minimum.reduce([spot, brain - 4, -ventricles])), "spot", rng.uniform(0.5, 1.0))
    x, y, z = points
    sinus = np.minimum(3.2 - np.hypot(x, brain + 0.5), np.maximum(y, z - 30))
    arteries = [_tube(both, start, end, radius) for start, end, radius in ARTERIES]
    _paint(image, _cover(np.maximum.reduce([sinus, *arteries])), "vessel", 0.9)


def _paint_tumour(image: Image, rng: np.random.Generator, points: Points, room: Field) -> Field:
    """An irregular tumour with core and enhancing rim, where room (mm) is positive; returns its share of each voxel."""
    centre = rng.uniform((20, -46, 4), (38, 46, 38)) * (rng.choice((-1, 1)), 1, 1)
    radius = rng.uniform(16, 32)
    ball = _ellipsoid(points, centre, radius * rng.uniform(0.85, 1.2, 3))
    ragged = 0.14 * radius * _waves(rng, points, 1.8 * radius, 12) + 0.9 * _waves(rng, points, 14.0, 12)
    tumour = np.minimum(ball + ragged, room - 1)
    core = tumour - rng.uniform(0.3, 0.55) * radius
    # Some are sharp and some fade into the brain over millimetres; the mask's border is where they are half there.
    cover = _cover(tumour, rng.uniform(0.8, 2.5))
    # One in eight is little brighter than the brain in FLAIR: it is told by its texture and the other sequences.
    is_isointense = rng.random() < 1 / 8
    _paint(image, cover, "tumour", rng.uniform(0.3, 0.5) if is_isointense else rng.uniform(0.65, 1.0))
    _paint(image, _cover(core, 1.5), "core", rng.uniform(0.2, 0.9))
    _paint(image, _cover(2 - np.abs(core), 1.3), "rim", rng.uniform(0.35, 1.0))
    image *= 1 + 0.06 * cover * _waves(rng, points, 14.0, 8)
    return cover


def _degrade(image: Image, rng: np.random.Generator, points: Points) -> UInt8[np.ndarray, "d h w 3"]:
    """What a scanner adds: coil shading, blur, Rician noise, a gain for each sequence; or a lost sequence."""
    image = image * np.exp(0.1 * np.stack([_waves(rng, points, 260.0, 4) for _ in range(3)]))
    sigma = rng.uniform(0.7, 1.1) * points.shape[-1] / FIELD_OF_VIEW
    for plane in image.reshape(-1, *points.shape[-2:]):
        cv2.GaussianBlur(plane, (0, 0), sigma, dst=plane)
    noise = rng.uniform(0.012, 0.03)
    real, imaginary = noise * rng.standard_normal((2, *image.shape), dtype=np.float32)
    image = np.hypot(image + real, imaginary) * rng.uniform(115, 185, 3).astype(np.float32)[:, None, None, None]
    if rng.random() < 1 / 6:
        image[rng.choice((0, 2))] = image[1]
    channels_last = np.moveaxis(np.clip(np.rint(image), 0, 255).astype(np.uint8), 0, -1)
    return np.ascontiguousarray(channels_last)


def _waves(rng: np.random.Generator, points: Points, length: float, count: int) -> Field:
    """A smooth random field of mean 0 and variance 1: plane waves from all sides, of one length in mm."""
    directions = rng.standard_normal((count, 3), dtype=np.float32)
    directions *= 2 * np.pi / length / np.linalg.norm(directions, axis=1, keepdims=True)
    phases = rng.uniform(0, 2 * np.pi, count).astype(np.float32)
    pairs = zip(directions, phases, strict=True)
    return sum(np.cos(np.tensordot(way, points, 1) + phase) for way, phase in pairs) * np.float32(np.sqrt(2 / count))


def _ellipsoid(points: Points, centre: Triple, radii: Triple, power: float = 2.0) -> Field:
    """Depth inside an ellipsoid in mm, about; a power above 2 makes it boxier."""
    offsets = zip(points, np.float32(centre), np.float32(radii), strict=True)
    total = sum(np.abs((p - c) / r) ** power for p, c, r in offsets)
    return (1 - total ** (1 / power)) * np.mean(np.float32(radii))


def _tube(points: Points, start: Triple, end: Triple, radius: float) -> Field:
    """Depth inside a straight tube with round ends, in mm."""
    along = np.float32(end) - np.float32(start)
    offset = points - np.float32(start)[:, None, None, None]
    share = np.clip(np.tensordot(along, offset, 1) / np.sum(along**2), 0, 1)
    return radius - np.sqrt(np.sum((offset - along[:, None, None, None] * share) ** 2, 0))


def _cover(depth: Field, softness: float = 1.0) -> Field:
    """The share of a voxel that lies under a surface, from its centre's depth; both in mm."""
    return np.clip(0.5 + depth / (2 * softness), 0, 1)


def _paint(image: Image, cover: Field, tissue: str, strength: float = 1.0) -> None:
    """Lay a tissue over the image, in place."""
    cover = strength * cover
    for sequence, signal in zip(image, SIGNAL[tissue], strict=True):
        sequence += cover * (signal - sequence)
