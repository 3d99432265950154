"""Random transforms of images and their masks on the device: a pure function of the key that is passed in."""

import functools
import zlib
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Float, Key

# In-plane axes, counted from the end so that slices and volumes share them.
ROWS, COLUMNS = -3, -2


def augment(
    key: Key[Array, ""],
    image: Float[Array, "b *spatial c"],
    mask: Float[Array, "b *spatial k"],
    settings: Mapping,
) -> tuple[Float[Array, "b *spatial c"], Float[Array, "b *spatial k"]]:
    """Transforms each image and its mask alike, each image by a draw of its own.

    Args:
        key: decides everything random.
        image: intensities in [0, 1].
        mask: 0 or 1, and pixel weights where there are any; no new values come about but 0 from outside.
        settings: the config's `augment` group. A probability of 0 costs nothing: its transform is not compiled.

    Raises:
        ValueError: rot90 or transpose is asked for and the images are not square.
    """
    if (settings["rot90"] or settings["transpose"]) and image.shape[ROWS] != image.shape[COLUMNS]:
        raise ValueError(f"rot90 and transpose need square images; these are {image.shape[1:-1]}.")
    keys = jax.random.split(key, image.shape[0])
    image, mask = jax.vmap(lambda k, x, y: _orient(k, x, y, settings))(keys, image, mask)
    if settings["affine"]["probability"]:
        image, mask = jax.vmap(lambda k, x, y: _affine(k, x, y, settings["affine"]))(keys, image, mask)
    return jax.vmap(lambda k, x: _intensity(k, x, settings))(keys, image), mask


def _draw(key: Key[Array, ""], name: str) -> Key[Array, ""]:
    """The key of one named decision, so that switching one transform on leaves the others' draws as they were."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def _orient(key: Key[Array, ""], image: Array, mask: Array, settings: Mapping) -> tuple[Array, Array]:
    """Flips of rows and of columns, a turn by 90, 180 or 270 degrees, a transposition: exact, no interpolation."""
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
    size = jnp.array([height, width], jnp.float32)
    shift = uniform("shift", settings["shift"], (2,)) * size
    scale = 1 + uniform("scale", settings["scale"])
    angle = jnp.deg2rad(uniform("rotate", settings["rotate"]))
    inverse = jnp.array([[jnp.cos(angle), jnp.sin(angle)], [-jnp.sin(angle), jnp.cos(angle)]]) / scale
    centre = (size - 1) / 2
    output = jnp.stack(jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij"), -1)
    source = (output - centre - shift) @ inverse.T + centre
    source = jnp.where(chosen, source, output)
    coordinates = [source[..., 0], source[..., 1]]

    def sample(x: Array, order: int) -> Array:
        planes = jnp.moveaxis(x, (ROWS, COLUMNS), (-2, -1)).reshape(-1, height, width)
        sampled = jax.vmap(lambda plane: map_coordinates(plane, coordinates, order, mode="constant"))(planes)
        return jnp.moveaxis(sampled.reshape(*x.shape[:ROWS], x.shape[-1], height, width), -3, -1)

    return sample(image, 1), sample(mask, 0)


def _intensity(key: Key[Array, ""], image: Array, settings: Mapping) -> Array:
    """Brightness, contrast and gamma: of all channels alike, or of each by a draw of its own."""
    if not settings["per_channel"]:
        return _intensity_of_all(key, image, settings)
    keys = jax.vmap(lambda number: jax.random.fold_in(key, number))(jnp.arange(image.shape[-1]))
    of_one = functools.partial(_intensity_of_all, settings=settings)
    return jax.vmap(of_one, in_axes=(0, -1), out_axes=-1)(keys, image)


def _intensity_of_all(key: Key[Array, ""], image: Array, settings: Mapping) -> Array:
    """Brightness (a factor), contrast (a factor about the mean) and gamma (an exponent)."""

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
