"""MUGEN's VideoCLIP, as TorchMultimodal has it (arXiv 2204.08058)."""
