"""CapFilt: web captions filtered, and new ones written, by a pre-trained model itself (Li et al. 2022, section 3.3)."""
