# memfix on an NVIDIA GPU host:
#   docker build -t memfix .
#   docker run --rm --gpus all --user "$(id -u):$(id -g)" -v "$PWD:/work" -v memfix-cache:/cache memfix \
#     detect prompts.txt -m MODEL --references refs
# Any user will do, also one without a name (docs/containers.md): home and cache are /cache, which all may write to.
# the "base" flavour holds the CUDA runtime; the torch wheel brings the other CUDA libraries itself
FROM nvidia/cuda:13.0.1-base-ubuntu24.04

ENV DEBIAN_FRONTEND=noninteractive \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PYTHONUNBUFFERED=1

RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv ca-certificates \
    && rm -rf /var/lib/apt/lists/*

# the dependencies first: they change less often than memfix does
COPY requirements.lock /opt/memfix/requirements.lock
RUN python3 -m venv /opt/venv \
    && /opt/venv/bin/pip install --require-hashes --requirement /opt/memfix/requirements.lock
ENV PATH=/opt/venv/bin:$PATH

COPY pyproject.toml README.md LICENSE /opt/memfix/
COPY memfix /opt/memfix/memfix
COPY prompts /opt/memfix/prompts
RUN pip install --no-deps /opt/memfix

# a plain user, unless another is given; the hub's cache and the runs lie on volumes
RUN useradd --no-create-home --home-dir /cache --uid 10001 memfix \
    && mkdir -p /cache /work/runs \
    && chown -R memfix:memfix /cache /work \
    && chmod -R 1777 /cache /work
ENV HOME=/cache \
    USER=memfix \
    HF_HOME=/cache/huggingface \
    MEMFIX_RUNS=/work/runs
USER memfix
WORKDIR /work
VOLUME ["/cache", "/work"]

ENTRYPOINT ["memfix"]
CMD ["--help"]
