"""The scripts of docs/cluster.md: their languages, `torchrun` and `diffae` accept them."""

from __future__ import annotations

import shlex
import subprocess

import pytest
import yaml
from blocks import Block, blocks
from torch.distributed.run import get_args_parser

from diffae.cli import _parse

SCRIPTS = {block.language: block for block in blocks() if block.page == "docs/cluster.md"}


def words_of(block: Block) -> list[str]:
    """What follows `torchrun`."""
    if block.language == "yaml":
        job = list(yaml.safe_load_all(block.code))[1]
        return job["spec"]["template"]["spec"]["containers"][0]["command"][1:]
    [line] = [line for line in block.commands if "torchrun" in line]
    words = shlex.split(line)
    return words[words.index("torchrun") + 1 :]


@pytest.mark.parametrize("language", ["sh", "yaml"])
def test_a_script_starts_a_training(language: str) -> None:
    given = get_args_parser().parse_args(words_of(SCRIPTS[language]))
    assert (given.module, given.training_script, given.rdzv_backend) == (True, "diffae", "c10d")
    assert given.max_restarts > 0
    _parse(given.training_script_args)
    assert "--resume" in given.training_script_args
    assert "TORCH_DISABLE_SHARE_RDZV_TCP_STORE" in SCRIPTS[language].code


def test_bash_reads_the_script() -> None:
    subprocess.run(["bash", "-n", "-c", SCRIPTS["sh"].code], check=True)


def test_hosts_find_the_first_one() -> None:
    """By the name that Kubernetes gives a pod: the job's, its index, and the service."""
    service, job = yaml.safe_load_all(SCRIPTS["yaml"].code)
    pods = job["spec"]["template"]["spec"]
    given = get_args_parser().parse_args(words_of(SCRIPTS["yaml"]))
    assert given.rdzv_endpoint == f"{job['metadata']['name']}-0.{service['metadata']['name']}:29500"
    assert pods["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    assert int(given.nnodes) == job["spec"]["completions"] == job["spec"]["parallelism"]
