# The whole workspace from the lock file: `docker build --tag worldr1 .`
#   docker run --gpus all --publish 127.0.0.1:8100:8100 --env REWARD_TOKEN --volume worldr1:/cache --volume ./rewards.yaml:/rewards.yaml:ro \
#     worldr1 serve /rewards.yaml --host 0.0.0.0 --token-env REWARD_TOKEN
FROM python:3.11-slim-bookworm AS build
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never
RUN pip install --no-cache-dir "uv>=0.9,<1"
WORKDIR /app

# Dependencies first: this layer is made again only when the lock changes.
COPY pyproject.toml uv.lock .python-version ./
COPY packages/worldr1-core/pyproject.toml packages/worldr1-core/
COPY packages/worldr1-rewards/pyproject.toml packages/worldr1-rewards/
COPY packages/worldr1-backbones/pyproject.toml packages/worldr1-backbones/
COPY packages/worldr1-train/pyproject.toml packages/worldr1-train/
RUN uv sync --frozen --no-dev --no-install-workspace

COPY packages packages
RUN uv sync --frozen --no-dev --no-editable

FROM python:3.11-slim-bookworm
RUN useradd --uid 10001 --create-home worldr1 && mkdir /cache && chown worldr1 /cache
COPY --from=build /app/.venv /app/.venv
# Rewards with an `environment` of their own are installed by uv.
COPY --from=build /usr/local/bin/uv /usr/local/bin/uv
COPY examples /app/examples
ENV PATH=/app/.venv/bin:$PATH PYTHONUNBUFFERED=1 OMP_NUM_THREADS=1 HF_HOME=/cache/huggingface WORLDR1_CACHE_DIR=/cache/worldr1
USER worldr1
WORKDIR /home/worldr1
VOLUME /cache
EXPOSE 8100
# For `worldr1 serve` on its default port; run other commands with --no-healthcheck. Models may take long to load.
HEALTHCHECK --interval=30s --timeout=10s --start-period=30m --retries=3 \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8100/healthz', timeout=5)"]
ENTRYPOINT ["worldr1"]
CMD ["--help"]
