"""Image data sets."""

from dataclasses import dataclass

import numpy as np

from deep_clustering.sources.samples import Samples, both


@dataclass(frozen=True, kw_only=True)
class Digits:
    """The 1,797 handwritten digits of 8 x 8 pixels that scikit-learn carries."""

    def load(self) -> Samples:
        """Read the digits; nothing is downloaded."""
        from sklearn.datasets import load_digits

        digits = load_digits()
        about = {
            "name": "digits",
            "source": "sklearn.datasets.load_digits: test part of UCI 'Optical Recognition of Handwritten Digits'",
            "licence": "CC BY 4.0 (UCI Machine Learning Repository)",
            "class_names": [str(name) for name in digits.target_names],
            "value_range": [0.0, 16.0],
            "protocol": "all rows",
        }
        images = digits.images.astype(np.uint8)[:, None]
        return Samples(images, digits.target.astype(np.int64), both(len(images)), [], about)
