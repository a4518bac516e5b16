# One image for both sides: `fl-agg ...`, `fl-edge ...`, `fl-sim ...`. linux/amd64 and linux/arm64.
#
# The install commands are those of README.md, word for word (tests/unit/test_packaging.py compares them).
# PyTorch's own index has CPU wheels for both architectures; PyPI's would bring CUDA along.

FROM python:3.11-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /opt/hilum

COPY constraints.txt ./
RUN python3 -m venv .venv
RUN .venv/bin/pip install -c constraints.txt torch torchvision --index-url https://download.pytorch.org/whl/cpu

# Code changes oftener than torch: everything above stays cached.
COPY pyproject.toml README.md LICENSE ./
COPY fl_protocol fl_protocol
COPY fl_tasks fl_tasks
COPY aggregator aggregator
COPY edge_client edge_client
COPY fl_sim fl_sim
COPY fl_web fl_web
RUN .venv/bin/pip install -c constraints.txt .

# What only building against torch, or testing torch itself, needs: about 190 MB.
RUN cd .venv/lib/python3.11/site-packages \
    && rm -rf torch/include torch/test torch/bin/test_* torch/bin/protoc* torch/bin/*Test \
    && ../../../bin/fl-agg --help >/dev/null \
    && ../../../bin/pip uninstall -q -y pip


FROM python:3.11-slim
LABEL org.opencontainers.image.title="Hilum" \
      org.opencontainers.image.description="Federated learning over MQTT for chest X-rays" \
      org.opencontainers.image.licenses="Apache-2.0"

# A fixed number, so that the owner of a mounted folder can be set before the first start.
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin hilum \
    && install -d -o 10001 -g 10001 /state
COPY --from=build /opt/hilum/.venv /opt/hilum/.venv
ENV PATH=/opt/hilum/.venv/bin:$PATH HOME=/tmp PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1

USER 10001:10001
WORKDIR /state
VOLUME /state
# The broker (FL_BROKER, as for every command) answers and knows the job. docker-compose.yml asks more closely.
HEALTHCHECK --interval=60s --timeout=20s --start-period=60s --retries=3 CMD ["fl-agg", "status"]
CMD ["fl-edge", "--help"]
