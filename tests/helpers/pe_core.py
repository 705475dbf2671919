"""What PE-Core and its reference are given."""

CLIPS = ((227, 299, 1), (321, 243, 2), (384, 384, 3))
"""Height, width and seed of clips of eight frames."""
TEXTS = (
    "a photo of a diagram",
    "  Fish &amp;amp; CHIPS — the “best”\tin town ",
    "a dog",
    " ".join(["one two three four five six seven"] * 8),
    "",
)
"""With entities escaped twice, curly quotes, more than 32 tokens, and none."""
CUT = {
    "base": ("vit_pe_core_base_patch16_224", 224),
    "large": ("vit_pe_core_large_patch14_336", 336),
}
"""timm's name and the size of towers of which the first two blocks are compared."""
