# One image for every node of a Ray cluster, and for a single machine.
#   CUDA:  docker build -t mmssl-dist:0.2.0-cuda .
#   CPU:   docker build -t mmssl-dist:0.2.0-cpu --build-arg TORCH_INDEX_URL=URL .
# where URL is PyTorch's package index of CPU wheels. Without it pip takes the default Linux wheel, which brings its
# own CUDA libraries and needs the host's NVIDIA driver and container runtime only.
ARG PYTHON_VERSION=3.11.14

FROM python:${PYTHON_VERSION}-slim-bookworm AS build
ARG TORCH_INDEX_URL=""
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN python -m venv /opt/mmssl
ENV PATH=/opt/mmssl/bin:$PATH \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
WORKDIR /src
# The dependencies first: they change rarely and are nearly all of the image.
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY mmssl_dist/__init__.py mmssl_dist/
RUN pip install -c constraints.txt ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} ".[cloud,encoders,tracking]"
COPY jobs jobs
COPY mmssl_dist mmssl_dist
RUN pip install --no-deps --force-reinstall .

FROM python:${PYTHON_VERSION}-slim-bookworm
# libgomp1: DGL; openssh-client and rsync: the autoscaler of `ray up`; procps and wget: Ray's and KubeRay's probes.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgomp1 openssh-client procps rsync wget \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 1000 ray \
    && useradd --uid 1000 --gid ray --create-home --shell /bin/bash ray \
    # Ray's launchers start login shells, which set PATH anew.
    && echo 'export PATH=/opt/mmssl/bin:$PATH' > /etc/profile.d/mmssl.sh
COPY --from=build /opt/mmssl /opt/mmssl
COPY --chown=ray:ray cli.py /home/ray/
COPY --chown=ray:ray jobs /home/ray/jobs
ENV PATH=/opt/mmssl/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    RAY_USAGE_STATS_ENABLED=0
USER 1000:1000
WORKDIR /home/ray
CMD ["mmssl-dist", "--help"]
