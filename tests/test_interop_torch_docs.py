"""docs/torch.md runs as it stands and prints what it shows; without PyTorch one sentence names the extra."""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
import sys

import numpy as np
import pytest

from l0ref import nn
from l0ref.errors import ConfigError
from l0ref.interop.extras import need_torch
from l0ref.interop.torch import compare, compare_masks, from_torch, to_torch
from tests.house_files import ROOT

PAGE = (ROOT / "docs" / "torch.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)


@pytest.mark.crosscheck
def test_page_runs_and_prints_what_it_shows():
    pytest.importorskip("torch", reason="needs the extra `crosscheck`")
    blocks = BLOCK.findall(PAGE)
    assert [language for language, _ in blocks] == ["python", *["python", "text"] * 6]
    space: dict[str, object] = {}
    printed = ""
    for language, text in blocks:
        if language == "text":
            assert printed == text
            continue
        assert printed == "" or blocks[blocks.index((language, text)) - 1][0] == "text"
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(compile(text, "docs/torch.md", "exec"), space)
        printed = out.getvalue()


def test_page_is_linked():
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert "](torch.md)" in index
    assert "\ntorch\n" in index


def test_package_imports_without_torch():
    code = "import sys; sys.modules['torch'] = None; import l0ref.interop.torch; print('fine')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "fine\n", done.stderr


@pytest.mark.crosscheck
def test_pruning_is_imported_with_torch(monkeypatch):
    """PyTorch does not import torch.nn.utils.prune by itself."""
    torch = pytest.importorskip("torch", reason="needs the extra `crosscheck`")
    assert need_torch().nn.utils.prune
    monkeypatch.delattr(torch.nn.utils, "prune")
    monkeypatch.delitem(sys.modules, "torch.nn.utils.prune")
    assert need_torch().nn.utils.prune.BasePruningMethod


X, Y = np.ones((2, 4)), np.array([0, 1])


@pytest.mark.parametrize(
    "call",
    [
        lambda model: to_torch(model),
        lambda _: from_torch("a module"),
        lambda model: compare(model, "a module", X, Y),
        lambda model: compare_masks(model, "a module"),
    ],
)
def test_absent_torch_is_one_sentence(call, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ConfigError, match=r"^package 'torch' is not installed; .*: pip install 'l0ref\[crosscheck\]'$"):
        call(nn.mlp((4, 2), seed=0))
