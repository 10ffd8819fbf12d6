# One image for driver, head and workers.
#   docker build -t candlecast .                            CPU
#   docker build -t candlecast:cuda --build-arg DEVICE=cu126 .    CUDA 12.6, for NVIDIA GPUs
# DEVICE names a folder of PyTorch's package index; the CUDA libraries come with its wheels, so the
# machine needs no more than the driver and the container toolkit.
FROM python:3.11-slim-bookworm

ARG DEVICE=cpu
ENV PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1 RAY_USAGE_STATS_ENABLED=0

# wget: what KubeRay's health checks call
RUN apt-get update \
    && apt-get install --yes --no-install-recommends wget \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 candlecast

WORKDIR /opt/candlecast
COPY constraints.txt pyproject.toml README.md LICENSE ./
# PyTorch first: a change of the code does not fetch it again
RUN version="$(sed -n 's/^torch==//p' constraints.txt)" \
    && pip install "torch==${version}" --index-url "https://download.pytorch.org/whl/${DEVICE}"
COPY candlecast candlecast
COPY market market
COPY forecaster forecaster
COPY backtest backtest
COPY cluster cluster
COPY configs configs
# ray[default]: the dashboard agent that takes jobs; its version is that of constraints.txt
RUN grep --invert-match '^torch==' constraints.txt > /tmp/constraints.txt \
    && pip install --constraint /tmp/constraints.txt ".[s3,gcs]" "ray[default]" \
    && rm /tmp/constraints.txt

USER candlecast
WORKDIR /home/candlecast
CMD ["candlecast", "--help"]
