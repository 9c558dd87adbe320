# formatproof with the CPU build of torch. From this folder:
#   docker build --tag formatproof .
#   docker run --rm --volume "$PWD:/data" formatproof eval ./my-model
FROM python:3.12-slim

# uv, because it knows where the CPU build of torch is
RUN pip install --no-cache-dir 'uv>=0.6'

COPY pyproject.toml README.md LICENSE constraints.txt /src/
COPY harness /src/harness
COPY formats /src/formats
COPY eval /src/eval
COPY trainset /src/trainset
COPY docs/recipes /src/docs/recipes
RUN uv pip install --system --no-cache --torch-backend cpu --constraint /src/constraints.txt \
    "/src[local,gguf]" \
    && rm -rf /src

# A mounted folder keeps the files of its owner: run with --user "$(id -u):$(id -g)" where yours differs.
RUN useradd --create-home --uid 1000 formatproof && mkdir /data && chown formatproof /data
USER formatproof
WORKDIR /data
# Downloaded models stay beside the data, where the next container finds them; HOME has to be writable for any user.
ENV HF_HOME=/data/.cache/huggingface HARNESS_CACHE=/data/.cache/formatproof HOME=/data
VOLUME /data

ENTRYPOINT ["harness"]
CMD ["--help"]
