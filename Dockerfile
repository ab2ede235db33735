# The image of every service; which one runs is the command: python -m services.router
FROM python:3.11-slim
RUN pip install --no-cache-dir uv==0.13.9 && useradd --create-home chat4all
WORKDIR /srv/chat4all
COPY pyproject.toml uv.lock ./
RUN uv sync --frozen --no-default-groups --no-cache
COPY services services
ENV PATH=/srv/chat4all/.venv/bin:$PATH
USER chat4all
