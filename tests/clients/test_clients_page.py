"""The page on clients: what it tells people to type works as it stands, but for address, key and model."""

import re
import shutil
import subprocess
from pathlib import Path

from clients.attempts import MODEL, Said
from clients.calls import Call, attempt
from clients.conftest import OpenDoors
from fairqueue_sim import EngineKind
from proxy_stack import key_of

PAGE = (Path(__file__).parents[2] / "docs" / "clients.md").read_text()
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# Who reads which.
IMPORTS = {
    "openai": "from openai import",
    "anthropic": "from anthropic import",
    "huggingface_hub": "from huggingface_hub import",
    "text-generation": "from text_generation import",
}


def example(begins: str, url: str) -> str:
    (found,) = [code for _, code in BLOCK.findall(PAGE) if code.startswith(begins)]
    filled = str(found).replace("http://127.0.0.1:8080", url).replace("YOUR-KEY", key_of("alice"))
    # So that it says something that is known.
    return filled.replace("MODEL", MODEL).replace("Hello", "[[word=hello]][[eos=4]]")


def test_each_example_in_python_prints_what_the_engine_says(doors: OpenDoors) -> None:
    for client, begins in IMPORTS.items():
        kind: EngineKind = "tgi" if client == "text-generation" else "vllm"
        said = attempt(Call(client, "example"), "", "", example(begins, doors(kind)["usual"].url))
        assert isinstance(said, Said), (client, said)
        assert said.text.removesuffix("</s>\n").strip() == "hello hello hello", client


def test_the_example_for_the_shell_prints_the_stream(doors: OpenDoors) -> None:
    assert shutil.which("curl") is not None, "curl is not installed: these tests need the system's curl"
    code = example("curl", doors("vllm")["usual"].url)
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout.count('"content":" hello"') == 3
    assert done.stdout.endswith("data: [DONE]\n\n")


def test_all_examples_are_tried() -> None:
    assert len(BLOCK.findall(PAGE)) == len(IMPORTS) + 1
