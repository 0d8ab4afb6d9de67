from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.synthetic.png import compress_png, write_png


@pytest.mark.parametrize("is_noisy", [False, True])
@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (1, 1), (64, 33, 3)])
def test_pil_reads_back_the_same_pixels(
    tmp_path: Path, shape: tuple[int, ...], is_noisy: bool
) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    write_png(tmp_path / "image.png", image, is_noisy=is_noisy)
    read = Image.open(tmp_path / "image.png")
    assert read.mode == ("L" if len(shape) == 2 else "RGB")
    np.testing.assert_array_equal(np.asarray(read), image)


def test_flat_images_compress_better_without_the_noise_setting() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 256, axis=1)
    depth = np.stack([ramp, ramp.T, 0 * ramp], axis=-1)
    assert len(compress_png(depth)) < len(compress_png(depth, is_noisy=True))
    assert len(compress_png(depth)) < depth.nbytes / 20
