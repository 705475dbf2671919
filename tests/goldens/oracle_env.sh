#!/bin/sh
# The environment of the reference implementations, which cannot share one with vidembed (torchvision
# beside a CPU build of torch breaks transformers), and the goldens made in it:
#
#     tests/goldens/oracle_env.sh /some/folder          makes the environment (1.6 GB)
#     PYTHONPATH=. /some/folder/bin/python -m tests.goldens.make [NAME …]
set -eu
python3.11 -m venv "$1"
pip="$1/bin/pip -q --disable-pip-version-check install"
$pip 'setuptools<81' wheel torch==2.13.0 numpy==2.4.6 transformers==5.23.0 safetensors \
    sentencepiece protobuf pillow==12.3.0 ftfy regex wcwidth yacs tabulate termcolor portalocker av tqdm \
    packaging pyyaml tenacity contextvars pydantic
# Without what they declare: none of it is needed, and some of it is gone.
$pip --no-deps torchvision==0.28.0 fvcore iopath parameterized torchmultimodal-nightly==2024.4.1 \
    open-clip-torch==3.3.0 timm==1.0.31 towhee.models==1.1.3 towhee==1.1.3 \
    opencv-python-headless==5.0.0.93 mediapy==1.2.7
$pip --no-deps --no-build-isolation pytorchvideo==0.1.5 openai-clip==1.0.1
