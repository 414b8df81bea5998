"""From scenes to files: the picture of each is drawn once, written, and seen by the detector."""

from __future__ import annotations

from vlbench.data.feature_writer import FeatureWriter
from vlbench.world.detector import Detector
from vlbench.world.drawing import draw, png
from vlbench.world.output import Output
from vlbench.world.scenes import SIDE, Scene


class Studio:
    """Draws pictures below a folder and adds their regions to the feature file."""

    def __init__(self, output: Output, regions: FeatureWriter, seed: int) -> None:
        self.output, self.regions = output, regions
        self.detector = Detector(seed)
        self.drawn = 0

    def show(self, folder: str, key: str, scene: Scene) -> None:
        """Draw a scene as the image ``key``."""
        pixels = draw(scene)
        self.output.write(f"{folder}/{key}.png", png(pixels))
        self.regions.add(key, self.detector.regions(scene, pixels, key), width=SIDE, height=SIDE)
        self.drawn += 1
