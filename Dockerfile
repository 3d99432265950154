# syntax=docker/dockerfile:1
# A CPU image:            docker build -t unet-jax .
# One for NVIDIA's GPUs:  docker build -t unet-jax:cuda --build-arg JAX=jax[cuda13] .
# Then, as any user, with the image itself read-only:
#   docker run --rm --read-only --tmpfs /tmp -v "$PWD:/work" -u "$(id -u):$(id -g)" unet-jax --mode=predict ...
FROM python:3.12-slim
ARG JAX=jax
WORKDIR /src
COPY pyproject.toml requirements.txt requirements.lock README.md LICENSE ./
COPY configs configs
COPY unet_jax unet_jax
# The lock has the versions that were tested; the extra for a GPU comes at the same version of jax.
# hadolint ignore=DL3013
RUN pip install --no-cache-dir --requirement requirements.lock \
    && pip install --no-cache-dir "$JAX" ".[nifti,dicom,itk]" \
    && rm -rf /src/*
RUN useradd --create-home --uid 1000 user
USER 1000
WORKDIR /work
ENV XDG_CACHE_HOME=/tmp/cache MPLCONFIGDIR=/tmp/matplotlib
ENTRYPOINT ["unet-jax"]
CMD ["--help"]
