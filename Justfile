# Chat4All: `./scripts/just` lists what can be done.
set shell := ["sh", "-eu", "-c"]
set positional-arguments

run := "uv run --frozen --quiet"
tools := "/usr/bin/env python3 -m scripts.tools"
export UV_PYTHON_DOWNLOADS := "never"

[private]
default:
    @just --list --unsorted

# Set up, start, send messages through every channel and back, leave it running
[group('use')]
demo *flags: (parts flags)
    @{{ run }} python -m scripts.cluster up dev
    @eval "$({{ run }} python -m scripts.cluster env dev)" && {{ run }} python -m scripts.demo

# Start the cluster, or what of it does not run
[group('use')]
up *instance: parts
    @{{ run }} python -m scripts.cluster up "$@"

# Show every job and the links
[group('use')]
status *instance:
    @{{ run }} python -m scripts.cluster status "$@"

# Print the last log lines of a job (-f follows)
[group('use')]
logs *job:
    @{{ run }} python -m scripts.cluster logs "$@"

# List, replay or drop what could not be delivered
[group('use')]
dead-letters *arguments: parts
    @eval "$({{ run }} python -m scripts.cluster env dev)" && {{ run }} python -m scripts.dead_letters "$@"

# Stop everything; --wipe deletes the data too
[group('use')]
down *instance:
    @{{ run }} python -m scripts.cluster down "$@"

# Print what a shell needs: eval "$(./scripts/just env)"
[group('use')]
env *instance:
    @{{ run }} python -m scripts.cluster env "$@"

# Bring edited sources to one service, or to all that changed
[group('work')]
deploy *service:
    @{{ run }} python -m scripts.cluster deploy "$@"

# Break the running platform on purpose: list, plan X, X, all --tier 1, heal, report, compare
[group('work')]
chaos *arguments: parts
    @eval "$({{ run }} python -m scripts.cluster env dev)" && {{ run }} python -m chaos "$@"

# Send 5,000 messages through errors, lost answers, throttles, a kill and a restart, all at once
[group('work')]
storm *options: parts
    @eval "$({{ run }} python -m scripts.cluster env dev)" && {{ run }} python -m chaos.storm "$@"

# Show backpressure: 100,000 deliveries wait on a throttled account (--deliveries --lanes --hold --rate --channel)
[group('work')]
backlog *options: parts
    @eval "$({{ run }} python -m scripts.cluster env dev)" && {{ run }} python -m chaos.backlog "$@"

# Break a fresh instance on purpose, a few faults, and wipe it; the reports stay in .local/chaos
[group('work')]
smoke: parts
    @{{ run }} python -m scripts.smoke

# Show the links through Toxiproxy and what they carried
[group('work')]
links *instance:
    @{{ run }} python -m scripts.cluster links "$@"

# Check formatting and rules
[group('work')]
lint:
    {{ run }} ruff check .
    {{ run }} ruff format --check .

# Check types
[group('work')]
types:
    {{ run }} mypy

# Run the tests that need no process
[group('work')]
test-fast *options:
    {{ run }} pytest -q -m "not connected and not cluster" "$@"

# Run all tests, on an instance of their own that is wiped afterwards
[group('work')]
test: parts
    @{{ run }} python -m scripts.suite

# Measure under load, beside the bare parts (--rate --seconds --channel --find-ceiling --hang CHANNEL --compare A B)
[group('work')]
bench *options:
    @eval "$({{ run }} python -m scripts.cluster env)" && {{ run }} python -m scripts.bench "$@"

# Show every part: version, where from, what is missing
[group('parts')]
doctor:
    @{{ tools }} doctor

# Obtain the parts that are missing
[group('parts')]
parts *flags:
    @{{ tools }} ensure {{ flags }}
