# Two stages: the first installs the hash-locked wheels and the gateway, compiled (setup.py), into /opt/tollgate, the
# second takes that folder and nothing else: no compiler, no package tools. A release names the base image by its digest.
ARG PYTHON=python:3.11-slim-bookworm

FROM ${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
RUN python -m venv /opt/tollgate
COPY config/locks/image.txt config/locks/
RUN /opt/tollgate/bin/pip install --require-hashes --only-binary :all: -r config/locks/image.txt
RUN apt-get update -q && apt-get install -y -q --no-install-recommends gcc libc6-dev \
 && python -m venv /opt/native
COPY config/locks/native.txt config/locks/
RUN /opt/native/bin/pip install --require-hashes --only-binary :all: -r config/locks/native.txt
COPY pyproject.toml setup.py README.md LICENSE ./
COPY gateway gateway
RUN TOLLGATE_COMPILE=1 /opt/native/bin/pip wheel --no-deps --no-build-isolation --no-index --wheel-dir /wheels . \
 && /opt/tollgate/bin/pip install --no-deps --no-index /wheels/*.whl \
 && /opt/tollgate/bin/python -m compileall -q /opt/tollgate/lib \
 && /opt/tollgate/bin/pip uninstall -q -y setuptools wheel pip \
 && /opt/tollgate/bin/tollgate --version

FROM ${PYTHON}
RUN groupadd --gid 10001 tollgate \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/tollgate --shell /usr/sbin/nologin tollgate \
 && install -d -o 10001 -g 10001 -m 0750 /var/lib/tollgate
COPY --from=build /opt/tollgate /opt/tollgate
ENV PATH=/opt/tollgate/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10001:10001
# Relative paths of a configuration (data_dir: var) begin here; everything else may be read-only.
WORKDIR /var/lib/tollgate
VOLUME /var/lib/tollgate
EXPOSE 8443 8081
STOPSIGNAL SIGTERM
ENTRYPOINT ["tollgate"]
CMD ["serve", "--config", "/etc/tollgate/gateway.yaml"]
