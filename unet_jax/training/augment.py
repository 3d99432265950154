"""Random transforms of images and masks, on the device: a pure function of the key."""

import functools
import zlib
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Float, Key

from unet_jax.errors import InputError

# In-plane axes, counted from the end, so that slices and volumes share them.
ROWS, COLUMNS = -3, -2


def check(settings: Mapping) -> None:
    """Raises InputError unless config.augment may be `settings`."""
    nodes = settings["elastic"]["grid"]
    if nodes < 2:
        raise InputError(
            f"config.augment.elastic.grid is {nodes}; it must be at least 2, as its outer nodes lie on the outermost "
            "pixels."
        )


def augment(
    key: Key[Array, ""],
    image: Float[Array, "b *spatial c"],
    mask: Float[Array, "b *spatial k"],
    settings: Mapping,
    stacked: int = 1,
) -> tuple[Float[Array, "b *spatial c"], Float[Array, "b *spatial k"]]:
    """Transforms each image by random draws of its own, and its mask in the same way.

    All slices of a volume are transformed alike. Flips and turns come first, then the affine transform, the elastic
    deformation and, in the image only, the intensities.

    Args:
        key: determines every draw.
        image: intensities, [0, 1] if gamma is on, which clips to that range. Rows and columns are the two axes before
            the channels.
        mask: 0 or 1, and pixel weights if there are any. It is sampled from the nearest pixels: the only new value is
            0, which the affine transform brings in from outside the image.
        settings: the config's `augment` group. A transform of probability 0 is not compiled.
        stacked: of how many slices an image has the channels, one slice after the other: see `config.data.neighbours`.

    Returns:
        The transformed image and mask, of the same shapes and types.

    Raises:
        ValueError: rot90 or transpose is on and the images are not square.
    """
    if (settings["rot90"] or settings["transpose"]) and image.shape[ROWS] != image.shape[COLUMNS]:
        raise ValueError(f"rot90 and transpose need square images; these are {image.shape[1:-1]}.")
    keys = jax.random.split(key, image.shape[0])
    image, mask = jax.vmap(lambda k, x, y: _orient(k, x, y, settings))(keys, image, mask)
    if settings["affine"]["probability"]:
        image, mask = jax.vmap(lambda k, x, y: _affine(k, x, y, settings["affine"]))(keys, image, mask)
    if settings["elastic"]["probability"]:
        image, mask = jax.vmap(lambda k, x, y: _elastic(k, x, y, settings["elastic"]))(keys, image, mask)
    return jax.vmap(lambda k, x: _intensity(k, x, settings, stacked))(keys, image), mask


def _draw(key: Key[Array, ""], name: str) -> Key[Array, ""]:
    """The key of one named draw. So switching a transform on does not change the draws of the others."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def _orient(key: Key[Array, ""], image: Array, mask: Array, settings: Mapping) -> tuple[Array, Array]:
    """Flips of rows and of columns, transposition, a turn by 90, 180 or 270 degrees: exact, no interpolation."""
    both = (image, mask)

    def apply(name: str, probability: float, transform, both):
        if not probability:
            return both
        chosen = jax.random.bernoulli(_draw(key, name), probability)
        return jax.tree.map(lambda x: jnp.where(chosen, transform(x), x), both)

    both = apply("flip rows", settings["flip_rows"], lambda x: jnp.flip(x, ROWS), both)
    both = apply("flip columns", settings["flip_columns"], lambda x: jnp.flip(x, COLUMNS), both)
    both = apply("transpose", settings["transpose"], lambda x: jnp.swapaxes(x, ROWS, COLUMNS), both)
    if settings["rot90"]:
        turns = jax.random.randint(_draw(key, "turns"), (), 1, 4)

        def turn(x: Array) -> Array:
            quarter, half, three = (jnp.rot90(x, k, (ROWS, COLUMNS)) for k in (1, 2, 3))
            return jnp.where(turns == 1, quarter, jnp.where(turns == 2, half, three))

        both = apply("rot90", settings["rot90"], turn, both)
    return both


def _affine(key: Key[Array, ""], image: Array, mask: Array, settings: Mapping) -> tuple[Array, Array]:
    """Shift, scale and rotation about the image's centre: bilinear image, nearest mask, zeros from outside."""
    chosen = jax.random.bernoulli(_draw(key, "affine"), settings["probability"])

    def uniform(name: str, limit: float, shape: tuple[int, ...] = ()) -> Array:
        return jax.random.uniform(_draw(key, name), shape, minval=-limit, maxval=limit)

    height, width = image.shape[ROWS], image.shape[COLUMNS]
    shift = uniform("shift", settings["shift"], (2,))
    scale = 1 + uniform("scale", settings["scale"])
    angle = jnp.deg2rad(uniform("rotate", settings["rotate"]))
    rows, columns = _positions(image)
    centre_row, centre_column = (height - 1) / 2, (width - 1) / 2
    y, x = rows - centre_row - shift[0] * height, columns - centre_column - shift[1] * width
    # Written out, for a matrix product runs at the device's default precision: coordinates of 256² pixels would be off
    # by up to .05 pixel in TF32 and .4 in bfloat16.
    cosine, sine = jnp.cos(angle) / scale, jnp.sin(angle) / scale
    source = (cosine * y + sine * x + centre_row, cosine * x - sine * y + centre_column)
    coordinates = [jnp.where(chosen, moved, own) for moved, own in zip(source, (rows, columns), strict=True)]
    return _sampled(image, coordinates, 1, "constant"), _sampled(mask, coordinates, 0, "constant")


def _elastic(key: Key[Array, ""], image: Array, mask: Array, settings: Mapping) -> tuple[Array, Array]:
    """Smooth deformation (Ronneberger et al. 2015, section 3.1): bilinear image, nearest mask, mirrored at the border.

    Random displacements of the nodes of a coarse grid, normal with a standard deviation in pixels, are interpolated
    bicubically for the pixels between. The paper does not say where the nodes lie: here the outer ones lie on the
    outermost pixels.
    """
    chosen = jax.random.bernoulli(_draw(key, "elastic"), settings["probability"])
    nodes = settings["grid"]
    drawn = settings["std"] * jax.random.normal(_draw(key, "displacement"), (nodes, nodes, 2))
    size = jnp.array([image.shape[ROWS], image.shape[COLUMNS]])
    # The centre of a pixel lies half a pixel from its edge, as that of a node does; the outer ones coincide.
    scale = (size - 1) / (nodes - 1)
    displacement = jax.image.scale_and_translate(
        drawn, (*image.shape[ROWS:-1], 2), (0, 1), scale, (1 - scale) / 2, "cubic", antialias=False
    )
    moves = jnp.moveaxis(jnp.where(chosen, displacement, 0), -1, 0)
    coordinates = [own + move for own, move in zip(_positions(image), moves, strict=True)]
    return _sampled(image, coordinates, 1, "mirror"), _sampled(mask, coordinates, 0, "mirror")


def _positions(image: Array) -> list[Array]:
    """The row and the column of each pixel of a slice."""
    sizes = (image.shape[ROWS], image.shape[COLUMNS])
    return jnp.meshgrid(*(jnp.arange(n, dtype=jnp.float32) for n in sizes), indexing="ij")


def _sampled(x: Array, coordinates: Sequence[Array], order: int, mode: str) -> Array:
    """Each slice and channel at these rows and columns: of order 0 the nearest pixel, of order 1 bilinear."""
    height, width = x.shape[ROWS], x.shape[COLUMNS]
    planes = jnp.moveaxis(x, (ROWS, COLUMNS), (-2, -1)).reshape(-1, height, width)
    sampled = jax.vmap(lambda plane: map_coordinates(plane, coordinates, order, mode=mode))(planes)
    return jnp.moveaxis(sampled.reshape(*x.shape[:ROWS], x.shape[-1], height, width), -3, -1)


def _intensity(key: Key[Array, ""], image: Array, settings: Mapping, stacked: int) -> Array:
    """Brightness, contrast and gamma: one draw for all channels, or with `per_channel` one for each of a slice."""
    if not settings["per_channel"]:
        return _intensity_of_all(key, image, settings)
    # What lies side by side is of one scan: its slices keep the contrast that they have to each other.
    by_slice = image.reshape(*image.shape[:-1], stacked, -1)
    keys = jax.vmap(lambda number: jax.random.fold_in(key, number))(jnp.arange(by_slice.shape[-1]))
    of_one = functools.partial(_intensity_of_all, settings=settings)
    return jax.vmap(of_one, in_axes=(0, -1), out_axes=-1)(keys, by_slice).reshape(image.shape)


def _intensity_of_all(key: Key[Array, ""], image: Array, settings: Mapping) -> Array:
    """Brightness (a factor), contrast (a factor about the image's mean) and gamma (an exponent), in this order."""

    def apply(name: str, transform, image: Array) -> Array:
        probability = settings[name]["probability"]
        if not probability:
            return image
        chosen = jax.random.bernoulli(_draw(key, name), probability)
        low, high = settings[name]["range"]
        factor = jax.random.uniform(_draw(key, name + " factor"), minval=low, maxval=high)
        return jnp.where(chosen, transform(image, factor), image)

    image = apply("brightness", lambda x, factor: x * factor, image)
    image = apply("contrast", lambda x, factor: (x - x.mean()) * factor + x.mean(), image)
    return apply("gamma", lambda x, factor: jnp.clip(x, 0, 1) ** factor, image)
